"""What all augmentation has in common: batches, random decisions, arguments."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnlib.autograd.construct import as_tensor
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import context_of
from nnlib.backend.dtypes import FLOATING
from nnlib.backend.errors import ArgumentError, DTypeError, ShapeError
from nnlib.backend.random import Generator
from nnlib.data.order import as_generator, uniforms

__all__ = ["Compose", "Transform", "read_number", "read_numbers", "read_probability"]


def read_number(op: str, argument: str, value: Any) -> float:
    """Return a finite number.

    Raises
    ------
    DTypeError, ArgumentError
        If it is no number, or not finite.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise DTypeError(
            f"{op}: {argument}: expected a number, got {value!r}"
        ) from None
    if not math.isfinite(number):
        raise ArgumentError(f"{op}: {argument}: expected a finite number, got {value}")
    return number


def read_numbers(op: str, argument: str, value: Any, count: int) -> tuple[float, ...]:
    """Return `count` finite numbers.

    Raises
    ------
    DTypeError, ArgumentError
        If there are more or fewer, or as `read_number`.

    Examples
    --------
    >>> read_numbers("RandomAffine", "scale", (1, 1.5), 2)
    (1.0, 1.5)
    """
    if not hasattr(value, "__len__") or len(value) != count:
        raise ArgumentError(
            f"{op}: {argument}: expected {count} numbers, got {value!r}"
        )
    return tuple(read_number(op, argument, item) for item in value)


def read_probability(op: str, p: Any) -> float:
    """Return a probability.

    Raises
    ------
    DTypeError, ArgumentError
        If it is none.
    """
    number = read_number(op, "p", p)
    if not 0 <= number <= 1:
        raise ArgumentError(f"{op}: p: expected a probability from 0 to 1, got {p}")
    return number


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
            with context_of(batch.array):
                return as_tensor(self(batch.detach().array))
        if getattr(batch, "ndim", 0) != 4:
            raise ShapeError(
                f"{type(self).__name__}: expected images (N, C, H, W), got "
                f"{getattr(batch, 'shape', type(batch).__name__)}"
            )
        return self.apply(batch)

    def __repr__(self) -> str:
        """Return the name and the arguments."""
        arguments = ", ".join(
            f"{name}={value}"
            for name, value in vars(self).items()
            if name != "generator"
        )
        return f"{type(self).__name__}({arguments})"

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
        if images.dtype not in FLOATING:
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
    >>> from nnlib.data import Cutout, RandomCrop
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
