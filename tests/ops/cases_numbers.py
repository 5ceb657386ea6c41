"""Cases of parts of numbers, statistics and replaced parts."""

from __future__ import annotations

import numpy as np
from cases_writing import inplace
from harness import Case, Sample, away_from, integers, normal, positive

import nnlib
from nnlib.backend.errors import ArgumentError, BoundsError, DTypeError, ShapeError

ones = nnlib.ones
x34, x234 = normal(3, 4), normal(2, 3, 4)
WEIGHTS = positive(4)
PLACES = np.array([0.0, 0.5, 2.0, 2.5])


def call(*args, **kwargs):
    return Sample(args, kwargs)


def pair(name, reference, samples, **options):
    return Case(name, samples=samples, reference=reference, **options)


def whole(name):
    function = getattr(nnlib, name)
    return pair(
        name,
        getattr(np, name),
        [(integers(3, 4, low=-9, high=20), integers(1, 4, low=-9, high=20))],
        grad=False,
        half=False,
        errors=[
            (
                lambda: function(ones(2), 3),
                DTypeError,
                f"{name}: expected integers, got",
            )
        ],
    )


def put(view):
    def reference(x, src, *args, **kwargs):
        out = x.copy()
        view(out, *args, **kwargs)[...] = src
        return out

    return reference


def sliced(x, dim=0, start=None, end=None, step=1):
    return x[(*(slice(None),) * dim, slice(start, end, step))]


def diagonal(x, offset=0, dim1=0, dim2=1):
    view = x.diagonal(offset, dim1, dim2)
    view.flags.writeable = True
    return view


def cov(x, correction=1, fweights=None, aweights=None):
    return np.cov(x, ddof=correction, fweights=fweights, aweights=aweights)


def gradient(x, spacing=1, dim=None, edge_order=1):
    dims = tuple(range(x.ndim)) if dim is None else dim
    steps = spacing if isinstance(spacing, list | tuple) else [spacing]
    found = np.gradient(x, *steps, axis=dims, edge_order=edge_order)
    return tuple(found) if isinstance(found, list | tuple) else (found,)


def cumulative(y, x=None, dx=1.0, dim=-1):
    width = dx if x is None else np.diff(x, axis=-1 if x.ndim == 1 else dim)
    y = np.moveaxis(y, dim, -1)
    areas = (y[..., 1:] + y[..., :-1]) / 2 * width
    return np.moveaxis(np.cumsum(areas, -1), -1, dim)


def renorm(x, p, dim, maxnorm):
    dims = tuple(d for d in range(x.ndim) if d != dim % x.ndim)
    norms = (np.abs(x) ** p).sum(dims, keepdims=True) ** (1 / p)
    return x * np.where(norms > maxnorm, maxnorm / (norms + 1e-7), 1)


NUMBERS = [
    pair(
        "copysign",
        np.copysign,
        [
            (away_from(3, 4), away_from(3, 4)),
            (away_from(2, 1, 3), away_from(4, 1)),
            (away_from(3), -2.0),
        ],
        errors=[
            (lambda: nnlib.copysign(ones(2), ones(3)), ShapeError, "copysign: shapes")
        ],
    ),
    pair(
        "heaviside",
        np.heaviside,
        [(integers(3, 4, low=-1, high=2) * 1.0, normal(1, 4)), (normal(3), normal(1))],
        grad=False,
    ),
    pair("nextafter", np.nextafter, [(x34, normal(1, 4))], grad=False, half=False),
    whole("gcd"),
    whole("lcm"),
    pair("frexp", np.frexp, [away_from(3, 4), away_from(2)]),
    pair(
        "ldexp",
        lambda x, y: x * 2.0**y,
        [(x34, integers(3, 1) * 1.0), (x34, normal(4))],
        rtol32=1e-4,
    ),
    pair(
        "float_power",
        np.float_power,
        [(positive(3, 4), normal(3, 1)), (positive(3), 2)],
        half=False,
        # Whose result is float64, whatever came.
        call=lambda x, y: nnlib.float_power(x, y).to(x.dtype),
        torch=lambda torch, x, y: torch.float_power(x, y),
    ),
    pair("logaddexp2", np.logaddexp2, [(x34, normal(3, 4)), (normal(3), normal(2, 1))]),
    pair(
        "sgn",
        np.sign,
        [away_from(3, 4), integers(4, low=-3)],
        torch=lambda torch, x: x.sign(),
    ),
]

