"""Cases of changes of shape and of repetition."""

from __future__ import annotations

import numpy as np
from harness import Case, Sample, integers, normal

import nnlib
from nnlib.backend.errors import ArgumentError, BoundsError, DTypeError, ShapeError

x234 = normal(2, 3, 4)
x34 = normal(3, 4)
NUMBER = np.array(0.7)


def call(*args, **kwargs):
    return Sample(args, kwargs)


def method(name):
    """Call a method, which PyTorch has under the same name."""
    return lambda torch, x, *args: getattr(x, name)(*args)


def error(name, *args, kind=ShapeError, message, shape=(2, 3)):
    def bad():
        getattr(nnlib.ones(*shape), name)(*args)

    return (bad, kind, message)


def out_of_range(name, *args):
    return error(
        name, *args, kind=BoundsError, message=f"{name}: dim -?[0-9]+ is out of range"
    )


def unflatten_reference(x, dim, sizes):
    dim = dim % x.ndim
    return x.reshape(*x.shape[:dim], *sizes, *x.shape[dim + 1 :])


def flatten_reference(x, start_dim=0, end_dim=-1):
    if not x.ndim:
        return x.reshape(1)
    first, last = start_dim % x.ndim, end_dim % x.ndim
    size = int(np.prod(x.shape[first : last + 1]))
    return x.reshape(*x.shape[:first], size, *x.shape[last + 1 :])


def squeeze_reference(x, dim=None):
    dims = range(x.ndim) if dim is None else dim
    dims = [dims] if isinstance(dims, int) else dims
    return np.squeeze(x, tuple(d % x.ndim for d in dims if x.shape[d] == 1))


def narrow_reference(x, dim, start, length):
    return np.moveaxis(np.moveaxis(x, dim, 0)[start:][:length], 0, dim)


def expand_reference(x, *sizes):
    sizes = sizes[0] if isinstance(sizes[0], tuple | list) else sizes
    lead = len(sizes) - x.ndim
    full = [x.shape[i - lead] if n == -1 else n for i, n in enumerate(sizes)]
    return np.broadcast_to(x, full)


def interleave_reference(x, repeats=None, dim=None):
    if repeats is None:
        return np.repeat(np.arange(len(x)), x)
    return np.repeat(x, repeats, dim)


def same(name, reference, samples, **kwargs):
    return Case(name, samples=samples, reference=reference, **kwargs)


SHAPES = [
    same(
        "reshape",
        lambda x, *shape: x.reshape(*shape),
        [call(x234, (4, -1)), call(x34, (3, 2, 2)), call(normal(1), ())],
        empty=False,
        errors=[
            error(
                "reshape",
                4,
                2,
                message=r"reshape: 6 elements of shape \(2, 3\) do not fit shape "
                r"\(4, 2\)",
            ),
            error(
                "reshape", 1.5, kind=DTypeError, message="reshape: expected integers"
            ),
        ],
    ),
    same(
        "view",
        lambda x, *shape: x.reshape(*shape),
        [call(x234, 4, -1), call(x34, (12,))],
        torch=method("view"),
        empty=False,
        errors=[error("view", 5, message=r"view: 6 elements")],
    ),
    same(
        "view_as",
        lambda x, other: x.reshape(other.shape),
        [(x34, normal(2, 6))],
        torch=method("view_as"),
    ),
    same(
        "permute",
        lambda x, dims: x.transpose(dims),
        [call(x234, (2, 0, 1)), call(x234, (0, -1, 1)), call(x34, (0, 1))],
        errors=[
            error(
                "permute",
                (0, 0),
                message=r"permute: dims \(0, 0\) do not name each of 2 dimensions once",
            ),
            out_of_range("permute", (0, 2)),
        ],
    ),
    same(
        "transpose",
        np.swapaxes,
        [call(x234, 0, 2), call(x34, -1, -2), call(x34, 1, 1)],
        errors=[out_of_range("transpose", 0, 2)],
    ),
    same("swapaxes", np.swapaxes, [call(x234, 0, 2)]),
    same("swapdims", np.swapaxes, [call(x234, 0, 2)]),
    same(
        "t",
        np.transpose,
        [call(x34), call(normal(3))],
        errors=[
            error(
                "t", shape=(1, 2, 3), message=r"t: expected at most 2 dimensions, got"
            )
        ],
    ),
    same(
        "flatten",
        flatten_reference,
        [call(x234), call(x234, 1), call(x234, 0, 1), call(NUMBER), call(normal(3))],
        errors=[
            error(
                "flatten", 1, 0, message="flatten: start_dim 1 comes after end_dim 0"
            ),
            out_of_range("flatten", 2),
        ],
    ),
    same(
        "unflatten",
        unflatten_reference,
        [call(x34, 1, (2, 2)), call(x34, -1, (2, -1))],
        empty=True,
        errors=[
            error(
                "unflatten",
                1,
                (2, 2),
                message=r"unflatten: sizes \(2, 2\) do not multiply to the length 3 of "
                "dimension 1",
            )
        ],
    ),
    same("ravel", np.ravel, [call(x234), call(NUMBER)]),
    same(
        "squeeze",
        squeeze_reference,
        [
            call(normal(1, 3, 1)),
            call(normal(1, 3, 1), 0),
            call(normal(1, 3, 1), 1),
            call(normal(1, 3, 1), (0, -1)),
        ],
        empty=False,
        errors=[out_of_range("squeeze", 2)],
    ),
    same(
        "unsqueeze",
        np.expand_dims,
        [call(x34, 0), call(x34, -1), call(NUMBER, 0)],
        errors=[out_of_range("unsqueeze", 3)],
    ),
    same(
        "movedim",
        np.moveaxis,
        [call(x234, 0, 2), call(x234, (0, 1), (2, 0)), call(x34, -1, 0)],
        errors=[
            error(
                "movedim",
                (0, 1),
                (0,),
                message=r"movedim: source \(0, 1\) and destination \(0,\) differ",
            )
        ],
    ),
    same("moveaxis", np.moveaxis, [call(x234, 0, 2)]),
    same(
        "narrow",
        narrow_reference,
        [call(x34, 1, 1, 2), call(x234, -2, 0, 3)],
        errors=[
            error(
                "narrow",
                1,
                2,
                2,
                kind=BoundsError,
                message="narrow: start 2 and length 2 leave dimension 1 of size 3",
            )
        ],
    ),
    same(
        "select",
        lambda x, dim, index: x.take(index, axis=dim),
        [call(x34, 1, -1), call(x234, 1, 2)],
        errors=[
            error(
                "select",
                1,
                3,
                kind=BoundsError,
                message="select: index 3 is out of range for dimension 1 of size 3",
            )
        ],
    ),
]

