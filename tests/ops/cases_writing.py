"""Cases of writing by index, scattering and overwriting."""

from __future__ import annotations

import numpy as np
from harness import Case, Sample, booleans, integers, normal

import nnlib
from nnlib.backend.errors import BoundsError, DTypeError, Error, ShapeError

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


def changed(change):
    """Turn an in-place change into a function that works on a copy."""

    def function(x, *args, **kwargs):
        y = x.clone() if hasattr(x, "clone") else x.copy()
        change(y, *args, **kwargs)
        return y

    return function


def inplace(name):
    """Call a method of a copy, in nnlib and in PyTorch."""

    def mine(x, *args, **kwargs):
        return getattr(x.clone(), name)(*args, **kwargs)

    def theirs(torch, x, *args, **kwargs):
        return mine(x, *args, **kwargs)

    return {"call": mine, "torch": theirs}


def set_item(x, where, value):
    x[where] = value


def put_along(combine):
    def reference(x, dim, places, src):
        out = x.copy()
        src = np.broadcast_to(src, places.shape)
        for key in np.ndindex(*places.shape):
            target = list(key)
            target[dim] = places[key]
            old = out[tuple(target)]
            out[tuple(target)] = src[key] if combine is None else combine(old, src[key])
        return out

    return reference


def put_rows(combine):
    def reference(x, dim, rows, source, alpha=1):
        out = np.moveaxis(x.copy(), dim, 0)
        source = source if np.ndim(source) == 0 else np.moveaxis(source, dim, 0)
        for place, row in enumerate(rows):
            value = source if np.ndim(source) == 0 else source[place]
            out[row] = out[row] + alpha * value if combine else value
        return np.moveaxis(out, 0, dim)

    return reference


def index_put_reference(x, keys, values, accumulate=False):
    out = x.copy()
    if accumulate:
        np.add.at(out, tuple(keys), values)
    else:
        out[tuple(keys)] = values
    return out


def put_reference(x, places, source, accumulate=False):
    out = x.copy().reshape(-1)
    if accumulate:
        np.add.at(out, places, source)
    else:
        out[places] = source
    return out.reshape(x.shape)


