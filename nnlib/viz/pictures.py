"""Decision regions of a classifier, and grids of images."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnlib.autograd.construct import as_tensor
from nnlib.autograd.mode import no_grad
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ShapeError
from nnlib.viz.figures import grid_shape, new_figure, save

__all__ = ["plot_decision_regions", "show_images"]


def plot_decision_regions(
    model: Callable[[Tensor], Tensor],
    points: ArrayLike,
    labels: ArrayLike,
    path: str | os.PathLike[str] | None = None,
    *,
    title: str | None = None,
    resolution: int = 200,
) -> Any:
    """Draw which class a model gives to each point of the plane, and the data.

    Parameters
    ----------
    model : callable
        From float32 points ``(N, 2)`` to scores ``(N, C)``, of which the highest
        decides, or ``(N,)`` or ``(N, 1)``, whose sign decides. A Module is called as it
        is: put it into eval mode first.
    points : array_like
        ``(N, 2)``.
    labels : array_like
        ``(N,)``; classes as integers (-1 and 1 as well).
    path : str or os.PathLike, optional
        Where to write the picture.
    title : str, optional
        Written above.
    resolution : int, default 200
        Points of the grid along each axis.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ShapeError
        If the points are not in the plane, or the labels are not one per point.
    VizError
        If matplotlib is not installed.
    """
    places, classes = _as_array(points), _as_array(labels)
    if places.ndim != 2 or places.shape[1] != 2 or classes.shape != places.shape[:1]:
        raise ShapeError(
            f"plot_decision_regions: expected points (N, 2) and labels (N,), got "
            f"{places.shape} and {classes.shape}"
        )
    figure = new_figure(5.0, 4.5)
    margin = 0.1 * np.ptp(places, axis=0) + 1e-3
    low, high = places.min(0) - margin, places.max(0) + margin
    xs, ys = (
        np.linspace(low[axis], high[axis], resolution, dtype=np.float32)
        for axis in (0, 1)
    )
    grid = np.stack(np.meshgrid(xs, ys), -1).reshape(-1, 2)  # (H, W, 2) -> (H*W, 2)
    regions = _decide(model, grid).reshape(resolution, resolution)
    axes = figure.add_subplot()
    # the classes as 0, 1, ... so that -1 and 1 get neighbouring colours
    _, numbers = np.unique(classes, return_inverse=True)
    top = max(int(regions.max()), int(numbers.max()), 1)
    axes.pcolormesh(xs, ys, regions, cmap="coolwarm", alpha=0.35, vmin=0, vmax=top)
    axes.scatter(
        *places.T, c=numbers, cmap="coolwarm", vmin=0, vmax=top, edgecolors="k", s=24
    )
    if title:
        axes.set_title(title)
    save(figure, path)
    return figure


def _decide(model: Callable[[Tensor], Tensor], grid: NDArray[Any]) -> NDArray[Any]:
    with no_grad():
        scores = _as_array(model(as_tensor(grid)))
    if scores.ndim == 2 and scores.shape[1] > 1:
        best: NDArray[Any] = scores.argmax(1)
        return best
    return (scores.reshape(-1) > 0).astype(np.int64)  # (N, 1) -> (N,)


def _as_array(value: Any) -> NDArray[Any]:
    return (
        value.detach().cpu().array if isinstance(value, Tensor) else np.asarray(value)
    )


def show_images(
    images: ArrayLike,
    labels: Sequence[object] | None = None,
    path: str | os.PathLike[str] | None = None,
    *,
    columns: int = 8,
    title: str | None = None,
) -> Any:
    """Draw a grid of images.

    Parameters
    ----------
    images : array_like or Tensor
        ``(N, H, W)``, ``(N, 1, H, W)`` or ``(N, 3, H, W)``; each image is scaled from
        its own smallest to its largest value.
    labels : sequence, optional
        What to write above each image.
    path : str or os.PathLike, optional
        Where to write the picture.
    columns : int, default 8
        Images per row.
    title : str, optional
        Written above.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ShapeError
        If the images have another shape, or the labels are not one per image.
    VizError
        If matplotlib is not installed.
    """
    pixels = _as_array(images)
    if pixels.ndim == 4 and pixels.shape[1] in (1, 3):
        pixels = np.moveaxis(pixels, 1, -1)  # (N, C, H, W) -> (N, H, W, C)
    colours = pixels.shape[3] if pixels.ndim == 4 else 1
    if pixels.ndim not in (3, 4) or colours not in (1, 3) or len(pixels) == 0:
        raise ShapeError(
            f"show_images: expected (N, H, W), (N, 1, H, W) or (N, 3, H, W), got "
            f"{_as_array(images).shape}"
        )
    if labels is not None and len(labels) != len(pixels):
        raise ShapeError(
            f"show_images: labels: expected {len(pixels)}, got {len(labels)}"
        )
    rows, columns = grid_shape("show_images", len(pixels), columns)
    figure = new_figure(1.2 * columns, (1.5 if labels is not None else 1.2) * rows)
    for number, image in enumerate(pixels):
        axes = figure.add_subplot(rows, columns, number + 1)
        low, high = image.min(), image.max()
        scaled = (image - low) / max(float(high) - float(low), 1e-12)
        axes.imshow(scaled.squeeze(), cmap="gray", vmin=0, vmax=1)
        axes.set_axis_off()
        if labels is not None:
            axes.set_title(str(labels[number]), fontsize=8)
    if title:
        figure.suptitle(title)
    save(figure, path)
    return figure
