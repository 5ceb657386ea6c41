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

from nnlib.autograd.construct import as_tensor
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.errors import ArgumentError, DTypeError, ShapeError
from nnlib.backend.random import Generator
from nnlib.data.order import as_generator, uniforms

__all__ = [
    "Compose",
    "Cutout",
    "Normalize",
    "RandomAffine",
    "RandomCrop",
    "RandomHorizontalFlip",
    "Transform",
]


class Transform:
    """A change of a batch of images: override `apply`.

    Parameters
    ----------
    generator : Generator or int, optional
        The source of the decisions, or its seed. Without it the transform seeds one of
        its own from the default generator, so that ``nnlib.manual_seed`` decides.

    Examples
    --------
    >>> class Invert(Transform):
    ...     def apply(self, images):
    ...         return 1 - images
    >>> float(Invert()(np.zeros((1, 1, 2, 2))).max())
    1.0
    """

    def __init__(self, generator: Generator | int | None = None) -> None:
        self.generator = as_generator(generator)

    def apply(self, images: Any) -> Any:
        """Return the changed images; both are arrays of shape ``(N, C, H, W)``."""
        raise NotImplementedError(f"{type(self).__name__} defines no apply")

    def __call__(self, batch: Any) -> Any:
        """Change images, or the images that come first in a tuple or list.

        Raises
        ------
        ShapeError
            If the images are not ``(N, C, H, W)``.
        """
        if isinstance(batch, tuple | list):
            return (self(batch[0]), *batch[1:])
        if isinstance(batch, Tensor):
            return as_tensor(self(batch.detach().array))
        if getattr(batch, "ndim", 0) != 4:
            raise ShapeError(
                f"{type(self).__name__}: expected images (N, C, H, W), got "
                f"{getattr(batch, 'shape', type(batch).__name__)}"
            )
        return self.apply(batch)

    def draw(self, count: int, low: float = 0.0, high: float = 1.0) -> NDArray[Any]:
        """Return `count` float64 numbers, uniform from `low` to `high`."""
        return low + (high - low) * uniforms(count, self.generator)

    def draw_integers(self, count: int, limit: int) -> NDArray[np.int64]:
        """Return `count` integers from 0 to ``limit - 1``."""
        return np.minimum(self.draw(count, 0, limit).astype(np.int64), limit - 1)

    def floats(self, images: Any) -> Any:
        """Return `images`.

        Raises
        ------
        DTypeError
            If they are no floats.
        """
        if images.dtype.kind != "f":
            raise DTypeError(
                f"{type(self).__name__}: expected images of floats, got "
                f"{images.dtype}; put Normalize before it"
            )
        return images


class Compose(Transform):
    """Several transforms, one after the other.

    Parameters
    ----------
    *steps : callable
        Transforms; or, as in torchvision, one list of them.
    generator : Generator or int, optional
        If given, all of them draw from it.

    Examples
    --------
    >>> steps = Compose(RandomCrop(28, padding=2), Cutout(8), generator=0)
    >>> steps(np.ones((5, 1, 28, 28), np.float32)).shape
    (5, 1, 28, 28)
    """

    def __init__(self, *steps: Any, generator: Generator | int | None = None) -> None:
        if len(steps) == 1 and isinstance(steps[0], tuple | list):
            (steps,) = steps
        for number, step in enumerate(steps):
            if not callable(step):
                raise DTypeError(
                    f"Compose: steps: number {number} is no transform, got "
                    f"{type(step).__name__}"
                )
        self.steps = tuple(steps)
        if generator is not None:
            self.generator = as_generator(generator)
            for step in steps:
                if isinstance(step, Transform):
                    step.generator = self.generator

    def __call__(self, batch: Any) -> Any:
        """Apply every step to the batch."""
        for step in self.steps:
            batch = step(batch)
        return batch


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
        If the window is larger than the image with its border (when called).
    """

    def __init__(
        self,
        size: int | tuple[int, int],
        padding: int = 0,
        fill: float = 0.0,
        generator: Generator | int | None = None,
    ) -> None:
        super().__init__(generator)
        self.size = (size, size) if isinstance(size, int) else (size[0], size[1])
        if min(self.size) < 1 or padding < 0:
            raise ShapeError(
                f"RandomCrop: expected a positive size and a padding of at least 0, "
                f"got {size} and {padding}"
            )
        self.padding = padding
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
        padded = module.pad(
            images, ((0, 0), (0, 0), border, border), constant_values=self.fill
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
        self.p = _probability("RandomHorizontalFlip", p)

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
        self.degrees = (
            (degrees[0], degrees[1])
            if isinstance(degrees, tuple | list)
            else (-float(degrees), float(degrees))
        )
        self.translate = translate or (0.0, 0.0)
        self.scale = scale or (1.0, 1.0)
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
    flat = images.reshape(count, channels, height * width) - images.dtype.type(fill)
    left, top = module.floor(x), module.floor(y)
    result = module.full(flat.shape, fill, flat.dtype)
    for row in (top, top + 1):
        for column in (left, left + 1):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            weight = (1 - abs(x - column)) * (1 - abs(y - row)) * inside
            index = row.clip(0, height - 1) * width + column.clip(0, width - 1)
            # (N, H, W) -> (N, 1, H*W)
            index = index.reshape(count, 1, height * width).astype(np.int64)
            weight = weight.reshape(count, 1, height * width).astype(images.dtype)
            result += module.take_along_axis(flat, index, 2) * weight
    return result.reshape(images.shape)


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
        if size < 1:
            raise ShapeError(f"Cutout: size: expected at least 1, got {size}")
        self.size = size
        self.p = _probability("Cutout", p)
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
        return module.where(module.asarray(mask), images.dtype.type(self.fill), images)


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
        self.mean = np.atleast_1d(np.asarray(mean, np.float64))
        self.std = np.atleast_1d(np.asarray(std, np.float64))
        self.peak = peak
        if (self.std <= 0).any():
            raise ArgumentError(f"Normalize: std: expected positive numbers, got {std}")

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
        floating = images.dtype.kind == "f"
        dtype = images.dtype if floating else np.dtype(np.float32)
        factor = 1.0 / self.std if floating else 1.0 / (self.std * self.peak)
        shift = -self.mean / self.std
        # (C,) -> (C, 1, 1)
        factor, shift = (
            module.asarray(part.astype(dtype))[:, None, None]
            for part in (factor, shift)
        )
        return images.astype(dtype, copy=False) * factor + shift


def _probability(name: str, p: float) -> float:
    if not 0 <= p <= 1:
        raise ArgumentError(f"{name}: p: expected a probability from 0 to 1, got {p}")
    return p
