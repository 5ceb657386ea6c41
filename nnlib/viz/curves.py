"""Learning curves."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from nnlib.backend.errors import ShapeError
from nnlib.viz.figures import new_figure, save

__all__ = ["plot_history"]


def plot_history(
    history: Mapping[str, Sequence[float]],
    path: str | os.PathLike[str] | None = None,
    title: str | None = None,
) -> Any:
    """Draw the figures of a training run over its epochs.

    Each figure gets a panel; its ``val_`` twin is drawn into the same panel. The
    learning rate is left out.

    Parameters
    ----------
    history : mapping of str to sequence of float
        What `fit` returns.
    path : str or os.PathLike, optional
        Where to write the picture.
    title : str, optional
        Written above.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ShapeError
        If the history is empty.
    VizError
        If matplotlib is not installed.
    """
    names = [key for key in history if key != "lr" and not key.startswith("val_")]
    if not names or not history[names[0]]:
        raise ShapeError("plot_history: the history holds no epoch")
    figure = new_figure(4.5 * len(names), 3.6)
    for column, name in enumerate(names, start=1):
        axes = figure.add_subplot(1, len(names), column)
        for key, label, colour in (
            (name, "training", "tab:blue"),
            (f"val_{name}", "validation", "tab:orange"),
        ):
            values = history.get(key)
            if values:
                epochs = range(1, len(values) + 1)
                axes.plot(epochs, values, label=label, color=colour, marker=".")
        axes.set_xlabel("epoch")
        axes.set_ylabel(name)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    if title:
        figure.suptitle(title)
    save(figure, path)
    return figure
