"""Fully connected layers, and the ones that only reshape."""

from __future__ import annotations

import math
from typing import Any

from nnlib.autograd.tensor import Parameter, Tensor
from nnlib.backend.device import device_context, module_of, resolve_device
from nnlib.backend.dtypes import get_default_dtype, resolve_dtype
from nnlib.backend.errors import DTypeError, ShapeError
from nnlib.nn import functional as F
from nnlib.nn import init
from nnlib.nn.module import Module
from nnlib.ops import flatten, unflatten
from nnlib.ops.shape import read_sizes

__all__ = ["Bilinear", "Flatten", "Identity", "Linear", "Unflatten", "new_parameter"]


def new_parameter(*shape: int, device: Any = None, dtype: Any = None) -> Parameter:
    """Return a Parameter whose memory is yet to be filled."""
    place = resolve_device(device)
    kind = get_default_dtype() if dtype is None else resolve_dtype(dtype)
    with device_context(place):
        return Parameter(Tensor._from_array(module_of(place).empty(shape, kind)))


def check_size(layer: str, name: str, value: Any, least: int = 0) -> None:
    """Refuse a number of features that is no integer or is too small."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise DTypeError(f"{layer}: {name}: expected an integer, got {value!r}")
    if value < least:
        raise ShapeError(f"{layer}: {name}: expected at least {least}, got {value}")


class Identity(Module):
    """Return the input; any arguments of the constructor are ignored."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        """Return `input`."""
        return input


class Linear(Module):
    """``y = x W^T + b``; see `nnlib.nn.functional.linear`.

    Parameters
    ----------
    in_features, out_features : int
        Lengths of the last dimension of input and output.
    bias : bool, default True
        Whether to learn ``b``.
    device, dtype : optional
        Of the parameters.

    Attributes
    ----------
    weight : Parameter, shape (out_features, in_features)
        Initially U(-r, r) with ``r = 1 / sqrt(in_features)``.
    bias : Parameter, shape (out_features,), or None
        Initially from the same distribution.

    Examples
    --------
    >>> import nnlib
    >>> tuple(Linear(20, 30)(nnlib.zeros(128, 20)).shape)
    (128, 30)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_size("Linear", "in_features", in_features)
        check_size("Linear", "out_features", out_features)
        self.in_features = in_features
        self.out_features = out_features
        made = {"device": device, "dtype": dtype}
        self.weight = new_parameter(out_features, in_features, **made)
        offset = new_parameter(out_features, **made) if bias else None
        self.register_parameter("bias", offset)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        # He's uniform rule with slope sqrt(5) is U(-r, r) with r = 1/sqrt(fan_in).
        if self.in_features:
            init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features) if self.in_features else 0.0
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        """Return ``input W^T + b``, shape (..., out_features)."""
        # Straight from the dictionary where it is there: `__getattr__` costs more. A
        # normalised or pruned one is an ordinary attribute.
        own = self._parameters
        weight = own["weight"] if "weight" in own else self.weight
        bias = own["bias"] if "bias" in own else self.bias
        return F.linear(input, weight, bias)

    def extra_repr(self) -> str:
        """Return the sizes."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )


class Bilinear(Module):
    """``y_k = x1^T A_k x2 + b_k``; see `nnlib.nn.functional.bilinear`.

    Parameters
    ----------
    in1_features, in2_features, out_features : int
        Lengths of the last dimension of both inputs and of the output.
    bias : bool, default True
        Whether to learn ``b``.

    Attributes
    ----------
    weight : Parameter, shape (out_features, in1_features, in2_features)
        Initially U(-r, r) with ``r = 1 / sqrt(in1_features)``.
    bias : Parameter, shape (out_features,), or None
    """

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_size("Bilinear", "in1_features", in1_features, 1)
        check_size("Bilinear", "in2_features", in2_features)
        check_size("Bilinear", "out_features", out_features)
        self.in1_features = in1_features
        self.in2_features = in2_features
        self.out_features = out_features
        made = {"device": device, "dtype": dtype}
        self.weight = new_parameter(out_features, in1_features, in2_features, **made)
        offset = new_parameter(out_features, **made) if bias else None
        self.register_parameter("bias", offset)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        bound = 1 / math.sqrt(self.in1_features)
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        """Return the bilinear form of the inputs, shape (..., out_features)."""
        return F.bilinear(input1, input2, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Return the sizes."""
        return (
            f"in1_features={self.in1_features}, in2_features={self.in2_features}, "
            f"out_features={self.out_features}, bias={self.bias is not None}"
        )


class Flatten(Module):
    """Make one dimension of several; the batch dimension stays by default.

    Examples
    --------
    >>> import nnlib
    >>> tuple(Flatten()(nnlib.zeros(32, 1, 5, 5)).shape)
    (32, 25)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, input: Tensor) -> Tensor:
        """Return the flattened input."""
        return flatten(input, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        """Return the dimensions."""
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Make several dimensions of one: the inverse of `Flatten`.

    Parameters
    ----------
    dim : int
        The dimension to split.
    unflattened_size : tuple of int
        The lengths it is split into; one may be -1.

    Examples
    --------
    >>> import nnlib
    >>> tuple(Unflatten(1, (2, 5))(nnlib.zeros(3, 10)).shape)
    (3, 2, 5)
    """

    def __init__(self, dim: int, unflattened_size: Any) -> None:
        super().__init__()
        self.dim = dim
        self.unflattened_size = read_sizes("Unflatten", unflattened_size)

    def forward(self, input: Tensor) -> Tensor:
        """Return the input with the dimension split."""
        return unflatten(input, self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        """Return the dimension and its lengths."""
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"
