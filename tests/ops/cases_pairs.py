"""Cases of quantiles, of functions of several tensors, and of small predicates."""

from __future__ import annotations

import itertools

import numpy as np
from harness import Case, Sample, distinct, integers, normal, positive

import nnlib
from nnlib.backend.errors import ArgumentError, DTypeError, ShapeError

ones = nnlib.ones
MODES = ("linear", "lower", "higher", "midpoint", "nearest")


def quantile(x, q, dim=None, keepdim=False, interpolation="linear", skip=False):
    function = np.nanquantile if skip else np.quantile
    return function(x, q, dim, keepdims=keepdim, method=interpolation)


def quantile_errors(name):
    function = getattr(nnlib, name)
    return [
        (
            lambda: function(ones(2), 1.5),
            ArgumentError,
            f"{name}: q: expected numbers from 0 to 1, got 1.5",
        ),
        (lambda: function(ones(2), ones(1, 1)), ShapeError, "a number or one dimen"),
        (lambda: function(nnlib.tensor([1]), 0.5), DTypeError, "got int64"),
        (lambda: function(ones(0), 0.5), ShapeError, "no quantile of no elements"),
        (
            lambda: function(ones(2), 0.5, interpolation="cubic"),
            ArgumentError,
            "interpolation: expected one of .*, got 'cubic'",
        ),
    ]


def block_diag(*blocks):
    blocks = [np.atleast_2d(x) for x in blocks]
    out = np.zeros(np.sum([x.shape for x in blocks], 0))
    row = column = 0
    for x in blocks:
        out[row : row + len(x), column : column + x.shape[1]] = x
        row, column = row + len(x), column + x.shape[1]
    return out


def combinations(x, r=2, with_replacement=False):
    choose = (
        itertools.combinations_with_replacement
        if with_replacement
        else itertools.combinations
    )
    return np.array(list(choose(x, r))).reshape(-1, r)


def cdist(a, b, p=2.0):
    gaps = np.abs(a[..., :, None, :] - b[..., None, :, :])
    return (gaps**p).sum(-1) ** (1 / p)


def cross(a, b, dim=None):
    return np.cross(a, b, axis=a.shape.index(3) if dim is None else dim)


def trapezoid(y, x=None, dx=1.0, dim=-1):
    return np.trapezoid(y, x, dx, dim)


