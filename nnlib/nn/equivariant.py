"""Convolutions that commute with rotations and reflections, not only with shifts.

A feature map of these layers has one plane per element of the group: 4 rotations by 90
degrees for "p4", these and the 4 reflections for "p4m". Turning the input turns every
plane and moves it to another place among the planes; nothing else changes. T. Cohen and
M. Welling: Group equivariant convolutional networks, ICML 2016, arXiv:1602.07576.

Element ``4 m + r`` reflects left and right if m is 1, then turns r times
counterclockwise by 90 degrees.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnlib.autograd.construct import as_tensor
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ArgumentError, ShapeError
from nnlib.nn import functional as F
from nnlib.nn import init
from nnlib.nn.linear import check_size, new_parameter
from nnlib.nn.module import Module
from nnlib.ops import amax, flip, index_select, mean, rot90

__all__ = ["GroupConv2d", "GroupPool", "LiftingConv2d", "act", "order"]

_ORDERS = {"p4": 4, "p4m": 8}


def order(group: str) -> int:
    """Return the number of elements of "p4" (4) or "p4m" (8), shifts not counted.

    Raises
    ------
    Error
        If there is no such group here.
    """
    if group not in _ORDERS:
        raise ArgumentError(f"group: expected one of {tuple(_ORDERS)}, got {group!r}")
    return _ORDERS[group]


def _after_inverse(g: int, h: int) -> int:
    """Return the number of ``g^-1 h``.

    With g = R^r F^m and h = R^s F^n, where F R F = R^-1, it is
    F^m R^(s-r) F^n = R^(+-(s-r)) F^(m+n), minus if m is 1.
    """
    (m, r), (n, s) = divmod(g, 4), divmod(h, 4)
    turns = (r - s if m else s - r) % 4
    return 4 * (m ^ n) + turns


def act(x: Tensor, element: int, group: str = "p4") -> Tensor:
    """Turn and reflect images or feature maps by one element of the group.

    Parameters
    ----------
    x : Tensor, shape (N, C, H, W) or (N, C, G, H, W)
        Images, or feature maps with a plane for each of the G elements.
    element : int
        From 0 to G - 1; see the head of the module.
    group : {"p4", "p4m"}

    Returns
    -------
    Tensor
        Of the shape of `x`, with H and W exchanged by odd turns.

    Raises
    ------
    ShapeError
        If `x` has another rank or number of planes, or there is no such element.

    Examples
    --------
    >>> import nnlib
    >>> act(nnlib.arange(4.0).reshape(1, 1, 2, 2), 1)[0, 0]
    tensor([[1., 3.],
            [0., 2.]])
    """
    size = order(group)
    check_size("act", "element", element)
    if not element < size:
        raise ShapeError(f"act: element: expected 0 to {size - 1}, got {element}")
    if x.ndim == 5:
        _check_planes("act", x, size)
        # Plane h of the result is plane g^-1 h of the input, turned.
        places = [_after_inverse(element, h) for h in range(size)]
        x = index_select(x, 2, as_tensor(np.asarray(places)).to(x.device))
    elif x.ndim != 4:
        raise ShapeError(
            f"act: x: expected (N, C, H, W) or (N, C, G, H, W), got {tuple(x.shape)}"
        )
    m, r = divmod(element, 4)
    return rot90(flip(x, (-1,)) if m else x, r, (-2, -1))


def _check_planes(op: str, x: Tensor, size: int) -> None:
    if x.ndim != 5 or x.shape[2] != size:
        raise ShapeError(
            f"{op}: x: expected (N, C, {size}, H, W), got {tuple(x.shape)}"
        )


def _turned(numbers: NDArray[np.int64], element: int) -> NDArray[np.int64]:
    """Return a square of numbers, reflected and turned."""
    m, r = divmod(element, 4)
    return np.rot90(numbers[:, ::-1] if m else numbers, r)


class _GroupConvolution(Module):
    """What the lifting and the group convolution share.

    One filter is learnt; the others are the same numbers in other places. `_places`
    holds for each of them where its numbers stand in the one, so that a single
    gather makes them all, and its derivative adds up what they ask for.
    """

    _places: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        padding: int,
        bias: bool,
        group: str,
        planes: int,
        device: Any,
        dtype: Any,
    ) -> None:
        super().__init__()
        layer = type(self).__name__
        check_size(layer, "in_channels", in_channels, 1)
        check_size(layer, "out_channels", out_channels, 1)
        # Single numbers: other ones for the height than for the width do not turn.
        check_size(layer, "kernel_size", kernel_size, 1)
        check_size(layer, "stride", stride, 1)
        check_size(layer, "padding", padding)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.group = group
        self.order = order(group)
        self._planes = planes
        shape = (in_channels, planes, kernel_size, kernel_size)
        made = {"device": device, "dtype": dtype}
        self.weight = new_parameter(
            out_channels, *(shape if planes > 1 else (in_channels, *shape[2:])), **made
        )
        self.bias = new_parameter(out_channels, **made) if bias else None
        places = as_tensor(self._read_places()).to(self.weight.device)
        self.register_buffer("_places", places, persistent=False)
        self.reset_parameters()

    def _read_places(self) -> NDArray[np.int64]:
        k, planes = self.kernel_size, self._planes
        cells = np.arange(planes * k * k).reshape(planes, k, k)
        return np.stack(
            [
                _turned(cells[_after_inverse(g, h) if planes > 1 else 0], g)
                for g in range(self.order)
                for h in range(planes)
            ]
        ).reshape(-1)  # (G * planes, k, k) -> (G * planes * k * k,)

    def reset_parameters(self) -> None:
        """Draw new initial values, as `nnlib.nn.Conv2d` does."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(math.prod(self.weight.shape[1:]))
            init.uniform_(self.bias, -bound, bound)

    def filters(self) -> Tensor:
        """Return the turned filters.

        Shape ``(out_channels * G, in_channels * planes, k, k)``, where a lifting layer
        has one plane and a group convolution G.
        """
        k, c, o = self.kernel_size, self.in_channels, self.out_channels
        flat = self.weight.reshape(o, c, -1)  # (O, C, P, k, k) -> (O, C, P*k*k)
        bank = index_select(flat, 2, self._places)
        bank = bank.reshape(o, c, self.order, self._planes * k * k)
        bank = bank.transpose(1, 2)  # (O, C, G, P*k*k) -> (O, G, C, P*k*k)
        return bank.reshape(o * self.order, c * self._planes, k, k)

    def _convolve(self, x: Tensor) -> Tensor:
        y: Tensor = F.conv2d(x, self.filters(), None, self.stride, self.padding)
        # (N, O*G, H, W) -> (N, O, G, H, W)
        y = y.reshape(len(y), self.out_channels, self.order, *y.shape[2:])
        return y if self.bias is None else y + self.bias.reshape(1, -1, 1, 1, 1)

    def extra_repr(self) -> str:
        """Return the sizes and the group."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, padding={self.padding}, "
            f"bias={self.bias is not None}, group={self.group!r}"
        )


class LiftingConv2d(_GroupConvolution):
    """The first layer: images convolved with a filter in each of its positions.

    ``y[n, o, g] = x[n] * (g w[o]) + b[o]``; turning x turns y: ``layer(act(x, a)) =
    act(layer(x), a)``. With a stride this holds if ``H + 2 padding - kernel_size`` is
    its multiple, and for the width likewise; otherwise a turned image is sampled at
    other pixels.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int
        Of a square.
    stride : int, default 1
    padding : int, default 0
    bias : bool, default True
        Whether to learn one, the same for all elements of the group.
    group : {"p4", "p4m"}
    device, dtype : optional
        Of the parameters.

    Attributes
    ----------
    weight : Parameter, shape (out_channels, in_channels, kernel_size, kernel_size)
    bias : Parameter, shape (out_channels,), or None

    Raises
    ------
    ShapeError
        If a size is not positive.
    Error
        If there is no such group.

    Examples
    --------
    >>> import nnlib
    >>> layer = LiftingConv2d(3, 8, 5, padding=2)
    >>> tuple(layer(nnlib.zeros(2, 3, 28, 28)).shape)
    (2, 8, 4, 28, 28)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
        group: str = "p4",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, bias, group, 1,
            device, dtype,
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Return the feature maps of (N, C, H, W), shape (N, O, G, H', W')."""
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ShapeError(
                f"LiftingConv2d: x: expected (N, {self.in_channels}, H, W), got "
                f"{tuple(x.shape)}"
            )
        return self._convolve(x)


class GroupConv2d(_GroupConvolution):
    """A later layer: feature maps over the group to feature maps over the group.

    ``y[n, o, g] = sum_h x[n, h] * (g w[o, g^-1 h]) + b[o]``: an element g turns each
    plane of the filter and moves it to its new place. `nnlib.nn.BatchNorm3d` between
    two such layers, with one figure per channel, keeps the equivariance, and so does
    every activation.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, bias, group, device, dtype
        As for `LiftingConv2d`.

    Attributes
    ----------
    weight : Parameter, shape (out_channels, in_channels, G, kernel_size, kernel_size)
    bias : Parameter, shape (out_channels,), or None

    Examples
    --------
    >>> import nnlib
    >>> layer = GroupConv2d(8, 6, 3, padding=1, group="p4m")
    >>> tuple(layer(nnlib.zeros(2, 8, 8, 14, 14)).shape)
    (2, 6, 8, 14, 14)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
        group: str = "p4",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, bias, group,
            order(group), device, dtype,
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Return the feature maps of (N, C, G, H, W), shape (N, O, G, H', W')."""
        _check_planes("GroupConv2d", x, self.order)
        if x.shape[1] != self.in_channels:
            raise ShapeError(
                f"GroupConv2d: x has {x.shape[1]} channels, expected {self.in_channels}"
            )
        return self._convolve(x.flatten(1, 2))  # (N, C, G, H, W) -> (N, C*G, H, W)


class GroupPool(Module):
    """Pool over the planes of the group: what is left turns with the input as it is.

    Parameters
    ----------
    mode : {"max", "mean"}

    Raises
    ------
    Error
        If there is no such mode.

    Examples
    --------
    >>> import nnlib
    >>> tuple(GroupPool()(nnlib.zeros(2, 6, 8, 14, 14)).shape)
    (2, 6, 14, 14)
    """

    def __init__(self, mode: str = "max") -> None:
        super().__init__()
        if mode not in ("max", "mean"):
            raise ArgumentError(
                f'GroupPool: mode: expected "max" or "mean", got {mode!r}'
            )
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        """Return the largest or the mean of the planes of (N, C, G, H, W)."""
        if x.ndim != 5:
            raise ShapeError(
                f"GroupPool: x: expected (N, C, G, H, W), got {tuple(x.shape)}"
            )
        return amax(x, 2) if self.mode == "max" else mean(x, 2)

    def extra_repr(self) -> str:
        """Return the mode."""
        return f"mode={self.mode!r}"
