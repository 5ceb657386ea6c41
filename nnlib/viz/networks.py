"""Pictures of what an image classifier sees and where it errs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnlib.autograd.construct import as_tensor
from nnlib.autograd.mode import no_grad
from nnlib.autograd.tensor import Tensor
from nnlib.backend.dtypes import FLOATING
from nnlib.backend.errors import BoundsError, DTypeError, ShapeError
from nnlib.nn import Module
from nnlib.viz.figures import grid_shape, new_figure, save
from nnlib.viz.pictures import show_images

__all__ = [
    "confusion_matrix",
    "plot_confusion_matrix",
    "show_feature_maps",
    "show_filters",
    "show_misclassified",
]

Path = str | os.PathLike[str] | None


def _as_array(value: Any) -> NDArray[Any]:
    if isinstance(value, Tensor):
        value = value.detach().cpu().array
    return np.asarray(value)


def _grid(
    op: str, pictures: NDArray[Any], columns: int, title: str | None, path: Path
) -> Any:
    """Draw ``(N, H, W)`` or ``(N, H, W, 3)`` with one scale, 0 in the middle."""
    rows, columns = grid_shape(op, len(pictures), columns)
    figure = new_figure(max(3.0, 1.0 * columns), 1.0 * rows + (0.4 if title else 0.0))
    bound = float(np.abs(pictures[np.isfinite(pictures)]).max(initial=1e-12))
    for number, picture in enumerate(pictures):
        axes = figure.add_subplot(rows, columns, number + 1)
        if picture.ndim == 3:
            axes.imshow(0.5 + 0.5 * picture / bound)
        else:
            axes.imshow(picture, cmap="coolwarm", vmin=-bound, vmax=bound)
        axes.set_axis_off()
    if title:
        figure.suptitle(title)
    save(figure, path)
    return figure


def show_filters(
    layer: Module | ArrayLike | Tensor,
    path: Path = None,
    *,
    columns: int = 8,
    title: str | None = None,
) -> Any:
    """Draw the filters of a convolution, as of a network's first layer.

    Parameters
    ----------
    layer : Module or array_like or Tensor
        A layer with a `weight`, or the weight itself, ``(O, I, kh, kw)``. With three
        input channels a filter is a colour picture (grey is 0); otherwise each channel
        of each filter is one, red above 0 and blue below. One scale holds for all.
    path : str or os.PathLike, optional
        Where to write the picture.
    columns : int, default 8
        Pictures per row.
    title : str, optional
        Written above.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ShapeError
        If the weight has another rank.
    DTypeError
        If a Module without `weight` is given, or something else than numbers.
    VizError
        If matplotlib is not installed.
    """
    if isinstance(layer, Module):
        weight = getattr(layer, "weight", None)
        if weight is None:
            raise DTypeError(
                f"show_filters: expected a layer with a weight, got "
                f"{type(layer).__name__}; name one of its layers"
            )
        layer = weight
    filters = _as_array(layer)
    if filters.dtype not in FLOATING and filters.dtype.kind not in "iub":
        raise DTypeError(f"show_filters: expected numbers, got {filters.dtype}")
    filters = filters.astype(np.float64)
    if filters.ndim != 4 or filters.size == 0:
        raise ShapeError(
            f"show_filters: expected a weight (O, I, kh, kw), got {filters.shape}"
        )
    if filters.shape[1] == 3:
        pictures = np.moveaxis(filters, 1, -1)  # (O, 3, kh, kw) -> (O, kh, kw, 3)
    else:
        pictures = filters.reshape(-1, *filters.shape[2:])  # -> (O*I, kh, kw)
    return _grid("show_filters", pictures, columns, title, path)


def show_feature_maps(
    model: Module,
    image: ArrayLike | Tensor,
    layer: Module | str,
    path: Path = None,
    *,
    columns: int = 8,
    title: str | None = None,
) -> Any:
    """Draw what a layer gives for one image, channel by channel.

    Parameters
    ----------
    model : Module
        Called as it is: put it into eval mode first.
    image : array_like or Tensor
        ``(1, C, H, W)`` or ``(C, H, W)``.
    layer : Module or str
        A layer of the model, or its name as in ``named_modules``.
    path : str or os.PathLike, optional
        Where to write the picture.
    columns : int, default 8
        Channels per row.
    title : str, optional
        Written above.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ShapeError
        If the image has another rank, or the layer gives no maps ``(1, C, H, W)``.
    DTypeError
        If the model has no such layer, or did not use it.
    VizError
        If matplotlib is not installed.
    """
    maps = _output_of(model, _one_image(image), layer)
    if maps.ndim != 4 or maps.shape[0] != 1:
        raise ShapeError(
            f"show_feature_maps: expected a layer that gives (1, C, H, W), got "
            f"{maps.shape}"
        )
    pictures = maps[0].astype(np.float64)
    return _grid("show_feature_maps", pictures, columns, title, path)


def _one_image(image: Any) -> Any:
    shape = tuple(getattr(image, "shape", np.shape(image)))
    if len(shape) == 3:
        shape = (1, *shape)
        image = image.reshape(shape)  # (C, H, W) -> (1, C, H, W)
    if len(shape) != 4 or shape[0] != 1:
        raise ShapeError(
            f"show_feature_maps: image: expected (1, C, H, W) or (C, H, W), got {shape}"
        )
    return image


def _output_of(model: Module, image: Any, layer: Module | str) -> NDArray[Any]:
    """Return what `layer` gives while `model` is called with `image`."""
    modules = dict(model.named_modules())
    found = modules.get(layer) if isinstance(layer, str) else layer
    if found is None or all(found is not module for module in modules.values()):
        raise DTypeError(
            f"show_feature_maps: layer: the model has no layer {layer!r}; it has "
            f"{', '.join(name for name in modules if name)}"
        )
    seen: list[NDArray[Any]] = []
    handle = found.register_forward_hook(
        lambda module, inputs, output: seen.append(_as_array(output))
    )
    try:
        with no_grad():
            model(as_tensor(image))
    finally:
        handle.remove()
    if not seen:
        raise DTypeError(f"show_feature_maps: layer: the model did not call {layer!r}")
    return seen[-1]


def confusion_matrix(
    labels: ArrayLike | Tensor,
    predictions: ArrayLike | Tensor,
    num_classes: int | None = None,
) -> NDArray[np.int64]:
    """Count how often each class was taken for each.

    Parameters
    ----------
    labels : array_like or Tensor
        The true classes, ``(N,)``.
    predictions : array_like or Tensor
        The predicted classes, ``(N,)``, or scores, ``(N, C)``.
    num_classes : int, optional
        By default C, or as many as occur.

    Returns
    -------
    numpy.ndarray
        int64, ``(C, C)``; row: true class, column: predicted class.

    Raises
    ------
    ShapeError
        If the shapes do not belong together.
    DTypeError
        If a class is no integer.
    BoundsError
        If a class is not in 0 to ``num_classes - 1``.

    Examples
    --------
    >>> confusion_matrix([0, 0, 1], [0, 1, 1])
    array([[1, 1],
           [0, 1]])
    """
    truth, guess = _classes(labels, predictions, "confusion_matrix")
    if num_classes is None:
        scores = np.shape(predictions)
        most = int(max(truth.max(initial=-1), guess.max(initial=-1)) + 1)
        num_classes = int(scores[1]) if len(scores) == 2 else most
    for name, classes in (("labels", truth), ("predictions", guess)):
        wrong = np.flatnonzero((classes < 0) | (classes >= num_classes))
        if len(wrong):
            raise BoundsError(
                f"confusion_matrix: {name}: class {classes[wrong[0]]} at position "
                f"{wrong[0]}, expected 0 to {num_classes - 1}"
            )
    counts = np.bincount(truth * num_classes + guess, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes).astype(np.int64)


def _classes(
    labels: Any, predictions: Any, name: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    truth, guess = _as_array(labels), _as_array(predictions)
    if guess.ndim == 2:
        guess = guess.argmax(1)
    if truth.ndim != 1 or guess.shape != truth.shape:
        raise ShapeError(
            f"{name}: expected labels (N,) and predictions (N,) or (N, C), got "
            f"{truth.shape} and {_as_array(predictions).shape}"
        )
    for argument, classes in (("labels", truth), ("predictions", guess)):
        if classes.dtype.kind not in "iub" and classes.size:
            raise DTypeError(
                f"{name}: {argument}: expected classes as integers, got {classes.dtype}"
            )
    return truth.astype(np.int64), guess.astype(np.int64)


def plot_confusion_matrix(
    labels: ArrayLike | Tensor,
    predictions: ArrayLike | Tensor,
    path: Path = None,
    *,
    classes: Sequence[object] | None = None,
    title: str | None = None,
) -> Any:
    """Draw which classes were taken for which.

    Colours are shares of each true class; the numbers are counts.

    Parameters
    ----------
    labels, predictions : array_like or Tensor
        As for `confusion_matrix`.
    path : str or os.PathLike, optional
        Where to write the picture.
    classes : sequence, optional
        The classes' names.
    title : str, optional
        Written above.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ShapeError
        If the shapes do not belong together, or there is no sample.
    BoundsError
        If a class has no name.
    VizError
        If matplotlib is not installed.
    """
    counts = confusion_matrix(
        labels, predictions, None if classes is None else len(classes)
    )
    if not counts.sum():
        raise ShapeError("plot_confusion_matrix: there is no sample")
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    size = len(counts)
    figure = new_figure(max(4.0, 0.5 * size + 1.5), max(3.5, 0.5 * size + 1.0))
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the true class")
    names = [str(name) for name in (range(size) if classes is None else classes)]
    turned = 90 if max(map(len, names)) > 3 else 0
    axes.set_xticks(range(size), names, rotation=turned)
    axes.set_yticks(range(size), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if size <= 20:
        for row, column in zip(*np.nonzero(counts), strict=True):
            dark = "white" if shares[row, column] > 0.5 else "black"
            text = str(counts[row, column])
            axes.text(column, row, text, ha="center", va="center", color=dark, size=8)
    if title:
        axes.set_title(title)
    save(figure, path)
    return figure


def show_misclassified(
    images: ArrayLike | Tensor,
    labels: ArrayLike | Tensor,
    predictions: ArrayLike | Tensor,
    path: Path = None,
    *,
    classes: Sequence[object] | None = None,
    limit: int = 32,
    columns: int = 8,
    title: str | None = None,
) -> Any:
    """Draw images that were taken for another class, with both classes above.

    Given scores, those come first that are most sure of the wrong class.

    Parameters
    ----------
    images : array_like or Tensor
        As for `show_images`: ``(N, H, W)``, ``(N, 1, H, W)`` or ``(N, 3, H, W)``.
    labels : array_like or Tensor
        The true classes, ``(N,)``.
    predictions : array_like or Tensor
        The predicted classes, ``(N,)``, or scores, ``(N, C)``.
    path : str or os.PathLike, optional
        Where to write the picture.
    classes : sequence, optional
        The classes' names.
    limit : int, default 32
        How many to draw at most.
    columns : int, default 8
        Images per row.
    title : str, optional
        Written above; by default how many were misclassified.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ShapeError
        If the shapes do not belong together, or no image was misclassified.
    VizError
        If matplotlib is not installed.
    """
    pixels, scores = _as_array(images), _as_array(predictions)
    truth, guess = _classes(labels, predictions, "show_misclassified")
    if len(pixels) != len(truth):
        raise ShapeError(
            f"show_misclassified: expected as many images as labels, got {len(pixels)} "
            f"and {len(truth)}"
        )
    wrong = np.flatnonzero(truth != guess)
    if not len(wrong):
        raise ShapeError("show_misclassified: every image is classified right")
    if scores.ndim == 2:
        margin = scores[wrong, guess[wrong]] - scores[wrong, truth[wrong]]
        wrong = wrong[np.argsort(-margin, kind="stable")]
    chosen = wrong[:limit]
    count = int(max(truth.max(), guess.max())) + 1
    called = list(range(count) if classes is None else classes)
    if len(called) < count:
        raise ShapeError(
            f"show_misclassified: classes: expected {count} names, got {len(called)}"
        )
    captions = [f"{called[truth[i]]}, not {called[guess[i]]}" for i in chosen]
    if title is None:
        title = f"{len(wrong)} of {len(truth)} misclassified"
    return show_images(pixels[chosen], captions, path, columns=columns, title=title)
