"""Normalisation layers."""

from __future__ import annotations

from typing import Any, ClassVar

from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import device_context, module_of, resolve_device
from nnlib.backend.dtypes import get_default_dtype, resolve_dtype
from nnlib.backend.errors import ShapeError
from nnlib.nn import functional as F
from nnlib.nn import init
from nnlib.nn.linear import check_size, new_parameter
from nnlib.nn.module import Module

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LocalResponseNorm",
]


def new_buffer(fill: Any, shape: tuple[int, ...], device: Any, dtype: Any) -> Tensor:
    """Return a Tensor filled with a number."""
    place = resolve_device(device)
    with device_context(place):
        return Tensor._from_array(module_of(place).full(shape, fill, dtype))


class _ChannelNorm(Module):
    """What batch and instance normalisation keep: vectors and running statistics.

    Subclasses say which numbers of dimensions they take.
    """

    _ranks: tuple[int, ...] = ()
    # The files of old networks do not have it.
    _optional_entries: ClassVar[frozenset[str]] = frozenset({"num_batches_tracked"})

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        device: Any,
        dtype: Any,
        bias: bool,
    ) -> None:
        super().__init__()
        check_size(type(self).__name__, "num_features", num_features, 1)
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        kind = get_default_dtype() if dtype is None else resolve_dtype(dtype)
        made = {"device": device, "dtype": kind}
        for name, wanted in (("weight", affine), ("bias", affine and bias)):
            vector = new_parameter(num_features, **made) if wanted else None
            self.register_parameter(name, vector)
        mean = var = count = None
        if track_running_stats:
            mean = new_buffer(0, (num_features,), device, kind)
            var = new_buffer(1, (num_features,), device, kind)
            count = new_buffer(0, (), device, "int64")
        self.register_buffer("running_mean", mean)
        self.register_buffer("running_var", var)
        self.register_buffer("num_batches_tracked", count)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Set the running mean to 0, the variance to 1, the count to 0."""
        if self.track_running_stats:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Set weight to 1, bias to 0, and the running statistics to their start."""
        self.reset_running_stats()
        if self.affine:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def _check_rank(self, input: Tensor) -> None:
        if len(input.shape) not in self._ranks:
            expected = " or ".join(map(str, self._ranks))
            raise ShapeError(
                f"{type(self).__name__}: input: expected {expected} dimensions, got "
                f"shape {tuple(input.shape)}"
            )

    def _check_channels(self, input: Tensor, dim: int) -> None:
        if input.shape[dim] != self.num_features:
            raise ShapeError(
                f"{type(self).__name__}: input has {input.shape[dim]} channels, "
                f"expected num_features = {self.num_features}"
            )

    def extra_repr(self) -> str:
        """Return the arguments."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"affine={self.affine}, bias={self.bias is not None}, "
            f"track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(_ChannelNorm):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(
            num_features,
            eps,
            momentum,
            affine,
            track_running_stats,
            device,
            dtype,
            bias,
        )

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised input; in training move the running statistics."""
        self._check_rank(input)
        self._check_channels(input, 1)
        momentum = 0.0 if self.momentum is None else self.momentum
        mean, var = self.running_mean, self.running_var
        training = self.training or (mean is None and var is None)
        if self.training:
            tracked = self.num_batches_tracked
            if not self.track_running_stats:
                # Switched off after the statistics were made: they stay.
                mean = var = None
            elif tracked is not None:
                tracked.add_(1)
                if self.momentum is None:
                    # The mean of all batches so far.
                    momentum = 1.0 / tracked.item()
        return F.batch_norm(
            input, mean, var, self.weight, self.bias, training, momentum, self.eps
        )


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of vectors or signals; see `BatchNorm2d`.

    Takes input of shape (N, C) or (N, C, L).
    """

    _ranks = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of images; see `nnlib.nn.functional.batch_norm`.

    Parameters
    ----------
    num_features : int
        The channels C of input of shape (N, C, H, W).
    eps : float, default 1e-5
    momentum : float or None, default 0.1
        The weight of a batch in the running statistics; None: all batches weigh the
        same.
    affine : bool, default True
        Whether to learn weight and bias.
    bias : bool, default True
        If False, an affine layer learns the weight alone.
    track_running_stats : bool, default True
        If False, statistics are those of the batch in evaluation, too.

    Attributes
    ----------
    weight, bias : Parameter, shape (C,), or None
        Initially 1 and 0.
    running_mean, running_var : Tensor, shape (C,), or None
    num_batches_tracked : Tensor, shape (), int64, or None

    Examples
    --------
    >>> import nnlib
    >>> layer = BatchNorm2d(3)
    >>> tuple(layer(nnlib.zeros(2, 3, 4, 4)).shape)
    (2, 3, 4, 4)
    >>> layer.num_batches_tracked.item()
    1
    """

    _ranks = (4,)


