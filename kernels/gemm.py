"""Matrix products, with bias and activation applied while the block is in cache.

CPU: the output is cut into one block per thread of the pool; each thread calls our own
single-threaded OpenBLAS for its block and finishes it (bias, ReLU). Operands go in by
their strides: a transposed view of a contiguous matrix costs nothing. CUDA: cuBLAS
through CuPy, then one element-wise kernel. Two ways, because a product written by hand
loses to both libraries.

Same bits from run to run for one number of threads: each element is summed by one
thread, in one order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from nnlib.backend.errors import DTypeError, ShapeError
from nnlib.kernels import activation as activations
from nnlib.kernels.machinery import (
    array_module,
    blas,
    body,
    cpu_kernel,
    num_threads,
    on_cuda,
    prange,
)

__all__ = ["matmul"]

# The functions of the activation family that may follow a product.
_ACTIVATIONS = ("relu", "sigmoid", "tanh", "gelu", "silu")

# Products below this many multiplications stay on the calling thread: sharing them out
# costs 1.2 us.
_PARALLEL = 1 << 16
# Blocks end on multiples of these, the tile sizes of OpenBLAS's kernels.
_ROWS = 8
_COLUMNS = 16


@body
def row_step(stride_i: int, stride_j: int, rows: int, columns: int, size: int) -> int:
    """Return how BLAS can read a matrix with these strides (in bytes).

    Positive: the distance of two rows in elements, elements of a row adjacent.
    Negative: minus the distance of two columns, elements of a column adjacent. Zero:
    not at all.
    """
    if columns <= 1 or stride_j == size:
        if rows <= 1:
            return max(columns, 1)
        if stride_i >= columns * size and stride_i % size == 0:
            return max(stride_i // size, 1)
    if rows <= 1 or stride_i == size:
        if columns <= 1:
            return -max(rows, 1)
        if stride_j >= rows * size and stride_j % size == 0:
            return -max(stride_j // size, 1)
    return 0


@body
def cut(m: int, n: int, k: int, parts: int) -> int:
    """Return into how many bands of rows to cut the output for `parts` threads.

    Each thread repacks the rows of A and the columns of B that its block needs: the cut
    that needs the least is taken. With a short inner dimension writing the output costs
    most, and whole rows are written fastest.
    """
    if k <= 64 and m >= 2 * _ROWS * parts:
        return parts
    best = 1
    least = m + n // parts
    for bands in range(2, parts + 1):
        if parts % bands == 0:
            need = m // bands + n // (parts // bands)
            if need < least:
                best = bands
                least = need
    return best


@body
def share(
    a: int, b: int, c: Any, bias: Any, floor: Any, step_a: int, step_b: int, k: int,
    bands: int, strips: int, q: int, accumulate: bool,
) -> None:  # fmt: skip
    """Compute the `q`-th block of the output, cut into `bands` times `strips`.

    `a` and `b` are addresses. A bias and `floor` (0 for ReLU, else -inf) are applied in
    one loop while the block is in cache.
    """
    m, n = c.shape
    height = ((m + bands - 1) // bands + _ROWS - 1) // _ROWS * _ROWS
    width = ((n + strips - 1) // strips + _COLUMNS - 1) // _COLUMNS * _COLUMNS
    i0 = q // strips * height
    j0 = q % strips * width
    i1 = min(m, i0 + height)
    j1 = min(n, j0 + width)
    if i0 >= i1 or j0 >= j1:
        return
    size = c.itemsize
    one = c.dtype.type(1)
    blas.gemm(
        step_a < 0,
        step_b < 0,
        i1 - i0,
        j1 - j0,
        k,
        one,
        a + size * (i0 if step_a < 0 else i0 * step_a),
        abs(step_a),
        b + size * (-j0 * step_b if step_b < 0 else j0),
        abs(step_b),
        one if accumulate else c.dtype.type(0),
        c.ctypes.data + size * (i0 * n + j0),
        n,
    )
    if bias.size > 0:
        for i in range(i0, i1):
            row = c[i]
            for j in range(j0, j1):
                value = row[j] + bias[j]
                # Written so that NaN stays NaN.
                row[j] = floor if value < floor else value


def _per_dtype(function: Any, *, parallel: bool, batched: bool = False) -> Any:
    """Compile `function` for float32 and for float64: any strides, read-only or not."""
    kernels = {}
    for real in (types.float32, types.float64):
        operand = types.Array(real, 2, "A", readonly=True, aligned=False)
        bias = types.Array(real, 1, "C", readonly=True)
        head = (operand, operand, real[:, ::1])
        if batched:
            offsets = types.Array(types.int64, 1, "C")
            head = (operand, offsets, operand, offsets, real[:, :, ::1])
        kernels[np.dtype(real.name)] = cpu_kernel(
            parallel=parallel,
            signatures=[types.int64(*head, bias, real, types.boolean)],
        )(function)
    return kernels


def gemm_small(
    a: Any,
    b: Any,
    c: Any,
    bias: Any,
    floor: Any,
    accumulate: Any,
) -> Any:
    """Multiply on this thread, or say which to copy first: 1 `a`, 2 `b`, 3 both."""
    m, n = c.shape
    k = a.shape[1]
    step_a = row_step(a.strides[0], a.strides[1], m, k, c.itemsize)
    step_b = row_step(b.strides[0], b.strides[1], k, n, c.itemsize)
    if step_a == 0 or step_b == 0:
        return (1 if step_a == 0 else 0) + (2 if step_b == 0 else 0)
    share(
        a.ctypes.data, b.ctypes.data, c, bias, floor, step_a, step_b, k, 1, 1, 0,
        accumulate,
    )  # fmt: skip
    return 0


def gemm_pool(
    a: Any,
    b: Any,
    c: Any,
    bias: Any,
    floor: Any,
    accumulate: Any,
) -> Any:
    """Multiply on the pool's threads; otherwise as `gemm_small`."""
    m, n = c.shape
    k = a.shape[1]
    step_a = row_step(a.strides[0], a.strides[1], m, k, c.itemsize)
    step_b = row_step(b.strides[0], b.strides[1], k, n, c.itemsize)
    if step_a == 0 or step_b == 0:
        return (1 if step_a == 0 else 0) + (2 if step_b == 0 else 0)
    a_at = a.ctypes.data
    b_at = b.ctypes.data
    parts = max(1, min(num_threads(), m * n * k // (_PARALLEL // 2)))
    bands = cut(m, n, k, parts)
    for q in prange(parts):
        share(
            a_at, b_at, c, bias, floor, step_a, step_b, k, bands, parts // bands, q,
            accumulate,
        )  # fmt: skip
    return 0


def gemm_batched(
    a: Any,
    offsets_a: Any,
    b: Any,
    offsets_b: Any,
    c: Any,
    bias: Any,
    floor: Any,
    accumulate: Any,
) -> Any:
    """Multiply pairs of matrices at byte offsets from `a` and `b`; else as above."""
    batch, m, n = c.shape
    k = a.shape[1]
    step_a = row_step(a.strides[0], a.strides[1], m, k, c.itemsize)
    step_b = row_step(b.strides[0], b.strides[1], k, n, c.itemsize)
    if step_a == 0 or step_b == 0:
        return (1 if step_a == 0 else 0) + (2 if step_b == 0 else 0)
    a_at = a.ctypes.data
    b_at = b.ctypes.data
    threads = num_threads()
    # With fewer products than threads, each product is cut as well.
    parts = min((threads + batch - 1) // batch, m * n * k // (_PARALLEL // 2))
    parts = max(parts, 1)
    bands = cut(m, n, k, parts)
    for t in prange(batch * parts):
        i = t // parts
        share(
            a_at + offsets_a[i], b_at + offsets_b[i], c[i], bias, floor, step_a, step_b,
            k, bands, parts // bands, t % parts, accumulate,
        )  # fmt: skip
    return 0


_small = _per_dtype(gemm_small, parallel=False)
_pool = _per_dtype(gemm_pool, parallel=True)
_batched = _per_dtype(gemm_batched, parallel=True, batched=True)


class _Real:
    """What a product of one dtype needs: kernels, and arguments that mean nothing."""

    def __init__(self, dtype: Any) -> None:
        kind = dtype.type
        self.small = _small[dtype]
        self.pool = _pool[dtype]
        self.batched = _batched[dtype]
        self.no_bias = np.empty(0, dtype)
        # The floor under the values: none, or that of ReLU.
        self.no_floor = kind(-np.inf)
        self.zero = kind(0)


_REAL = {dtype: _Real(dtype) for dtype in _small}


def matmul(
    a: Any,
    b: Any,
    out: Any = None,
    *,
    bias: Any = None,
    activation: str | None = None,
    accumulate: bool = False,
) -> Any:
    """Compute ``activation(a @ b + bias)``, or add ``a @ b`` to `out`.

    Parameters
    ----------
    a : array, shape (..., M, K)
        Any strides. float32 or float64; float16 and bfloat16 are computed in float32.
    b : array, shape (..., K, N)
        Of the dtype of `a`; the leading dimensions broadcast.
    out : C-contiguous array, shape (..., M, N), optional
        Where to write the result. It must not overlap the operands.
    bias : contiguous array, shape (N,), optional
        Added to each row.
    activation : {None, "relu", "sigmoid", "tanh", "gelu", "silu"}
        Applied to the sum.
    accumulate : bool
        Add the product to what `out` holds.

    Returns
    -------
    array, shape (..., M, N)
        `out`, or a new C-contiguous array.

    Raises
    ------
    ShapeError
        If the shapes do not fit.
    DTypeError
        If the dtypes differ or are not floating.

    Examples
    --------
    >>> matmul(np.ones((2, 3)), np.ones((3, 2)), bias=np.array([-4.0, 1.0]),
    ...        activation="relu")
    array([[0., 4.],
           [0., 4.]])
    """
    real = _REAL.get(a.dtype)
    if (
        real is None
        or type(a) is not np.ndarray
        or a.ndim != 2
        or b.ndim != 2
        or b.dtype != a.dtype
    ):
        return _general(a, b, out, bias, activation, accumulate)
    m, k = a.shape
    n = b.shape[1]
    if b.shape[0] != k:
        raise _mismatch(a, b)
    if not (m and n and k) or (accumulate and out is None):
        return _general(a, b, out, bias, activation, accumulate)
    if out is None:
        out = np.empty((m, n), a.dtype)
    elif not _fits(out, (m, n), a.dtype):
        raise _misfit(out, (m, n), a.dtype)
    row = real.no_bias if bias is None else _row(bias, n, a.dtype)
    fused = activation == "relu" and bias is not None
    run = real.small if m * n * k < _PARALLEL else real.pool
    floor = real.zero if fused else real.no_floor
    copies = run(a, b, out, row, floor, accumulate)
    if copies:
        a = np.ascontiguousarray(a) if copies & 1 else a
        b = np.ascontiguousarray(b) if copies & 2 else b
        run(a, b, out, row, floor, accumulate)
    if activation is not None and not fused:
        _finish(out, None, activation)
    return out


def _general(
    a: Any, b: Any, out: Any, bias: Any, activation: str | None, accumulate: bool
) -> Any:
    """Serve what the fast path of `matmul` does not: batches, half floats, CUDA."""
    if a.ndim < 2 or b.ndim < 2:
        raise ShapeError(
            f"matmul: expected two or more dimensions, got shapes {a.shape} and "
            f"{b.shape}"
        )
    if a.shape[-1] != b.shape[-2]:
        raise _mismatch(a, b)
    dtype = a.dtype
    if b.dtype != dtype:
        raise DTypeError(f"matmul: b is {b.dtype}, a is {dtype}; expected one dtype")
    if dtype.kind != "f" and dtype.name != "bfloat16":
        raise DTypeError(f"matmul: expected floating matrices, got {dtype}")
    try:
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        raise _mismatch(a, b) from None
    shape = (*batch, a.shape[-2], b.shape[-1])
    if out is None:
        if accumulate:
            raise ShapeError("matmul: accumulate=True needs an out to add to")
        out = array_module(a).empty(shape, dtype)
    elif not _fits(out, shape, dtype):
        raise _misfit(out, shape, dtype)
    if bias is not None:
        bias = _row(bias, shape[-1], dtype)
    if out.size == 0:
        return out
    if a.shape[-1] == 0:
        if not accumulate:
            out[...] = 0
    elif on_cuda(a):
        if accumulate:
            out += array_module(a).matmul(a, b)
        else:
            array_module(a).matmul(a, b, out=out)
    elif dtype not in _REAL:
        return _half(a, b, out, bias, activation, accumulate)
    else:
        _multiply(a, b, out, accumulate)
    _finish(out, bias, activation)
    return out


def _multiply(a: Any, b: Any, out: Any, accumulate: bool) -> None:
    """Multiply stacks of matrices into `out`, on the CPU."""
    if b.ndim == 2 and a.flags.c_contiguous:
        # (..., M, K) -> (...*M, K): one product
        matmul(
            a.reshape(-1, a.shape[-1]),
            b,
            out.reshape(-1, out.shape[-1]),
            accumulate=accumulate,
        )
        return
    real = _REAL[out.dtype]
    batch = out.shape[:-2]
    flat = out.reshape(-1, *out.shape[-2:])  # (..., M, N) -> (batch, M, N)
    for _ in range(2):
        copies = real.batched(
            a[(0,) * (a.ndim - 2)],
            _offsets(a, batch),
            b[(0,) * (b.ndim - 2)],
            _offsets(b, batch),
            flat,
            real.no_bias,
            real.no_floor,
            accumulate,
        )
        if not copies:
            return
        a = np.ascontiguousarray(a) if copies & 1 else a
        b = np.ascontiguousarray(b) if copies & 2 else b


def _offsets(array: Any, batch: tuple[int, ...]) -> Any:
    """Return the byte offset of the matrix for each index of the broadcast batch."""
    offsets = np.zeros(batch, np.int64)
    dims = array.ndim - 2
    for axis in range(dims):
        if array.shape[axis] > 1:
            along = np.arange(array.shape[axis], dtype=np.int64) * array.strides[axis]
            offsets += along.reshape(-1, *(1,) * (dims - axis - 1))
    return offsets.reshape(-1)


def _half(
    a: Any, b: Any, out: Any, bias: Any, activation: str | None, accumulate: bool
) -> Any:
    """Multiply float16 or bfloat16 matrices on the CPU: in float32, rounded once."""
    wide = np.float32
    out[...] = matmul(
        a.astype(wide),
        b.astype(wide),
        out.astype(wide) if accumulate else None,
        bias=None if bias is None else bias.astype(wide),
        activation=activation,
        accumulate=accumulate,
    )
    return out


def _finish(out: Any, bias: Any, activation: str | None) -> None:
    """Add the bias and activate, in place, where that was not part of the product."""
    if activation is not None and activation not in _ACTIVATIONS:
        raise ValueError(
            f"matmul: activation is {activation!r}, expected None or one of "
            f"{', '.join(_ACTIVATIONS)}"
        )
    if bias is not None:
        name = "bias_" + (activation or "add")
        getattr(activations, name)(out, bias, out=out)
    elif activation is not None:
        getattr(activations, activation)(out, out=out)


def _fits(out: Any, shape: tuple[int, ...], dtype: Any) -> bool:
    return out.shape == shape and out.dtype == dtype and bool(out.flags.c_contiguous)


def _misfit(out: Any, shape: tuple[int, ...], dtype: Any) -> Exception:
    if out.shape != shape:
        return ShapeError(f"matmul: out has shape {out.shape}, expected {shape}")
    if out.dtype != dtype:
        return DTypeError(f"matmul: out is {out.dtype}, expected {dtype}")
    return ShapeError("matmul: out is not C-contiguous, expected a C-contiguous array")


def _mismatch(a: Any, b: Any) -> ShapeError:
    return ShapeError(
        f"matmul: a has shape {a.shape}, b has shape {b.shape}; expected "
        f"(..., M, K) and (..., K, N) with broadcasting leading dimensions"
    )


def _row(bias: Any, n: int, dtype: Any) -> Any:
    """Return `bias` as a contiguous row of `n` values, or say why it is none."""
    if bias.shape != (n,):
        raise ShapeError(f"matmul: bias has shape {bias.shape}, expected ({n},)")
    if bias.dtype != dtype:
        raise DTypeError(f"matmul: bias is {bias.dtype}, expected {dtype}")
    return array_module(bias).ascontiguousarray(bias)
