"""Layers that learn the size of their input from the first one.

Such a layer is the plain one with parameters of no elements. The first input, or a
state dict that is loaded, tells how many channels there are: the parameters, which stay
the same objects, get their memory, on the device and of the dtype they have by then,
and the layer's class becomes the plain one.
"""

from __future__ import annotations

from typing import Any, ClassVar

from nnlib.autograd.mode import no_grad
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module, device_context, device_of
from nnlib.backend.errors import Error, ShapeError
from nnlib.nn import convolution, normalization
from nnlib.nn.linear import Linear
from nnlib.nn.module import Module

__all__ = [
    "LazyBatchNorm1d",
    "LazyBatchNorm2d",
    "LazyBatchNorm3d",
    "LazyConv1d",
    "LazyConv2d",
    "LazyConv3d",
    "LazyConvTranspose1d",
    "LazyConvTranspose2d",
    "LazyConvTranspose3d",
    "LazyInstanceNorm1d",
    "LazyInstanceNorm2d",
    "LazyInstanceNorm3d",
    "LazyLinear",
]


def _size(tensor: Tensor, shape: tuple[int, ...]) -> None:
    """Give a tensor memory of a shape, of the dtype and on the device it has."""
    array = tensor._array
    with device_context(device_of(array)):
        made = array_module(array).zeros(shape, array.dtype)
    tensor.data = Tensor._from_array(made)


def _take_state(module: Any, given: dict[str, Any], prefix: str, *_: Any) -> None:
    """Before a state dict is loaded: take the size from it."""
    if not isinstance(module, _Lazy):
        return
    for name in module._sized:
        shape = tuple(getattr(given.get(prefix + name), "shape", ()))
        # Another number of dimensions is told where shapes are compared.
        if shape and 0 not in shape and len(shape) == len(module._shape(name, 1)):
            module._become(module._size_of(name, shape))
            return


class _Lazy(Module):
    """What lazy layers share.

    Subclasses name the plain layer, its argument that is not known yet, and the
    parameters and buffers whose shape depends on it.
    """

    _plain: ClassVar[type[Module]]
    _unknown: ClassVar[str]
    _sized: ClassVar[tuple[str, ...]] = ("weight",)

    def _wait(self) -> None:
        """Empty the parameters, and take the size from a state dict if one comes."""
        setattr(self, self._unknown, 0)
        for name in self._sized:
            tensor = getattr(self, name)
            if tensor is not None:
                _size(tensor, (0,))
        self.register_load_state_dict_pre_hook(_take_state)

    def _count(self, input: Any) -> int:
        """Return the number asked for, from an input."""
        raise NotImplementedError(f"{type(self).__name__} defines no _count")

    def _size_of(self, name: str, shape: tuple[int, ...]) -> int:
        """Return the number asked for, from the shape of a parameter."""
        return shape[0]

    def _shape(self, name: str, count: int) -> tuple[int, ...]:
        """Return the shape of a parameter."""
        return (count,)

    def _become(self, count: int) -> None:
        for name in self._sized:
            if name not in self._parameters and name not in self._buffers:
                raise Error(
                    f"{type(self).__name__}: {name}: something else stands in its "
                    "place; give the layer an input before it is pruned or normalised"
                )
        setattr(self, self._unknown, count)
        for name in self._sized:
            tensor = getattr(self, name)
            if tensor is not None:
                _size(tensor, self._shape(name, count))
        # The plain layer from here on: its `reset_parameters` and its name.
        self.__class__ = self._plain  # type: ignore[assignment]
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Do nothing while there are no parameters to draw."""

    def has_uninitialized_params(self) -> bool:
        """Tell that the parameters have no memory yet."""
        return True

    def initialize_parameters(self, input: Any, *args: Any, **kwargs: Any) -> None:
        """Take the size from an input, and become the plain layer."""
        with no_grad():
            self._become(self._count(input))

    def forward(self, input: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Take the size from `input`, and return what the plain layer returns."""
        self.initialize_parameters(input)
        return self.forward(input, *args, **kwargs)


