"""Augmentation: random changes of image batches that keep their classes.

A transform takes a batch of images, ``(N, C, H, W)``, as a Tensor or an array of
either device, and returns a new one of the same kind; every image of the batch is
changed in its own way. Given a tuple ``(images, labels, ...)`` it changes the images
and hands the rest on, so that it fits ``DataLoader(..., transform=...)``.

The decisions, a few numbers per image, are drawn on the host from a `Generator`'s
Philox stream: the same seed gives the same batches on every device. The pixels are
moved where the images are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnlib.backend.device import array_module
from nnlib.backend.dtypes import FLOATING
from nnlib.backend.errors import ArgumentError, ShapeError
from nnlib.backend.random import Generator
from nnlib.data.transform import (
    Compose,
    Transform,
    read_number,
    read_numbers,
    read_probability,
)
from nnlib.ops.convolution_arguments import per_dim
from nnlib.ops.dims import number_as

__all__ = [
    "Compose",
    "Cutout",
    "Normalize",
    "RandomAffine",
    "RandomCrop",
    "RandomHorizontalFlip",
    "Transform",
]


class RandomCrop(Transform):
    """A random window of each image, after a border was put around it.

    Parameters
    ----------
    size : int or (int, int)
        Height and width of the window.
    padding : int, default 0
        Width of the border on each side.
    fill : float, default 0.0
        The border's value.
    generator : Generator or int, optional
        See `Transform`.

    Raises
    ------
    ShapeError
        If a size is not positive; when called, if the window is larger than the image
        with its border.
    DTypeError
        If a size is no int; when called, if the images' dtype cannot hold `fill`.
    """

    def __init__(
        self,
        size: int | tuple[int, int],
        padding: int = 0,
        fill: float = 0.0,
        generator: Generator | int | None = None,
    ) -> None:
        super().__init__(generator)
        self.size = per_dim("RandomCrop", "size", size, 2, 1)
        (self.padding,) = per_dim("RandomCrop", "padding", padding, 1, 0)
        self.fill = fill

    def apply(self, images: Any) -> Any:
        """Cut a window out of each image."""
        module = array_module(images)
        count, _, height, width = images.shape
        border = (self.padding, self.padding)
        high, wide = height + 2 * self.padding, width + 2 * self.padding
        rows, columns = self.size
        if rows > high or columns > wide:
            raise ShapeError(
                f"RandomCrop: a window of {rows}x{columns} does not fit into images of "
                f"{height}x{width} with a padding of {self.padding}"
            )
        top = self.draw_integers(count, high - rows + 1)
        left = self.draw_integers(count, wide - columns + 1)
        fill = number_as("RandomCrop", "fill", self.fill, images.dtype)
        padded = module.pad(
            images, ((0, 0), (0, 0), border, border), constant_values=fill
        )
        windows = module.lib.stride_tricks.as_strided(
            padded,
            (count, high - rows + 1, wide - columns + 1, images.shape[1], *self.size),
            (padded.strides[0], *padded.strides[2:], *padded.strides[1:]),
        )  # (N, C, H', W') -> (N, top, left, C, h, w), a view
        every = module.arange(count)
        return windows[every, module.asarray(top), module.asarray(left)]


class RandomHorizontalFlip(Transform):
    """Mirror each image, left to right, with probability `p`.

    Parameters
    ----------
    p : float, default 0.5
    generator : Generator or int, optional
        See `Transform`.
    """

    def __init__(
        self, p: float = 0.5, generator: Generator | int | None = None
    ) -> None:
        super().__init__(generator)
        self.p = read_probability("RandomHorizontalFlip", p)

    def apply(self, images: Any) -> Any:
        """Mirror some of the images."""
        chosen = self.draw(len(images)) < self.p
        module = array_module(images)
        mask = module.asarray(chosen)[:, None, None, None]  # (N,) -> (N, 1, 1, 1)
        return module.where(mask, images[..., ::-1], images)


class RandomAffine(Transform):
    """Turn, shift and scale each image a little, with bilinear interpolation.

    Parameters
    ----------
    degrees : float or (float, float)
        The range of angles, counter-clockwise; a number d stands for (-d, d).
    translate : (float, float), optional
        The largest shift to either side, as a fraction of width and of height.
    scale : (float, float), optional
        The range of factors; above 1 the image grows.
    fill : float, default 0.0
        The value of what lies outside the image.
    generator : Generator or int, optional
        See `Transform`.

    Notes
    -----
    With the centre c, the value at p is that of the image at
    ``R(-angle) (p - c - shift) / factor + c``.
    """

    def __init__(
        self,
        degrees: float | tuple[float, float],
        translate: tuple[float, float] | None = None,
        scale: tuple[float, float] | None = None,
        fill: float = 0.0,
        generator: Generator | int | None = None,
    ) -> None:
        super().__init__(generator)
        name = "RandomAffine"
        if isinstance(degrees, tuple | list):
            self.degrees = read_numbers(name, "degrees", degrees, 2)
        else:
            angle = read_number(name, "degrees", degrees)
            self.degrees = (-angle, angle)
        self.translate = read_numbers(
            name, "translate", (0, 0) if translate is None else translate, 2
        )
        self.scale = read_numbers(name, "scale", (1, 1) if scale is None else scale, 2)
        self.fill = fill
        if self.degrees[0] > self.degrees[1]:
            raise ArgumentError(
                f"RandomAffine: degrees: expected at least 0, or a rising pair, got "
                f"{degrees}"
            )
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ArgumentError(
                f"RandomAffine: scale: expected a positive range, got {self.scale}"
            )
        if not all(0 <= part <= 1 for part in self.translate):
            raise ArgumentError(
                f"RandomAffine: translate: expected fractions from 0 to 1, got "
                f"{self.translate}"
            )

    def apply(self, images: Any) -> Any:
        """Sample each image at its own grid of places."""
        x, y = self._places(self.floats(images))
        return _sample(images, x, y, self.fill)

    def _places(self, images: Any) -> tuple[Any, Any]:
        """Return where each pixel comes from: columns and rows, ``(N, H, W)``."""
        module = array_module(images)
        count, _, height, width = images.shape
        angle = np.deg2rad(self.draw(count, *self.degrees))
        factor = self.draw(count, *self.scale)
        shifts = [
            self.draw(count, -part * size, part * size)
            for part, size in zip(self.translate, (width, height), strict=True)
        ]
        # (N,) -> (N, 1, 1)
        cos, sin, dx, dy = (
            module.asarray(part.astype(np.float32))[:, None, None]
            for part in (np.cos(angle) / factor, np.sin(angle) / factor, *shifts)
        )
        middle = (width - 1) / 2, (height - 1) / 2
        across = module.arange(width, dtype=np.float32)[None, None] - middle[0] - dx
        down = module.arange(height, dtype=np.float32)[None, :, None] - middle[1] - dy
        # Rows count downwards, so that this turns counter-clockwise for the eye.
        return (
            across * cos - down * sin + np.float32(middle[0]),
            across * sin + down * cos + np.float32(middle[1]),
        )


def _sample(images: Any, x: Any, y: Any, fill: float) -> Any:
    """Interpolate between the four neighbours of each place; outside is `fill`."""
    module = array_module(images)
    count, channels, height, width = images.shape
    kind = images.dtype if images.dtype.itemsize > 2 else np.dtype(np.float32)
    flat = images.reshape(count, channels, height * width).astype(kind, copy=False)
    flat = flat - kind.type(fill)
    left, top = module.floor(x), module.floor(y)
    result = module.full(flat.shape, fill, kind)
    for row in (top, top + 1):
        for column in (left, left + 1):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            weight = (1 - abs(x - column)) * (1 - abs(y - row)) * inside
            index = row.clip(0, height - 1) * width + column.clip(0, width - 1)
            # (N, H, W) -> (N, 1, H*W)
            index = index.reshape(count, 1, height * width).astype(np.int64)
            weight = weight.reshape(count, 1, height * width).astype(kind)
            result += module.take_along_axis(flat, index, 2) * weight
    return result.reshape(images.shape).astype(images.dtype, copy=False)


class Cutout(Transform):
    """Cover a random square of each image (DeVries and Taylor 2017).

    The square's centre is anywhere in the image, so that it may hang over the edge.

    Parameters
    ----------
    size : int
        The square's side.
    p : float, default 1.0
        The probability that an image gets one.
    fill : float, default 0.0
    generator : Generator or int, optional
        See `Transform`.
    """

    def __init__(
        self,
        size: int,
        p: float = 1.0,
        fill: float = 0.0,
        generator: Generator | int | None = None,
    ) -> None:
        super().__init__(generator)
        (self.size,) = per_dim("Cutout", "size", size, 1, 1)
        self.p = read_probability("Cutout", p)
        self.fill = fill

    def apply(self, images: Any) -> Any:
        """Cover a square of each image."""
        module = array_module(images)
        count, _, height, width = images.shape
        covered = []
        for length in (height, width):
            first = self.draw_integers(count, length)[:, None] - self.size // 2
            places = np.arange(length)
            covered.append((places >= first) & (places < first + self.size))
        chosen = self.draw(count) < self.p
        rows = covered[0] & chosen[:, None]
        # (N, H), (N, W) -> (N, 1, H, W)
        mask = rows[:, None, :, None] & covered[1][:, None, None, :]
        fill = number_as("Cutout", "fill", self.fill, images.dtype)
        return module.where(module.asarray(mask), fill, images)


class Normalize(Transform):
    """``(x - mean) / std`` for every channel, as floats.

    Parameters
    ----------
    mean, std : float or sequence of float
        One for all channels or one for each. Of pixels from 0 to 1, where the images
        are integers: these are divided by `peak` first.
    peak : float, default 255.0
        The value of a fully lit pixel in images of integers.
    """

    def __init__(
        self,
        mean: float | Sequence[float],
        std: float | Sequence[float],
        peak: float = 255.0,
    ) -> None:
        self.mean = _figures("mean", mean)
        self.std = _figures("std", std)
        self.peak = read_number("Normalize", "peak", peak)
        for name, least in (("std", self.std.min()), ("peak", self.peak)):
            if least <= 0:
                raise ArgumentError(
                    f"Normalize: {name}: expected positive numbers, got {least:g}"
                )

    def apply(self, images: Any) -> Any:
        """Return float32 images, or floats of the dtype that came."""
        module = array_module(images)
        channels = images.shape[1]
        for name, figures in (("mean", self.mean), ("std", self.std)):
            if len(figures) not in (1, channels):
                raise ShapeError(
                    f"Normalize: {name}: expected 1 or {channels} figures, got "
                    f"{len(figures)}"
                )
        dtype = images.dtype if images.dtype in FLOATING else np.dtype(np.float32)
        peak = self.peak if images.dtype.kind in "iu" else 1.0
        factor = 1.0 / (self.std * peak)
        shift = -self.mean / self.std
        # (C,) -> (C, 1, 1)
        factor, shift = (
            module.asarray(part.astype(dtype))[:, None, None]
            for part in (factor, shift)
        )
        return images.astype(dtype, copy=False) * factor + shift


def _figures(argument: str, value: Any) -> NDArray[np.float64]:
    """Return one number, or one per channel, as an array of one dimension."""
    given = np.atleast_1d(value)
    if given.ndim > 1 or not given.size:
        raise ShapeError(
            f"Normalize: {argument}: expected a number or one per channel, got {value}"
        )
    return np.array([read_number("Normalize", argument, item) for item in given])
