"""`Normalize` and `Standardize`: what normalisation by channels is made of.

Channels are put into sets that share mean and variance. The second derivative comes
from the composed form, `composed`.
"""

from __future__ import annotations

from typing import Any

from nnlib import kernels
from nnlib.autograd.function import Function
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.ops.power import rsqrt
from nnlib.ops.reduction import mean as mean_of
from nnlib.ops.reduction import sum as sum_of

__all__ = ["BATCH", "Normalize", "Standardize"]

# The number of groups that stands for "one set of each channel over the whole batch".
BATCH = 0


def widened(x: Any) -> Any:
    """Return 16-bit floats as float32, anything else as it is."""
    return x.astype("float32") if x.dtype.itemsize < 4 else x


def like_input(values: Any, grad: Any, weight: Any) -> Any:
    """Return the gradient of a vector in the vector's dtype."""
    return values.astype((grad if weight is None else weight).dtype, copy=False)


def to_rows(x: Any, groups: int) -> Any:
    """Return (N, C, ...) as contiguous (B, R, C): see `nnlib.kernels.normalization`."""
    x = widened(x)
    if x.ndim > 2:
        images = kernels.channels.images_of(x)
        pixels = images.shape[1] * images.shape[2] * images.shape[3]
    else:
        images, pixels = array_module(x).ascontiguousarray(x), 1
    count, channels = x.shape[:2]
    if groups == BATCH:
        return images.reshape(1, count * pixels, channels)
    return images.reshape(count, pixels, channels)


def to_planes(x: Any) -> Any:
    """Return (N, C, ...) as contiguous (N, C, P)."""
    return array_module(x).ascontiguousarray(x).reshape(*x.shape[:2], -1)


def from_rows(rows: Any, like: Any) -> Any:
    """Return (B, R, C) in the shape of `like`, channels-last."""
    shape = like.shape
    rows = rows.astype(like.dtype, copy=False)
    if len(shape) == 2:
        return rows.reshape(shape)
    moved = rows.reshape(shape[0], *shape[2:], shape[1])
    return moved.transpose(0, len(shape) - 1, *range(1, len(shape) - 1))


def over_images(values: Any) -> Any:
    """Return the sums (B, C) as (C,)."""
    if values.shape[0] == 1:
        return values[0]
    return kernels.reduction.sum_columns(values)


def vector(values: Any, shape: tuple[int, int], fill: float, rows: Any) -> Any:
    """Return a vector over channels, or None, as contiguous (B, C)."""
    module = array_module(rows)
    if values is None:
        return module.full(shape, fill, rows.dtype)
    if shape[0] == 1:
        return module.ascontiguousarray(values.reshape(shape), dtype=rows.dtype)
    values = module.broadcast_to(values, shape)
    return module.ascontiguousarray(values, dtype=rows.dtype)


def vector_like(values: Any, rows: Any) -> Any:
    """Return a vector over channels contiguous, in the dtype of `rows`, or None."""
    if values is None:
        return None
    return array_module(rows).ascontiguousarray(values, dtype=rows.dtype)


