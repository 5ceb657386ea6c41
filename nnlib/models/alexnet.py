"""AlexNet for small images."""

from __future__ import annotations

from nnlib import nn
from nnlib.autograd.tensor import Tensor
from nnlib.models.initial import kaiming
from nnlib.nn.linear import check_size

__all__ = ["AlexNet"]


class AlexNet(nn.Module):
    """Five convolutions with overlapping pools, and three linear layers with dropout.

    A. Krizhevsky, I. Sutskever, G. Hinton: ImageNet classification with deep
    convolutional neural networks, NIPS 2012; widths of the one-GPU version (A.
    Krizhevsky: One weird trick, arXiv:1404.5997), filters and strides for images of
    32x32: 64x32x32 -> 64x15x15 -> 192x15x15 -> 192x7x7 -> 384x7x7 -> 256x7x7 ->
    256x7x7 -> 256x3x3 -> `hidden` -> `hidden` -> `num_classes`.

    Parameters
    ----------
    num_classes : int, default 10
    in_channels : int, default 3
    image_size : int, default 32
        Height and width of the images, at least 15.
    hidden : int, default 1024
        Units of the linear layers (4096 in the paper).
    dropout : float, default 0.5

    Raises
    ------
    ShapeError
        If the images are too small for three pools.

    Examples
    --------
    >>> import nnlib
    >>> tuple(AlexNet(hidden=64)(nnlib.zeros(2, 3, 32, 32)).shape)
    (2, 10)
    """

    def __init__(
        self,
        num_classes: int = 10,
        *,
        in_channels: int = 3,
        image_size: int = 32,
        hidden: int = 1024,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        check_size("AlexNet", "image_size", image_size, 15)
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 64, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
        )
        side = image_size
        for _ in range(3):
            side = (side - 3) // 2 + 1
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(256 * side * side, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, num_classes),
        )
        kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores of (N, C, H, W), shape (N, num_classes)."""
        scores: Tensor = self.classifier(self.features(x).flatten(1))
        return scores
