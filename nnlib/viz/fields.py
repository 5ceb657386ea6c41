"""Receptive fields: which pixels of the input an output depends on."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnlib.autograd.mode import enable_grad
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ShapeError
from nnlib.nn import Module
from nnlib.ops import randn
from nnlib.ops.convolution_arguments import per_dim
from nnlib.viz.figures import new_figure, save

__all__ = ["receptive_field", "show_receptive_field"]


def receptive_field(
    model: Module | Callable[[Tensor], Tensor],
    size: int | tuple[int, int],
    channels: int = 1,
    *,
    position: tuple[int, int] | None = None,
    draws: int = 8,
) -> NDArray[np.float32]:
    """Measure how much an output pixel depends on each input pixel.

    The mean absolute gradient of one output pixel, summed over its channels, by random
    images. It is zero exactly outside of the receptive field, unless ReLU happens to
    cut all paths; inside, the middle counts most (W. Luo et al.: Understanding the
    effective receptive field, 2016).

    Parameters
    ----------
    model : Module or callable
        From images (N, C, H, W) to maps (N, K, H', W'); called as it is.
    size : int or tuple of int
        Height and width of the images.
    channels : int, default 1
        Of the images.
    position : tuple of int, optional
        Row and column of the output pixel; the middle by default.
    draws : int, default 8
        Images to average over.

    Returns
    -------
    numpy.ndarray, shape (H, W)

    Raises
    ------
    ShapeError
        If the model gives no maps, or has no such output pixel.

    Examples
    --------
    >>> from nnlib import nn
    >>> field = receptive_field(nn.Conv2d(1, 4, 3, padding=1), (9, 9))
    >>> int((field > 0).sum())
    9
    """
    extent = per_dim("receptive_field", "size", size, 2, 1)
    (draws,) = per_dim("receptive_field", "draws", draws, 1, 1)
    total = np.zeros(extent, np.float32)
    like = next(iter(getattr(model, "parameters", tuple)()), None)
    place = None if like is None else like.device
    for _ in range(draws):
        with enable_grad():
            images = randn(1, channels, *extent, device=place, requires_grad=True)
            maps = model(images)
            if maps.ndim != 4:
                raise ShapeError(
                    "receptive_field: model: expected maps (N, K, H, W), got "
                    f"{tuple(maps.shape)}"
                )
            height, width = maps.shape[2:]
            row, column = position or (height // 2, width // 2)
            if not (0 <= row < height and 0 <= column < width):
                raise ShapeError(
                    f"receptive_field: position: ({row}, {column}) is not in the maps "
                    f"of {height}x{width}"
                )
            maps[0, :, row, column].sum().backward(inputs=[images])
        gradient: Any = images.grad
        total += gradient[0].abs().sum(0).cpu().numpy() / draws
    return total


def show_receptive_field(
    model: Module | Callable[[Tensor], Tensor],
    size: int | tuple[int, int],
    channels: int = 1,
    path: str | os.PathLike[str] | None = None,
    *,
    title: str | None = None,
    **options: Any,
) -> Any:
    """Draw `receptive_field` of a model.

    Parameters
    ----------
    model, size, channels, **options
        As of `receptive_field`.
    path : str or os.PathLike, optional
        Where to write the picture.
    title : str, optional
        Written above; the field's height and width by default.

    Returns
    -------
    matplotlib.figure.Figure
    """
    field = receptive_field(model, size, channels, **options)
    rows, columns = ((field > 0).any(axis).sum() for axis in (1, 0))
    figure = new_figure(5, 5)
    axes = figure.subplots()
    axes.imshow(np.sqrt(field), cmap="magma")
    axes.set_title(title or f"receptive field: {rows}x{columns} pixels")
    axes.set_axis_off()
    save(figure, path)
    return figure
