"""Cases of scans, sorts, order statistics, distinct values and counts."""

from __future__ import annotations

import numpy as np
from harness import Case, Sample, booleans, distinct, integers, normal

import nnlib
from nnlib.backend.errors import BoundsError, DTypeError, Error, ShapeError

x34 = distinct(3, 4)
x234 = distinct(2, 3, 4)
ZEROS = np.array([[0.0, 2.0, 3.0], [1.5, 0.0, 0.0], [1.0, 2.0, 0.5]])
REPEATED = np.array([[3, 1, 3, 2], [1, 1, 2, 3]])


def call(*args, **kwargs):
    return Sample(args, kwargs)


def out_of_range(name, *between):
    return (
        lambda: getattr(nnlib, name)(nnlib.ones(2, 3), *between, 2),
        BoundsError,
        rf"{name}: dim 2 is out of range for a tensor of 2 dimensions",
    )


def scan(name, reference, samples, **kwargs):
    return Case(
        name,
        samples=samples,
        reference=reference,
        errors=[out_of_range(name)],
        **kwargs,
    )


def accumulate(ufunc, locate=None):
    def reference(x, dim):
        values = ufunc.accumulate(x, axis=dim)
        if locate is None:
            return values
        count = np.arange(x.shape[dim])
        line = count.reshape([-1 if i == dim % x.ndim else 1 for i in range(x.ndim)])
        return values, np.maximum.accumulate(np.where(x == values, line, 0), axis=dim)

    return reference


def sort_reference(x, dim=-1, descending=False, stable=False):
    places = np.argsort(-x if descending else x, axis=dim, kind="stable")
    return np.take_along_axis(x, places, dim), places


def topk_reference(x, k, dim=-1, largest=True, sorted=True):
    values, places = sort_reference(x, dim, largest)
    return values.take(range(k), axis=dim), places.take(range(k), axis=dim)


def kth(x, k, dim=-1, keepdim=False):
    values, places = sort_reference(x, dim)
    found = values.take([k - 1], axis=dim), places.take([k - 1], axis=dim)
    return found if keepdim else tuple(part.squeeze(dim) for part in found)


