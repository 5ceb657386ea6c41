"""Cases of reducing at places named by an index."""

from __future__ import annotations

import warnings

import numpy as np
from harness import Case, Sample, distinct, integers, normal

import nnlib
from nnlib.backend.errors import ArgumentError, BoundsError, DTypeError, ShapeError

PLACES = np.array([[0, 2, 1, 0], [0, 3, 1, 0], [3, 0, 1, 2]])
SHORT = np.array([[0, 0], [1, 0]])
LINE = np.array([2, 0, 2, 2])
UFUNCS = {"amax": np.maximum, "amin": np.minimum, "prod": np.multiply}


def reference(x, dim, index, src, reduce, include_self=True):
    groups = {}
    for place in np.ndindex(*index.shape):
        target = list(place)
        target[dim] = index[place]
        groups.setdefault(tuple(target), []).append(src[place])
    out = x.copy()
    for target, values in groups.items():
        values = np.array([*([x[target]] if include_self else []), *values])
        if reduce in ("sum", "mean"):
            total = values.sum()
            if reduce == "mean":
                whole = values.dtype.kind == "i"
                total = total // len(values) if whole else total / len(values)
            out[target] = total
        else:
            out[target] = UFUNCS[reduce].reduce(values)
    return out


def index_reference(x, dim, index, source, reduce, include_self=True):
    line = index.reshape(
        [-1 if place == dim % x.ndim else 1 for place in range(x.ndim)]
    )
    wide = np.broadcast_to(line, source.shape)
    return reference(x, dim, wide, source, reduce, include_self)


def quietly(torch, x, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return x.index_reduce(*args, **kwargs)


def samples():
    for reduce in ("sum", "prod", "mean", "amax", "amin"):
        for include in (True, False):
            keywords = {"reduce": reduce, "include_self": include}
            yield Sample(
                (distinct(3, 4) + 0.02, 1, PLACES, distinct(3, 4) + 0.05), keywords
            )
        yield Sample((normal(4, 4), -2, PLACES, normal(3, 4)), {"reduce": reduce})
    yield Sample((normal(2, 3), 0, SHORT, normal(2, 2)), {"reduce": "amax"})
    yield Sample((integers(3, 4), 1, PLACES, integers(3, 4)), {"reduce": "mean"})
    keywords = {"reduce": "amin", "include_self": False}
    yield Sample((integers(3, 4), 1, PLACES, integers(3, 4)), keywords)


def index(*values):
    return nnlib.tensor(list(values), dtype="int64")


def bad(error, message, src=None, place=0, reduce="sum"):
    def call():
        source = nnlib.ones(1) if src is None else src
        nnlib.ones(2).scatter_reduce(0, index(place), source, reduce)

    return (call, error, message)


CASES = [
    Case(
        "scatter_reduce",
        samples=list(samples()),
        reference=reference,
        empty=False,
        errors=[
            bad(ArgumentError, "scatter_reduce: reduce: expected one of", reduce="max"),
            bad(BoundsError, "scatter_reduce: index: value 2 at position", place=2),
            bad(DTypeError, "src is int64, the input is float32", src=index(1)),
            bad(DTypeError, "scatter_reduce: src: expected a tensor, got int", src=1),
            bad(ShapeError, "index has 1 dimensions, src has 2", src=nnlib.ones(1, 1)),
        ],
    ),
    Case(
        "index_reduce",
        samples=[
            Sample(
                (distinct(3, 4) + 0.02, 0, LINE, distinct(4, 4) + 0.05),
                {"reduce": reduce},
            )
            for reduce in ("prod", "mean", "amax", "amin")
        ]
        + [
            Sample(
                (normal(2, 3, 2), 1, LINE, normal(2, 4, 2)),
                {"reduce": "mean", "include_self": False},
            )
        ],
        reference=index_reference,
        torch=quietly,
        empty=False,
        errors=[
            (
                lambda: nnlib.ones(2).index_reduce(0, index(0), nnlib.ones(2), "amax"),
                ShapeError,
                r"index_reduce: source has shape \(2,\), expected \(1,\)",
            ),
            (
                lambda: nnlib.ones(2).index_reduce(0, index(0), nnlib.ones(1), "sum"),
                ArgumentError,
                "index_reduce: reduce: expected one of",
            ),
        ],
    ),
]
