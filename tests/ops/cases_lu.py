"""Cases of LU decompositions and of what is solved by factors."""

from __future__ import annotations

import numpy as np
from cases_linalg import SQUARE, case, unsigned, well
from harness import Case, Sample, normal

import nnlib
from nnlib.backend.errors import DTypeError, ShapeError

L = nnlib.linalg
tall, wide = normal(5, 3), normal(3, 5)
# More columns than are eliminated at a time.
LARGE = normal(40, 37)


def factored(call):
    """Return calls that factor their first argument."""

    def mine(a, b, **options):
        return call(nnlib)(*L.lu_factor(a), b, **options)

    def theirs(torch, a, b, **options):
        return call(torch)(*torch.linalg.lu_factor(a), b, **options)

    return {"call": mine, "torch": theirs}


def lu_solved(a, b, left=True, adjoint=False):
    a = a.swapaxes(-1, -2) if adjoint else a
    if left:
        return np.linalg.solve(a, b)
    return np.linalg.solve(a.swapaxes(-1, -2), b.swapaxes(-1, -2)).swapaxes(-1, -2)


def product(a, upper):
    a = (np.triu if upper else np.tril)(a)
    flipped = a.swapaxes(-1, -2)
    return flipped @ a if upper else a @ flipped


def plain(name, samples, reference, message):
    function = getattr(nnlib, name)
    return Case(
        name,
        samples=samples,
        reference=reference,
        half=False,
        empty=False,
        rtol32=1e-3,
        atol32=1e-3,
        # PyTorch's gradient also has entries outside the triangle.
        torch=lambda torch, *args, upper=False: getattr(torch, name)(
            *args[:-1], args[-1].triu() if upper else args[-1].tril(), upper
        ),
        errors=[(lambda: function(*[nnlib.ones(2, 3)] * 2), ShapeError, message)],
    )


def older(name, samples, peer):
    return Case(
        name,
        samples=samples,
        half=False,
        empty=False,
        rtol32=1e-3,
        atol32=1e-3,
        call=lambda x, **k: unsigned(getattr(nnlib, name)(x, **k)),
        torch=lambda torch, x, **k: unsigned(peer(torch)(x, **k)),
    )


CASES = [
    older(
        "svd",
        [tall, wide, well(2, 3, 3), Sample((wide,), {"compute_uv": False})],
        lambda torch: torch.svd,
    ),
    # PyTorch's `qr` warns.
    older("qr", [tall, wide, well(2, 3, 3)], lambda torch: torch.linalg.qr),
    case(
        "diagonal",
        [normal(3, 4), Sample((normal(2, 3, 4),), {"offset": 1, "dim1": 0})],
        lambda x, offset=0, dim1=-2, dim2=-1: x.diagonal(offset, dim1, dim2),
    ),
    case("lu_factor", [*SQUARE, tall, wide, normal(2, 4, 3)], None),
    case(
        "lu",
        [*SQUARE, tall, wide, normal(2, 3, 4)],
        None,
        [
            (
                lambda: L.lu(nnlib.ones(3)),
                ShapeError,
                "linalg.lu: A: expected matrices",
            ),
            (
                lambda: L.lu(nnlib.eye(2, dtype="int64")),
                DTypeError,
                "linalg.lu: A: expected a floating tensor, got int64",
            ),
        ],
    ),
    case(
        "lu_solve",
        [
            (well(3, 3), normal(3, 2)),
            (well(2, 3, 3), normal(2, 3, 1)),
            Sample((well(3, 3), normal(3, 2)), {"adjoint": True}),
            Sample((well(3, 3), normal(2, 3)), {"left": False}),
            Sample((well(3, 3), normal(2, 3)), {"left": False, "adjoint": True}),
        ],
        lu_solved,
        [
            (
                lambda: L.lu_solve(nnlib.eye(2), nnlib.ones(2), nnlib.ones(2, 1)),
                ShapeError,
                r"lu_solve: pivots: expected integers of shape \(2,\), got float32",
            ),
            (
                lambda: L.lu_solve(*L.lu_factor(nnlib.eye(2)), nnlib.ones(3, 1)),
                ShapeError,
                r"LU of shape \(2, 2\) and B of shape \(3, 1\) do not fit",
            ),
        ],
        **factored(lambda lib: lib.linalg.lu_solve),
    ),
    Case(
        "lu_solve",
        samples=[(well(3, 3), normal(3, 2))],
        reference=lu_solved,
        half=False,
        empty=False,
        rtol32=1e-3,
        atol32=1e-3,
        call=lambda a, b: b.lu_solve(*L.lu_factor(a)),
        torch=lambda torch, a, b: torch.linalg.solve(a, b),
    ),
    plain(
        "cholesky_solve",
        [
            (normal(3, 2), well(3, 3)),
            Sample((normal(2, 3, 1), well(2, 3, 3)), {"upper": True}),
        ],
        lambda b, a, upper=False: np.linalg.solve(product(a, upper), b),
        r"cholesky_solve: expected the triangular factor of square matrices, got shape",
    ),
    plain(
        "cholesky_inverse",
        [well(3, 3), Sample((well(2, 3, 3),), {"upper": True})],
        lambda a, upper=False: np.linalg.inv(product(a, upper)),
        r"cholesky_inverse: L: expected square matrices, got shape \(2, 3\)",
    ),
]
