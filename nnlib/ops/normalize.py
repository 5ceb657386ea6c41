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


def from_rows(rows: Any, like: Any) -> Any:
    """Return (B, R, C) in the shape of `like`, channels-last."""
    shape = like.shape
    rows = rows.astype(like.dtype, copy=False)
    if len(shape) == 2:
        return rows.reshape(shape)
    moved = rows.reshape(shape[0], *shape[2:], shape[1])
    return moved.transpose(0, len(shape) - 1, *range(1, len(shape) - 1))


def over_groups(values: Any, groups: int) -> Any:
    """Replace (B, C) by the sums over the channels of each group, (B, G, 1)."""
    batches, channels = values.shape
    return values.reshape(batches, groups, channels // groups).sum(2, keepdims=True)


def spread_groups(values: Any, channels: int) -> Any:
    """Return (B, G, 1) as contiguous (B, C)."""
    batches, groups, _ = values.shape
    return values.repeat(channels // groups, 2).reshape(batches, channels)


def set_moments(rows: Any, groups: int) -> tuple[Any, Any]:
    """Return mean and variance of the set that each (b, c) belongs to, (B, C)."""
    mean, var = kernels.normalization.moments(rows)
    channels = rows.shape[2]
    if groups in (BATCH, channels):
        return mean, var
    size = channels // groups
    middle = spread_groups(over_groups(mean, groups) / size, channels)
    away = mean - middle
    var = spread_groups(over_groups(var + away * away, groups) / size, channels)
    return middle, var


def vector(values: Any, shape: tuple[int, int], fill: float, rows: Any) -> Any:
    """Return a vector over channels, or None, as contiguous (B, C)."""
    module = array_module(rows)
    if values is None:
        return module.full(shape, fill, rows.dtype)
    if shape[0] == 1:
        return module.ascontiguousarray(values.reshape(shape), dtype=rows.dtype)
    values = module.broadcast_to(values, shape)
    return module.ascontiguousarray(values, dtype=rows.dtype)


class Normalize(Function):
    """``(x - mean) / sqrt(var + eps) * weight + bias``, statistics taken from x."""

    # Statistics of 16-bit floats stay in single precision.
    upcasts = False

    def forward(
        self, x: Any, weight: Any, bias: Any, *, groups: int, eps: float
    ) -> Any:
        """Return the result and the statistics, each (B, C)."""
        self.groups, self.eps = groups, eps
        rows = to_rows(x, groups)
        mean, var = set_moments(rows, groups)
        scale = 1 / array_module(x).sqrt(var + rows.dtype.type(eps))
        self.stats = mean, scale
        self.save_for_backward(x, weight)
        self.set_materialize_grads(False)
        factor = scale if weight is None else scale * widened(weight)
        offset = vector(bias, mean.shape, 0.0, rows)
        y = kernels.normalization.normalize(rows, mean, factor, offset)
        self.mark_non_differentiable(mean, var)
        return from_rows(y, x), mean, var

    def backward(self, grad: Any, *_: Any) -> Any:
        """Return the gradients by x, weight and bias."""
        x, weight = self.saved
        if isinstance(grad, Tensor):
            return composed(self, grad, x, weight)
        mean, scale = self.stats
        rows, g = to_rows(x, self.groups), to_rows(grad, self.groups)
        plain, weighted = kernels.normalization.gradient_sums(g, rows, mean)
        dx = dw = db = None
        if self.needs(2):
            db = like_input(plain.sum(0), grad, weight)
        if self.needs(1):
            dw = like_input((weighted * scale).sum(0), grad, weight)
        if self.needs(0):
            if weight is not None:
                weight = widened(weight)
            factor = scale if weight is None else scale * weight
            dx = self._input_gradient(g, rows, plain, weighted, weight, factor)
            dx = from_rows(dx, x)
        return dx, dw, db

    def _input_gradient(
        self, g: Any, rows: Any, plain: Any, weighted: Any, weight: Any, factor: Any
    ) -> Any:
        mean, scale = self.stats
        channels = rows.shape[2]
        count = rows.shape[1]
        if weight is not None:
            plain, weighted = plain * weight, weighted * weight
        if self.groups not in (BATCH, channels):
            count *= channels // self.groups
            plain = spread_groups(over_groups(plain, self.groups), channels)
            weighted = spread_groups(over_groups(weighted, self.groups), channels)
        slope = weighted * scale * scale * scale / -rows.dtype.type(count)
        shift = plain * scale / -rows.dtype.type(count)
        return kernels.normalization.input_gradient(g, rows, mean, factor, slope, shift)


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
        rows = to_rows(x, BATCH)
        shape = (1, x.shape[1])
        self.scale = 1 / array_module(x).sqrt(var + x.dtype.type(eps))
        self.save_for_backward(x, weight, mean)
        factor = self.scale if weight is None else self.scale * weight
        factor = vector(factor, shape, 1.0, rows)
        middle = vector(mean, shape, 0.0, rows)
        offset = vector(bias, shape, 0.0, rows)
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
