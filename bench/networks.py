"""Convolutional networks of the benchmarks, in nnlib or PyTorch.

Each is written once: the names of both libraries are the same.
"""

from __future__ import annotations

from typing import Any

__all__ = ["autoencoder", "encoder_layer", "lenet", "mlp", "resnet20", "vgg6"]


def mlp(lib: Any, sizes: list[int]) -> Any:
    """Return linear layers of these sizes with ReLU between them."""
    layers: list[Any] = []
    for inputs, outputs in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [lib.nn.Linear(inputs, outputs), lib.nn.ReLU()]
    return lib.nn.Sequential(*layers[:-1])


def lenet(lib: Any) -> Any:
    """Return LeNet-5 for images of 1x28x28 (`nnlib.models.LeNet5`)."""
    nn = lib.nn
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(),
        nn.Linear(84, 10),
    )  # fmt: skip


def vgg6(lib: Any) -> Any:
    """Return 32-32-M-64-64-M-128-128-M for images of 3x32x32, batch-normalised."""
    nn = lib.nn
    layers: list[Any] = []
    channels = 3
    for width in (32, 64, 128):
        for _ in range(2):
            layers += [nn.Conv2d(channels, width, 3, padding=1)]
            layers += [nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 4 * 4, 10))


def resnet20(lib: Any) -> Any:
    """Return ResNet-20 for images of 3x32x32, its shortcuts 1x1 convolutions."""
    nn = lib.nn

    class Block(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self, n_in: int, width: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(n_in, width, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(width)
            self.relu = nn.ReLU()
            self.shortcut = None
            if stride != 1:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(n_in, width, 1, stride, bias=False),
                    nn.BatchNorm2d(width),
                )

        def forward(self, x: Any) -> Any:
            y = self.relu(self.bn1(self.conv1(x)))
            y = self.bn2(self.conv2(y))
            y = y + (x if self.shortcut is None else self.shortcut(x))
            return self.relu(y)

    layers = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    for n_in, width in ((16, 16), (16, 32), (32, 64)):
        layers.append(Block(n_in, width, 1 if n_in == width else 2))
        layers += [Block(width, width, 1) for _ in range(2)]
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)
    )


def autoencoder(lib: Any) -> Any:
    """Return a convolutional autoencoder of images of 1x28x28: 16x14x14, 32x7x7."""
    nn = lib.nn
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(),
        nn.ConvTranspose2d(32, 16, 3, 2, 1, 1), nn.ReLU(),
        nn.ConvTranspose2d(16, 1, 3, 2, 1, 1), nn.Sigmoid(),
    )  # fmt: skip


def encoder_layer(lib: Any) -> Any:
    """Return one layer of a Transformer's encoder: 64 wide, 4 heads, no dropout."""
    return lib.nn.TransformerEncoderLayer(64, 4, 256, 0.0, batch_first=True)
