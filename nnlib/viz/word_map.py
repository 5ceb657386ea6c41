"""Word vectors as a map in two dimensions."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnlib.backend.errors import ArgumentError, DTypeError, ShapeError
from nnlib.text.word_vectors import WordVectors
from nnlib.viz.figures import VizError, new_figure, save

__all__ = ["plot_words", "project"]


def project(vectors: ArrayLike, method: str = "pca", seed: int = 0) -> NDArray[Any]:
    """Return vectors in two dimensions.

    Parameters
    ----------
    vectors : array_like, shape (N, D)
    method : {"pca", "tsne"}, default "pca"
        Principal components: the plane of largest variance, each axis with the sign
        that makes its largest coordinate positive. Or t-SNE (L. van der Maaten, G.
        Hinton 2008), through scikit-learn (extra ``sklearn``).
    seed : int, default 0
        Of t-SNE.

    Returns
    -------
    numpy.ndarray
        Shape ``(N, 2)``.

    Raises
    ------
    ShapeError
        If there are not two vectors at least, of two columns.
    ArgumentError
        If the method is another one, a number is not finite, or t-SNE is to part
        vectors that are all equal.
    VizError
        If scikit-learn is missing.

    Examples
    --------
    >>> project([[0.0, 0, 1], [2, 0, 1], [4, 0, 1]])[:, 0].tolist()
    [-2.0, 0.0, 2.0]
    """
    x = np.asarray(vectors, np.float64)
    if x.ndim != 2 or min(x.shape) < 2:
        raise ShapeError(
            f"project: vectors: expected shape (N, D), both from 2, got {x.shape}"
        )
    if not np.isfinite(x).all():
        raise ArgumentError("project: vectors: a number is NaN or infinite")
    if method == "pca":
        centred = x - x.mean(0)
        _, _, axes = np.linalg.svd(centred, full_matrices=False)
        flat = centred @ axes[:2].T  # (N, D) -> (N, 2)
        # the last of equal ones, so that rounding does not choose
        ties = np.isclose(np.abs(flat), np.abs(flat).max(0))
        largest = len(flat) - 1 - ties[::-1].argmax(0)
        result: NDArray[Any] = flat * np.where(flat[largest, [0, 1]] < 0, -1.0, 1.0)
        return result
    if method != "tsne":
        raise ArgumentError(f"project: method: expected pca or tsne, got {method!r}")
    if (x == x[0]).all():
        # scikit-learn would divide by their deviation, and crash on what comes out.
        raise ArgumentError(
            "project: vectors: t-SNE cannot part vectors that are equal"
        )
    try:
        from sklearn.manifold import TSNE
    except ModuleNotFoundError as error:
        raise VizError(
            f"t-SNE needs scikit-learn ({error}): python -m pip install "
            '"nnlib-dl[sklearn]"'
        ) from error
    near = min(30.0, (len(x) - 1) / 3)
    tsne = TSNE(2, perplexity=max(near, 0.5), init="pca", random_state=seed)
    return np.asarray(tsne.fit_transform(x), np.float64)


def plot_words(
    vectors: WordVectors,
    words: Sequence[str] | Mapping[str, Sequence[str]],
    path: str | os.PathLike[str] | None = None,
    *,
    method: str = "pca",
    title: str | None = None,
    seed: int = 0,
) -> Any:
    """Draw words where their vectors lie, in two dimensions.

    Parameters
    ----------
    vectors : WordVectors
    words : sequence of str, or mapping of str to sequence of str
        Which words; a mapping's groups get a colour each.
    path : str or os.PathLike, optional
        Where to write the picture.
    method, seed
        As for `project`; unit vectors are projected.
    title : str, optional

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    UnknownWordError
        If a word has no vector.
    DTypeError
        If `words` is a string.
    VizError
        If matplotlib is not installed.
    """
    if isinstance(words, str):
        raise DTypeError("plot_words: words: expected a list of words, got a str")
    groups = words if isinstance(words, Mapping) else {"": list(words)}
    names = [word for group in groups.values() for word in group]
    rows = [vectors.number(word) for word in names]
    flat = project(vectors.unit[rows], method, seed)
    figure = new_figure(8, 6)
    axes = figure.add_subplot()
    first = 0
    for label, group in groups.items():
        part = flat[first : first + len(group)]
        axes.scatter(*part.T, s=12, label=label or None)
        for word, (x, y) in zip(group, part, strict=True):
            axes.annotate(
                word, (x, y), xytext=(3, 3), textcoords="offset points", fontsize=8,
                parse_math=False,  # a dollar is a dollar
            )  # fmt: skip
        first += len(group)
    if any(groups):
        axes.legend()
    axes.set_xticks([])
    axes.set_yticks([])
    if title:
        axes.set_title(title)
    save(figure, path)
    return figure
