"""The convolutional network of the lecture."""

from __future__ import annotations

from nnlib import nn
from nnlib.backend.errors import ShapeError
from nnlib.models.initial import kaiming

__all__ = ["LectureCNN"]


class LectureCNN(nn.Sequential):
    """Three convolutions that shrink by their stride, and two linear layers.

    28x28x1 -> 28x28x4 -> 14x14x8 -> 7x7x12 -> 200 -> 10, with filters of 5x5, 5x5
    (stride 2) and 4x4 (stride 2): nothing is pooled. 122,270 parameters.

    Parameters
    ----------
    num_classes : int, default 10
    channels : triple of int, default (4, 8, 12)
        Of the three convolutions.
    hidden : int, default 200
    dropout : float, default 0.0
        The probability of dropping a hidden unit.
    batch_norm : bool, default False
        Whether batch normalisation follows each convolution, in place of its bias.

    Raises
    ------
    ShapeError
        If there are not three `channels`.

    Examples
    --------
    >>> import nnlib
    >>> tuple(LectureCNN()(nnlib.zeros(2, 1, 28, 28)).shape)
    (2, 10)
    """

    def __init__(
        self,
        num_classes: int = 10,
        *,
        channels: tuple[int, int, int] = (4, 8, 12),
        hidden: int = 200,
        dropout: float = 0.0,
        batch_norm: bool = False,
    ) -> None:
        if len(channels) != 3:
            raise ShapeError(f"LectureCNN: channels: expected three, got {channels}")
        layers: list[nn.Module] = []
        n_in = 1
        for n_out, kernel, stride in zip(channels, (5, 5, 4), (1, 2, 2), strict=True):
            layers.append(
                nn.Conv2d(
                    n_in,
                    n_out,
                    kernel,
                    stride=stride,
                    padding=(kernel - 1) // 2,
                    bias=not batch_norm,
                )
            )
            if batch_norm:
                layers.append(nn.BatchNorm2d(n_out))
            layers.append(nn.ReLU())
            n_in = n_out
        layers += [nn.Flatten(), nn.Linear(7 * 7 * n_in, hidden), nn.ReLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
        layers.append(nn.Linear(hidden, num_classes))
        super().__init__(*layers)
        kaiming(self)
