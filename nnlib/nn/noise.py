"""Layers that disturb their input in training, and do nothing in evaluation."""

from __future__ import annotations

from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ArgumentError
from nnlib.nn.module import Module
from nnlib.ops import bernoulli, full_like, randn_like
from nnlib.ops.dropout import check_probability

__all__ = ["GaussianNoise", "MaskingNoise"]


class GaussianNoise(Module):
    """Add normal noise in training.

    Parameters
    ----------
    std : float
        Its standard deviation, at least 0.

    Examples
    --------
    >>> import nnlib
    >>> GaussianNoise(0.1).eval()(nnlib.ones(2))
    tensor([1., 1.])
    """

    def __init__(self, std: float) -> None:
        super().__init__()
        if not std >= 0:
            raise ArgumentError(
                f"GaussianNoise: std: expected a number of at least 0, got {std}"
            )
        self.std = std

    def forward(self, input: Tensor) -> Tensor:
        """Return the input, disturbed while training."""
        if not self.training or not self.std:
            return input
        return input + self.std * randn_like(input.detach())

    def extra_repr(self) -> str:
        """Return the standard deviation."""
        return f"std={self.std}"


class MaskingNoise(Module):
    """Set entries to zero in training, with probability `p`.

    Unlike `Dropout` it does not scale the others up: what is left of the input is to
    look as it does without noise (P. Vincent et al.: Extracting and composing robust
    features with denoising autoencoders, 2008).

    Parameters
    ----------
    p : float
        From 0 to 1.

    Examples
    --------
    >>> import nnlib
    >>> MaskingNoise(1.0)(nnlib.ones(2))
    tensor([0., 0.])
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        check_probability("MaskingNoise", p)
        self.p = p

    def forward(self, input: Tensor) -> Tensor:
        """Return the input, masked while training."""
        if not self.training or not self.p:
            return input
        return input * bernoulli(full_like(input.detach(), 1 - self.p))

    def extra_repr(self) -> str:
        """Return the probability."""
        return f"p={self.p}"
