"""Layers that normalise along the last dimensions: LayerNorm, RMSNorm."""

from __future__ import annotations

from typing import Any

from nnlib.autograd.tensor import Tensor
from nnlib.nn import functional as F
from nnlib.nn import init
from nnlib.nn.linear import check_size, new_parameter
from nnlib.nn.module import Module

__all__ = ["LayerNorm", "RMSNorm"]


class LayerNorm(Module):
    """Normalise along the last dimensions; see `nnlib.nn.functional.layer_norm`.

    Parameters
    ----------
    normalized_shape : int or tuple of int
    eps : float, default 1e-5
    elementwise_affine : bool, default True
        Whether to learn a weight.
    bias : bool, default True
        Whether to learn a bias as well.

    Examples
    --------
    >>> import nnlib
    >>> LayerNorm(2)(nnlib.tensor([[1.0, 3.0]])).detach()
    tensor([[-1.,  1.]])
    """

    def __init__(
        self,
        normalized_shape: Any,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        several = isinstance(normalized_shape, tuple | list)
        self.normalized_shape = tuple(
            normalized_shape if several else (normalized_shape,)
        )
        for size in self.normalized_shape:
            check_size("LayerNorm", "normalized_shape", size)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        made = {"device": device, "dtype": dtype}
        for name, wanted in (("weight", True), ("bias", bias)):
            learned = elementwise_affine and wanted
            vector = new_parameter(*self.normalized_shape, **made) if learned else None
            self.register_parameter(name, vector)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set weight to 1 and bias to 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised input."""
        return F.layer_norm(
            input, self.normalized_shape, self.weight, self.bias, self.eps
        )

    def extra_repr(self) -> str:
        """Return the arguments."""
        return (
            f"{self.normalized_shape}, eps={self.eps}, "
            f"elementwise_affine={self.elementwise_affine}"
        )


class RMSNorm(Module):
    """Divide by the root mean square; see `nnlib.nn.functional.rms_norm`.

    Parameters
    ----------
    normalized_shape : int or tuple of int
    eps : float, optional
        As for the function.
    elementwise_affine : bool, default True
        Whether to learn a weight.
    """

    def __init__(
        self,
        normalized_shape: Any,
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        several = isinstance(normalized_shape, tuple | list)
        self.normalized_shape = tuple(
            normalized_shape if several else (normalized_shape,)
        )
        for size in self.normalized_shape:
            check_size("RMSNorm", "normalized_shape", size)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        made = {"device": device, "dtype": dtype}
        vector = new_parameter(*self.normalized_shape, **made)
        self.register_parameter("weight", vector if elementwise_affine else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set weight to 1."""
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised input."""
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        """Return the arguments."""
        return (
            f"{self.normalized_shape}, eps={self.eps}, "
            f"elementwise_affine={self.elementwise_affine}"
        )
