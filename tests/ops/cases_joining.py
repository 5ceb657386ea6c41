"""Cases of joins, cuts, rearrangements and padding."""

from __future__ import annotations

import numpy as np
from harness import Case, Sample, integers, normal

import nnlib
from nnlib.backend.errors import BoundsError, DTypeError, Error, ShapeError

x34 = normal(3, 4)
NUMBER = np.array(0.7)
x234 = normal(2, 3, 4)
PARTS = [normal(2, 3), normal(2, 1), normal(2, 2)]
EQUAL = [normal(2, 3), normal(2, 3)]


def call(*args, **kwargs):
    return Sample(args, kwargs)


def ones(*shape):
    return nnlib.ones(*shape)


def joins(name):
    return Case(
        name,
        samples=[
            call(PARTS, 1),
            call(EQUAL),
            call([integers(2, 3), normal(2, 3)], -1),
            call([normal(3)]),
        ],
        reference=lambda xs, dim=0: np.concatenate(xs, axis=dim),
        empty=False,
        method=False,
        errors=[
            (
                lambda: getattr(nnlib, name)([ones(2, 3), ones(2, 2)]),
                ShapeError,
                r"cat: tensor 1 has shape \(2, 2\), tensor 0 has \(2, 3\): they may "
                "differ in dimension 0 only",
            ),
            (
                lambda: getattr(nnlib, name)([]),
                ShapeError,
                "cat: tensors: expected at least one tensor, got none",
            ),
            (
                lambda: getattr(nnlib, name)(ones(2)),
                DTypeError,
                "cat: tensors: expected a sequence of tensors, got a Tensor",
            ),
            (
                lambda: getattr(nnlib, name)([ones(2), 3.0]),
                DTypeError,
                "cat: tensors: element 1 is no tensor but float",
            ),
            (
                lambda: getattr(nnlib, name)([ones()]),
                ShapeError,
                "cat: tensors without dimensions cannot be joined",
            ),
            (
                lambda: getattr(nnlib, name)([ones(2)], 1),
                BoundsError,
                "cat: dim 1 is out of range",
            ),
        ],
    )


def stacks(name):
    return Case(
        name,
        samples=[call(EQUAL), call([normal(3), normal(3)]), call([normal(2, 3, 1)])],
        reference=getattr(np, name),
        empty=False,
        method=False,
    )


def lengths(size, count):
    return [min(count, size - start) for start in range(0, size, count)]


def cut(x, sizes, dim):
    return tuple(np.split(x, np.cumsum(sizes)[:-1], axis=dim))


def split_reference(x, sizes, dim=0):
    if isinstance(sizes, int):
        sizes = lengths(x.shape[dim], sizes) or [0]
    return cut(x, sizes, dim)


