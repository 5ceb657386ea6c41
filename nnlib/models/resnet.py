"""Residual networks, for ImageNet and for CIFAR."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from nnlib import nn
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ArgumentError, ShapeError
from nnlib.models.initial import kaiming
from nnlib.nn.linear import check_size

__all__ = [
    "BasicBlock",
    "Bottleneck",
    "ResNet",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet_cifar",
    "resnet20",
    "resnet56",
]


class PadShortcut(nn.Module):
    """Option A of the paper: take every second pixel, fill new channels with zeros.

    Parameters
    ----------
    channels : int
        How many to add, half before and half behind.
    stride : int
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.channels = channels
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C, H, W) as (N, C + channels, H / stride, W / stride)."""
        before = self.channels // 2
        x = x[:, :, :: self.stride, :: self.stride]
        return nn.functional.pad(x, (0, 0, 0, 0, before, self.channels - before))


def _shortcut(kind: str, n_in: int, n_out: int, stride: int) -> nn.Module | None:
    """Return what brings a block's input to the shape of its output."""
    if stride == 1 and n_in == n_out:
        return None
    if kind == "pad":
        return PadShortcut(n_out - n_in, stride)
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 1, stride=stride, bias=False), nn.BatchNorm2d(n_out)
    )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut; figure 5, left.

    Parameters
    ----------
    n_in, width : int
        Channels of the input, and of both convolutions.
    stride : int, default 1
        Of the first.
    shortcut : {"projection", "pad"}
    """

    expansion: ClassVar[int] = 1

    def __init__(
        self, n_in: int, width: int, stride: int = 1, shortcut: str = "projection"
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.downsample = _shortcut(shortcut, n_in, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``relu(F(x) + shortcut(x))``."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y = y + (x if self.downsample is None else self.downsample(x))
        out: Tensor = self.relu(y)
        return out


class Bottleneck(nn.Module):
    """Convolutions 1x1, 3x3, 1x1 beside a shortcut; figure 5, right.

    The 3x3 convolution has the stride (the paper puts it into the first 1x1), as in
    torchvision. Parameters as of `BasicBlock`; the output has ``4 * width`` channels.
    """

    expansion: ClassVar[int] = 4

    def __init__(
        self, n_in: int, width: int, stride: int = 1, shortcut: str = "projection"
    ) -> None:
        super().__init__()
        n_out = self.expansion * width
        self.conv1 = nn.Conv2d(n_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, n_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(n_out)
        self.relu = nn.ReLU()
        self.downsample = _shortcut(shortcut, n_in, n_out, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``relu(F(x) + shortcut(x))``."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y = y + (x if self.downsample is None else self.downsample(x))
        out: Tensor = self.relu(y)
        return out


class ResNet(nn.Module):
    """Stages of residual blocks, a global mean, and one linear layer.

    K. He et al.: Deep residual learning for image recognition, CVPR 2016. Names of the
    parameters are torchvision's.

    Parameters
    ----------
    block : {BasicBlock, Bottleneck}
    depths : sequence of int
        Blocks per stage. Each stage but the first halves height and width.
    num_classes : int, default 1000
    in_channels : int, default 3
    width : int, default 64
        Channels of the first stage; each later one doubles them.
    stem : {"imagenet", "cifar"}
        How it begins: a 7x7 convolution of stride 2 and a max pool of stride 2, or a
        3x3 convolution.
    shortcut : {"projection", "pad"}
        Where shapes differ: a 1x1 convolution (options B and C), or zeros for the new
        channels (option A, without parameters).

    Raises
    ------
    Error
        If `stem` or `shortcut` is another word.
    ShapeError
        If there is no stage, or one without a block.

    Examples
    --------
    >>> import nnlib
    >>> model = ResNet(BasicBlock, [1, 1], 10, width=8, stem="cifar")
    >>> tuple(model(nnlib.zeros(2, 3, 16, 16)).shape)
    (2, 10)
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        num_classes: int = 1000,
        *,
        in_channels: int = 3,
        width: int = 64,
        stem: str = "imagenet",
        shortcut: str = "projection",
    ) -> None:
        super().__init__()
        if stem not in ("imagenet", "cifar"):
            raise ArgumentError(
                f'ResNet: stem: expected "imagenet" or "cifar", got {stem!r}'
            )
        if shortcut not in ("projection", "pad"):
            raise ArgumentError(
                f'ResNet: shortcut: expected "projection" or "pad", got {shortcut!r}'
            )
        if isinstance(depths, int) or not len(depths) or min(depths) < 1:
            raise ShapeError(
                f"ResNet: depths: expected at least one block per stage, got {depths}"
            )
        large = stem == "imagenet"
        kernel, stride = (7, 2) if large else (3, 1)
        self.conv1 = nn.Conv2d(
            in_channels, width, kernel, stride=stride, padding=kernel // 2, bias=False
        )
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if large else nn.Identity()
        self.stages = len(depths)
        channels = width
        for number, depth in enumerate(depths):
            stride = 1 if number == 0 else 2
            blocks = []
            for place in range(depth):
                blocks.append(
                    block(channels, width, stride if place == 0 else 1, shortcut)
                )
                channels = width * block.expansion
            self.add_module(f"layer{number + 1}", nn.Sequential(*blocks))
            width *= 2
        self.fc = nn.Linear(channels, num_classes)
        kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores of (N, C, H, W), shape (N, num_classes)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for number in range(self.stages):
            x = getattr(self, f"layer{number + 1}")(x)
        scores: Tensor = self.fc(x.mean((2, 3)))  # (N, C, H, W) -> (N, C)
        return scores


def resnet18(num_classes: int = 1000, **options: Any) -> ResNet:
    """Return the network with 18 layers for ImageNet: 11,689,512 parameters."""
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes, **options)


def resnet34(num_classes: int = 1000, **options: Any) -> ResNet:
    """Return the network with 34 layers for ImageNet: 21,797,672 parameters."""
    return ResNet(BasicBlock, (3, 4, 6, 3), num_classes, **options)


def resnet50(num_classes: int = 1000, **options: Any) -> ResNet:
    """Return the network with 50 layers for ImageNet: 25,557,032 parameters."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, **options)


def resnet_cifar(depth: int = 20, num_classes: int = 10, **options: Any) -> ResNet:
    """Return the paper's network for CIFAR: 16, 32 and 64 channels, option A.

    Parameters
    ----------
    depth : int, default 20
        ``6 n + 2`` layers: 20 (269,722 parameters), 32 (464,154), 44, 56 (853,018),
        110.
    num_classes : int, default 10
    **options
        To `ResNet`; ``shortcut="projection"`` for option B.

    Raises
    ------
    ShapeError
        If there is no network of that depth.

    Examples
    --------
    >>> sum(p.numel() for p in resnet_cifar(20).parameters())
    269722
    """
    check_size("resnet_cifar", "depth", depth)
    blocks, rest = divmod(depth - 2, 6)
    if rest or blocks < 1:
        raise ShapeError(f"resnet_cifar: depth: expected 6 n + 2, got {depth}")
    chosen: dict[str, Any] = {"width": 16, "stem": "cifar", "shortcut": "pad"}
    return ResNet(BasicBlock, (blocks,) * 3, num_classes, **(chosen | options))


def resnet20(num_classes: int = 10, **options: Any) -> ResNet:
    """Return ``resnet_cifar(20)``: 269,722 parameters."""
    return resnet_cifar(20, num_classes, **options)


def resnet56(num_classes: int = 10, **options: Any) -> ResNet:
    """Return ``resnet_cifar(56)``: 853,018 parameters."""
    return resnet_cifar(56, num_classes, **options)
