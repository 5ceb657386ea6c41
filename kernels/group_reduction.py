"""What reductions are made of, and how a group of CUDA threads reduces its values.

Groups are of a power of two of neighbouring threads. Up to a warp they exchange values
between registers, beyond it through shared memory. Partners add in an order that the
group's size fixes, and every thread of a group comes to the same bits.
"""

from __future__ import annotations

from typing import Any

from nnlib.kernels import special
from nnlib.kernels.elementwise import scalar
from nnlib.kernels.machinery import body, cuda
from nnlib.kernels.machinery.groups import exchange

__all__ = [
    "MAXIMUM",
    "MINIMUM",
    "SQUARES",
    "SUM",
    "WARPS",
    "combine",
    "entering",
    "group_reduce",
    "row_place",
    "start",
]

SUM = 0
SQUARES = 1
MAXIMUM = 2
MINIMUM = 3

# Elements of the shared array that `group_reduce` needs: the warps of a block.
WARPS = 32


@scalar
def start(operation: Any, like: Any) -> Any:
    """Return what a reduction begins with, of the type of `like`."""
    kind = type(like)
    if operation == MAXIMUM:
        return kind(-special.INFINITY)
    if operation == MINIMUM:
        return kind(special.INFINITY)
    return kind(0)


@scalar
def combine(operation: Any, a: Any, b: Any) -> Any:
    """Return two results of a reduction as one."""
    if operation == MAXIMUM:
        return special.maximum(a, b)
    if operation == MINIMUM:
        return special.minimum(a, b)
    return a + b


@scalar
def entering(operation: Any, x: Any) -> Any:
    """Return what an element adds to a reduction."""
    return x * x if operation == SQUARES else x


@body
def group_reduce(operation: Any, shared: Any, value: Any, shift: Any) -> Any:
    """Reduce over groups of ``1 << shift`` threads; each of a group gets the result.

    All threads of the block take part. `shared` has `WARPS` elements.
    """
    step = 1 << min(shift, 5) >> 1
    while step > 0:
        value = combine(operation, value, exchange(value, step))
        step >>= 1
    if shift > 5:
        thread = cuda.threadIdx.x
        warp = thread >> 5
        # The last reduction may still be read.
        cuda.syncthreads()
        if thread & 31 == 0:
            shared[warp] = value
        cuda.syncthreads()
        warps = 1 << (shift - 5)
        value = shared[(warp & -warps) + (thread & (warps - 1))]
        step = warps >> 1
        while step > 0:
            value = combine(operation, value, exchange(value, step))
            step >>= 1
    return value


@body
def row_place(shift: Any, rows: Any, count: Any) -> Any:
    """Return the thread's number in its group, the group's row, where that begins.

    Groups of ``1 << shift`` threads take a row of `count` elements each. Every thread
    takes part in reductions: beyond the last of the `rows`, it reads in that one.
    """
    thread = cuda.threadIdx.x
    row = (cuda.blockIdx.x * cuda.blockDim.x + thread) >> shift
    return thread & ((1 << shift) - 1), row, min(row, rows - 1) * count
