"""Four neighbouring elements at once: what CUDA kernels that stream memory read by.

A multiprocessor holds 2048 threads. With one 4-byte load each they ask for too little
at a time to hide the latency of a fast memory; 16 bytes each are enough. A loop that
reads and writes by quads::

    i = quad_at(cuda.grid(1))
    size = np.uint64(x.size)
    end = quad_end(size, aligned(x) and aligned(y))
    while i < size:
        whole = i < end
        a, b, c, d = take4(x, i, whole)
        put4(y, i, whole, f(a), f(b), f(c), f(d))
        i += quad_at(cuda.gridsize(1))

is launched with ``items=quads(x.size)``. Such a loop is a ``while``: Numba's ``range``
with a step that is not constant divides 64-bit numbers before it starts. Indices are
unsigned: signed ones may count from the end, which takes instructions.

In the simulator the Python functions themselves run.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload, register_jitable

__all__ = [
    "LANES",
    "aligned",
    "aligned_address",
    "inlined",
    "load4",
    "load4_at",
    "put2",
    "put4",
    "put_apart",
    "quad_at",
    "quad_end",
    "quads",
    "store2",
    "store4",
    "store4_at",
    "take4",
    "take_apart",
]

# Elements of a vector, and the bytes of one access.
LANES = 4
_BYTES = 16
_LANES = np.uint64(LANES)
_ONE = np.uint64(1)
_TWO = np.uint64(2)
_THREE = np.uint64(3)
_WORD = ir.IntType(64)


def quads(size: int) -> int:
    """Return how many vectors cover `size` elements.

    Examples
    --------
    >>> quads(8), quads(9)
    (2, 3)
    """
    return (size + LANES - 1) // LANES


def inlined(function: Any) -> Any:
    """Mark a function of scalars as callable from kernels, and never called there."""
    return register_jitable(forceinline=True, no_cfunc_wrapper=True)(function)


def _size(element: Any) -> int:
    if isinstance(element, ir.IntType):
        return int(element.width) // 8
    return 4 if isinstance(element, ir.FloatType) else 8


def _parts(builder: Any, pointer: Any, element: Any, count: int = LANES) -> Any:
    """Yield each 16-byte part of the elements: its place, its first lane, its type."""
    size = _size(element)
    lanes = min(count, _BYTES // size)
    kind = ir.VectorType(element, lanes)
    for first in range(0, count, lanes):
        place = builder.gep(pointer, [ir.Constant(_WORD, first)])
        yield (
            builder.bitcast(place, kind.as_pointer(pointer.type.addrspace)),
            first,
            kind,
        )


def _emit_load(builder: Any, pointer: Any, element: Any) -> list[Any]:
    values = []
    for place, _, kind in _parts(builder, pointer, element):
        vector = builder.load(place)
        vector.align = min(_BYTES, kind.count * _size(element))
        for lane in range(kind.count):
            number = ir.Constant(ir.IntType(32), lane)
            values.append(builder.extract_element(vector, number))
    return values


def _emit_store(builder: Any, pointer: Any, element: Any, values: Any) -> None:
    size = _size(element)
    for place, first, kind in _parts(builder, pointer, element, len(values)):
        vector = ir.Constant(kind, ir.Undefined)
        for lane in range(kind.count):
            number = ir.Constant(ir.IntType(32), lane)
            vector = builder.insert_element(vector, values[first + lane], number)
        builder.store(vector, place).align = min(_BYTES, kind.count * size)


def _place(context: Any, builder: Any, kind: Any, array: Any, i: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.gep(data, [i])


def _place_at(context: Any, builder: Any, kind: Any, address: Any, i: Any) -> Any:
    # In the address space of the device's memory.
    pointer = context.get_data_type(kind).as_pointer(1)
    return builder.gep(builder.inttoptr(address, pointer), [i])


@intrinsic  # type: ignore[untyped-decorator]
def _address(typing_context: Any, x: Any) -> Any:
    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        return builder.ptrtoint(array.data, _WORD)

    return types.uint64(x), lower


@intrinsic  # type: ignore[untyped-decorator]
def _load4(typing_context: Any, x: Any, i: Any) -> Any:
    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = signature.args[0]
        place = _place(context, builder, kind, *args)
        values = _emit_load(builder, place, context.get_data_type(kind.dtype))
        return context.make_tuple(builder, signature.return_type, values)

    return types.UniTuple(x.dtype, LANES)(x, types.uint64), lower


@intrinsic  # type: ignore[untyped-decorator]
def _store4(typing_context: Any, x: Any, i: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = signature.args[0]
        place = _place(context, builder, kind, args[0], args[1])
        element = context.get_data_type(kind.dtype)
        _emit_store(builder, place, element, args[2:])
        return context.get_dummy_value()

    return types.void(x, types.uint64, *[x.dtype] * LANES), lower


@intrinsic  # type: ignore[untyped-decorator]
def _store2(typing_context: Any, x: Any, i: Any, a: Any, b: Any) -> Any:
    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = signature.args[0]
        place = _place(context, builder, kind, args[0], args[1])
        element = context.get_data_type(kind.dtype)
        _emit_store(builder, place, element, args[2:])
        return context.get_dummy_value()

    return types.void(x, types.uint64, x.dtype, x.dtype), lower


@intrinsic  # type: ignore[untyped-decorator]
def _load4_at(typing_context: Any, address: Any, i: Any, like: Any) -> Any:
    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = signature.args[2]
        place = _place_at(context, builder, kind, args[0], args[1])
        values = _emit_load(builder, place, context.get_data_type(kind))
        return context.make_tuple(builder, signature.return_type, values)

    return types.UniTuple(like, LANES)(types.int64, types.uint64, like), lower


@intrinsic  # type: ignore[untyped-decorator]
def _store4_at(
    typing_context: Any, address: Any, i: Any, a: Any, b: Any, c: Any, d: Any
) -> Any:
    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = signature.args[2]
        place = _place_at(context, builder, kind, args[0], args[1])
        _emit_store(builder, place, context.get_data_type(kind), args[2:])
        return context.get_dummy_value()

    return types.void(types.int64, types.uint64, *[a] * LANES), lower


def aligned(x: Any) -> bool:
    """Tell whether the array `x` begins where 16-byte accesses may."""
    return bool(x.ctypes.data % _BYTES == 0)


def _check(x: Any, i: Any, count: int) -> None:
    """Refuse in the simulator what a GPU would: a vector that is not aligned."""
    place = int(x.ctypes.data) + int(i) * x.itemsize
    if place % min(_BYTES, count * x.itemsize):
        raise ValueError(f"a vector of {count} at {place}, which is not aligned")


def load4(x: Any, i: Any) -> Any:
    """Return elements i to i + 3 of a flat array; `i` is a uint64, a multiple of 4.

    The array must be `aligned` and C-contiguous.
    """
    _check(x, i, LANES)
    return x[i], x[i + _ONE], x[i + _TWO], x[i + _THREE]


def store4(x: Any, i: Any, a: Any, b: Any, c: Any, d: Any) -> None:
    """Write elements i to i + 3 of a flat array, under the terms of `load4`."""
    _check(x, i, LANES)
    x[i] = a
    x[i + _ONE] = b
    x[i + _TWO] = c
    x[i + _THREE] = d


def store2(x: Any, i: Any, a: Any, b: Any) -> None:
    """Write elements i and i + 1 of an aligned array; `i` is even."""
    _check(x, i, 2)
    x[i] = a
    x[i + _ONE] = b


def _view(address: Any, i: Any, like: Any) -> Any:
    kind = np.dtype(type(like))
    place = int(address) + int(i) * kind.itemsize
    if place % _BYTES:
        raise ValueError(f"a vector at {place}, which is not aligned")
    buffer: Any = (ctypes.c_char * (LANES * kind.itemsize)).from_address(place)
    return np.frombuffer(buffer, kind)


def load4_at(address: Any, i: Any, like: Any) -> Any:
    """Return four elements, of the type of `like`, of the array at an address."""
    return tuple(_view(address, i, like))


def store4_at(address: Any, i: Any, a: Any, b: Any, c: Any, d: Any) -> None:
    """Write four elements of the array at an address."""
    _view(address, i, a)[:] = (a, b, c, d)


overload(aligned, strict=False)(
    lambda x: lambda x: _address(x) & np.uint64(_BYTES - 1) == np.uint64(0)
)
overload(load4, strict=False)(lambda x, i: lambda x, i: _load4(x, i))
overload(store4, strict=False)(
    lambda x, i, a, b, c, d: lambda x, i, a, b, c, d: _store4(x, i, a, b, c, d)
)
overload(store2, strict=False)(
    lambda x, i, a, b: lambda x, i, a, b: _store2(x, i, a, b)
)
overload(load4_at, strict=False)(
    lambda address, i, like: lambda address, i, like: _load4_at(address, i, like)
)
overload(store4_at, strict=False)(
    lambda address, i, a, b, c, d: (
        lambda address, i, a, b, c, d: _store4_at(address, i, a, b, c, d)
    )
)


@inlined
def aligned_address(address: Any) -> Any:
    """Tell whether an array at this address may be read by `load4_at`."""
    return address & np.int64(_BYTES - 1) == np.int64(0)


@inlined
def quad_at(number: Any) -> Any:
    """Return where the vector of this number begins."""
    return np.uint64(number) * _LANES


@inlined
def quad_end(size: Any, wide: Any) -> Any:
    """Return where the last whole vector ends; 0 if no access is to be `wide`."""
    return size & ~np.uint64(LANES - 1) if wide else np.uint64(0)


@inlined
def take4(x: Any, i: Any, whole: Any) -> Any:
    """Return elements i to i + 3 of a flat array.

    Not `whole`, they are read one by one, the last element again for those past the
    end; else as by `load4`.
    """
    if whole:
        return load4(x, i)
    last = np.uint64(x.size - 1)
    return (
        x[i],
        x[min(i + _ONE, last)],
        x[min(i + _TWO, last)],
        x[min(i + _THREE, last)],
    )


@inlined
def put2(x: Any, i: Any, whole: Any, a: Any, b: Any) -> None:
    """Write elements i and i + 1, where there are such; `i`, an int64, may be -1."""
    if whole:
        store2(x, np.uint64(i), a, b)
    else:
        size = np.int64(x.size)
        if 0 <= i < size:
            x[np.uint64(i)] = a
        if 0 <= i + 1 < size:
            x[np.uint64(i + 1)] = b


@inlined
def put4(x: Any, i: Any, whole: Any, a: Any, b: Any, c: Any, d: Any) -> None:
    """Write elements i to i + 3, those past the end excepted; `whole` as `take4`."""
    if whole:
        store4(x, i, a, b, c, d)
    else:
        size = np.uint64(x.size)
        x[i] = a
        if i + _ONE < size:
            x[i + _ONE] = b
        if i + _TWO < size:
            x[i + _TWO] = c
        if i + _THREE < size:
            x[i + _THREE] = d


@inlined
def take_apart(x: Any, i: Any, gap: Any) -> Any:
    """Return elements i, i + gap, i + 2 gap and i + 3 gap of a flat array.

    `i` is an int64; in place of an element before the beginning or past the end comes
    another one. All are asked for before the first is used.
    """
    last = np.int64(x.size) - np.int64(1)
    j, k, m = i + gap, i + gap + gap, i + gap + gap + gap
    if i < 0 or m > last:
        i, j = max(0, min(i, last)), max(0, min(j, last))
        k, m = max(0, min(k, last)), max(0, min(m, last))
    return x[np.uint64(i)], x[np.uint64(j)], x[np.uint64(k)], x[np.uint64(m)]


@inlined
def put_apart(x: Any, i: Any, gap: Any, a: Any, b: Any, c: Any, d: Any) -> None:
    """Write elements i, i + gap, i + 2 gap and i + 3 gap, where there are such."""
    size = np.int64(x.size)
    j, k, m = i + gap, i + gap + gap, i + gap + gap + gap
    if 0 <= i and m < size:
        x[np.uint64(i)] = a
        x[np.uint64(j)] = b
        x[np.uint64(k)] = c
        x[np.uint64(m)] = d
    else:
        if 0 <= i < size:
            x[np.uint64(i)] = a
        if 0 <= j < size:
            x[np.uint64(j)] = b
        if 0 <= k < size:
            x[np.uint64(k)] = c
        if 0 <= m < size:
            x[np.uint64(m)] = d
