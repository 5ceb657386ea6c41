"""Normalisation by channels: batch, group and instance normalisation."""

from __future__ import annotations

import math
from typing import Any

from nnlib import kernels
from nnlib.autograd.mode import no_grad
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import context_of
from nnlib.backend.errors import ArgumentError, DTypeError, ShapeError
from nnlib.ops.dims import raw
from nnlib.ops.loss import check_float
from nnlib.ops.normalize import BATCH, Normalize, Standardize

__all__ = ["batch_norm", "group_norm", "instance_norm", "update_running_stats"]


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
    with no_grad(), context_of(raw(mean)):
        kernels.normalization.move_running(
            None if running_mean is None else raw(running_mean),
            None if running_var is None else raw(running_var),
            raw(mean), raw(var), count, momentum,
        )  # fmt: skip
        for running in (running_mean, running_var):
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


def _joined(input: Any) -> Any:
    """Return (N, C, *spatial) as (N, C, L): the kernels know three dimensions."""
    shape = tuple(input.shape)
    return input.reshape(*shape[:2], math.prod(shape[2:]))


def _check_numbers(op: str, eps: Any, momentum: Any) -> None:
    """Refuse what training cannot use."""
    try:
        fits = eps >= 0
        momentum + 0.0
    except TypeError:
        raise DTypeError(
            f"{op}: eps and momentum: expected numbers, got {eps!r} and {momentum!r}"
        ) from None
    if not fits:
        raise ArgumentError(f"{op}: eps: expected at least 0, got {eps}")


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
    ArgumentError
        If there are no running statistics and `training` is False, or in training `eps`
        is below 0.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.batch_norm(nnlib.tensor([[1.0], [3.0]]), None, None, training=True)
    tensor([[-1.],
            [ 1.]])
    """
    op = "batch_norm"
    shape = tuple(input.shape)
    if len(shape) < 2:
        raise ShapeError(f"{op}: input: expected (N, C, ...), got shape {shape}")
    if len(shape) > 5:
        return batch_norm(
            _joined(input), running_mean, running_var, weight, bias, training, momentum,
            eps,
        ).reshape(shape)  # fmt: skip
    check_float(op, "input", input)
    channels = shape[1]
    check_vectors(
        op, input, channels, weight=weight, bias=bias, running_mean=running_mean,
        running_var=running_var,
    )  # fmt: skip
    if not training:
        if running_mean is None or running_var is None:
            raise ArgumentError(
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
    _check_numbers(op, eps, momentum)
    if not count:
        return _of_nothing(input, weight, bias)  # type: ignore[no-any-return]
    y, mean, var = Normalize.apply(input, weight, bias, groups=BATCH, eps=eps)
    if running_mean is not None or running_var is not None:
        update_running_stats(
            running_mean,
            running_var,
            raw(mean).reshape(-1),
            raw(var).reshape(-1),
            count,
            momentum,
        )
    return y  # type: ignore[no-any-return]


def _by_groups(
    op: str, input: Any, groups: int, weight: Any, bias: Any, eps: float
) -> Any:
    check_vectors(op, input, tuple(input.shape)[1], weight=weight, bias=bias)
    if not raw(input).size:
        return _of_nothing(input, weight, bias)
    return Normalize.apply(input, weight, bias, groups=groups, eps=eps)[0]


def _of_nothing(input: Any, weight: Any, bias: Any) -> Any:
    """Return an empty input's result, through which weight and bias get zeros."""
    y = input * 1
    for vector in (weight, bias):
        if vector is not None:
            y = y * vector.sum()
    return y


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
    if len(shape) < 2:
        raise ShapeError(f"{op}: input: expected (N, C, ...), got shape {shape}")
    if len(shape) > 5:
        y = group_norm(_joined(input), num_groups, weight, bias, eps)
        return y.reshape(shape)
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
    if len(shape) < 3:
        raise ShapeError(f"{op}: input: expected (N, C, *spatial), got shape {shape}")
    if len(shape) > 5:
        return instance_norm(
            _joined(input), running_mean, running_var, weight, bias, use_input_stats,
            momentum, eps,
        ).reshape(shape)  # fmt: skip
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
        with context_of(raw(mean)):
            means, variances = raw(mean).mean(0), raw(var).mean(0)
        update_running_stats(
            running_mean, running_var, means, variances, count, momentum
        )
    return y  # type: ignore[no-any-return]
