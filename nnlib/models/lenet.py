"""LeNet-5."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nnlib import nn

__all__ = ["LeNet5"]


class LeNet5(nn.Sequential):
    """Two convolutions, each pooled, and three fully connected layers.

    Y. LeCun et al.: Gradient-based learning applied to document recognition, 1998, with
    each map of the second convolution seeing all of the first, and softmax in place of
    the radial basis functions. For images of 28x28 (padded to the 32x32 of the paper):
    6x28x28 -> 6x14x14 -> 16x10x10 -> 16x5x5 -> 120 -> 84 -> `num_classes`; 61,706
    parameters for ten classes.

    Parameters
    ----------
    num_classes : int, default 10
    in_channels : int, default 1
    activation : callable, default ReLU
        Makes an activation; the paper has a scaled tanh.
    pool : callable, default MaxPool2d
        Makes a pooling layer from a window's size; the paper averages (AvgPool2d).

    Examples
    --------
    >>> import nnlib
    >>> tuple(LeNet5()(nnlib.zeros(2, 1, 28, 28)).shape)
    (2, 10)
    """

    def __init__(
        self,
        num_classes: int = 10,
        *,
        in_channels: int = 1,
        activation: Callable[[], nn.Module] = nn.ReLU,
        pool: Callable[[int], Any] = nn.MaxPool2d,
    ) -> None:
        super().__init__(
            nn.Conv2d(in_channels, 6, 5, padding=2),
            activation(),
            pool(2),
            nn.Conv2d(6, 16, 5),
            activation(),
            pool(2),
            nn.Flatten(),
            nn.Linear(16 * 5 * 5, 120),
            activation(),
            nn.Linear(120, 84),
            activation(),
            nn.Linear(84, num_classes),
        )
