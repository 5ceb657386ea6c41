"""Mixup: blends of images and of their labels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnlib.autograd.construct import as_tensor
from nnlib.autograd.places import away_from_tensors
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.errors import ArgumentError, BoundsError, DTypeError, ShapeError
from nnlib.backend.random import Generator
from nnlib.data.transform import Transform
from nnlib.ops.convolution_arguments import per_dim

__all__ = ["MixUp"]


class MixUp(Transform):
    """Blend each image, and its label, with another one (Zhang et al. 2018).

    ``x' = b x + (1 - b) x[order]`` with b from the Beta(alpha, alpha) distribution and
    a random order, both drawn once per batch; labels become probabilities, blended
    likewise, which `cross_entropy` takes.

    Parameters
    ----------
    num_classes : int
    alpha : float, default 0.2
        Above 0, at most 8.
    generator : Generator or int, optional
        See `Transform`.
    """

    def __init__(
        self,
        num_classes: int,
        alpha: float = 0.2,
        generator: Generator | int | None = None,
    ) -> None:
        super().__init__(generator)
        if not 0 < alpha <= 8:
            raise ArgumentError(
                f"MixUp: alpha: expected above 0 and at most 8, got {alpha}"
            )
        (self.num_classes,) = per_dim("MixUp", "num_classes", num_classes, 1, 1)
        self.alpha = alpha

    def __call__(self, batch: Any) -> Any:
        """Blend ``(images, labels, ...)``; labels ``(N,)`` become ``(N, C)``.

        Raises
        ------
        ShapeError
            If the batch has no labels, or not one for each image.
        DTypeError
            If the images are no floats, or labels of one dimension no integers.
        BoundsError
            If a label is not a class.
        """
        if not isinstance(batch, tuple | list) or len(batch) < 2:
            raise ShapeError("MixUp: expected a batch (images, labels)")
        there = away_from_tensors(batch[:2], {})
        if there is not None:
            with there:
                return self(batch)
        images, labels = (
            part.detach().array if isinstance(part, Tensor) else part
            for part in batch[:2]
        )
        module = array_module(images)
        labels = module.asarray(labels)
        if not hasattr(images, "dtype") or labels.shape[:1] != images.shape[:1]:
            raise ShapeError(
                "MixUp: expected images and a label for each, got "
                f"{getattr(images, 'shape', type(images).__name__)} and {labels.shape}"
            )
        order = module.asarray(np.argsort(self.draw(len(images)), kind="stable"))
        share = self.floats(images).dtype.type(self._beta())
        targets = self._one_hot(module, labels, images.dtype)
        mixed = [part * share + part[order] * (1 - share) for part in (images, targets)]
        if isinstance(batch[0], Tensor):
            mixed = [as_tensor(part) for part in mixed]
        return (*mixed, *batch[2:])

    def _one_hot(self, module: Any, labels: Any, dtype: Any) -> Any:
        if labels.ndim > 1:
            if labels.shape[1:] != (self.num_classes,):
                raise ShapeError(
                    f"MixUp: labels: expected (N,) or (N, {self.num_classes}), got "
                    f"{labels.shape}"
                )
            return labels.astype(dtype, copy=False)
        if labels.dtype.kind not in "iu":
            raise DTypeError(f"MixUp: labels: expected integers, got {labels.dtype}")
        classes = module.arange(self.num_classes)
        if len(labels) and (labels.min() < 0 or labels.max() >= self.num_classes):
            raise BoundsError(
                f"MixUp: labels: expected 0 to {self.num_classes - 1}, got "
                f"{int(labels.min())} to {int(labels.max())}"
            )
        return (labels[:, None] == classes).astype(dtype)  # (N,) -> (N, C)

    def _beta(self) -> float:
        """Draw from Beta(alpha, alpha): Johnk's method, with logarithms."""
        while True:
            pairs = np.log(self.draw(512).reshape(256, 2) + 2.0**-54) / self.alpha
            fits = np.flatnonzero(np.logaddexp(pairs[:, 0], pairs[:, 1]) <= 0)
            if len(fits):
                a, b = pairs[fits[0]]
                return 1.0 / (1.0 + math.exp(min(b - a, 700.0)))
