"""Normalisation along the last dimensions, and across neighbouring channels."""

from __future__ import annotations

import math
from typing import Any

from nnlib import kernels
from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.dtypes import HALF, float32, float64
from nnlib.backend.errors import DTypeError, ShapeError
from nnlib.ops.casting import cast
from nnlib.ops.loss import check_float
from nnlib.ops.power import rsqrt
from nnlib.ops.reduction import mean as mean_of
from nnlib.ops.reduction import sum as sum_of
from nnlib.ops.resize import Resample

__all__ = ["layer_norm", "local_response_norm", "rms_norm"]

# The distance from 1 to the next number; 16-bit floats are computed in float32.
_EPS = 2.0**-23
_EPS_DOUBLE = 2.0**-52


class NormalizeRows(Function):
    """``(x - m) / sqrt(var + eps) * weight + bias`` along the last dimensions."""

    def forward(
        self, x: Any, weight: Any, bias: Any, *, dims: int, eps: float, centred: bool
    ) -> Any:
        """Return the result in the shape of x; `weight` has the last `dims`."""
        self.dims, self.eps, self.centred = dims, eps, centred
        module = array_module(x)
        count = math.prod(x.shape[x.ndim - dims :])
        rows = self._rows(x, count)
        w = module.ones(count, x.dtype) if weight is None else self._row(weight)
        b = module.zeros(count, x.dtype) if bias is None else self._row(bias)
        y, *self.stats = kernels.normalization_rows.forward(rows, w, b, eps, centred)
        self.save_for_backward(x, weight)
        return y.reshape(x.shape)

    def backward(self, grad: Any) -> Any:
        """Return the gradients by x, weight and bias."""
        x, weight = self.saved
        if isinstance(grad, Tensor):
            return self._composed(grad, x, weight)
        count = math.prod(x.shape[x.ndim - self.dims :])
        w = (
            self._row(weight)
            if weight is not None
            else (array_module(x).ones(count, x.dtype))
        )
        dx, dw, db = kernels.normalization_rows.backward(
            self._rows(grad, count), self._rows(x, count), w, *self.stats, self.centred
        )
        shape = x.shape[x.ndim - self.dims :]
        return (
            dx.reshape(x.shape),
            dw.reshape(shape) if self.needs(1) else None,
            db.reshape(shape) if self.needs(2) else None,
        )

    @staticmethod
    def _rows(x: Any, count: int) -> Any:
        rows = x.reshape(x.size // max(count, 1), count)  # (..., *shape) -> (N, C)
        return array_module(x).ascontiguousarray(rows)

    @staticmethod
    def _row(vector: Any) -> Any:
        return array_module(vector).ascontiguousarray(vector.reshape(-1))

    def _composed(self, grad: Any, x: Any, weight: Any) -> Any:
        rank = len(x.shape)
        dims = tuple(range(rank - self.dims, rank))
        over = tuple(range(rank - self.dims))
        away = x - mean_of(x, dims, keepdim=True) if self.centred else x
        scale = rsqrt(mean_of(away * away, dims, keepdim=True) + self.eps)
        normal = away * scale
        dx = dw = db = None
        if self.needs(0):
            g = grad if weight is None else grad * weight
            dx = g - normal * mean_of(g * normal, dims, keepdim=True)
            if self.centred:
                dx = dx - mean_of(g, dims, keepdim=True)
            dx = dx * scale
        if self.needs(1):
            dw = sum_of(grad * normal, over) if over else grad * normal
        if self.needs(2):
            db = sum_of(grad, over) if over else grad
        return dx, dw, db


def _last_dims(op: str, input: Any, normalized_shape: Any, **vectors: Any) -> int:
    """Return how many dimensions `normalized_shape` means, or refuse it."""
    several = isinstance(normalized_shape, tuple | list)
    wanted = normalized_shape if several else (normalized_shape,)
    if any(isinstance(n, bool) or not hasattr(n, "__index__") for n in wanted):
        raise DTypeError(
            f"{op}: normalized_shape: expected ints, got {normalized_shape!r}"
        )
    wanted, shape = tuple(map(int, wanted)), tuple(input.shape)
    if not wanted:
        raise ShapeError(f"{op}: normalized_shape: expected at least one dimension")
    if shape[-len(wanted) :] != wanted:
        raise ShapeError(
            f"{op}: normalized_shape: expected the last dimensions of the input, of "
            f"shape {shape}, got {wanted}"
        )
    for name, vector in vectors.items():
        if vector is None:
            continue
        if tuple(vector.shape) != wanted:
            raise ShapeError(
                f"{op}: {name} has shape {tuple(vector.shape)}, expected {wanted}"
            )
        if vector.dtype != input.dtype:
            raise DTypeError(
                f"{op}: {name} is {vector.dtype}, expected {input.dtype} as the input"
            )
    return len(wanted)


def _widened(input: Any, *vectors: Any) -> Any:
    """Return 16-bit floats as float32 where their parameters are wider."""
    if input.dtype in HALF and any(
        vector is not None and vector.dtype not in HALF for vector in vectors
    ):
        return cast(input, float32)
    return input


@public(method=False)
def layer_norm(
    input: Any,
    normalized_shape: Any,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise along the last dimensions.

    ``y = (x - mean) / sqrt(var + eps) * weight + bias``. Source: Ba, Kiros and Hinton,
    "Layer normalization", 2016.

    Parameters
    ----------
    input : Tensor, shape (..., *normalized_shape), floating
    normalized_shape : int or tuple of int
        The dimensions that share mean and variance.
    weight, bias : Tensor, shape `normalized_shape`, optional
        Of the input's dtype; float32 also goes with 16-bit floats.
    eps : float, default 1e-5

    Returns
    -------
    Tensor, the shape of `input`

    Raises
    ------
    ShapeError
        If the input does not end in `normalized_shape`.
    DTypeError
        If `input` is not floating, or the dtypes differ.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.layer_norm(nnlib.tensor([[1.0, 3.0], [5.0, 5.0]]), 2)
    tensor([[-1.,  1.],
            [ 0.,  0.]])
    """
    check_float("layer_norm", "input", input)
    wide = _widened(input, weight, bias)
    dims = _last_dims("layer_norm", wide, normalized_shape, weight=weight, bias=bias)
    y = NormalizeRows.apply(wide, weight, bias, dims=dims, eps=eps, centred=True)
    return cast(y, input.dtype)  # type: ignore[no-any-return]


@public(method=False)
def rms_norm(
    input: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None
) -> Tensor:
    """Divide by the root of the mean of the squares along the last dimensions.

    Source: Zhang and Sennrich, "Root mean square layer normalization", 2019.

    Parameters
    ----------
    input : Tensor, shape (..., *normalized_shape), floating
    normalized_shape : int or tuple of int
    weight : Tensor, shape `normalized_shape`, optional
        Of any floating dtype; the result has that of `input`.
    eps : float, optional
        Added to the mean of the squares; default: the epsilon of the dtype that is
        computed in, float32 for 16-bit floats.

    Returns
    -------
    Tensor, the shape of `input`

    Raises
    ------
    ShapeError, DTypeError
        As `layer_norm`.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.rms_norm(nnlib.tensor([1.0, 7.0]), 2)
    tensor([0.2, 1.4])
    """
    check_float("rms_norm", "input", input)
    wide = input
    if weight is not None and weight.dtype != input.dtype:
        check_float("rms_norm", "weight", weight)
        wide = _widened(input, weight)
        weight = cast(weight, wide.dtype)
    dims = _last_dims("rms_norm", wide, normalized_shape, weight=weight)
    if eps is None:
        eps = _EPS_DOUBLE if wide.dtype == float64 else _EPS
    y = NormalizeRows.apply(wide, weight, None, dims=dims, eps=eps, centred=False)
    return cast(y, input.dtype)  # type: ignore[no-any-return]


@public(method=False)
def local_response_norm(
    input: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """Divide each element by its neighbours in other channels.

    ``y = x / (k + alpha / size * sum of the squares of `size` channels)^beta``. Source:
    Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional
    neural networks", 2012.

    Parameters
    ----------
    input : Tensor, shape (N, C, *spatial), floating
    size : int
        How many channels count: ``size // 2`` before, the others from there on.
    alpha, beta, k : float

    Returns
    -------
    Tensor, the shape of `input`

    Raises
    ------
    ShapeError
        If `input` has fewer than three dimensions, or `size` is below 1.

    Examples
    --------
    >>> import nnlib
    >>> import nnlib.nn.functional as F
    >>> F.local_response_norm(nnlib.ones(1, 1, 1), 1, alpha=1.0, beta=1.0)
    tensor([[[0.5]]])
    """
    op = "local_response_norm"
    shape = tuple(input.shape)
    if len(shape) < 3:
        raise ShapeError(f"{op}: input: expected (N, C, *spatial), got shape {shape}")
    check_float(op, "input", input)
    if size < 1:
        raise ShapeError(f"{op}: size: expected at least 1, got {size}")
    windows = kernels.windows
    channels = shape[1]
    # (N, C, ...) -> (N, 1, C, L): channels become an axis of the window.
    squares = (input * input).reshape(shape[0], 1, channels, math.prod(shape[2:]))
    plan = windows.plan(windows.neighbours, (channels, size), (math.prod(shape[2:]), 1))
    mean = Resample.apply(squares, plan=plan).reshape(shape)
    return input * (mean * alpha + k) ** -beta  # type: ignore[no-any-return]
