"""Cases of `nnlib.linalg`."""

from __future__ import annotations

import numpy as np
from harness import Case, Sample, normal

import nnlib
from nnlib.backend.errors import DTypeError, Error, ShapeError

L = nnlib.linalg
ones = nnlib.ones


def well(*shape):
    """Draw square matrices far from singular."""
    n = shape[-1]
    return normal(*shape) * 0.3 + np.eye(n) * np.arange(2.0, n + 2)


def symmetric(x):
    return x + x.swapaxes(-1, -2)


def positive_definite(x):
    return x @ x.swapaxes(-1, -2) + 1.0


def case(name, samples, reference, errors=(), **options):
    options.setdefault("torch", f"linalg.{name}")
    options.setdefault("half", False)
    options.setdefault("empty", False)
    return Case(
        f"linalg_{name}",
        samples=samples,
        reference=reference,
        rtol32=1e-3,
        atol32=1e-3,
        errors=list(errors),
        **options,
    )


def not_square(name):
    function = getattr(L, name)
    return (
        lambda: function(ones(2, 3)),
        ShapeError,
        rf"linalg.{name}: A: expected square matrices, got shape \(2, 3\)",
    )


def not_floating(name):
    function = getattr(L, name)
    return (
        lambda: function(nnlib.eye(2, dtype="int64")),
        DTypeError,
        f"linalg.{name}: A: expected a floating tensor, got int64",
    )


def bad(name):
    return [not_square(name), not_floating(name)]


SQUARE = [well(3, 3), well(2, 4, 4), well(1, 1)]
tall, wide = normal(5, 3), normal(3, 5)


def solved(a, b, left=True):
    if b.ndim == 1 or b.shape == a.shape[:-1]:
        return np.linalg.solve(a, b[..., None])[..., 0]
    if left:
        return np.linalg.solve(a, b)
    return np.linalg.solve(a.swapaxes(-1, -2), b.swapaxes(-1, -2)).swapaxes(-1, -2)


def lstsq_solution(torch, a, b):
    return torch.linalg.lstsq(a, b).solution


def vector_norm(x, ord=2, dim=None, keepdim=False):
    axes = tuple(range(x.ndim)) if dim is None else dim
    size = np.abs(x)
    if ord == 0:
        return (x != 0).sum(axes, keepdims=keepdim).astype(float)
    if np.isinf(ord):
        return (size.max if ord > 0 else size.min)(axes, keepdims=keepdim)
    return (size**ord).sum(axes, keepdims=keepdim) ** (1 / ord)


def unsigned(parts):
    """Drop the signs of singular or eigenvectors, which no convention fixes."""
    return tuple(abs(part) for part in parts)


def through(function, prepare):
    """Return calls that see `prepare(x)`: the functions read symmetric input."""
    return {
        "call": lambda x, **k: function(nnlib)(prepare(x), **k),
        "torch": lambda torch, x, **k: function(torch)(prepare(x), **k),
    }


batch = normal(2, 3, 3)

