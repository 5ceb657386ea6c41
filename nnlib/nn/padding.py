"""Layers that put a border round signals, images and volumes."""

from __future__ import annotations

import operator
from typing import Any, ClassVar

from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import DTypeError, ShapeError
from nnlib.nn import functional as F
from nnlib.nn.module import Module

__all__ = [
    "CircularPad1d",
    "CircularPad2d",
    "CircularPad3d",
    "ConstantPad1d",
    "ConstantPad2d",
    "ConstantPad3d",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReflectionPad3d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "ReplicationPad3d",
    "ZeroPad1d",
    "ZeroPad2d",
    "ZeroPad3d",
]


class _Pad(Module):
    """A border of constant widths round the last dimensions.

    Parameters
    ----------
    padding : int or tuple of int
        One width for all sides, or the widths before and after the last dimension,
        then the last but one, ...; see `nnlib.nn.functional.pad`.

    Raises
    ------
    DTypeError
        If a width is no int.
    ShapeError
        If there are not two widths for each dimension; in `forward`, if the input has
        not one or two dimensions more (batch and channels).
    """

    mode: ClassVar[str]
    dims: ClassVar[int]

    def __init__(self, padding: Any) -> None:
        super().__init__()
        layer, sides = type(self).__name__, 2 * self.dims
        try:
            several = padding if hasattr(padding, "__len__") else (padding,) * sides
            self.padding = tuple(map(operator.index, several))
        except TypeError:
            raise DTypeError(
                f"{layer}: padding: expected an int or {sides} of them, got {padding!r}"
            ) from None
        if len(self.padding) != sides:
            raise ShapeError(
                f"{layer}: padding: expected {sides} widths, got {self.padding}"
            )

    def forward(self, input: Tensor) -> Tensor:
        """Return the input with its border."""
        if self.mode != "constant" and input.ndim not in (self.dims + 1, self.dims + 2):
            raise ShapeError(
                f"{type(self).__name__}: input: expected {self.dims + 1} or "
                f"{self.dims + 2} dimensions, got shape {tuple(input.shape)}"
            )
        return F.pad(input, self.padding, self.mode)

    def extra_repr(self) -> str:
        """Return the widths."""
        return f"{self.padding}"


