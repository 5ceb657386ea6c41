"""Export of shapes, indices, joining and padding."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.onnx.tracing import Record
from nnlib.onnx.writers import dtype_at, writes
from nnlib.onnx.writing import FAR, Writer
from nnlib.ops.arithmetic import Expand, SumTo
from nnlib.ops.arranging import Flip, Roll, Triangle
from nnlib.ops.dimensions import Narrow
from nnlib.ops.embedding import EmbeddingRows
from nnlib.ops.gathering import IndexSelect, TakeAlong
from nnlib.ops.indexing import Index, Slice
from nnlib.ops.joining import Cat, Split, Stack, Unbind
from nnlib.ops.masking import OneHot
from nnlib.ops.padding import PadConstant
from nnlib.ops.reduction import Spread
from nnlib.ops.shape import Permute, Reshape
from nnlib.ops.writing import IndexAdd


@writes(Reshape)
def reshape(g: Writer, record: Record) -> str:
    """Write Reshape: free sizes as 0 (kept) or -1 (inferred)."""
    x = g.value(0)
    a, b = tuple(record.out[0].shape), tuple(g.twin.out[0].shape)
    if a == b and record.shape(0) == g.twin.shape(0):
        return g.add("Reshape", [x, g.ints(*a)])
    if len(a) != len(b):
        raise g.depends()
    free = [d for d in range(len(a)) if a[d] != b[d]]
    wanted = list(a)
    old, new = record.shape(0), g.twin.shape(0)
    for d in list(free):
        if len(free) > 1 and d < len(old) and old[d] == a[d] and new[d] == b[d]:
            wanted[d] = 0
            free.remove(d)
    if len(free) > 1:
        return g.add("Reshape", [x, g.sizes(a, b)])
    for d in free:
        wanted[d] = -1
    return g.add("Reshape", [x, g.ints(*wanted)])


@writes(Permute)
def permute(g: Writer, record: Record) -> str:
    """Write Transpose."""
    return g.add("Transpose", [g.value(0)], perm=list(record.params["dims"]))


@writes(Expand)
def expand(g: Writer, record: Record) -> str:
    """Write Expand; a free size that the input has already needs no mention."""
    a, b = list(record.params["shape"]), list(g.twin.params["shape"])
    old, new = record.shape(0), g.twin.shape(0)
    for d in range(1, len(old) + 1):
        if old[-d] == a[-d] and new[-d] == b[-d]:
            a[-d] = b[-d] = 1
    return g.add("Expand", [g.value(0), g.sizes(tuple(a), tuple(b))])


@writes(SumTo)
def sum_to(g: Writer, record: Record) -> str:
    """Write ReduceSum over what was broadcast."""
    wanted, old = record.params["shape"], record.shape(0)
    more = len(old) - len(wanted)
    dims = list(range(more))
    kept = [d + more for d, n in enumerate(wanted) if n == 1 != old[d + more]]
    x = g.reduce("ReduceSum", g.value(0), dims, False) if dims else g.value(0)
    return g.reduce("ReduceSum", x, [d - more for d in kept], True) if kept else x


@writes(Spread)
def spread(g: Writer, record: Record) -> str:
    """Write an Expand of what a reduction left."""
    raise g.unknown("the gradient of a sum")


def cut(g: Writer, x: str, dim: int, start: Any, end: Any, jump: int = 1) -> str:
    """Write Slice along one dimension."""
    return g.add("Slice", [x, g.ints(start), g.ints(end), g.ints(dim), g.ints(jump)])


@writes(Narrow)
def narrow(g: Writer, record: Record) -> str:
    """Write Slice, or Gather of one entry."""
    p, q, x = record.params, g.twin.params, g.value(0)
    dim, start, length = p["dim"], p["start"], p["length"]
    size, other = record.shape(0)[dim], g.twin.shape(0)[dim]
    if length is None:
        if start != q["start"]:
            if size - start != other - q["start"]:
                raise g.depends()
            start -= size
        return g.add("Gather", [x, g.constant(start, np.int64)], axis=dim)
    end: int = start + length
    if size - end == other - q["start"] - q["length"] and size != other:
        end = end - size or FAR
    elif (start, length) != (q["start"], q["length"]):
        if start != q["start"]:
            raise g.depends()
        last = g.size(end, q["start"] + q["length"])
        one = [g.ints(start), last, g.ints(dim), g.ints(1)]
        return g.add("Slice", [x, *one])
    if start != q["start"]:
        if size - start != other - q["start"]:
            raise g.depends()
        start -= size
    return cut(g, x, dim, start, end)


@writes(Slice)
def slice_(g: Writer, record: Record) -> str:
    """Write Slice, then Squeeze and Unsqueeze for numbers and None."""
    x, key = g.value(0), list(record.params["key"])
    rank = len(record.shape(0))
    if Ellipsis in key:
        at = key.index(Ellipsis)
        used = sum(part is not None and part is not Ellipsis for part in key)
        key[at : at + 1] = [slice(None)] * (rank - used)
    dim, out = 0, 0
    dropped: list[int] = []
    added: list[int] = []
    for part in key:
        if part is None:
            added.append(out)
            out += 1
        elif isinstance(part, slice):
            x = _slice_one(g, x, dim, part)
            dim, out = dim + 1, out + 1
        else:
            number = int(part)
            x = cut(g, x, dim, number, FAR if number == -1 else number + 1)
            dropped.append(dim)
            dim += 1
    if dropped:
        x = g.add("Squeeze", [x, g.ints(*dropped)])
    return g.add("Unsqueeze", [x, g.ints(*added)]) if added else x


def _slice_one(g: Writer, x: str, dim: int, part: slice) -> str:
    jump = 1 if part.step is None else int(part.step)
    if part.start is None and part.stop is None and jump == 1:
        return x
    start = part.start
    if start is None:
        start = 0 if jump > 0 else FAR
    end = part.stop
    if end is None:
        end = FAR if jump > 0 else -FAR
    return cut(g, x, dim, int(start), int(end), jump)


@writes(Index)
def index(g: Writer, record: Record) -> str:
    """Write Gather for one integer array; anything else is not supported."""
    key = record.params["key"]
    whole = [
        part for part in key if not (isinstance(part, slice) and part == slice(None))
    ]
    arrays = record.args[1:]
    if len(whole) != 1 or len(arrays) != 1 or arrays[0].dtype.kind not in "iu":
        raise g.unknown("an index that is not one array of integers")
    at = next(d for d, part in enumerate(key) if part is whole[0])
    if any(part is Ellipsis for part in key):
        raise g.unknown("an index array after an ellipsis")
    return g.add("Gather", [g.value(0), g.value(1)], axis=at)


@writes(IndexSelect)
def index_select(g: Writer, record: Record) -> str:
    """Write Gather."""
    return g.add("Gather", [g.value(0), g.value(1)], axis=record.params["dim"])


@writes(TakeAlong)
def take_along(g: Writer, record: Record) -> str:
    """Write GatherElements."""
    return g.add("GatherElements", [g.value(0), g.value(1)], axis=record.params["dim"])


@writes(IndexAdd)
def index_add(g: Writer, record: Record) -> str:
    """Write ScatterElements, with the index of each entry for all its elements."""
    dim, rank = record.params["dim"], len(record.shape(0))
    if g.opset < 16 or not rank:
        raise g.unknown("before opset 16, or without dimensions")
    source = g.value(2)
    if record.params["alpha"] != 1:
        alpha = g.constant(record.params["alpha"], dtype_at(record))
        source = g.add("Mul", [source, alpha])
    index = g.add(
        "Reshape", [g.value(1), g.ints(*(-(d == dim) or 1 for d in range(rank)))]
    )
    index = g.add("Expand", [index, g.add("Shape", [source])])
    return g.add(
        "ScatterElements", [g.value(0), index, source], axis=dim, reduction="add"
    )


@writes(EmbeddingRows)
def embed(g: Writer, record: Record) -> str:
    """Write Gather of rows."""
    return g.add("Gather", [g.value(0), g.value(1)], axis=0)


@writes(OneHot)
def one_hot(g: Writer, record: Record) -> str:
    """Write OneHot."""
    depth = g.constant(record.params["num_classes"], np.int64)
    return g.add("OneHot", [g.value(0), depth, g.ints(0, 1)])


@writes(Cat)
def cat(g: Writer, record: Record) -> str:
    """Write Concat."""
    parts = [g.value(n) for n in range(len(record.args))]
    return g.add("Concat", parts, axis=record.params["dim"])


@writes(Stack)
def stack(g: Writer, record: Record) -> str:
    """Write Concat along a new dimension."""
    dim = record.params["dim"]
    parts = [
        g.add("Unsqueeze", [g.value(n), g.ints(dim)]) for n in range(len(record.args))
    ]
    return g.add("Concat", parts, axis=dim)


@writes(Split)
def split(g: Writer, record: Record) -> list[str]:
    """Write Split."""
    p = record.params
    if len(p["lengths"]) == 1:
        return [g.add("Identity", [g.value(0)])]
    lengths = g.ints(*p["lengths"])
    return g.several("Split", [g.value(0), lengths], len(p["lengths"]), axis=p["dim"])


@writes(Unbind)
def unbind(g: Writer, record: Record) -> list[str]:
    """Write one Gather for each entry."""
    x, dim = g.value(0), record.params["dim"]
    count = record.shape(0)[dim]
    return [
        g.add("Gather", [x, g.constant(n, np.int64)], axis=dim) for n in range(count)
    ]


@writes(PadConstant)
def pad(g: Writer, record: Record) -> str:
    """Write Pad."""
    p = record.params
    widths = [a for a, _ in p["widths"]] + [b for _, b in p["widths"]]
    value = g.constant(p["value"] or 0, dtype_at(record))
    return g.add("Pad", [g.value(0), g.ints(*widths), value])


@writes(Flip)
def flip(g: Writer, record: Record) -> str:
    """Write Slice with negative steps."""
    x = g.value(0)
    for dim in record.params["dims"]:
        x = cut(g, x, dim, -1, -FAR, -1)
    return x


@writes(Roll)
def roll(g: Writer, record: Record) -> str:
    """Write a Concat of two stretches for each dimension."""
    x, p = g.value(0), record.params
    if p["dims"] is None:
        raise g.unknown("roll over all dimensions")
    shifts = p["shifts"] if isinstance(p["shifts"], tuple | list) else (p["shifts"],)
    for dim, shift in zip(p["dims"], shifts, strict=True):
        size = record.shape(0)[dim]
        if size != g.twin.shape(0)[dim]:
            raise g.depends()
        if shift % size:
            at = size - shift % size
            parts = [cut(g, x, dim, at, FAR), cut(g, x, dim, 0, at)]
            x = g.add("Concat", parts, axis=dim)
    return x


@writes(Triangle)
def triangle(g: Writer, record: Record) -> str:
    """Write Trilu."""
    if g.opset < 14:
        raise g.unknown("triangles before opset 14")
    p = record.params
    k = g.constant(p["k"], np.int64)
    return g.add("Trilu", [g.value(0), k], upper=int(not p["lower"]))
