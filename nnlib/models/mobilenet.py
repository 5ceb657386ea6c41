"""MobileNet: convolutions taken apart into depthwise and pointwise ones."""

from __future__ import annotations

from nnlib import nn
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ShapeError
from nnlib.models.initial import kaiming

__all__ = ["DepthwiseSeparable", "MobileNet"]

# Channels and stride of each pair, in the paper's table 1.
_PAIRS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)


def _normalised(convolution: nn.Conv2d) -> list[nn.Module]:
    return [convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU()]


class DepthwiseSeparable(nn.Sequential):
    """A 3x3 filter for each channel, then a 1x1 convolution that mixes them.

    Both are followed by batch normalisation and ReLU. It costs ``1 / n_out + 1 / 9`` of
    a 3x3 convolution.

    Parameters
    ----------
    n_in, n_out : int
        Channels.
    stride : int, default 1
        Of the depthwise convolution.

    Examples
    --------
    >>> import nnlib
    >>> tuple(DepthwiseSeparable(8, 16, stride=2)(nnlib.zeros(2, 8, 6, 6)).shape)
    (2, 16, 3, 3)
    """

    def __init__(self, n_in: int, n_out: int, stride: int = 1) -> None:
        super().__init__(
            *_normalised(
                nn.Conv2d(
                    n_in, n_in, 3, stride=stride, padding=1, groups=n_in, bias=False
                )
            ),
            *_normalised(nn.Conv2d(n_in, n_out, 1, bias=False)),
        )


class MobileNet(nn.Module):
    """A convolution, 13 depthwise-separable pairs, a global mean, a linear layer.

    A. Howard et al.: MobileNets, arXiv:1704.04861, table 1: 4,231,976 parameters at
    width 1 and 1,000 classes.

    Parameters
    ----------
    num_classes : int, default 1000
    in_channels : int, default 3
    width : float, default 1.0
        Multiplies all channels.
    small_images : bool, default False
        Leave out the first two strides, for images of 32x32: these end as 4x4.
    dropout : float, default 0.0
        Before the linear layer.

    Raises
    ------
    ShapeError
        If `width` leaves no channel.

    Examples
    --------
    >>> import nnlib
    >>> model = MobileNet(10, width=0.25, small_images=True)
    >>> tuple(model(nnlib.zeros(2, 3, 32, 32)).shape)
    (2, 10)
    """

    def __init__(
        self,
        num_classes: int = 1000,
        *,
        in_channels: int = 3,
        width: float = 1.0,
        small_images: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not 32 * width >= 1:
            raise ShapeError(f"MobileNet: width: expected at least 1/32, got {width:g}")
        channels = int(32 * width)
        stride = 1 if small_images else 2
        layers = _normalised(
            nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        )
        for number, (full, stride) in enumerate(_PAIRS):
            n_out = int(full * width)
            if small_images and number == 1:
                stride = 1
            layers.append(DepthwiseSeparable(channels, n_out, stride))
            channels = n_out
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels, num_classes)
        kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores of (N, C, H, W), shape (N, num_classes)."""
        pooled = self.features(x).mean((2, 3))  # (N, C, H, W) -> (N, C)
        scores: Tensor = self.classifier(self.dropout(pooled))
        return scores