class LazyLinear(_Lazy, Linear):
    """A `Linear` whose ``in_features`` is the last dimension of its first input.

    Parameters
    ----------
    out_features : int
    bias, device, dtype
        As in `Linear`.

    Examples
    --------
    >>> import nnlib
    >>> layer = LazyLinear(3)
    >>> tuple(layer(nnlib.zeros(5, 7)).shape)
    (5, 3)
    >>> layer
    Linear(in_features=7, out_features=3, bias=True)
    """

    _plain = Linear
    _unknown = "in_features"

    def __init__(
        self,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        Linear.__init__(self, 1, out_features, bias, device, dtype)
        self._wait()

    def _count(self, input: Any) -> int:
        if not input.shape:
            raise ShapeError(
                "LazyLinear: input: expected at least one dimension, got shape ()"
            )
        return int(input.shape[-1])

    def _size_of(self, name: str, shape: tuple[int, ...]) -> int:
        return shape[1]

    def _shape(self, name: str, count: int) -> tuple[int, ...]:
        return self.out_features, count


class _LazyConvolution(_Lazy, convolution._Convolution):
    _unknown = "in_channels"

    def _count(self, input: Any) -> int:
        if len(input.shape) not in (self.rank + 1, self.rank + 2):
            raise ShapeError(
                f"{type(self).__name__}: input: expected {self.rank + 1} or "
                f"{self.rank + 2} dimensions, got shape {tuple(input.shape)}"
            )
        count = int(input.shape[-self.rank - 1])
        if count % self.groups:
            raise ShapeError(
                f"{type(self).__name__}: in_channels: {count} is not divisible by "
                f"groups={self.groups}"
            )
        return count

    def _size_of(self, name: str, shape: tuple[int, ...]) -> int:
        return shape[0] if self.transposed else shape[1] * self.groups

    def _shape(self, name: str, count: int) -> tuple[int, ...]:
        if self.transposed:
            return (count, self.out_channels // self.groups, *self.kernel_size)
        return (self.out_channels, count // self.groups, *self.kernel_size)


class _LazyConv(_LazyConvolution):
    def __init__(
        self,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        convolution._Convolution.__init__(
            self, groups, out_channels, kernel_size, stride, padding, dilation, groups,
            bias, padding_mode, device, dtype,
        )  # fmt: skip
        self._wait()


class LazyConv1d(_LazyConv, convolution.Conv1d):
    """A `Conv1d` that takes ``in_channels`` from its first input."""

    _plain = convolution.Conv1d


class LazyConv2d(_LazyConv, convolution.Conv2d):
    """A `Conv2d` that takes ``in_channels`` from its first input.

    Examples
    --------
    >>> import nnlib
    >>> layer = LazyConv2d(8, 3)
    >>> tuple(layer(nnlib.zeros(1, 5, 6, 6)).shape), layer.in_channels
    ((1, 8, 4, 4), 5)
    """

    _plain = convolution.Conv2d


class LazyConv3d(_LazyConv, convolution.Conv3d):
    """A `Conv3d` that takes ``in_channels`` from its first input."""

    _plain = convolution.Conv3d


class _LazyTransposed(_LazyConvolution, convolution._Transposed):
    def __init__(
        self,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        convolution._Transposed.__init__(
            self, groups, out_channels, kernel_size, stride, padding, output_padding,
            groups, bias, dilation, padding_mode, device, dtype,
        )  # fmt: skip
        self._wait()


class LazyConvTranspose1d(_LazyTransposed, convolution.ConvTranspose1d):
    """A `ConvTranspose1d` that takes ``in_channels`` from its first input."""

    _plain = convolution.ConvTranspose1d


class LazyConvTranspose2d(_LazyTransposed, convolution.ConvTranspose2d):
    """A `ConvTranspose2d` that takes ``in_channels`` from its first input."""

    _plain = convolution.ConvTranspose2d


class LazyConvTranspose3d(_LazyTransposed, convolution.ConvTranspose3d):
    """A `ConvTranspose3d` that takes ``in_channels`` from its first input."""

    _plain = convolution.ConvTranspose3d


class _LazyNorm(_Lazy, normalization._ChannelNorm):
    _unknown = "num_features"
    _sized = ("weight", "bias", "running_mean", "running_var")

    def __init__(
        self,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        normalization._ChannelNorm.__init__(
            self, 1, eps, momentum, affine, track_running_stats, device, dtype, bias
        )
        self._wait()

    def _count(self, input: Any) -> int:
        self._check_rank(input)
        # An instance norm takes samples without a batch; of signals a batch norm takes
        # vectors, whose channels stand where they do in a batch.
        alone = isinstance(self, normalization._InstanceNorm)
        single = alone and len(input.shape) == self._ranks[0]
        return int(input.shape[0 if single else 1])


class LazyBatchNorm1d(_LazyNorm, normalization.BatchNorm1d):
    """A `BatchNorm1d` that takes ``num_features`` from its first input."""

    _plain = normalization.BatchNorm1d


class LazyBatchNorm2d(_LazyNorm, normalization.BatchNorm2d):
    """A `BatchNorm2d` that takes ``num_features`` from its first input.

    Examples
    --------
    >>> import nnlib
    >>> layer = LazyBatchNorm2d()
    >>> tuple(layer(nnlib.ones(2, 3, 4, 4)).shape), layer.num_features
    ((2, 3, 4, 4), 3)
    """

    _plain = normalization.BatchNorm2d


class LazyBatchNorm3d(_LazyNorm, normalization.BatchNorm3d):
    """A `BatchNorm3d` that takes ``num_features`` from its first input."""

    _plain = normalization.BatchNorm3d


class LazyInstanceNorm1d(_LazyNorm, normalization.InstanceNorm1d):
    """An `InstanceNorm1d` that takes ``num_features`` from its first input."""

    _plain = normalization.InstanceNorm1d


class LazyInstanceNorm2d(_LazyNorm, normalization.InstanceNorm2d):
    """An `InstanceNorm2d` that takes ``num_features`` from its first input."""

    _plain = normalization.InstanceNorm2d


class LazyInstanceNorm3d(_LazyNorm, normalization.InstanceNorm3d):
    """An `InstanceNorm3d` that takes ``num_features`` from its first input."""

    _plain = normalization.InstanceNorm3d
