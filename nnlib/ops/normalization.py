"""Normalisation by channels: batch, group and instance normalisation.

All three are one function, `Normalize`: channels are put into sets that share mean and
variance. Its second derivative comes from the composed form, `composed`.
"""

from __future__ import annotations

from typing import Any

from nnlib import kernels
from nnlib.autograd.function import Function
from nnlib.autograd.mode import no_grad
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.errors import DTypeError, Error, ShapeError
from nnlib.ops.dims import raw
from nnlib.ops.loss import check_float
from nnlib.ops.power import rsqrt
from nnlib.ops.reduction import mean as mean_of
from nnlib.ops.reduction import sum as sum_of

__all__ = ["batch_norm", "group_norm", "instance_norm", "update_running_stats"]

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


def update_running_stats(
    running_mean: Any,
    running_var: Any,
    mean: Any,
    var: Any,
    count: int,
    momentum: float,
) -> None:
    """Move running statistics towards those of a batch, in place.

    The one place where normalisation changes state. The variance is made unbiased,
    as in PyTorch.

    Parameters
    ----------
    running_mean, running_var : Tensor, shape (C,), or None
    mean, var : Tensor, shape (C,)
        Of the batch, biased.
    count : int
        How many numbers each is the mean of.
    momentum : float
        The weight of the batch.
    """
    with no_grad():
        for running, value in ((running_mean, mean), (running_var, var)):
            if running is None:
                continue
            target = raw(running)
            new = raw(value).astype(target.dtype, copy=False)
            if value is var:
                new = new * (count / (count - 1)) if count > 1 else new * float("nan")
            target *= 1 - momentum
            target += momentum * new
            if isinstance(running, Tensor):
                running._bump()


def check_vectors(op: str, input: Any, channels: int, **vectors: Any) -> None:
    """Refuse vectors that do not have one number per channel."""
    for name, value in vectors.items():
        if value is not None and tuple(value.shape) != (channels,):
            raise ShapeError(
                f"{op}: {name} has shape {tuple(value.shape)}, expected ({channels},)"
            )
    if any(vectors.get(name) is not None for name in ("weight", "bias")):
        _check_dtypes(op, input, vectors)


def _check_dtypes(op: str, input: Any, vectors: dict[str, Any]) -> None:
    for name in ("weight", "bias"):
        value = vectors.get(name)
        # 16-bit input may come with float32 parameters.
        if value is None or value.dtype == input.dtype:
            continue
        if input.dtype.itemsize > 2 or value.dtype.itemsize == 8:
            raise DTypeError(
                f"{op}: {name} is {value.dtype}, expected {input.dtype} as the input"
            )