class _ConstantPad(_Pad):
    """A border of one value; see `_Pad`.

    Parameters
    ----------
    padding : int or tuple of int
    value : float
    """

    mode = "constant"

    def __init__(self, padding: Any, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        """Return the input with its border."""
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        """Return the widths and the value."""
        return f"padding={self.padding}, value={self.value}"


class _ZeroPad(_ConstantPad):
    """A border of zeros; see `_Pad`."""

    def __init__(self, padding: Any) -> None:
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        """Return the widths."""
        return f"{self.padding}"


class ConstantPad1d(_ConstantPad):
    """A border of one value, for signals, shape ([N,] C, L).

    Parameters
    ----------
    padding : int or tuple of int
        One width, or two for each dimension, the last dimension first.
    value : float

    Examples
    --------
    >>> import nnlib
    >>> ConstantPad1d(1, 7.0)(nnlib.tensor([[1.0, 2.0, 3.0]]))
    tensor([[7., 1., 2., 3., 7.]])
    """

    dims = 1


class ConstantPad2d(_ConstantPad):
    """A border of one value, for images, shape ([N,] C, H, W).

    Parameters
    ----------
    padding : int or tuple of int
        One width, or two for each dimension, the last dimension first.
    value : float
    """

    dims = 2


class ConstantPad3d(_ConstantPad):
    """A border of one value, for volumes, shape ([N,] C, D, H, W).

    Parameters
    ----------
    padding : int or tuple of int
        One width, or two for each dimension, the last dimension first.
    value : float
    """

    dims = 3


class ZeroPad1d(_ZeroPad):
    """A border of zeros, for signals, shape ([N,] C, L).

    Parameters
    ----------
    padding : int or tuple of int
        One width, or two for each dimension, the last dimension first.

    Examples
    --------
    >>> import nnlib
    >>> ZeroPad1d(1)(nnlib.tensor([[1.0, 2.0, 3.0]]))
    tensor([[0., 1., 2., 3., 0.]])
    """

    dims = 1


class ZeroPad2d(_ZeroPad):
    """A border of zeros, for images, shape ([N,] C, H, W).

    Parameters
    ----------
    padding : int or tuple of int
        One width, or two for each dimension, the last dimension first.
    """

    dims = 2


class ZeroPad3d(_ZeroPad):
    """A border of zeros, for volumes, shape ([N,] C, D, H, W).

    Parameters
    ----------
    padding : int or tuple of int
        One width, or two for each dimension, the last dimension first.
    """

    dims = 3


class ReflectionPad1d(_Pad):
    """A border mirrored at the edge, for signals, shape ([N,] C, L).

    Parameters
    ----------
    padding : int or tuple of int
        One width, or two for each dimension, the last dimension first.

    Examples
    --------
    >>> import nnlib
    >>> ReflectionPad1d(1)(nnlib.tensor([[1.0, 2.0, 3.0]]))
    tensor([[2., 1., 2., 3., 2.]])
    """

    dims = 1
    mode = "reflect"


class ReflectionPad2d(_Pad):
    """A border mirrored at the edge, for images, shape ([N,] C, H, W).

    Parameters
    ----------
    padding : int or tuple of int
        One width, or two for each dimension, the last dimension first.
    """

    dims = 2
    mode = "reflect"


class ReflectionPad3d(_Pad):
    """A border mirrored at the edge, for volumes, shape ([N,] C, D, H, W).

    Parameters
    ----------
    padding : int or tuple of int
        One width, or two for each dimension, the last dimension first.
    """

    dims = 3
    mode = "reflect"


class ReplicationPad1d(_Pad):
    """A border that repeats the edge, for signals, shape ([N,] C, L).

    Parameters
    ----------
    padding : int or tuple of int
        One width, or two for each dimension, the last dimension first.

    Examples
    --------
    >>> import nnlib
    >>> ReplicationPad1d(1)(nnlib.tensor([[1.0, 2.0, 3.0]]))
    tensor([[1., 1., 2., 3., 3.]])
    """

    dims = 1
    mode = "replicate"


class ReplicationPad2d(_Pad):
    """A border that repeats the edge, for images, shape ([N,] C, H, W).

    Parameters
    ----------
    padding : int or tuple of int
        One width, or two for each dimension, the last dimension first.
    """

    dims = 2
    mode = "replicate"


class ReplicationPad3d(_Pad):
    """A border that repeats the edge, for volumes, shape ([N,] C, D, H, W).

    Parameters
    ----------
    padding : int or tuple of int
        One width, or two for each dimension, the last dimension first.
    """

    dims = 3
    mode = "replicate"


class CircularPad1d(_Pad):
    """A border from the opposite end, for signals, shape ([N,] C, L).

    Parameters
    ----------
    padding : int or tuple of int
        One width, or two for each dimension, the last dimension first.

    Examples
    --------
    >>> import nnlib
    >>> CircularPad1d(1)(nnlib.tensor([[1.0, 2.0, 3.0]]))
    tensor([[3., 1., 2., 3., 1.]])
    """

    dims = 1
    mode = "circular"


class CircularPad2d(_Pad):
    """A border from the opposite end, for images, shape ([N,] C, H, W).

    Parameters
    ----------
    padding : int or tuple of int
        One width, or two for each dimension, the last dimension first.
    """

    dims = 2
    mode = "circular"


class CircularPad3d(_Pad):
    """A border from the opposite end, for volumes, shape ([N,] C, D, H, W).

    Parameters
    ----------
    padding : int or tuple of int
        One width, or two for each dimension, the last dimension first.
    """

    dims = 3
    mode = "circular"
