"""Where random numbers begin: seed and position, as CUDA kernels take them.

Two numbers, as a `Generator` hands them out. A CUDA graph must not draw the same at
each replay: in what is recorded an array stands for the seed, from which a kernel reads
the seed and the position at which the graph's numbers begin, and which each replay
writes anew; the second number is then the distance from there. A kernel begins by::

    seed, offset = key_of(seed, offset)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import overload

from nnlib.backend.random import RecordedSeed
from nnlib.kernels.machinery import cuda, cuda_kernel, on_cuda

__all__ = ["key_of", "keyed", "write_key"]


def _is_array(value: Any) -> bool:
    return getattr(value, "ndim", 0) > 0


def key_of(seed: Any, offset: Any) -> Any:
    """Return seed and offset from what a CUDA kernel is given as such (see `keyed`)."""
    if _is_array(seed):
        return seed[0], seed[1] + offset
    return seed, offset


@overload(key_of, strict=False)  # type: ignore[untyped-decorator]
def _key_overload(seed: Any, offset: Any) -> Any:
    if _is_array(seed):
        return lambda seed, offset: (seed[0], seed[1] + offset)
    return lambda seed, offset: (seed, offset)


@cuda_kernel(threads=32)
def write_key_cuda(memory: Any, seed: Any, position: Any) -> None:
    if cuda.grid(1) == 0:
        memory[0] = seed
        memory[1] = position


def write_key(memory: Any, seed: int, position: int) -> None:
    """Write what the kernels of a CUDA graph draw from next.

    Parameters
    ----------
    memory : uint64 array, shape (2,)
    seed, position : int

    Examples
    --------
    >>> memory = np.zeros(2, np.uint64)
    >>> write_key(memory, 7, 40)
    >>> memory.tolist()
    [7, 40]
    """
    if on_cuda(memory):
        write_key_cuda(memory, np.uint64(seed), np.uint64(position), items=1)
    else:
        memory[:] = seed, position


def keyed(seed: int, offset: int, like: Any) -> tuple[Any, Any]:
    """Return seed and offset as a CUDA kernel takes them.

    While a CUDA graph is recorded these are an array, which each replay writes anew,
    and the distance from the position in it.

    Parameters
    ----------
    seed, offset : int
        From a `Generator`'s ``reserve``.
    like : array
        Where the kernel runs.

    Examples
    --------
    >>> [int(x) for x in keyed(7, 40, np.zeros(1))]
    [7, 40]
    """
    if type(seed) is not RecordedSeed:
        return np.uint64(seed), np.uint64(offset)
    if seed.memory is None:
        seed.memory = seed.recording.lasting(like, (2,), np.uint64)
        seed.write = write_key
    return seed.memory, np.uint64(offset - seed.start)
