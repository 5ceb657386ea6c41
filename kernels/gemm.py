"""Matrix products, with bias and activation applied while the block is in cache.

CPU: the output is cut into one block per thread of the pool; each thread calls our own
single-threaded OpenBLAS for its block and finishes it (bias, ReLU). Operands go in by
their strides: a transposed view of a contiguous matrix costs nothing. CUDA: cuBLAS,
then one element-wise kernel. Two ways, because a product written by hand
loses to both libraries.

Same bits from run to run for one number of threads: each element is summed by one
thread, in one order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.backend import cublas, cublas_recorded, recording
from nnlib.backend.errors import DTypeError, ShapeError
from nnlib.kernels import activation as activations
from nnlib.kernels.gemm_cpu import REAL
from nnlib.kernels.machinery import array_module, contiguous, empty, on_cuda
from nnlib.kernels.machinery.arrays import DeviceArray

__all__ = ["matmul"]

# The functions of the activation family that may follow a product.
_ACTIVATIONS = ("relu", "sigmoid", "tanh", "gelu", "silu")


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
    if type(a) is not np.ndarray:
        return _general(a, b, out, bias, activation, accumulate)
    real = REAL.get(a.dtype)
    if real is None or a.ndim != 2 or b.ndim != 2 or b.dtype != a.dtype:
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
    run = real.single
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
    shape_a, shape_b = a.shape, b.shape
    if len(shape_a) < 2 or len(shape_b) < 2:
        raise ShapeError(
            f"matmul: expected two or more dimensions, got shapes {shape_a} and "
            f"{shape_b}"
        )
    k = shape_a[-1]
    if k != shape_b[-2]:
        raise _mismatch(a, b)
    dtype = a.dtype
    if b.dtype is not dtype and b.dtype != dtype:
        raise DTypeError(f"matmul: b is {b.dtype}, a is {dtype}; expected one dtype")
    if dtype.kind != "f" and dtype.name != "bfloat16":
        raise DTypeError(f"matmul: expected floating matrices, got {dtype}")
    batch: tuple[int, ...] = ()
    if len(shape_a) > 2 or len(shape_b) > 2:
        try:
            batch = np.broadcast_shapes(shape_a[:-2], shape_b[:-2])
        except ValueError:
            raise _mismatch(a, b) from None
    shape = (*batch, shape_a[-2], shape_b[-1])
    if out is None:
        if accumulate:
            raise ShapeError("matmul: accumulate=True needs an out to add to")
        out = empty(a, shape, dtype)
    elif not _fits(out, shape, dtype):
        raise _misfit(out, shape, dtype)
    if bias is not None:
        bias = _row(bias, shape[-1], dtype)
    if 0 in shape:
        return out
    if k == 0:
        if not accumulate:
            out[...] = 0
    elif on_cuda(a):
        _on_cuda(a, b, out, accumulate)
    elif dtype not in REAL:
        return _half(a, b, out, bias, activation, accumulate)
    else:
        _multiply(a, b, out, accumulate)
    _finish(out, bias, activation)
    return out


def _on_cuda(a: Any, b: Any, out: Any, accumulate: bool) -> None:
    """Multiply stacks of matrices into `out`, on CUDA."""
    if type(a) is not DeviceArray and cublas.multiply(a, b, out, accumulate):
        return
    # CuPy copies what cuBLAS cannot read as it lies.
    module = array_module(a)
    if recording.current() is not None:
        # It refuses its own calls of cuBLAS then.
        a, b = map(module.ascontiguousarray, (a, b))
        if not cublas.multiply(a, b, out, accumulate):
            raise cublas_recorded.refusal(a.dtype)
        return
    if accumulate:
        out += module.matmul(a, b)
    else:
        module.matmul(a, b, out=out)


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
    real = REAL[out.dtype]
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
    return out.shape == shape and out.dtype == dtype and contiguous(out)


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
    return bias if contiguous(bias) else array_module(bias).ascontiguousarray(bias)
