"""Groups of CUDA threads that share a row or a column, and vectors held in registers.

A kernel that goes over rows holds its part of a row in a local array, which the
compiler keeps in registers as long as every index is known to it: loops over it have
constant bounds. So such kernels are made for a number of vectors per thread, by
functions that close over it, and `Rows` says which one a row's length needs.

In the simulator the Python functions themselves run; every thread of a block must come
to each `exchange`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload, register_jitable

from nnlib.kernels.machinery.gpu import CudaKernel, cuda, cuda_kernel

__all__ = [
    "Access",
    "Rows",
    "access",
    "aligned",
    "exchange",
    "kernel_variant",
    "move_vector",
    "width_of",
]

# Bytes of the widest access of a thread.
_BYTES = 16
# Neighbouring threads read so many vectors in a row: a line of 128 bytes.
_LINE = 8
# Threads of a block whose rows are shorter.
_THREADS = 128
_MOST_THREADS = 256


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def _move(
    typing_context: Any, target: Any, t: Any, source: Any, s: Any, width: Any
) -> Any:
    if not isinstance(width, types.IntegerLiteral):
        return None
    count = width.literal_value

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        places = []
        for kind, value, index in (
            (signature.args[0], args[0], args[1]),
            (signature.args[2], args[2], args[3]),
        ):
            data = context.make_array(kind)(context, builder, value).data
            vector = ir.VectorType(context.get_data_type(kind.dtype), count)
            pointer = vector.as_pointer(data.type.addrspace)
            places.append(builder.bitcast(builder.gep(data, [index]), pointer))
        size = count * signature.args[2].dtype.bitwidth // 8
        vector = builder.load(places[1])
        vector.align = size
        builder.store(vector, places[0]).align = size
        return context.get_dummy_value()

    return types.void(target, t, source, s, width), lower


def move_vector(target: Any, t: Any, source: Any, s: Any, width: Any) -> None:
    """Copy `width` elements of a flat array by one access, `width` being constant.

    ``target[t : t + width] = source[s : s + width]``; both places are aligned to the
    whole vector.
    """
    if int(t) % width or int(s) % width:
        # What a GPU would refuse: the arrays themselves begin where vectors may.
        raise ValueError(f"a vector of {width} at {t} or {s}, which is not aligned")
    for e in range(width):
        target[t + e] = source[s + e]


overload(move_vector, strict=False, prefer_literal=True)(
    lambda target, t, source, s, width: (
        lambda target, t, source, s, width: _move(target, t, source, s, width)
    )
)


def exchange(value: Any, step: Any) -> Any:
    """Return the value of the thread whose number differs by the bit `step` below 32.

    All threads of the block take part.
    """
    # The simulator's way: it knows no warps.
    number = cuda.threadIdx.x
    shared = cuda.shared.array(1024, np.float64)
    shared[number] = value
    cuda.syncthreads()
    other = shared[number ^ step]
    cuda.syncthreads()
    return type(value)(other)


overload(exchange, strict=False)(
    lambda value, step: lambda value, step: cuda.shfl_xor_sync(0xFFFFFFFF, value, step)
)


def width_of(itemsize: int, count: int, *arrays: Any) -> int:
    """Return how many neighbours a thread may read at once.

    Parameters
    ----------
    itemsize : int
    count : int
        Elements of a row.
    *arrays : array
        Whose rows they are.

    Examples
    --------
    >>> width_of(4, 12), width_of(4, 10), width_of(8, 10)
    (4, 1, 2)
    """
    width = _BYTES // itemsize
    return width if count % width == 0 and aligned(*arrays) else 1


def aligned(*arrays: Any) -> bool:
    """Tell whether the arrays begin where vectors may."""
    for x in arrays:
        pointer = getattr(x.data, "ptr", None)
        if (x.ctypes.data if pointer is None else pointer) % _BYTES:
            return False
    return True


class Rows(NamedTuple):
    """How threads share rows of one length.

    Attributes
    ----------
    width : int
        Elements of a vector.
    held : int
        Vectors that a thread holds.
    shift : int
        The logarithm to base 2 of the threads that share a row.
    threads : int
        Threads of a block.
    """

    width: int
    held: int
    shift: int
    threads: int

    @classmethod
    def of(cls, count: int, width: int, most: int = 8) -> Rows | None:
        """Return the plan for rows of `count`, None where registers cannot hold them.

        Examples
        --------
        >>> Rows.of(1024, 4)
        Rows(width=4, held=8, shift=5, threads=128)
        """
        return _plan(count // width, width, most)

    def blocks(self, rows: int) -> int:
        """Return the blocks that take each row once."""
        return -(-rows >> (self.threads.bit_length() - 1 - self.shift))


@functools.lru_cache(maxsize=1024)
def _plan(vectors: int, width: int, most: int) -> Rows | None:
    shift = 0
    while (1 << shift) < min(vectors, _LINE) or (most << shift) < vectors:
        shift += 1
    if (1 << shift) > _MOST_THREADS:
        return None
    held = 1
    while (held << shift) < vectors:
        held *= 2
    return Rows(width, held, shift, max(_THREADS, 1 << shift))


class Access(NamedTuple):
    """How a thread reads and writes its part of a row: functions for kernels.

    Attributes
    ----------
    load : callable
        ``load(held, x, base, lane, shift, count, fill)`` reads the vectors of the row
        that begins at `base` of the flat array `x`; past its `count` elements it puts
        `fill`.
    store : callable
        ``store(y, base, held, lane, shift, count)`` writes them.
    """

    load: Callable[..., None]
    store: Callable[..., None]


@functools.cache
def access(width: int, held: int) -> Access:
    """Return the functions for `held` vectors of `width` elements."""

    def load(
        values: Any, x: Any, base: Any, lane: Any, shift: Any, count: Any, fill: Any
    ) -> None:
        for k in range(held):
            j = (lane + (k << shift)) * width
            if j < count:
                move_vector(values, k * width, x, base + j, width)
            else:
                for e in range(width):
                    values[k * width + e] = fill

    def store(
        y: Any, base: Any, values: Any, lane: Any, shift: Any, count: Any
    ) -> None:
        for k in range(held):
            j = (lane + (k << shift)) * width
            if j < count:
                move_vector(y, base + j, values, k * width, width)

    options = {"forceinline": True, "no_cfunc_wrapper": True}
    return Access(register_jitable(**options)(load), register_jitable(**options)(store))


def kernel_variant(function: Callable[..., Any], *numbers: int) -> CudaKernel:
    """Return a kernel whose name tells the numbers that it closes over."""
    name = "_".join([function.__name__, *map(str, numbers)])
    function.__name__ = function.__qualname__ = name
    return cuda_kernel(function)