@public(method=False)
def batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each channel over the batch.

    ``y = (x - mean) / sqrt(var + eps) * weight + bias``. Source: Ioffe and Szegedy,
    "Batch normalization: accelerating deep network training by reducing internal
    covariate shift", 2015.

    Parameters
    ----------
    input : Tensor, shape (N, C) or (N, C, *spatial), floating
    running_mean, running_var : Tensor, shape (C,), or None
        What is used outside of training. In training they move towards the batch's
        statistics (the variance unbiased) by `momentum`.
    weight, bias : Tensor, shape (C,), optional
    training : bool, default False
        Use the statistics of the batch.
    momentum : float, default 0.1
    eps : float, default 1e-5

    Returns
    -------
    Tensor, the shape of `input`
        Memory is channels-last.

    Raises
    ------
    ShapeError
        If shapes do not fit, or in training a channel has a single value.
    DTypeError
        If `input` is not floating.
    Error
        If there are no running statistics and `training` is False.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.batch_norm(nnlib.tensor([[1.0], [3.0]]), None, None, training=True)
    tensor([[-1.],
            [ 1.]])
    """
    op = "batch_norm"
    shape = tuple(input.shape)
    if len(shape) < 2 or len(shape) > 5:
        raise ShapeError(f"{op}: input: expected (N, C, ...), got shape {shape}")
    check_float(op, "input", input)
    channels = shape[1]
    check_vectors(
        op, input, channels, weight=weight, bias=bias, running_mean=running_mean,
        running_var=running_var,
    )  # fmt: skip
    if not training:
        if running_mean is None or running_var is None:
            raise Error(
                f"{op}: running_mean and running_var: expected tensors, because "
                "training is False"
            )
        return Standardize.apply(  # type: ignore[no-any-return]
            input, weight, bias, running_mean, running_var, eps=eps
        )
    count = raw(input).size // channels if channels else 0
    if count == 1:
        raise ShapeError(
            f"{op}: input: expected more than one value per channel in training, got "
            f"shape {shape}"
        )
    if not count:
        return input * 1 if weight is None else input * weight.sum()  # type: ignore[no-any-return]
    y, mean, var = Normalize.apply(input, weight, bias, groups=BATCH, eps=eps)
    if running_mean is not None or running_var is not None:
        update_running_stats(
            running_mean,
            running_var,
            mean.reshape(-1),
            var.reshape(-1),
            count,
            momentum,
        )
    return y  # type: ignore[no-any-return]


def _by_groups(
    op: str, input: Any, groups: int, weight: Any, bias: Any, eps: float
) -> Any:
    check_vectors(op, input, tuple(input.shape)[1], weight=weight, bias=bias)
    if not raw(input).size:
        return input * 1 if weight is None else input * weight.sum()
    return Normalize.apply(input, weight, bias, groups=groups, eps=eps)[0]


@public(method=False)
def group_norm(
    input: Any,
    num_groups: int,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise groups of channels of each image.

    Source: Wu and He, "Group normalization", 2018.

    Parameters
    ----------
    input : Tensor, shape (N, C, ...), floating
    num_groups : int
        Divides C; channels of a group share mean and variance.
    weight, bias : Tensor, shape (C,), optional
    eps : float, default 1e-5

    Returns
    -------
    Tensor, the shape of `input`

    Raises
    ------
    ShapeError
        If `num_groups` does not divide the channels, or shapes do not fit.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.group_norm(nnlib.tensor([[1.0, 3.0, 5.0, 5.0]]), 2)
    tensor([[-1.,  1.,  0.,  0.]])
    """
    op = "group_norm"
    shape = tuple(input.shape)
    if len(shape) < 2 or len(shape) > 5:
        raise ShapeError(f"{op}: input: expected (N, C, ...), got shape {shape}")
    check_float(op, "input", input)
    if isinstance(num_groups, bool) or not hasattr(num_groups, "__index__"):
        raise DTypeError(f"{op}: num_groups: expected an int, got {num_groups!r}")
    if num_groups < 1 or shape[1] % num_groups:
        raise ShapeError(
            f"{op}: num_groups: {num_groups} does not divide {shape[1]} channels"
        )
    return _by_groups(op, input, int(num_groups), weight, bias, eps)  # type: ignore[no-any-return]


@public(method=False)
def instance_norm(
    input: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each channel of each image.

    Source: Ulyanov, Vedaldi and Lempitsky, "Instance normalization: the missing
    ingredient for fast stylization", 2016.

    Parameters
    ----------
    input : Tensor, shape (N, C, *spatial), floating
    running_mean, running_var : Tensor, shape (C,), optional
        Moved towards the mean over the images of their statistics; used in place of
        these where `use_input_stats` is False.
    weight, bias : Tensor, shape (C,), optional
    use_input_stats : bool, default True
    momentum, eps : float

    Returns
    -------
    Tensor, the shape of `input`

    Raises
    ------
    ShapeError
        If shapes do not fit, or a channel of an image is a single value.
    Error
        If there are no running statistics and `use_input_stats` is False.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.instance_norm(nnlib.tensor([[[1.0, 3.0]]]))
    tensor([[[-1.,  1.]]])
    """
    op = "instance_norm"
    shape = tuple(input.shape)
    if len(shape) < 3 or len(shape) > 5:
        raise ShapeError(f"{op}: input: expected (N, C, *spatial), got shape {shape}")
    check_float(op, "input", input)
    check_vectors(
        op, input, shape[1], weight=weight, bias=bias, running_mean=running_mean,
        running_var=running_var,
    )  # fmt: skip
    if not use_input_stats:
        return batch_norm(
            input, running_mean, running_var, weight, bias, False, momentum, eps
        )
    count = 1
    for extent in shape[2:]:
        count *= extent
    if count == 1:
        raise ShapeError(
            f"{op}: input: expected more than one value per channel of an image, got "
            f"shape {shape}"
        )
    if not raw(input).size:
        return _by_groups(op, input, shape[1], weight, bias, eps)  # type: ignore[no-any-return]
    y, mean, var = Normalize.apply(input, weight, bias, groups=shape[1], eps=eps)
    if running_mean is not None or running_var is not None:
        update_running_stats(
            running_mean, running_var, raw(mean).mean(0), raw(var).mean(0), count,
            momentum,
        )  # fmt: skip
    return y  # type: ignore[no-any-return]
