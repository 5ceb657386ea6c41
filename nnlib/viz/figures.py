"""Matplotlib figures without its global state: no window, no current figure."""

from __future__ import annotations

import importlib.util
import math
import os
from pathlib import Path
from typing import Any

from nnlib.backend.errors import Error
from nnlib.ops.convolution_arguments import per_dim

__all__ = ["VizError", "is_available", "new_figure", "save"]


class VizError(Error, ImportError):
    """A picture was asked for where the package that draws it is missing."""


def is_available() -> bool:
    """Tell whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def new_figure(width: float = 8.0, height: float = 4.5) -> Any:
    """Return an empty figure that draws into memory (matplotlib's Agg).

    Parameters
    ----------
    width, height : float
        In inches.

    Raises
    ------
    VizError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise VizError(
            f'pictures need matplotlib ({error}): python -m pip install "nnlib-dl[viz]"'
        ) from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def grid_shape(op: str, count: int, columns: Any) -> tuple[int, int]:
    """Return the rows and columns that `count` pictures fill.

    Raises
    ------
    ShapeError, DTypeError
        If `columns` is not a positive integer.

    Examples
    --------
    >>> grid_shape("show_images", 10, 4)
    (3, 4)
    """
    (most,) = per_dim(op, "columns", columns, 1, 1)
    return math.ceil(count / most), min(most, count)


def save(figure: Any, path: str | os.PathLike[str] | None) -> None:
    """Write a figure to `path`, making its folder; do nothing if it is None.

    The ending of the name decides the format: ``.png``, ``.svg``, ``.pdf``.
    """
    if path is None:
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=120)