STATISTICS = [
    pair(
        "cov",
        cov,
        [
            call(x34),
            call(normal(5)),
            call(x34, correction=0),
            call(x34, fweights=np.array([1, 2, 3, 1])),
            call(x34, aweights=WEIGHTS),
            call(x34, aweights=WEIGHTS, fweights=np.array([1, 2, 3, 1]), correction=2),
        ],
        half=False,
        empty=False,
        errors=[
            (lambda: nnlib.cov(ones(1, 1, 1)), ShapeError, "cov: expected at most two"),
            (
                lambda: nnlib.cov(ones(2, 3), aweights=ones(2)),
                ShapeError,
                r"cov: aweights: expected shape \(3,\), got \(2,\)",
            ),
        ],
    ),
    pair("corrcoef", np.corrcoef, [x34, normal(5)], half=False, empty=False),
    pair(
        "cumulative_trapezoid",
        cumulative,
        [call(x34), call(x34, dx=0.5, dim=0), call(x34, PLACES)],
        errors=[
            (
                lambda: nnlib.cumulative_trapezoid(ones(2), ones(3)),
                ShapeError,
                "cumulative_trapezoid: x: expected 2 places",
            )
        ],
    ),
    pair(
        "gradient",
        gradient,
        [
            call(x34),
            call(x34, spacing=0.5, dim=(1,)),
            call(x34, spacing=[2.0, 0.5], edge_order=2),
            call(x34, spacing=[PLACES], dim=(1,)),
            call(x34, spacing=[PLACES], dim=(1,), edge_order=2),
            call(normal(2, 3), dim=(0,)),
        ],
        half=False,
        empty=False,
        rtol32=1e-4,
        errors=[
            (
                lambda: nnlib.gradient(ones(2), edge_order=2),
                ShapeError,
                "gradient: dimension 0 has length 2, edge_order=2 needs 3 or more",
            ),
            (
                lambda: nnlib.gradient(ones(2, 3), spacing=[1.0]),
                ArgumentError,
                "gradient: spacing: expected 2 entries, got 1",
            ),
            (
                lambda: nnlib.gradient(ones(2), edge_order=3),
                ArgumentError,
                "gradient: edge_order: expected 1 or 2, got 3",
            ),
        ],
    ),
    pair(
        "renorm",
        renorm,
        [(x34, 2, 0, 1.0), (x234, 1, -1, 2.0), (x34, 3, 1, 9.0)],
        errors=[
            (
                lambda: nnlib.renorm(ones(2), 2, 0, 1),
                ShapeError,
                "renorm: expected two",
            ),
            (
                lambda: nnlib.renorm(ones(2, 2), 0, 0, 1),
                ArgumentError,
                "renorm: expected p above 0",
            ),
        ],
    ),
]

REPLACEMENTS = [
    pair(
        "select_scatter",
        put(lambda x, dim, index: x[(*(slice(None),) * dim, index)]),
        [(x34, normal(3), 1, 2), (x234, normal(3, 4), 0, -1)],
        empty=False,
        errors=[
            (
                lambda: nnlib.select_scatter(ones(2, 3), ones(2), 0, 0),
                ShapeError,
                r"select_scatter: src has shape \(2,\), expected \(3,\)",
            )
        ],
    ),
    pair(
        "slice_scatter",
        put(sliced),
        [
            (x34, normal(2, 4), 0, 1),
            (x34, normal(3, 2), 1, 0, 4, 2),
            (x34, normal(1, 4), 0, -1, 9),
        ],
        empty=False,
        errors=[
            (
                lambda: nnlib.slice_scatter(ones(2), ones(2), step=0),
                ArgumentError,
                "slice_scatter: step: expected at least 1",
            )
        ],
    ),
    pair(
        "diagonal_scatter",
        put(diagonal),
        [(x34, normal(3)), (x234, normal(2, 3), 1, 1, 2)],
        empty=False,
    ),
    pair(
        "fill_diagonal_",
        lambda x, value, wrap=False: (
            lambda y: (np.fill_diagonal(y, value, wrap), y)[1]
        )(x.copy()),
        [call(x34, 2.5), call(normal(9, 3), 1.0, True), call(normal(3, 3, 3), 0.5)],
        empty=False,
        errors=[
            (
                lambda: ones(2).fill_diagonal_(1.0),
                ShapeError,
                r"fill_diagonal_: expected a matrix, .* got shape \(2,\)",
            )
        ],
        **inplace("fill_diagonal_"),
    ),
    pair(
        "unravel_index",
        lambda x, shape: np.unravel_index(x % 24, shape),
        [(np.array([[0, 23], [7, -1]]), (2, 3, 4)), (np.array([3, 1]), 24)],
        grad=False,
        errors=[
            (
                lambda: nnlib.unravel_index(nnlib.tensor([6]), (2, 3)),
                BoundsError,
                "unravel_index: indices: value 6 at position",
            ),
            (
                lambda: nnlib.unravel_index(ones(2), (2, 3)),
                DTypeError,
                "unravel_index: indices: expected integers, got float32",
            ),
        ],
    ),
    pair(
        "dsplit",
        lambda x, cuts: tuple(np.dsplit(x, cuts)),
        [(x234, 2), (x234, (1, 3))],
        errors=[
            (lambda: nnlib.dsplit(ones(2), 1), ShapeError, "dsplit: expected three")
        ],
    ),
    pair(
        "split_with_sizes",
        lambda x, sizes, dim=0: tuple(np.split(x, np.cumsum(sizes)[:-1], dim)),
        [(x34, [1, 2]), (x34, [1, 0, 3], 1)],
        empty=False,
    ),
    pair("row_stack", np.vstack, [([normal(4), x34],)], empty=False),
    pair(
        "addbmm",
        lambda x, a, b, beta=1, alpha=1: beta * x + alpha * (a @ b).sum(0),
        [
            (normal(2, 4), normal(3, 2, 5), normal(3, 5, 4)),
            call(normal(4), normal(3, 2, 5), normal(3, 5, 4), beta=0.5, alpha=-2),
        ],
        empty=False,
        rtol32=1e-4,
        errors=[
            (
                lambda: nnlib.addbmm(ones(1), ones(2, 3), ones(3, 2)),
                ShapeError,
                r"addbmm: expected shapes \(B, M, N\) and",
            )
        ],
    ),
]

CASES = NUMBERS + STATISTICS + REPLACEMENTS