class Normalize(Function):
    """``(x - mean) / sqrt(var + eps) * weight + bias``, statistics taken from x."""

    # Statistics of 16-bit floats stay in single precision.
    upcasts = False

    def forward(
        self, x: Any, weight: Any, bias: Any, *, groups: int, eps: float
    ) -> Any:
        """Return the result and the statistics, each (B, C)."""
        self.groups, self.eps = groups, eps
        self.save_for_backward(x, weight)
        self.set_materialize_grads(False)
        group = self._group(x)
        # Channels that are planes in memory need not be turned around on CUDA.
        self.planes = kernels.normalization_planes.fits(x)
        run: Any = kernels.normalization
        if self.planes:
            run, rows = kernels.normalization_planes, to_planes(x)
            w = vector_like(weight, rows)
            made = run.statistics(rows, w, eps, groups == BATCH, group)
        else:
            rows = to_rows(x, groups)
            w = vector_like(weight, rows)
            made = run.statistics(rows, w, eps, group)
        mean, var, scale, factor = made
        self.stats = mean, scale, factor, w
        offset = vector(bias, (1, x.shape[1]), 0.0, rows)
        y = run.normalize(rows, mean, factor, offset)
        self.mark_non_differentiable(mean, var)
        return y.reshape(x.shape) if self.planes else from_rows(y, x), mean, var

    def backward(self, grad: Any, *_: Any) -> Any:
        """Return the gradients by x, weight and bias."""
        x, weight = self.saved
        if isinstance(grad, Tensor):
            return composed(self, grad, x, weight)
        mean, scale, factor, w = self.stats
        run: Any = kernels.normalization
        if self.planes:
            run, rows, g = kernels.normalization_planes, to_planes(x), to_planes(grad)
        else:
            rows, g = to_rows(x, self.groups), to_rows(grad, self.groups)
        plain, normal, slope, offset = run.slopes(
            g, rows, mean, scale, w, self._group(x)
        )
        dx = dw = db = None
        if self.needs(2):
            db = like_input(over_images(plain), grad, weight)
        if self.needs(1):
            dw = like_input(over_images(normal), grad, weight)
        if self.needs(0):
            dx = run.input_gradient(g, rows, mean, factor, slope, offset)
            dx = dx.reshape(x.shape) if self.planes else from_rows(dx, x)
        return dx, dw, db

    def _group(self, x: Any) -> int:
        """Return how many channels share their statistics."""
        return 1 if self.groups == BATCH else int(x.shape[1] // self.groups)


def composed(node: Any, grad: Any, x: Any, weight: Any) -> Any:
    """Return the gradients of `Normalize` made of operations that are recorded."""
    shape = tuple(x.shape)
    pixels = tuple(range(2, len(shape)))
    lead = (1, shape[1]) + (1,) * len(pixels)
    if node.groups == BATCH:
        split, dims, over = shape, (0, *pixels), (0, *pixels)
    else:
        size = shape[1] // node.groups
        split = (shape[0], node.groups, size, *shape[2:])
        dims, over = tuple(range(2, len(split))), (0, *pixels)
    parts = x.reshape(split)
    away = parts - mean_of(parts, dims, keepdim=True)
    scale = rsqrt(mean_of(away * away, dims, keepdim=True) + node.eps)
    normal = away * scale
    dx = dw = db = None
    if node.needs(0):
        g = grad if weight is None else grad * weight.reshape(lead)
        g = g.reshape(split)
        along = mean_of(g * normal, dims, keepdim=True)
        dx = (g - mean_of(g, dims, keepdim=True) - normal * along) * scale
        dx = dx.reshape(shape)
    if node.needs(1):
        dw = sum_of(grad * normal.reshape(shape), over)
    if node.needs(2):
        db = sum_of(grad, over)
    return dx, dw, db


class Standardize(Function):
    """``(x - mean) * scale + shift`` with constants given: no statistics are taken."""

    def forward(
        self, x: Any, weight: Any, bias: Any, mean: Any, var: Any, *, eps: float
    ) -> Any:
        """Return (N, C, ...) normalised by vectors over the channels."""
        planes = kernels.normalization_planes.fits(x)
        rows = to_planes(x) if planes else to_rows(x, BATCH)
        shape = (1, x.shape[1])
        self.scale, factor = kernels.normalization.scales(var, weight, eps)
        self.save_for_backward(x, weight, mean)
        factor = vector(factor, shape, 1.0, rows)
        middle = vector(mean, shape, 0.0, rows)
        offset = vector(bias, shape, 0.0, rows)
        if planes:
            y = kernels.normalization_planes.normalize(rows, middle, factor, offset)
            return y.reshape(x.shape)
        y = kernels.normalization.normalize(rows, middle, factor, offset)
        return from_rows(y, x)

    def backward(self, grad: Any) -> Any:
        """Return the gradients by x, weight and bias; statistics are constants."""
        x, weight, mean = self.saved
        lead = (1, x.shape[1]) + (1,) * (len(x.shape) - 2)
        over = (0, *range(2, len(x.shape)))
        scale = self.scale.reshape(lead)
        if isinstance(grad, Tensor):
            scale = Tensor._from_array(scale)
        dx = dw = db = None
        if self.needs(0):
            dx = grad * (scale if weight is None else scale * weight.reshape(lead))
        if self.needs(1):
            dw = sum_of(grad * ((x - mean.reshape(lead)) * scale), over)
        if self.needs(2):
            db = sum_of(grad, over)
        return dx, dw, db, None, None
