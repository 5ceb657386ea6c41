"""Cases of sums, means, moments, norms and extremes."""

from __future__ import annotations

import math

import numpy as np
from harness import Case, Sample, away_from, booleans, distinct, integers, normal

import nnlib
from nnlib.backend.errors import BoundsError, DTypeError, ShapeError

x234 = normal(2, 3, 4)
TIES = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])
NANS = np.array([[1.0, np.nan, 3.0], [np.nan, 2.0, np.nan]])
ZEROS = np.array([[0.0, 2.0, 3.0], [0.0, 0.0, 1.5], [1.0, 2.0, 0.5]])


def dims(*args, **kwargs):
    return Sample(args, kwargs)


def over(function):
    """Turn a NumPy reduction into one with PyTorch's argument names."""

    def reference(x, dim=None, keepdim=False, dtype=None, **rest):
        x = x if dtype is None else x.astype(dtype)
        axis = tuple(dim) if isinstance(dim, list) else dim
        return function(x, axis=axis, keepdims=keepdim, **rest)

    return reference


def out_of_range(name):
    return (
        lambda: getattr(nnlib, name)(nnlib.ones(2, 3), 2),
        BoundsError,
        rf"{name}: dim 2 is out of range for a tensor of 2 dimensions "
        r"\(expected -2 to 1\)",
    )


def twice(name):
    return (
        lambda: getattr(nnlib, name)(nnlib.ones(2, 3), (0, -2)),
        ShapeError,
        rf"{name}: dim: \(0, -2\) names a dimension twice",
    )


def not_floating(name):
    return (
        lambda: getattr(nnlib, name)(nnlib.tensor([1, 2])),
        DTypeError,
        rf"{name}: input: expected a floating dtype, got int64",
    )


def nothing(name):
    return (
        lambda: getattr(nnlib, name)(nnlib.zeros(0, 3), 0),
        ShapeError,
        rf"{name}: no largest or smallest of no elements \(input has shape \(0, 3\)\)",
    )


def moment(name, function, pair=False):
    def reference(x, dim=None, keepdim=False, correction=1):
        axis = tuple(dim) if isinstance(dim, list) else dim
        value = function(x, axis=axis, keepdims=keepdim, ddof=correction)
        return (value, x.mean(axis=axis, keepdims=keepdim)) if pair else value

    return Case(
        name,
        samples=[
            dims(x234, dim=1),
            dims(x234),
            dims(x234, dim=(0, -1), keepdim=True, correction=0),
        ],
        reference=reference,
        empty=False,
        errors=[out_of_range(name), not_floating(name)],
    )


def extreme(name, function):
    return Case(
        name,
        samples=[
            dims(distinct(2, 3, 4), 1),
            dims(distinct(2, 3), (0, 1)),
            dims(distinct(2, 3, 4), (0, -1), True),
        ],
        reference=over(function),
        empty=False,
        errors=[out_of_range(name), nothing(name)],
    )


def extreme_at(name, pick, index, two):
    def reference(x, dim=None, keepdim=False):
        if dim is None:
            return pick(x)
        if isinstance(dim, np.ndarray):
            return two(x, dim)
        return pick(x, axis=dim, keepdims=keepdim), index(x, axis=dim, keepdims=keepdim)

    return Case(
        name,
        samples=[
            dims(distinct(2, 3, 4), 1),
            dims(distinct(2, 3, 4)),
            dims(distinct(3), -1, True),
            (distinct(3, 4), normal(4) * 0.01),
            dims(integers(3, 4), 0),
        ],
        reference=reference,
        empty=False,
        errors=[out_of_range(name), nothing(name)],
    )


def place(name, function):
    return Case(
        name,
        samples=[
            dims(distinct(2, 3, 4), 1),
            dims(distinct(2, 3, 4)),
            dims(distinct(2, 3), -1, True),
            dims(NANS, 1),
            dims(TIES, 1),
        ],
        reference=over(function),
        grad=False,
        empty=False,
        errors=[
            out_of_range(name),
            nothing(name),
            (
                lambda: getattr(nnlib, name)(nnlib.tensor([True])),
                DTypeError,
                f"{name}: not defined on bool",
            ),
        ],
    )


def norm_reference(x, p="fro", dim=None, keepdim=False):
    p = 2 if p == "fro" else p
    size = np.abs(x)
    axis = tuple(dim) if isinstance(dim, list) else dim
    if math.isinf(p):
        pick = np.max if p > 0 else np.min
        return pick(size, axis=axis, keepdims=keepdim)
    if p == 0:
        return (x != 0).sum(axis=axis, keepdims=keepdim).astype(float)
    return (size**p).sum(axis=axis, keepdims=keepdim) ** (1 / p)