CASES = [
    Case(
        "setitem",
        samples=[
            call(x234, 1, normal(3, 4)),
            call(x234, (slice(None), 0, slice(1, None, 2)), normal(2, 1)),
            call(x34, mask34, NUMBER),
            call(x34, np.array([2, 0]), normal(2, 4)),
            call(x234, (slice(None), 1, np.array([0, 3])), normal(1, 2)),
            call(x34, (Ellipsis, None), 2.0),
        ],
        reference=changed(set_item),
        call=changed(set_item),
        torch=lambda torch, *args: changed(set_item)(*args),
        empty=False,
        errors=[
            bad(
                lambda: set_item(ones(2, 3), 0, ones(2)),
                ShapeError,
                r"index assignment: a value of shape \(2,\) does not fit the region of "
                r"shape \(3,\)",
            ),
            out_of_range("index", lambda: set_item(ones(2), index(0, 7), 1.0)),
            bad(
                lambda: set_item(ones(2).requires_grad_(), 0, 1.0),
                Error,
                "index assignment: a leaf that requires a gradient",
            ),
        ],
    ),
    plain(
        "index_put",
        index_put_reference,
        [
            call(x34, (ROWS, np.array([0, 1, 0])), normal(3), True),
            call(x34, (np.array([2, 0]),), normal(2, 4)),
            call(x34, (mask34,), NUMBER),
        ],
        empty=False,
        errors=[
            bad(
                lambda: nnlib.index_put(ones(2), (index(0),), index(1)),
                DTypeError,
                "index_put: values are int64, the input is float32",
            ),
            bad(
                lambda: nnlib.index_put(ones(2), index(0), ones(1)),
                DTypeError,
                "index_put: indices: expected a tuple of tensors, got Tensor",
            ),
        ],
    ),
    plain(
        "scatter",
        put_along(None),
        [
            call(normal(2, 4), 1, np.array([[3, 1], [0, 2]]), normal(2, 2)),
            call(normal(2, 4), 1, PLACES, 2.5),
        ],
        empty=False,
        errors=[
            out_of_range("scatter", lambda: ones(2).scatter(0, index(0, 7), 1.0)),
            bad(
                lambda: ones(2).scatter(0, index(0), index(1)),
                DTypeError,
                "scatter: src is int64, the input is float32",
            ),
            bad(
                lambda: ones(2).scatter(0, index(0), 1.0, reduce="mean"),
                Error,
                "scatter: reduce: expected one of",
            ),
            bad(
                lambda: ones(2).scatter(0, index(0, 0), ones(1)),
                ShapeError,
                r"scatter: index of shape \(2,\) is longer than src of shape \(1,\)",
            ),
        ],
    ),
    plain(
        "scatter_add",
        put_along(np.add),
        [
            call(normal(2, 4), 1, PLACES, normal(2, 4)),
            call(normal(4, 4), 0, PLACES, normal(2, 4)),
        ],
        empty=False,
        errors=[
            out_of_range(
                "scatter_add", lambda: ones(2).scatter_add(0, index(0, 7), ones(2))
            )
        ],
    ),
    plain(
        "index_add",
        put_rows(True),
        [
            call(x34, 0, ROWS, normal(3, 4)),
            call(x234, 2, ROWS, normal(2, 3, 3), alpha=-2),
        ],
        empty=False,
        errors=[
            bad(
                lambda: ones(2, 3).index_add(0, index(0, 1), ones(1, 3)),
                ShapeError,
                r"index_add: source has shape \(1, 3\), expected \(2, 3\)",
            ),
            out_of_range(
                "index_add", lambda: ones(2).index_add(0, index(0, 7), ones(2))
            ),
        ],
    ),
    plain(
        "index_copy",
        put_rows(False),
        [
            call(x34, 0, np.array([2, 0]), normal(2, 4)),
            call(x234, 2, np.array([1, 3, 0]), normal(2, 3, 3)),
        ],
        empty=False,
        errors=[
            out_of_range(
                "index_copy", lambda: ones(2).index_copy(0, index(0, 7), ones(2))
            )
        ],
    ),
    plain(
        "index_fill",
        put_rows(False),
        [call(x34, 0, ROWS, 2.5), call(x234, 2, np.array([1, 3]), NUMBER)],
        empty=False,
        errors=[
            bad(
                lambda: ones(2).index_fill(0, index(0), ones(1)),
                ShapeError,
                "index_fill: value: expected a number",
            )
        ],
    ),
    plain(
        "put_",
        put_reference,
        [
            call(x34, np.array([[5, 0], [-1, 2]]), normal(2, 2)),
            call(x34, np.array([5, 5]), normal(2), True),
        ],
        empty=False,
        errors=[
            bad(
                lambda: ones(2).put_(index(0), ones(2)),
                ShapeError,
                "put_: source has 2 elements, index 1",
            ),
            out_of_range("put_", lambda: ones(2).put_(index(0, 7), ones(2))),
        ],
        **inplace("put_"),
    ),
    plain(
        "zero_",
        np.zeros_like,
        [x34],
        # The result depends on nothing.
        second=False,
        **inplace("zero_"),
    ),
    plain(
        "fill_",
        np.full_like,
        [call(x34, NUMBER), call(x34, 2.5)],
        errors=[
            bad(
                lambda: ones(2).fill_(ones(2)),
                ShapeError,
                r"fill_: value: expected no dimensions, got shape \(2,\)",
            ),
            bad(
                lambda: nnlib.zeros(2, dtype=nnlib.uint8).fill_(300),
                DTypeError,
                "fill_: value: 300 is out of the range of uint8",
            ),
        ],
        **inplace("fill_"),
    ),
    plain(
        "copy_",
        lambda x, src: np.broadcast_to(src, x.shape),
        [call(x34, normal(3, 4)), call(x34, normal(4)), call(x34, integers(3, 1))],
        empty=False,
        errors=[
            bad(
                lambda: ones(2).copy_(ones(3)),
                ShapeError,
                r"copy_: shape \(3,\) does not broadcast to \(2,\)",
            )
        ],
        **inplace("copy_"),
    ),
]
