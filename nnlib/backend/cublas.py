"""Matrix products by cuBLAS, called without CuPy's detours.

CuPy's `matmul` checks, broadcasts and copies for tens of microseconds before it calls
the same function. Matrices are read where they lie: a transposed view is a flag of the
call. cuBLAS counts columns first, so that the product of row-major matrices is asked
for as ``out^T = b^T a^T``.

The precision is that of the dtype: no TF32; 16-bit floats are added up in float32.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

__all__ = ["multiply"]

# Values of cuBLAS' and CUDA's enumerations.
_COMPUTE_32F = 68
_HALVES = {"e": 2, "E": 14}
_DEFAULT = -1
_PLAIN, _TRANSPOSED = 0, 1
# cuBLAS takes sizes as 32-bit integers.
_LARGEST = 2**31 - 1


class _Routine(NamedTuple):
    """How matrices of one dtype are multiplied: singly and in batches."""

    single: Any
    batched: Any
    size: int
    # Addresses of 0 and 1 on the host, for beta (nothing or all of `out`) and alpha.
    zero: int
    one: int
    handle: Any


_constants = {char: np.array([0, 1], char) for char in "fd"}


def _bindings() -> Any:
    """Return CuPy's module of cuBLAS, and what gives the thread's handle."""
    from cupy.cuda import device
    from cupy_backends.cuda.libs import cublas

    return cublas, device.get_cublas_handle


@functools.cache
def _routine(char: str) -> _Routine | None:
    """Return what multiplies arrays of a dtype; None if nothing does."""
    if char not in "fd" and char not in _HALVES:
        return None
    cublas, handle = _bindings()
    constants = _constants["d" if char == "d" else "f"]
    zero = constants.ctypes.data
    one = zero + constants.itemsize
    if char == "f":
        return _Routine(cublas.sgemm, cublas.sgemmStridedBatched, 4, zero, one, handle)
    if char == "d":
        return _Routine(cublas.dgemm, cublas.dgemmStridedBatched, 8, zero, one, handle)
    kind = _HALVES[char]
    how = (_COMPUTE_32F, _DEFAULT)

    def single(
        handle: int, ta: int, tb: int, m: int, n: int, k: int, alpha: int,
        a: int, lda: int, b: int, ldb: int, beta: int, c: int, ldc: int,
    ) -> None:  # fmt: skip
        cublas.gemmEx(
            handle, ta, tb, m, n, k, alpha, a, kind, lda, b, kind, ldb, beta, c, kind,
            ldc, *how,
        )  # fmt: skip

    def batched(
        handle: int, ta: int, tb: int, m: int, n: int, k: int, alpha: int,
        a: int, lda: int, step_a: int, b: int, ldb: int, step_b: int, beta: int,
        c: int, ldc: int, step_c: int, count: int,
    ) -> None:  # fmt: skip
        cublas.gemmStridedBatchedEx(
            handle, ta, tb, m, n, k, alpha, a, kind, lda, step_a, b, kind, ldb, step_b,
            beta, c, kind, ldc, step_c, count, *how,
        )  # fmt: skip

    return _Routine(single, batched, 2, zero, one, handle)


def _form(
    rows: int, columns: int, down: int, across: int, size: int
) -> tuple[int, int] | None:
    """Return the flag and the leading dimension of a matrix of these strides.

    Returns
    -------
    (int, int) or None
        Whether it is transposed, and how many elements lie from one row (or column) to
        the next; None if it must be copied.
    """
    if across == size or columns == 1:
        step = columns if rows == 1 else down // size
        if step >= columns and (rows == 1 or down == step * size):
            return _PLAIN, step
    if down == size or rows == 1:
        step = rows if columns == 1 else across // size
        if step >= rows and (columns == 1 or across == step * size):
            return _TRANSPOSED, step
    return None


def _step(array: Any, batch: tuple[int, ...]) -> int | None:
    """Return the bytes from one matrix of a stack to the next, 0 if it is always one.

    None if no one number says it.
    """
    lead = len(batch) - (array.ndim - 2)
    shape, strides = array.shape, array.strides
    step = expected = None
    for axis in range(len(batch) - 1, -1, -1):
        if batch[axis] == 1:
            continue
        inside = axis - lead
        stride = strides[inside] if inside >= 0 and shape[inside] > 1 else 0
        if step is None:
            step = stride
        elif stride != expected:
            return None
        expected = stride * batch[axis]
    return 0 if step is None else step


def multiply(a: Any, b: Any, out: Any, accumulate: bool = False) -> bool:
    """Write ``a @ b`` to `out`, or add it there, on CuPy's current stream.

    Parameters
    ----------
    a : cupy.ndarray, shape (..., M, K)
    b : cupy.ndarray, shape (..., K, N)
        Of one dtype: float32, float64, float16 or bfloat16. The leading dimensions
        broadcast to those of `out`. No dimension is 0.
    out : cupy.ndarray, shape (..., M, N), C-contiguous
    accumulate : bool
        Add to what `out` holds.

    Returns
    -------
    bool
        False if cuBLAS cannot read the operands as they lie; nothing is done then.
    """
    routine = _routine(a.dtype.char)
    if routine is None:
        return False
    single, batched, size, zero, one, get_handle = routine
    *batch, m, n = out.shape
    *lead_a, _, k = a.shape
    form_a = _form(m, k, *a.strides[-2:], size)
    form_b = _form(k, n, *b.strides[-2:], size)
    if form_a is None or form_b is None:
        return False
    beta = one if accumulate else zero
    count, step_a, step_b = 1, 0, 0
    if batch:
        found_a, found_b = _step(a, tuple(batch)), _step(b, tuple(batch))
        if found_a is None or found_b is None or found_a < 0 or found_b < 0:
            return False
        step_a, step_b = found_a // size, found_b // size
        count = math.prod(batch)
        rows = form_a == (_PLAIN, k) and step_a == m * k
        if step_b == 0 and (rows or count == 1):
            # (..., M, K) -> (...*M, K): one product
            m, count = m * count, 1
    if max(m, n, k, count, form_a[1], form_b[1]) > _LARGEST:
        return False
    args = (
        get_handle(), form_b[0], form_a[0], n, m, k, one, b.data.ptr, form_b[1],
    )  # fmt: skip
    if count == 1:
        single(*args, a.data.ptr, form_a[1], beta, out.data.ptr, n)
    else:
        batched(
            *args, step_b, a.data.ptr, form_a[1], step_a, beta, out.data.ptr, n, m * n,
            count,
        )  # fmt: skip
    return True
