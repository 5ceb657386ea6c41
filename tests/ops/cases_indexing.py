"""Cases of reading by index, gathering, masks and positions."""

from __future__ import annotations

import numpy as np
from harness import Case, Sample, booleans, integers, normal

import nnlib
from nnlib.backend.errors import BoundsError, DTypeError, ShapeError

x34 = normal(3, 4)
x234 = normal(2, 3, 4)
NUMBER = np.array(0.7)
mask34 = booleans(3, 4)
mask34[0, :2] = True, False
PLACES = np.array([[0, 2, 1, 0], [3, 3, 1, 2]])
ROWS = np.array([2, 0, 2])


def call(*args, **kwargs):
    return Sample(args, kwargs)


def plain(name, reference, samples, **kwargs):
    return Case(name, samples=samples, reference=reference, **kwargs)


def bad(function, kind, message):
    return (function, kind, message)


def ones(*shape):
    return nnlib.ones(*shape)


def index(*values):
    return nnlib.tensor(list(values), dtype="int64")


def out_of_range(name, function):
    return bad(
        function,
        BoundsError,
        rf"{name}: index: value 7 at position \(1,\) is out of range for a dimension "
        "of size 2",
    )


def masked_scatter_reference(x, mask, source):
    out = np.broadcast_to(x, np.broadcast_shapes(x.shape, mask.shape)).copy()
    mask = np.broadcast_to(mask, out.shape)
    out[mask] = source.reshape(-1)[: mask.sum()]
    return out


def triangle(function):
    return lambda row, col, offset=0: np.stack(function(row, offset, col))


READING = [
    Case(
        "getitem",
        samples=[
            call(x234, 1),
            call(x234, (slice(None), 0, slice(1, None, 2))),
            call(x234, (Ellipsis, None, -1)),
            call(x34, PLACES[0][:3]),
            call(x34, mask34),
            call(x234, (slice(None), np.array([[0, 1], [2, 0]]))),
            call(x234, (np.array([1, 0, 1]), slice(None), np.array([3, 0, 3]))),
        ],
        reference=lambda x, where: x[where],
        torch=lambda torch, x, where: x[where],
        empty=False,
        errors=[
            bad(lambda: ones(2)[2], BoundsError, "index: index 2 is out of bounds"),
            bad(lambda: ones(2)[0, 0], BoundsError, "index: too many indices"),
            out_of_range("index", lambda: ones(2)[index(0, 7)]),
            bad(
                lambda: ones(2)[1.5],
                DTypeError,
                "index: expected integers, slices, None, Ellipsis, integer or boolean "
                "tensors, got float",
            ),
            bad(
                lambda: ones(2)[ones(2)],
                DTypeError,
                "index: .*, got a tensor of float32",
            ),
            bad(
                lambda: ones(2)[ones(3) > 0],
                BoundsError,
                r"index: boolean index did not match .*; the shape is \(2,\)",
            ),
        ],
    ),
    plain(
        "index_select",
        lambda x, dim, rows: x.take(rows, axis=dim),
        [call(x34, 0, ROWS), call(x234, -1, ROWS)],
        empty=False,
        errors=[
            out_of_range(
                "index_select", lambda: nnlib.index_select(ones(2), 0, index(0, 7))
            ),
            bad(
                lambda: nnlib.index_select(ones(2), 0, index(0).reshape(1, 1)),
                ShapeError,
                r"index_select: index: expected one dimension, got shape \(1, 1\)",
            ),
        ],
    ),
    plain(
        "gather",
        lambda x, dim, places: np.take_along_axis(x, places, dim),
        [call(normal(2, 4), 1, PLACES), call(normal(4, 4), 0, PLACES)],
        torch="gather",
        empty=False,
        errors=[
            bad(
                lambda: nnlib.gather(ones(2, 2), 1, index(0)),
                ShapeError,
                "gather: index has 1 dimensions, input has 2",
            ),
            bad(
                lambda: nnlib.gather(ones(1, 2), 1, index(0, 0).reshape(2, 1)),
                ShapeError,
                r"gather: index of shape \(2, 1\) is longer than input of shape "
                r"\(1, 2\) in dimension 0",
            ),
            out_of_range("gather", lambda: nnlib.gather(ones(2), 0, index(0, 7))),
            bad(
                lambda: nnlib.gather(ones(2), 0, ones(1)),
                DTypeError,
                "gather: index: expected integers, got float32",
            ),
        ],
    ),
    plain(
        "take_along_dim",
        lambda x, places, dim=None: (
            x.reshape(-1)[places.reshape(-1)]
            if dim is None
            else np.take_along_axis(x, places, dim)
        ),
        [
            call(normal(2, 4), PLACES, 1),
            call(normal(1, 4), PLACES, 1),
            call(x34, PLACES),
        ],
        empty=False,
        errors=[
            bad(
                lambda: nnlib.take_along_dim(ones(2, 2), index(0), 1),
                ShapeError,
                "take_along_dim: indices has 1 dimensions, input has 2",
            )
        ],
    ),
    plain(
        "take",
        np.take,
        [call(x34, np.array([[0, 11], [-1, 0]]))],
        empty=False,
        errors=[out_of_range("take", lambda: nnlib.take(ones(2), index(0, 7)))],
    ),
]

