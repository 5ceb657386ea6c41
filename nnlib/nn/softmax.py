"""Softmax and its kin as Modules."""

from __future__ import annotations

from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ShapeError
from nnlib.nn import functional as F
from nnlib.nn.module import Module

__all__ = ["LogSoftmax", "Softmax", "Softmax2d", "Softmin"]


class _Along(Module):
    """A normalisation along one dimension."""

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def _axis(self, input: Tensor) -> int:
        # PyTorch's choice where none is given: 0 for 0, 1 and 3 dimensions, else 1.
        if self.dim is not None:
            return self.dim
        return 0 if input.ndim in (0, 1, 3) else 1

    def extra_repr(self) -> str:
        """Return the dimension."""
        return f"dim={self.dim}"


class Softmax(_Along):
    """``exp(x) / sum(exp(x))`` along `dim`; see `nnlib.softmax`."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the activation."""
        return F.softmax(input, self._axis(input))


class Softmax2d(Module):
    """Softmax over the channels of images (N, C, H, W) or (C, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the activation."""
        if input.ndim not in (3, 4):
            raise ShapeError(
                "Softmax2d: input: expected (N, C, H, W) or (C, H, W), got shape "
                f"{tuple(input.shape)}"
            )
        return F.softmax(input, -3)


class LogSoftmax(_Along):
    """The logarithm of softmax along `dim`; see `nnlib.log_softmax`."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the activation."""
        return F.log_softmax(input, self._axis(input))


class Softmin(_Along):
    """Softmax of ``-x`` along `dim`; see `nnlib.nn.functional.softmin`."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the activation."""
        return F.softmin(input, self._axis(input))
