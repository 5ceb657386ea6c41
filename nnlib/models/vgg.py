"""VGG networks of any depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nnlib import nn
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ArgumentError, ShapeError
from nnlib.models.initial import kaiming
from nnlib.nn.linear import check_size

__all__ = ["VGG", "vgg6", "vgg11", "vgg13", "vgg16", "vgg19"]


def _stages(*counts: int) -> tuple[int | str, ...]:
    """Return a configuration with so many convolutions per stage."""
    widths = (64, 128, 256, 512, 512)
    found: list[int | str] = []
    for width, count in zip(widths, counts, strict=True):
        found += [width] * count + ["M"]
    return tuple(found)


class VGG(nn.Module):
    """Stacks of 3x3 convolutions with pools between them, then linear layers.

    K. Simonyan and A. Zisserman: Very deep convolutional networks for large-scale image
    recognition, ICLR 2015. Names of the parameters are torchvision's.

    Parameters
    ----------
    configuration : sequence of int or "M"
        Channels of each convolution; "M" stands for a max pool of 2x2.
    num_classes : int, default 1000
    in_channels : int, default 3
    image_size : int, default 224
        Height and width of the images.
    hidden : sequence of int, default (4096, 4096)
        Units of the linear layers before the last; empty for small images.
    batch_norm : bool, default False
        Whether batch normalisation follows each convolution.
    dropout : float, default 0.5
        After each hidden linear layer.

    Raises
    ------
    ShapeError
        If the image is used up before the last pool, or a width is not positive.
    Error
        If the configuration holds something else.

    Examples
    --------
    >>> import nnlib
    >>> model = VGG([8, "M", 16, "M"], 10, image_size=32, hidden=())
    >>> tuple(model(nnlib.zeros(2, 3, 32, 32)).shape)
    (2, 10)
    """

    def __init__(
        self,
        configuration: Sequence[int | str],
        num_classes: int = 1000,
        *,
        in_channels: int = 3,
        image_size: int = 224,
        hidden: Sequence[int] = (4096, 4096),
        batch_norm: bool = False,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        check_size("VGG", "image_size", image_size)
        features: list[nn.Module] = []
        channels, side = in_channels, image_size
        for entry in configuration:
            if entry == "M":
                features.append(nn.MaxPool2d(2, 2))
                side //= 2
                continue
            if isinstance(entry, str) or not hasattr(entry, "__index__"):
                raise ArgumentError(
                    f'VGG: configuration: expected ints and "M", got {entry!r}'
                )
            width = int(entry)
            features.append(nn.Conv2d(channels, width, 3, padding=1))
            if batch_norm:
                features.append(nn.BatchNorm2d(width))
            features.append(nn.ReLU())
            channels = width
        if side < 1:
            raise ShapeError(
                f"VGG: image_size: {image_size} is too small for "
                f"{list(configuration).count('M')} pools"
            )
        self.features = nn.Sequential(*features)
        classifier: list[nn.Module] = []
        units = channels * side * side
        for width in hidden:
            classifier += [nn.Linear(units, width), nn.ReLU(), nn.Dropout(dropout)]
            units = width
        self.classifier = nn.Sequential(*classifier, nn.Linear(units, num_classes))
        kaiming(self, linear=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores of (N, C, H, W), shape (N, num_classes)."""
        scores: Tensor = self.classifier(self.features(x).flatten(1))
        return scores


def vgg6(num_classes: int = 10, **options: Any) -> VGG:
    """Return six convolutions, 32-32-M-64-64-M-128-128-M, for images of 32x32.

    Batch-normalised, with one linear layer, unless `options` say otherwise.
    """
    chosen: dict[str, Any] = {"image_size": 32, "hidden": (), "batch_norm": True}
    stages = (32, 32, "M", 64, 64, "M", 128, 128, "M")
    return VGG(stages, num_classes, **(chosen | options))


def vgg11(num_classes: int = 1000, **options: Any) -> VGG:
    """Return configuration A of the paper: 132,863,336 parameters."""
    return VGG(_stages(1, 1, 2, 2, 2), num_classes, **options)


def vgg13(num_classes: int = 1000, **options: Any) -> VGG:
    """Return configuration B of the paper: 133,047,848 parameters."""
    return VGG(_stages(2, 2, 2, 2, 2), num_classes, **options)


def vgg16(num_classes: int = 1000, **options: Any) -> VGG:
    """Return configuration D of the paper: 138,357,544 parameters."""
    return VGG(_stages(2, 2, 3, 3, 3), num_classes, **options)


def vgg19(num_classes: int = 1000, **options: Any) -> VGG:
    """Return configuration E of the paper: 143,667,240 parameters."""
    return VGG(_stages(2, 2, 4, 4, 4), num_classes, **options)