MASKS = [
    plain(
        "masked_select",
        lambda x, mask: np.broadcast_to(x, mask.shape)[mask],
        [(x34, mask34), (normal(4), mask34)],
        empty=False,
        errors=[
            bad(
                lambda: nnlib.masked_select(ones(2), ones(2)),
                DTypeError,
                "masked_select: mask: expected bool, got float32",
            ),
            bad(
                lambda: nnlib.masked_select(ones(2), ones(3) > 0),
                ShapeError,
                r"broadcast: shapes \(2,\) and \(3,\) do not broadcast",
            ),
        ],
    ),
    plain(
        "masked_scatter",
        masked_scatter_reference,
        [(x34, mask34, normal(3, 4)), (normal(4), mask34, normal(12))],
        empty=False,
        errors=[
            bad(
                lambda: nnlib.masked_scatter(ones(2), ones(2) > 0, ones(1)),
                ShapeError,
                "masked_scatter: source has 1 elements, the mask needs 2",
            )
        ],
    ),
    plain(
        "nonzero",
        lambda x, as_tuple=False: x.nonzero() if as_tuple else np.argwhere(x),
        [call(mask34), call(integers(3, 4, high=2)), call(mask34, as_tuple=True)],
        grad=False,
    ),
    plain("argwhere", np.argwhere, [mask34, np.array(3.0), np.array(0)], grad=False),
    plain(
        "one_hot",
        lambda x, num_classes=-1: np.eye(
            x.max() + 1 if num_classes == -1 else num_classes, dtype=np.int64
        )[x],
        [call(integers(3, 4), 5), call(np.array([0, 2])), call(np.array(1), 3)],
        torch="nn.functional.one_hot",
        grad=False,
        errors=[
            bad(
                lambda: nnlib.nn.functional.one_hot(index(0, 7), 2),
                BoundsError,
                r"one_hot: tensor: value 7 at position \(1,\) is out of range",
            ),
            bad(
                lambda: nnlib.nn.functional.one_hot(index()),
                ShapeError,
                "one_hot: an empty tensor needs num_classes",
            ),
            bad(
                lambda: nnlib.nn.functional.one_hot(ones(2)),
                DTypeError,
                "one_hot: tensor: expected integers, got float32",
            ),
        ],
    ),
    plain(
        "tril_indices",
        triangle(np.tril_indices),
        [call(3, 4), call(3, 3, -1), call(2, 4, 1)],
        grad=False,
        errors=[
            bad(
                lambda: nnlib.tril_indices(-1, 2),
                ShapeError,
                "tril_indices: row and col must not be negative, got -1, 2",
            )
        ],
    ),
    plain(
        "triu_indices",
        triangle(np.triu_indices),
        [call(3, 4), call(3, 3, -1), call(2, 4, 1)],
        grad=False,
    ),
]

CASES = READING + MASKS
