"""Cases of the functions of matrices that are composed of others."""

from __future__ import annotations

import numpy as np
from cases_linalg import SQUARE, bad, case, well
from harness import Case, Sample, integers, normal

import nnlib
from nnlib.backend.errors import DTypeError, LinAlgError, ShapeError

L = nnlib.linalg
ones = nnlib.ones


def triangle(a, upper, unitriangular):
    a = (np.triu if upper else np.tril)(a)
    if not unitriangular:
        return a
    eye = np.eye(a.shape[-1])
    return a * (1 - eye) + eye


def solve_triangular(a, b, upper, left=True, unitriangular=False):
    a = triangle(a, upper, unitriangular)
    if left:
        return np.linalg.solve(a, b)
    return np.linalg.solve(a.swapaxes(-1, -2), b.swapaxes(-1, -2)).swapaxes(-1, -2)


def cond(a, p=None):
    return np.linalg.cond(a, p)


def torch_cond(torch, a, p=None):
    """Compose what PyTorch 2.13 composes: its own has no gradient for most norms."""
    if p in (None, 2, -2):
        return torch.linalg.cond(a, p)
    norm = torch.linalg.matrix_norm
    return norm(a, p) * norm(torch.linalg.inv(a), p)


def torch_vander(torch, x, N=None, increasing=True):
    """Stack powers: the gradient of PyTorch 2.13's own fails."""
    powers = [x**k for k in range(x.shape[-1] if N is None else N)]
    return torch.stack(powers if increasing else powers[::-1], -1)


def matrix_exp(a):
    """Sum the series of a small part, in many steps, and square."""
    part, total = np.eye(a.shape[-1]), 0
    for k in range(1, 40):
        total, part = total + part, part @ (a / 1024) / k
    for _ in range(10):
        total = total @ total
    return total


def vander(x, N=None):
    return x[..., None] ** np.arange(x.shape[-1] if N is None else N)


def tensorsolve(a, b, dims=None):
    if dims is not None:
        a = np.moveaxis(a, dims, range(a.ndim - len(dims), a.ndim))
    return np.linalg.tensorsolve(a, b)


solver = normal(6, 6) * 0.3 + np.eye(6) * 3

CASES = [
    case(
        "solve_triangular",
        [
            Sample((well(3, 3), normal(3, 2)), {"upper": True}),
            Sample((well(2, 3, 3), normal(2, 3, 2)), {"upper": False}),
            Sample((well(2, 3, 3), normal(3, 2)), {"upper": False}),
            Sample((well(3, 3), normal(2, 3)), {"upper": True, "left": False}),
            Sample((normal(3, 3), normal(3, 1)), {"upper": 0, "unitriangular": True}),
        ],
        solve_triangular,
        [
            (
                lambda: L.solve_triangular(ones(2, 3), ones(2, 1), upper=True),
                ShapeError,
                "linalg.solve_triangular: A: expected square matrices",
            ),
            (
                lambda: L.solve_triangular(nnlib.eye(2), ones(2), upper=True),
                ShapeError,
                r"A of shape \(2, 2\) and B of shape \(2,\) do not fit",
            ),
            (
                lambda: L.solve_triangular(
                    nnlib.eye(2), ones(2, 1).double(), upper=True
                ),
                DTypeError,
                "linalg.solve_triangular: B: expected float32, got float64",
            ),
            (
                lambda: L.solve_triangular(nnlib.zeros(2, 2), ones(2, 1), upper=True),
                LinAlgError,
                "singular matrix",
            ),
        ],
        torch=lambda torch, a, b, **k: torch.linalg.solve_triangular(
            a, b, **{name: bool(value) for name, value in k.items()}
        ),
    ),
    case(
        "cond",
        [
            Sample((well(2, 3, 3),), {"p": p})
            for p in (None, 2, -2, "fro", "nuc", 1, -1, np.inf, -np.inf)
        ]
        + [normal(5, 3)],
        cond,
        [
            (
                lambda: L.cond(ones(2, 3), 1),
                ShapeError,
                "linalg.cond: A: expected square matrices",
            )
        ],
        torch=torch_cond,
    ),
    case(
        "matrix_exp",
        [normal(3, 3), normal(2, 3, 3) * 5, np.zeros((2, 2))],
        matrix_exp,
        bad("matrix_exp"),
    ),
    case("multi_dot", [Sample(([normal(2, 5), normal(5, 3), normal(3, 4)],)),
                       Sample(([normal(5), normal(5, 3), normal(3)],)),
                       Sample(([normal(4, 2), normal(2)],))],
         np.linalg.multi_dot,
         [(lambda: L.multi_dot([ones(2, 2)]), ShapeError, "expected two or more"),
          (lambda: L.multi_dot([ones(2, 2), ones(2), ones(2)]), ShapeError,
           r"got shapes \[\(2, 2\), \(2,\), \(2,\)\]")]),
    case("vander", [normal(4), Sample((normal(2, 3),), {"N": 4}),
                    Sample((normal(2, 3),), {"N": 1})], vander,
         [(lambda: L.vander(ones(2), N=0), ShapeError, "N: expected at least 1, got 0"),
          (lambda: L.vander(nnlib.tensor(1.0)), ShapeError, "at least one dimension")],
         torch=torch_vander),
    case("vecdot", [(normal(2, 3), normal(2, 3)), (normal(2, 3), normal(3)),
                    Sample((normal(2, 3), normal(2, 3)), {"dim": 0})],
         lambda x, y, dim=-1: (x * y).sum(dim)),
    case("tensorinv", [solver.reshape(2, 3, 6), Sample((solver.reshape(6, 3, 2),),
                                                      {"ind": 1})],
         np.linalg.tensorinv,
         [(lambda: L.tensorinv(ones(2, 3)), ShapeError,
           "ind=2 does not split shape")]),
    case("tensorsolve", [(solver.reshape(2, 3, 6), normal(2, 3)),
                         Sample((solver.reshape(2, 3, 6).transpose(2, 0, 1),
                                 normal(2, 3)), {"dims": (0,)})],
         tensorsolve,
         [(lambda: L.tensorsolve(ones(2, 3), ones(3)), ShapeError, "do not fit")]),
    Case("logdet", samples=SQUARE, reference=lambda x: np.linalg.slogdet(x)[1],
         half=False, empty=False,
         errors=[(lambda: nnlib.logdet(ones(2, 3)), ShapeError, "expected square")]),
    Case("vander", samples=[normal(4), Sample((integers(3), 4), {}),
                            Sample((normal(3),), {"increasing": True})],
         reference=np.vander, empty=False,
         torch=lambda torch, x, N=None, increasing=False: torch_vander(
             torch, x, N, increasing
         ),
         errors=[(lambda: nnlib.vander(ones(2, 2)), ShapeError,
                  r"vander: x: expected a vector, got shape \(2, 2\)")]),
]  # fmt: skip