CASES = [
    Case(
        "sum",
        samples=[
            dims(x234, 1),
            dims(x234),
            dims(x234, (0, -1), True),
            dims(integers(3, 4), 0),
            dims(booleans(3, 4)),
            dims(integers(3), 0, dtype=np.int32),
        ],
        reference=over(np.sum),
        torch=lambda torch, x, dim=None, keepdim=False, dtype=None: torch.sum(
            x, dim, keepdim, dtype=None if dtype is None else torch.int32
        ),
        errors=[out_of_range("sum"), twice("sum")],
    ),
    Case(
        "mean",
        samples=[dims(x234, 1), dims(x234), dims(x234, (0, -1), True)],
        reference=over(np.mean),
        empty=False,
        errors=[out_of_range("mean"), not_floating("mean")],
    ),
    Case(
        "prod",
        samples=[
            dims(x234, 1),
            dims(normal(5)),
            dims(ZEROS, 1, True),
            dims(ZEROS),
            dims(integers(3, 4), 0),
        ],
        reference=over(np.prod),
        errors=[out_of_range("prod")],
    ),
    Case(
        "nansum",
        samples=[dims(x234, 1), dims(x234), dims(integers(3, 4), (0, 1), True)],
        reference=over(np.nansum),
        errors=[out_of_range("nansum")],
    ),
    Case(
        "nanmean",
        samples=[dims(x234, 1), dims(x234), dims(x234, (0, 2), True)],
        reference=over(np.nanmean),
        empty=False,
        errors=[out_of_range("nanmean"), not_floating("nanmean")],
    ),
    Case(
        "count_nonzero",
        samples=[dims(integers(3, 4, high=2), 1), dims(ZEROS), dims(ZEROS, (0, 1))],
        reference=lambda x, dim=None: np.asarray(np.count_nonzero(x, axis=dim)),
        grad=False,
        errors=[out_of_range("count_nonzero")],
    ),
    Case(
        "logsumexp",
        samples=[
            dims(x234, 1),
            dims(x234, (0, -1), True),
            dims(np.array([[800.0, 801.0], [1.0, 2.0]]), -1),
        ],
        reference=lambda x, dim, keepdim=False: np.logaddexp.reduce(
            x, axis=dim, keepdims=keepdim
        ),
        errors=[
            (
                lambda: nnlib.logsumexp(nnlib.ones(2), 1),
                BoundsError,
                "logsumexp: dim 1 is out of range",
            )
        ],
    ),
    moment("var", np.var),
    moment("std", np.std),
    moment("var_mean", np.var, pair=True),
    moment("std_mean", np.std, pair=True),
    Case(
        "norm",
        samples=[
            dims(away_from(3, 4), 2, 1),
            dims(away_from(3, 4)),
            dims(away_from(2, 3, 4), 3, (0, 2), True),
            dims(away_from(3, 4), 1, 0),
            dims(distinct(3, 4) + 0.03, math.inf, 1),
            dims(distinct(3, 4) + 0.03, -math.inf, 1),
            dims(away_from(3, 4), 0, 1),
        ],
        reference=norm_reference,
        errors=[
            (
                lambda: nnlib.norm(nnlib.ones(2, 3), 2, 2),
                BoundsError,
                "norm: dim 2 is out of range",
            ),
            not_floating("norm"),
            (
                lambda: nnlib.norm(nnlib.zeros(0), math.inf),
                ShapeError,
                r"norm: p=inf of no elements \(shape \(0,\)\)",
            ),
        ],
    ),
    extreme("amax", np.max),
    extreme("amin", np.min),
    Case(
        "aminmax",
        samples=[
            dims(distinct(3, 4), dim=1),
            dims(distinct(3, 4)),
            dims(distinct(3, 4), dim=0, keepdim=True),
        ],
        reference=lambda x, dim=None, keepdim=False: (
            x.min(axis=dim, keepdims=keepdim),
            x.max(axis=dim, keepdims=keepdim),
        ),
        empty=False,
    ),
    extreme_at("max", np.max, np.argmax, np.maximum),
    extreme_at("min", np.min, np.argmin, np.minimum),
    place("argmax", np.argmax),
    place("argmin", np.argmin),
]
