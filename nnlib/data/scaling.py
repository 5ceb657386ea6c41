"""From raw values to numbers a network likes: zero mean, unit variance."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnlib.backend.errors import ShapeError

__all__ = ["Standardizer", "scale_images"]


def scale_images(
    images: NDArray[Any],
    *,
    peak: float = 255.0,
    mean: float = 0.0,
    std: float = 1.0,
) -> NDArray[np.float32]:
    """Scale integer pixels: ``(images / peak - mean) / std``, as float32.

    Parameters
    ----------
    images : numpy.ndarray
        Pixels of any shape, from 0 to `peak`.
    peak : float, default 255.0
        The value of a fully lit pixel.
    mean, std : float
        Of the scaled pixels of the training set; left at 0 and 1, the result runs
        from 0 to 1.

    Returns
    -------
    numpy.ndarray
        A new float32 array of the same shape.

    Examples
    --------
    >>> scale_images(np.array([0, 51, 255], np.uint8)).round(4)
    array([0. , 0.2, 1. ], dtype=float32)
    """
    factor = np.float32(1.0 / (peak * std))
    scaled: NDArray[np.float32] = np.multiply(images, factor, dtype=np.float32)
    if mean:
        scaled -= np.float32(mean / std)
    return scaled


class Standardizer:
    """Zero mean and unit variance per feature, with the figures of the training set.

    Fit it on the training set alone and apply it to every split: figures taken from
    validation or test data would leak into training.

    Parameters
    ----------
    axis : int or tuple of int, default 0
        The axes that are averaged over; ``(0, 2, 3)`` keeps one figure per channel of
        ``(N, C, H, W)``.
    epsilon : float, default 1e-8
        A feature whose standard deviation is below it is constant; it is centred
        and left unscaled.

    Examples
    --------
    >>> scaler = Standardizer().fit(np.array([[0.0, 5.0], [4.0, 5.0]]))
    >>> scaler(np.array([[2.0, 6.0]]))
    array([[0., 1.]])
    """

    def __init__(self, axis: int | tuple[int, ...] = 0, epsilon: float = 1e-8) -> None:
        self.axis = axis
        self.epsilon = epsilon
        self.mean: NDArray[Any] | None = None
        self.std: NDArray[Any] | None = None

    def fit(self, values: NDArray[Any]) -> Standardizer:
        """Take mean and standard deviation from `values`; return self.

        Raises
        ------
        ShapeError
            If `values` is empty.
        """
        if values.size == 0:
            raise ShapeError(
                f"Standardizer.fit: expected at least one value, got shape "
                f"{values.shape}"
            )
        kind = np.result_type(values.dtype, np.float32)
        self.mean = values.mean(self.axis, dtype=np.float64, keepdims=True).astype(kind)
        std = values.std(self.axis, dtype=np.float64, keepdims=True)
        self.std = np.where(std < self.epsilon, 1.0, std).astype(kind)
        return self

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return ``(values - mean) / std``.

        Raises
        ------
        RuntimeError
            If `fit` has not been called.
        """
        mean, std = self._figures()
        scaled: NDArray[Any] = (values - mean) / std
        return scaled

    def inverse(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return ``values * std + mean``: undo the scaling."""
        mean, std = self._figures()
        restored: NDArray[Any] = values * std + mean
        return restored

    def _figures(self) -> tuple[NDArray[Any], NDArray[Any]]:
        if self.mean is None or self.std is None:
            raise RuntimeError("Standardizer: call fit on the training set first")
        return self.mean, self.std
