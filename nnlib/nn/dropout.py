"""Dropout layers: random zeros in training, nothing in evaluation."""

from __future__ import annotations

from nnlib.autograd.tensor import Tensor
from nnlib.nn import functional as F
from nnlib.nn.module import Module
from nnlib.ops.dropout import check_probability

__all__ = [
    "AlphaDropout",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "FeatureAlphaDropout",
]


class _Dropout(Module):
    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        check_probability(type(self).__name__, p)
        self.p = p
        self.inplace = inplace

    def extra_repr(self) -> str:
        """Return the probability."""
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout):
    """Set elements to zero with probability `p` and scale the rest by ``1 / (1 - p)``.

    See `nnlib.nn.functional.dropout`. In evaluation mode it returns its input.

    Parameters
    ----------
    p : float, default 0.5
    inplace : bool, default False

    Examples
    --------
    >>> import nnlib
    >>> layer = Dropout(0.5).eval()
    >>> layer(nnlib.ones(3))
    tensor([1., 1., 1.])
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the input with elements dropped."""
        return F.dropout(input, self.p, self.training, self.inplace)


class AlphaDropout(_Dropout):
    """Dropout that keeps mean and variance, for SELU networks.

    See `nnlib.nn.functional.alpha_dropout`.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the input with elements dropped."""
        return F.alpha_dropout(input, self.p, self.training, self.inplace)


class Dropout1d(_Dropout):
    """Dropout of whole channels of input of shape (N, C, L).

    See `nnlib.nn.functional.dropout1d`.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the input with channels dropped."""
        return F.dropout1d(input, self.p, self.training, self.inplace)


class Dropout2d(_Dropout):
    """Dropout of whole channels of input of shape (N, C, H, W).

    See `nnlib.nn.functional.dropout2d`.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the input with channels dropped."""
        return F.dropout2d(input, self.p, self.training, self.inplace)


class Dropout3d(_Dropout):
    """Dropout of whole channels of input of shape (N, C, D, H, W).

    See `nnlib.nn.functional.dropout3d`.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the input with channels dropped."""
        return F.dropout3d(input, self.p, self.training, self.inplace)


class FeatureAlphaDropout(_Dropout):
    """`AlphaDropout` of whole channels; see `functional.feature_alpha_dropout`."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the input with channels dropped."""
        return F.feature_alpha_dropout(input, self.p, self.training, self.inplace)