def chunk_reference(x, chunks, dim=0):
    size = -(-x.shape[dim] // chunks)
    return cut(x, lengths(x.shape[dim], size) if size else [0] * chunks, dim)


def plain(name, reference, samples, **kwargs):
    return Case(name, samples=samples, reference=reference, **kwargs)


def roll_reference(x, shifts, dims=None):
    return np.roll(x, shifts, dims)


def diag_embed_reference(x, offset=0, dim1=-2, dim2=-1):
    side = x.shape[-1] + abs(offset)
    out = np.zeros((*x.shape[:-1], side, side))
    place = np.arange(x.shape[-1])
    out[..., place + max(-offset, 0), place + max(offset, 0)] = x
    return np.moveaxis(out, (-2, -1), (dim1, dim2))


def pad_reference(x, pad, mode="constant", value=None):
    pairs = list(zip(pad[::2], pad[1::2], strict=True))[::-1]
    widths = [(0, 0)] * (x.ndim - len(pairs)) + pairs
    kind = {"replicate": "edge", "circular": "wrap"}.get(mode, mode)
    if mode != "constant":
        return np.pad(x, widths, kind)
    x = x[
        tuple(
            slice(max(-a, 0), n - max(-b, 0))
            for n, (a, b) in zip(x.shape, widths, strict=True)
        )
    ]
    widths = [(max(a, 0), max(b, 0)) for a, b in widths]
    return np.pad(x, widths, kind, constant_values=value or 0)


def square_error(name):
    return (
        lambda: getattr(nnlib, name)(ones(3)),
        ShapeError,
        f"{name}: expected 2 or more dimensions, got 1",
    )


def pad_error(pad, mode, kind, message):
    return (lambda: nnlib.nn.functional.pad(ones(1, 1, 3), pad, mode), kind, message)


JOINS = [
    joins("cat"),
    joins("concat"),
    joins("concatenate"),
    Case(
        "stack",
        samples=[call(EQUAL), call(EQUAL, 1), call(EQUAL, -1), call([NUMBER])],
        reference=lambda xs, dim=0: np.stack(xs, axis=dim),
        empty=False,
        method=False,
        errors=[
            (
                lambda: nnlib.stack([ones(2, 3), ones(2, 2)]),
                ShapeError,
                r"stack: tensor 1 has shape \(2, 2\), tensor 0 has \(2, 3\)$",
            ),
            (lambda: nnlib.stack([]), ShapeError, "stack: tensors: expected at least"),
        ],
    ),
    stacks("hstack"),
    stacks("vstack"),
    stacks("dstack"),
    stacks("column_stack"),
]

CUTS = [
    plain(
        "unbind",
        lambda x, dim=0: tuple(np.moveaxis(x, dim, 0)),
        [call(x34, 1), call(x234), call(x234, -1)],
        errors=[
            (lambda: ones().unbind(), ShapeError, "unbind: a tensor without dimensions")
        ],
    ),
    plain(
        "split",
        split_reference,
        [call(x34, 2), call(x34, [1, 3], 1), call(x234, 3, -1)],
        errors=[
            (
                lambda: ones(3).split([1, 1]),
                ShapeError,
                r"split: lengths \(1, 1\) do not add up to 3, the length of dim",
            ),
            (lambda: ones(3).split(0), ShapeError, "split: expected a positive size"),
        ],
    ),
    plain(
        "chunk",
        chunk_reference,
        [call(x34, 2), call(x34, 3, 1), call(x234, 9)],
        errors=[(lambda: ones(3).chunk(0), Error, "chunk: chunks: expected 1 or more")],
    ),
    plain(
        "tensor_split",
        lambda x, n, dim=0: tuple(np.array_split(x, n, axis=dim)),
        [call(x34, 2), call(x34, (1, 3), 1), call(x34, (2, 1, -1), 1)],
        errors=[
            (
                lambda: ones(3).tensor_split(0),
                Error,
                "tensor_split: expected 1 or more sections, got 0",
            )
        ],
    ),
    plain(
        "hsplit", lambda x, n: tuple(np.hsplit(x, n)), [call(x34, 2), call(x34, (1,))]
    ),
    plain("vsplit", lambda x, n: tuple(np.vsplit(x, n)), [call(normal(4, 2), 2)]),
]

ARRANGED = [
    plain(
        "flip",
        lambda x, dims: np.flip(x, dims),
        [call(x34, (0,)), call(x234, (0, -1))],
        errors=[
            (lambda: ones(2).flip(1), BoundsError, "flip: dim 1 is out of range"),
            (lambda: ones(2, 2).flip(0, -2), ShapeError, "flip: dim: .* twice"),
        ],
    ),
    plain("fliplr", np.fliplr, [x34], errors=[square_error("fliplr")]),
    plain("flipud", np.flipud, [x34, normal(3)]),
    plain(
        "roll",
        roll_reference,
        [call(x34, 1), call(x34, (1, -2), (0, 1)), call(x234, -1, 1)],
        errors=[
            (
                lambda: ones(2, 2).roll((1, 2), 0),
                ShapeError,
                "roll: 2 shifts, but 1 dims",
            )
        ],
    ),
    plain(
        "rot90",
        lambda x, k=1, dims=(0, 1): np.rot90(x, k, dims),
        [call(x34), call(x34, 2), call(x34, -1), call(x234, 4, (1, 2))],
        errors=[
            (
                lambda: ones(2, 2).rot90(1, (0,)),
                ShapeError,
                r"rot90: dims: expected two dimensions, got \(0,\)",
            )
        ],
    ),
    plain(
        "tril",
        lambda x, diagonal=0: np.tril(x, diagonal),
        [call(x34), call(x234, 1), call(x34, -1)],
        errors=[square_error("tril")],
    ),
    plain(
        "triu",
        lambda x, diagonal=0: np.triu(x, diagonal),
        [call(x34), call(x234, 1), call(x34, -1)],
        errors=[square_error("triu")],
    ),
    plain(
        "diagonal",
        lambda x, *args: np.diagonal(x, *args),
        [call(x34), call(x34, 1), call(x234, -1, 2, 1)],
        errors=[
            (
                lambda: ones(2, 2).diagonal(0, 1, -1),
                ShapeError,
                "diagonal: dim1 and dim2 are both 1",
            )
        ],
    ),
    plain(
        "diag_embed",
        diag_embed_reference,
        [call(x34), call(x34, 1), call(x34, -1, 0, 2)],
    ),
    plain(
        "diag",
        lambda x, diagonal=0: np.diag(x, diagonal),
        [call(x34), call(normal(3), 1), call(x34, -1)],
        errors=[
            (
                lambda: nnlib.diag(ones(1, 2, 3)),
                ShapeError,
                "diag: expected 1 or 2 dimensions, got 3",
            )
        ],
    ),
    plain(
        "trace",
        np.trace,
        [x34, integers(3, 3)],
        errors=[
            (
                lambda: ones(3).trace(),
                ShapeError,
                r"trace: expected a matrix, got shape",
            )
        ],
    ),
    plain(
        "pad",
        pad_reference,
        [
            call(x234, (1, 2)),
            call(x234, (1, 0, 2, 1), "constant", 3.5),
            call(x234, (-1, 2, 0, -1)),
            call(x234, (3, 2), "reflect"),
            call(normal(1, 2, 3, 4), (3, 1, 2, 0), "reflect"),
            call(x234, (5, 2), "replicate"),
            call(x234, (4, 2), "circular"),
        ],
        torch="nn.functional.pad",
        errors=[
            pad_error((1,), "constant", ShapeError, "pad: expected a pair of widths"),
            pad_error((1, 1), "mirror", Error, "pad: mode: expected one of"),
            pad_error(
                (3, 0),
                "reflect",
                ShapeError,
                "pad: mode reflect copies at most 2 entries of dimension 2 of length 3",
            ),
            pad_error(
                (-4, 0),
                "constant",
                ShapeError,
                "pad: widths -4 and 0 cut more than the length 3 of dimension 2",
            ),
        ],
    ),
]

CASES = JOINS + CUTS + ARRANGED