CASES = [
    Case(
        "quantile",
        samples=[
            *(
                Sample((distinct(3, 4), 0.3), {"dim": 1, "interpolation": mode})
                for mode in MODES
            ),
            Sample((distinct(3, 4), 0.7), {}),
            Sample((distinct(2, 3, 4), 0.25), {"dim": 1, "keepdim": True}),
            Sample((distinct(3, 4), 1.0), {"keepdim": True}),
            Sample((distinct(5), 0.0), {"dim": -1}),
        ],
        reference=quantile,
        empty=False,
        errors=quantile_errors("quantile"),
    ),
    Case(
        "nanquantile",
        samples=[
            *(
                Sample((distinct(3, 4), 0.6), {"dim": 0, "interpolation": mode})
                for mode in MODES
            ),
            Sample((distinct(2, 3, 4), 0.25), {"dim": 2, "keepdim": True}),
        ],
        reference=lambda *a, **k: quantile(*a, **k, skip=True),
        empty=False,
        errors=quantile_errors("nanquantile"),
    ),
    Case(
        "pdist",
        samples=[
            normal(4, 3),
            Sample((normal(3, 5),), {"p": 1.0}),
            Sample((normal(3, 2),), {"p": 3.0}),
        ],
        torch="nn.functional.pdist",
        errors=[
            (
                lambda: nnlib.pdist(ones(3)),
                ShapeError,
                r"pdist: input: expected shape \(N, M\), got \(3,\)",
            )
        ],
    ),
    Case(
        "cdist",
        samples=[
            (normal(3, 4), normal(2, 4)),
            Sample((normal(2, 3, 4), normal(2, 2, 4)), {"p": 1.0}),
            Sample((normal(1, 3, 2), normal(4, 2, 2)), {"p": 3.0}),
        ],
        reference=cdist,
        empty=False,
        errors=[
            (
                lambda: nnlib.cdist(ones(2, 3), ones(2, 2)),
                ShapeError,
                r"cdist: expected .*, got shapes \(2, 3\) and \(2, 2\)",
            )
        ],
    ),
    Case(
        "dist",
        samples=[
            (normal(3, 4), normal(3, 4)),
            (normal(3, 4), normal(4), 1),
            (normal(3, 4), normal(3, 4), 3.0),
        ],
        reference=lambda a, b, p=2: (np.abs(a - b) ** p).sum() ** (1 / p),
        empty=False,
    ),
    Case("vdot", samples=[(normal(4), normal(4))], reference=np.vdot),
    Case(
        "cross",
        samples=[
            Sample((normal(3, 4), normal(3, 4)), {"dim": 0}),
            Sample((normal(2, 3), normal(2, 3)), {}),
        ],
        reference=cross,
        torch=lambda torch, a, b, dim=None: torch.cross(
            a, b, dim=tuple(a.shape).index(3) if dim is None else dim
        ),
        empty=False,
        errors=[
            (lambda: nnlib.cross(ones(2), ones(2)), ShapeError, "has length 3"),
        ],
    ),
    Case(
        "block_diag",
        samples=[
            (normal(2, 3), normal(1, 2), normal(2, 2)),
            (normal(3), normal(2, 1)),
            (normal(2, 2),),
        ],
        reference=block_diag,
        empty=False,
        errors=[
            (
                lambda: nnlib.block_diag(ones(2, 2, 2)),
                ShapeError,
                r"block_diag: expected .*, got shapes \[\(2, 2, 2\)\]",
            )
        ],
    ),
    Case(
        "diagflat",
        samples=[normal(2, 2), Sample((normal(3),), {"offset": -1})],
        reference=lambda x, offset=0: np.diagflat(x, offset),
        empty=False,
    ),
    Case(
        "cartesian_prod",
        samples=[(normal(2), normal(3)), (normal(2), normal(1), normal(3)), normal(3)],
        reference=lambda *x: (
            np.array(list(itertools.product(*x))) if len(x) > 1 else x[0]
        ),
        empty=False,
        errors=[
            (
                lambda: nnlib.cartesian_prod(ones(1, 1)),
                ShapeError,
                "cartesian_prod: expected vectors",
            )
        ],
    ),
    Case(
        "combinations",
        samples=[
            normal(4),
            Sample((normal(4),), {"r": 3}),
            Sample((normal(3),), {"with_replacement": True}),
            Sample((normal(2),), {"r": 3}),
        ],
        reference=combinations,
        empty=False,
        errors=[
            (
                lambda: nnlib.combinations(ones(1, 1)),
                ShapeError,
                "combinations: expected a vector",
            )
        ],
    ),
    Case(
        "trapezoid",
        samples=[
            normal(3, 4),
            Sample((normal(3, 4),), {"dx": 0.5, "dim": 0}),
            (normal(3, 4), np.cumsum(positive(4))),
            (normal(3, 4), np.cumsum(positive(3, 4), -1)),
            Sample((normal(3, 4), np.cumsum(positive(3))), {"dim": 0}),
        ],
        reference=trapezoid,
        torch=lambda torch, y, x=None, dim=-1, **k: (
            torch.trapezoid(y, dim=dim, **k)
            if x is None
            else torch.trapezoid(y, x, dim=dim)
        ),
        empty=False,
        errors=[
            (
                lambda: nnlib.trapezoid(nnlib.tensor([1, 2])),
                DTypeError,
                "trapezoid: y: expected a floating dtype, got int64",
            ),
            (
                lambda: nnlib.trapezoid(nnlib.ones(4), nnlib.ones(2)),
                ShapeError,
                "trapezoid: x: expected 4 places along dimension 0 of y, got shape",
            ),
            (
                lambda: nnlib.trapezoid(nnlib.ones(2), nnlib.ones(4)),
                ShapeError,
                "trapezoid: x: expected 2 places",
            ),
        ],
    ),
    Case("deg2rad", samples=[normal(3, 4) * 90], reference=np.deg2rad),
    Case("rad2deg", samples=[normal(3, 4)], reference=np.rad2deg),
    Case(
        "xlogy",
        samples=[
            (normal(3, 4), positive(3, 4)),
            (np.array([0.0, 0.0, 2.0]), np.array([1.5, 0.7, 0.3])),
            (normal(3, 4), 2.0),
            (1.5, positive(3)),
        ],
        reference=lambda x, y: x * np.log(y),
        empty=False,
        method=False,
    ),
    Case(
        "signbit",
        samples=[normal(3, 4), np.array([-0.0, 0.0]), integers(4, low=-3)],
        reference=lambda x: np.signbit(x) if x.dtype.kind == "f" else x < 0,
        grad=False,
    ),
    Case(
        "isposinf",
        samples=[np.array([np.inf, -np.inf, 1.0, np.nan])],
        reference=np.isposinf,
        grad=False,
    ),
    Case(
        "isneginf",
        samples=[np.array([np.inf, -np.inf, 1.0, np.nan])],
        reference=np.isneginf,
        grad=False,
    ),
    Case(
        "isin",
        samples=[
            (integers(3, 4), integers(3)),
            Sample((integers(5), integers(2)), {"invert": True}),
            (integers(5), 2),
            Sample((np.arange(4), np.arange(2, 5)), {"assume_unique": True}),
        ],
        reference=np.isin,
        grad=False,
        empty=False,
    ),
]