REPETITIONS = [
    same(
        "expand",
        expand_reference,
        [
            call(normal(3, 1), 2, 3, 4),
            call(normal(3, 1), (-1, 4)),
            call(NUMBER, 2, 2),
        ],
        torch=method("expand"),
        empty=False,
        errors=[
            error(
                "expand",
                4,
                3,
                message=r"expand: shape \(2, 3\) cannot be expanded to \(4, 3\)",
            )
        ],
    ),
    same(
        "expand_as",
        lambda x, other: np.broadcast_to(x, other.shape),
        [(normal(3, 1), x34)],
        torch=method("expand_as"),
    ),
    same(
        "broadcast_to",
        np.broadcast_to,
        [call(normal(3, 1), (2, 3, 4))],
        empty=False,
    ),
    same(
        "broadcast_tensors",
        lambda *xs: tuple(np.broadcast_arrays(*xs)),
        [(normal(3, 1), normal(2, 1, 4))],
        empty=False,
        errors=[
            (
                lambda: nnlib.broadcast_tensors(nnlib.ones(2), nnlib.ones(3)),
                ShapeError,
                r"broadcast: shapes \(2,\) and \(3,\) do not broadcast",
            )
        ],
    ),
    same(
        "repeat",
        np.tile,
        [call(x34, (2, 3)), call(x34, (2, 1, 1)), call(x34, (1, 1)), call(x34, (0, 2))],
        torch=method("repeat"),
        errors=[
            error(
                "repeat",
                2,
                message=r"repeat: expected a count \(not negative\) for each of 2 "
                r"dimensions, got \(2,\)",
            )
        ],
    ),
    same("tile", np.tile, [call(x34, (2, 3)), call(x34, (2,)), call(x34, (2, 1, 1))]),
    same(
        "repeat_interleave",
        interleave_reference,
        [
            call(x34, 2, 1),
            call(x34, 2),
            call(x34, np.array([0, 1, 2]), 0),
            call(integers(3)),
        ],
        errors=[
            error(
                "repeat_interleave",
                nnlib.tensor([1, 2]),
                1,
                message=r"repeat_interleave: repeats of shape \(2,\) does not fit "
                "dimension 1 of length 3",
            ),
            error(
                "repeat_interleave",
                nnlib.tensor([1.0]),
                1,
                kind=DTypeError,
                message="repeat_interleave: repeats: expected integers, got float32",
            ),
            error(
                "repeat_interleave",
                [1.7, 2],
                0,
                kind=DTypeError,
                message=r"repeat_interleave: repeats: expected integers, got \[1.7",
            ),
        ],
    ),
    same("atleast_1d", np.atleast_1d, [NUMBER, normal(3)]),
    same("atleast_2d", np.atleast_2d, [normal(3), NUMBER, x234]),
    same("atleast_3d", np.atleast_3d, [normal(3, 4), normal(3), NUMBER, x234]),
]


def windows_reference(x, dim, size, step):
    if not x.ndim:
        return x.reshape(1)[:size]
    view = np.lib.stride_tricks.sliding_window_view(x, size, dim)
    return view[(*(slice(None),) * dim, slice(None, None, step))]


WINDOWS = [
    Case(
        "unfold_dimension",
        samples=[
            call(x234, 2, 2, 1),
            call(x34, 0, 2, 1),
            call(normal(9), 0, 4, 2),
            call(normal(2, 7), 1, 2, 3),
            call(normal(2, 7, 2), 1, 6, 1),
            call(x34, 1, 4, 5),
            call(integers(6), 0, 3, 3),
            call(NUMBER, 0, 1, 1),
        ],
        reference=windows_reference,
        call=lambda x, *args: x.unfold(*args),
        torch=method("unfold"),
        errors=[
            error(
                "unfold", 1, 4, 1, message="unfold: no window of 4 in dimension 1 of"
            ),
            error(
                "unfold", 1, 2, 0, kind=ArgumentError, message="unfold: expected size"
            ),
            out_of_range("unfold", 2, 1, 1),
        ],
    ),
]

CASES = SHAPES + REPETITIONS + WINDOWS