def median_reference(x, dim=None, keepdim=False):
    if dim is None:
        return np.sort(x, axis=None)[(x.size - 1) // 2]
    return kth(x, (x.shape[dim] + 1) // 2, dim, keepdim)


def unique_reference(x, return_inverse=False, return_counts=False, dim=None):
    return np.unique(
        x,
        return_inverse=return_inverse,
        return_counts=return_counts,
        axis=dim,
        equal_nan=False,
    )


def median_case(name):
    return Case(
        name,
        samples=[call(x234, 1), call(x234), call(x34, -1, True), call(distinct(5))],
        reference=median_reference,
        empty=False,
        errors=[
            out_of_range(name),
            (
                lambda: getattr(nnlib, name)(nnlib.zeros(2, 0), 1),
                ShapeError,
                rf"{name}: dimension 1 of shape \(2, 0\) has no entries",
            ),
        ],
    )


floats34 = normal(3, 4)

CASES = [
    scan(
        "cumsum",
        lambda x, dim: np.cumsum(x, axis=dim),
        [call(floats34, 1), call(floats34, 0), call(integers(3, 4), -1)],
    ),
    scan(
        "cumprod",
        lambda x, dim: np.cumprod(x, axis=dim),
        [call(floats34, 1), call(ZEROS, 0), call(ZEROS, 1), call(integers(3, 4), -1)],
    ),
    scan(
        "logcumsumexp",
        accumulate(np.logaddexp),
        [call(floats34, 1), call(floats34 * 30, 0)],
    ),
    scan("cummax", accumulate(np.maximum, True), [call(x34, 1), call(x234, 0)]),
    scan("cummin", accumulate(np.minimum, True), [call(x34, 1), call(x234, 0)]),
    Case(
        "diff",
        samples=[
            call(floats34),
            call(floats34, 2, 0),
            call(floats34, 1, -1, prepend=normal(3, 2), append=normal(3, 1)),
            call(booleans(3, 4)),
        ],
        reference=lambda x, n=1, dim=-1, prepend=None, append=None: np.diff(
            x,
            n,
            dim,
            np._NoValue if prepend is None else prepend,
            np._NoValue if append is None else append,
        ),
        errors=[
            (lambda: nnlib.diff(nnlib.tensor(1.0)), Error, "diff: expected n of 0"),
            (lambda: nnlib.diff(nnlib.ones(3), -1), Error, "diff: expected n of 0"),
        ],
    ),
    Case(
        "sort",
        samples=[
            call(x34),
            call(x34, 0),
            call(x234, 1, True),
            call(REPEATED, 1, stable=True),
            call(REPEATED, 1, True, stable=True),
        ],
        reference=sort_reference,
        torch=lambda torch, x, dim=-1, descending=False, stable=False: torch.sort(
            x, dim=dim, descending=descending, stable=stable
        ),
        errors=[out_of_range("sort")],
    ),
    Case(
        "argsort",
        samples=[call(x34), call(x34, 0), call(x234, 1, True)],
        reference=lambda x, dim=-1, descending=False: sort_reference(
            x, dim, descending
        )[1],
        grad=False,
        errors=[
            (
                lambda: nnlib.argsort(nnlib.ones(2, 3), 2),
                BoundsError,
                "sort: dim 2 is out of range",
            )
        ],
    ),
    Case(
        "msort",
        samples=[call(x34), call(x234)],
        reference=lambda x: np.sort(x, axis=0),
    ),
    Case(
        "topk",
        samples=[
            call(x34, 2),
            call(x34, 3, 0, False),
            call(distinct(200), 5),
            call(distinct(2, 100), 3, 1, False),
        ],
        reference=topk_reference,
        # 200 values that differ by 0.1 are not distinct in 16 bits.
        half=False,
        empty=True,
        errors=[
            (
                lambda: nnlib.topk(nnlib.ones(2, 3), 4),
                BoundsError,
                r"topk: k=4 is out of range for dimension 1 of shape \(2, 3\)",
            ),
            out_of_range("topk", 1),
        ],
    ),
    Case(
        "kthvalue",
        samples=[call(x34, 2), call(x234, 1, 1, True), call(distinct(50), 20, 0)],
        reference=kth,
        errors=[
            (
                lambda: nnlib.kthvalue(nnlib.ones(3), 0),
                BoundsError,
                "kthvalue: k=0 is out of range for dimension 0 of length 3",
            )
        ],
    ),
    median_case("median"),
    median_case("nanmedian"),
    Case(
        "mode",
        samples=[call(REPEATED), call(REPEATED, 0, True), call(x34, 1)],
        grad=False,
        errors=[
            (
                lambda: nnlib.mode(nnlib.zeros(2, 0)),
                ShapeError,
                r"mode: dimension 1 of shape \(2, 0\) has no entries",
            )
        ],
    ),
    Case(
        "unique",
        samples=[
            call(REPEATED),
            call(REPEATED, return_inverse=True, return_counts=True),
            call(integers(5, 2, high=2), dim=0, return_counts=True),
            call(np.array([2.0, 1.0, 2.0])),
        ],
        reference=unique_reference,
        grad=False,
        errors=[out_of_range("unique", True, False, False)],
    ),
    Case(
        "unique_consecutive",
        samples=[
            call(REPEATED),
            call(np.array([1, 1, 2, 2, 1]), return_inverse=True, return_counts=True),
            call(np.array([[1, 2], [1, 2], [0, 2]]), dim=0),
        ],
        grad=False,
        errors=[out_of_range("unique_consecutive", False, False)],
    ),
    Case(
        "searchsorted",
        samples=[
            call(np.array([1.0, 3.0, 5.0]), np.array([[3.0, 4.0], [0.0, 9.0]])),
            call(np.array([1.0, 3.0, 5.0]), np.array([3.0]), right=True),
            call(np.array([1, 3, 5]), np.array([5, 6]), out_int32=True),
            call(np.sort(normal(2, 5)), normal(2, 3)),
        ],
        grad=False,
        errors=[
            (
                lambda: nnlib.searchsorted(nnlib.ones(2, 3), nnlib.ones(3, 3)),
                ShapeError,
                r"searchsorted: sorted_sequence of shape \(2, 3\) and input of shape "
                r"\(3, 3\) differ",
            )
        ],
    ),
    Case(
        "bucketize",
        samples=[
            call(np.array([[3.0, 4.0], [0.0, 9.0]]), np.array([1.0, 3.0, 5.0])),
            call(np.array([3.0]), np.array([1.0, 3.0, 5.0]), right=True),
        ],
        reference=lambda x, edges, right=False: np.searchsorted(
            edges, x, side="right" if right else "left"
        ),
        grad=False,
        empty=False,
    ),
    Case(
        "bincount",
        samples=[
            call(integers(9)),
            call(integers(9), minlength=8),
            call(integers(9), normal(9)),
        ],
        reference=lambda x, weights=None, minlength=0: np.bincount(
            x, weights, minlength
        ),
        grad=False,
        half=False,
        errors=[
            (
                lambda: nnlib.bincount(nnlib.tensor([1, -2])),
                BoundsError,
                "bincount: input holds a negative number, -2",
            ),
            (
                lambda: nnlib.bincount(nnlib.tensor([1.0])),
                DTypeError,
                "bincount: input: expected integers, got float32",
            ),
            (
                lambda: nnlib.bincount(nnlib.tensor([[1]])),
                ShapeError,
                r"bincount: expected one dimension, got shape \(1, 1\)",
            ),
        ],
    ),
    Case(
        "histc",
        samples=[
            call(np.array([1.0, 2.0, 1.0, 4.0]), 4, 0, 4),
            call(normal(30), 5),
            call(normal(30), 3, -1, 1),
        ],
        grad=False,
        half=False,
        errors=[
            (
                lambda: nnlib.histc(nnlib.ones(3), 0),
                BoundsError,
                "histc: expected 1 or more bins between finite limits, got 0",
            ),
            (
                lambda: nnlib.histc(nnlib.tensor([1])),
                DTypeError,
                "histc: input: expected a floating dtype, got int64",
            ),
        ],
    ),
]