CASES = [
    case(
        "inv",
        SQUARE,
        np.linalg.inv,
        [
            *bad("inv"),
            (lambda: L.inv(ones(2, 2)), Error, "linalg.inv: singular matrix"),
        ],
    ),
    case("det", SQUARE, np.linalg.det, bad("det")),
    case("slogdet", SQUARE, lambda x: tuple(np.linalg.slogdet(x)), bad("slogdet")),
    case(
        "solve",
        [
            (well(3, 3), normal(3, 2)),
            (well(3, 3), normal(3)),
            (well(2, 3, 3), normal(2, 3, 2)),
            (well(2, 3, 3), normal(2, 3)),
            (well(2, 3, 3), normal(3, 2)),
            Sample((well(3, 3), normal(2, 3)), {"left": False}),
        ],
        solved,
        [
            (lambda: L.solve(ones(2, 3), ones(2)), ShapeError, "expected square"),
            (
                lambda: L.solve(nnlib.eye(2), ones(3, 1)),
                ShapeError,
                r"linalg.solve: A of shape \(2, 2\) and B of shape \(3, 1\) do not",
            ),
            (
                lambda: L.solve(nnlib.eye(2), ones(2, 1, dtype="float64")),
                DTypeError,
                "linalg.solve: B: expected float32, got float64",
            ),
            (lambda: L.solve(ones(2, 2), ones(2)), Error, "solve: singular matrix"),
        ],
    ),
    case("pinv", [tall, wide, well(2, 3, 3), normal(2, 4, 2)], np.linalg.pinv),
    case(
        "matrix_rank",
        [
            well(3, 3),
            np.ones((2, 3)),
            Sample((np.diag([3.0, 0.1, 0.001]),), {"atol": 0.01}),
            Sample((np.diag([3.0, 0.1, 0.001]),), {"rtol": 0.01}),
        ],
        None,
        grad=False,
    ),
    case(
        "lstsq",
        [(tall, normal(5, 2)), (wide, normal(3, 2)), (well(2, 3, 3), normal(2, 3, 1))],
        lambda a, b: np.linalg.pinv(a) @ b,
        [
            (
                lambda: L.lstsq(ones(3, 2), ones(2, 1)),
                ShapeError,
                "linalg.lstsq: A has 3 rows, B 2",
            )
        ],
        call=lambda a, b: L.lstsq(a, b).solution,
        torch=lstsq_solution,
    ),
    case(
        "matrix_power",
        [(well(3, 3), n) for n in (0, 1, 2, 5, -2)] + [(well(2, 3, 3), 3)],
        np.linalg.matrix_power,
        [
            (
                lambda: L.matrix_power(ones(2, 3), 2),
                ShapeError,
                "linalg.matrix_power: A: expected square",
            )
        ],
    ),
    case(
        "cholesky",
        [batch[0], Sample((batch,), {"upper": True})],
        lambda x, upper=False: (
            np.linalg.cholesky(positive_definite(x)).swapaxes(-1, -2)
            if upper
            else np.linalg.cholesky(positive_definite(x))
        ),
        [
            *bad("cholesky"),
            (
                lambda: L.cholesky(-nnlib.eye(2)),
                Error,
                "linalg.cholesky: .*not positive definite",
            ),
        ],
        **through(lambda lib: lib.linalg.cholesky, positive_definite),
    ),
    case(
        "qr",
        [tall, well(3, 3), wide, normal(2, 4, 3)],
        lambda x: tuple(np.linalg.qr(x)),
        [
            (
                lambda: L.qr(ones(2, 2), mode="full"),
                DTypeError,
                "linalg.qr: mode: expected 'reduced', 'complete' or 'r', got 'full'",
            )
        ],
    ),
    case(
        "svd",
        [
            Sample((tall,), {"full_matrices": False}),
            Sample((wide,), {"full_matrices": False}),
            Sample((well(3, 3),), {}),
            Sample((normal(2, 4, 3),), {"full_matrices": False}),
        ],
        lambda x, full_matrices=True: unsigned(np.linalg.svd(x, full_matrices)),
        call=lambda x, **k: unsigned(L.svd(x, **k)),
        torch=lambda torch, x, **k: unsigned(torch.linalg.svd(x, **k)),
    ),
    case("svdvals", [tall, wide, well(2, 3, 3)], lambda x: np.linalg.svd(x)[1]),
    case(
        "eigh",
        [batch[0], batch],
        lambda x: unsigned(np.linalg.eigh(symmetric(x))),
        [
            *bad("eigh"),
            (lambda: L.eigh(ones(2, 2), "X"), DTypeError, "UPLO: expected 'L' or 'U'"),
        ],
        call=lambda x: unsigned(L.eigh(symmetric(x))),
        torch=lambda torch, x: unsigned(torch.linalg.eigh(symmetric(x))),
    ),
    case(
        "eigvalsh",
        [batch[0], Sample((batch,), {"UPLO": "U"})],
        lambda x, UPLO="L": np.linalg.eigvalsh(symmetric(x), UPLO),
        **through(lambda lib: lib.linalg.eigvalsh, symmetric),
    ),
    case(
        "vector_norm",
        [
            Sample((normal(3, 4),), {"ord": ord, "dim": dim})
            for ord, dim in [
                (2, None),
                (2, 0),
                (1, (0, 1)),
                (3, -1),
                (0.5, 0),
                (np.inf, 1),
                (-np.inf, None),
            ]
        ]
        + [Sample((normal(2, 3, 4),), {"dim": (0, 2), "keepdim": True})],
        vector_norm,
        [
            (
                lambda: L.vector_norm(ones(2), "fro"),
                DTypeError,
                "vector_norm: ord: expected a number, got 'fro'",
            ),
            (
                lambda: L.vector_norm(nnlib.tensor([1])),
                DTypeError,
                "linalg.vector_norm: expected a floating tensor, got int64",
            ),
        ],
    ),
    case(
        "matrix_norm",
        [
            Sample((normal(3, 4),), {"ord": ord})
            for ord in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf)
        ]
        + [
            Sample((normal(2, 3, 4),), {"ord": "nuc", "dim": (0, 2)}),
            Sample((normal(2, 3, 4),), {"ord": 1, "dim": (2, 0), "keepdim": True}),
        ],
        lambda x, ord="fro", dim=(-2, -1), keepdim=False: np.linalg.norm(
            x, ord, dim, keepdim
        ),
        [
            (lambda: L.matrix_norm(ones(2, 2), 3), DTypeError, "ord: expected 'fro'"),
            (
                lambda: L.matrix_norm(ones(2, 2), dim=(0, 0)),
                ShapeError,
                "matrix_norm: dim: expected two different dimensions",
            ),
        ],
    ),
    case(
        "norm",
        [
            normal(3, 4),
            Sample((normal(3, 4), 1), {}),
            Sample((normal(4), 3), {}),
            Sample((normal(2, 3, 4), "fro"), {"dim": (1, 2)}),
            Sample((normal(2, 3), None), {"dim": 1, "keepdim": True}),
        ],
        lambda x, ord=None, dim=None, keepdim=False: np.linalg.norm(
            x, ord, dim, keepdim
        ),
        [
            (
                lambda: L.norm(ones(2, 2, 2), 1),
                ShapeError,
                "linalg.norm: ord=1 without dim needs one or two dimensions",
            )
        ],
    ),
    case(
        "cross",
        [
            (normal(4, 3), normal(4, 3)),
            (normal(1, 3), normal(4, 3)),
            Sample((normal(3, 4), normal(3, 1)), {"dim": 0}),
        ],
        lambda x, y, dim=-1: (
            np.cross(x, y, axis=dim)
            if x.shape == y.shape
            else np.cross(*np.broadcast_arrays(x, y), axis=dim)
        ),
        [
            (
                lambda: L.cross(ones(2), ones(2)),
                ShapeError,
                "linalg.cross: dimension -1: expected length 3, got 2 and 2",
            ),
            (
                lambda: L.cross(ones(3), ones(1, 3)),
                ShapeError,
                "expected equally many dimensions",
            ),
        ],
    ),
]