class BatchNorm3d(_BatchNorm):
    """Batch normalisation of volumes (N, C, D, H, W); see `BatchNorm2d`."""

    _ranks = (5,)


class _InstanceNorm(_ChannelNorm):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(
            num_features,
            eps,
            momentum,
            affine,
            track_running_stats,
            device,
            dtype,
            bias,
        )

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised input, (N, C, *spatial) or (C, *spatial)."""
        self._check_rank(input)
        single = len(input.shape) == self._ranks[0]
        # A wrong number of channels matters only where there are vectors for them.
        if self.affine or self.track_running_stats:
            self._check_channels(input, 0 if single else 1)
        mean, var = self.running_mean, self.running_var
        own = self.training or not self.track_running_stats
        y = F.instance_norm(
            input[None] if single else input, mean, var, self.weight, self.bias, own,
            self.momentum or 0.0, self.eps,
        )  # fmt: skip
        return y[0] if single else y


class InstanceNorm1d(_InstanceNorm):
    """Instance normalisation of signals (N, C, L) or (C, L); see `InstanceNorm2d`."""

    _ranks = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    """Instance normalisation of images; see `nnlib.nn.functional.instance_norm`.

    Parameters
    ----------
    num_features : int
        The channels C of input of shape (N, C, H, W) or (C, H, W).
    eps : float, default 1e-5
    momentum : float, default 0.1
    affine : bool, default False
    track_running_stats : bool, default False
        If True, evaluation uses running statistics.
    bias : bool, default True
        If False, an affine layer learns the weight alone.
    """

    _ranks = (3, 4)


class InstanceNorm3d(_InstanceNorm):
    """Instance normalisation of volumes (N, C, D, H, W); see `InstanceNorm2d`."""

    _ranks = (4, 5)


class GroupNorm(Module):
    """Normalise groups of channels; see `nnlib.nn.functional.group_norm`.

    Parameters
    ----------
    num_groups : int
        Divides `num_channels`.
    num_channels : int
        The channels C of input of shape (N, C, ...).
    eps : float, default 1e-5
    affine : bool, default True
        Whether to learn weight and bias.
    bias : bool, default True
        If False, an affine layer learns the weight alone.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        check_size("GroupNorm", "num_groups", num_groups, 1)
        check_size("GroupNorm", "num_channels", num_channels, 1)
        if num_channels % num_groups:
            raise ShapeError(
                f"GroupNorm: num_groups: {num_groups} does not divide num_channels = "
                f"{num_channels}"
            )
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = eps
        self.affine = affine
        made = {"device": device, "dtype": dtype}
        for name, wanted in (("weight", affine), ("bias", affine and bias)):
            vector = new_parameter(num_channels, **made) if wanted else None
            self.register_parameter(name, vector)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set weight to 1 and bias to 0."""
        if self.affine:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised input."""
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """Return the arguments."""
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, "
            f"affine={self.affine}, bias={self.bias is not None}"
        )


class LocalResponseNorm(Module):
    """Divide by neighbours in other channels.

    See `nnlib.nn.functional.local_response_norm`.

    Parameters
    ----------
    size : int
    alpha, beta, k : float
    """

    def __init__(
        self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
    ) -> None:
        super().__init__()
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.k = k

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised input."""
        return F.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
