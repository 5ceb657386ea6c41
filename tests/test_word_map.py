"""Word vectors in two dimensions."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from nnlib.backend.errors import ArgumentError, DTypeError, ShapeError
from nnlib.text import UnknownWordError, WordVectors
from nnlib.viz import VizError, plot_words, project


def test_principal_components():
    rng = np.random.default_rng(0)
    flat = rng.standard_normal((30, 2)) * [5, 1]
    turn, _ = np.linalg.qr(rng.standard_normal((6, 6)))
    found = project(np.pad(flat, ((0, 0), (0, 4))) @ turn + 3)
    distances = [np.linalg.norm(x[:, None] - x[None], axis=2) for x in (flat, found)]
    np.testing.assert_allclose(*distances, atol=1e-10)
    assert found[:, 0].var() > found[:, 1].var()
    assert (found[np.abs(found).argmax(0), [0, 1]] > 0).all()


def test_tsne():
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20, 5)) + np.repeat([[0], [50]], 10, axis=0)
    found = project(x, "tsne", seed=1)
    assert found.shape == (20, 2) and np.isfinite(found).all()
    assert found.tolist() == project(x, "tsne", seed=1).tolist()


def test_tsne_without_the_package(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(VizError, match=r"pip install \"nnlib-dl\[sklearn\]\""):
        project(np.eye(4), "tsne")


def test_bad_projections():
    with pytest.raises(ShapeError, match=r"both from 2, got \(1, 3\)"):
        project(np.ones((1, 3)))
    with pytest.raises(ArgumentError, match="expected pca or tsne, got 'umap'"):
        project(np.eye(3), "umap")
    with pytest.raises(ArgumentError, match="NaN or infinite"):
        project([[1.0, float("nan")], [2, 3]])
    if importlib.util.find_spec("sklearn"):
        with pytest.raises(ArgumentError, match="t-SNE cannot part vectors that are"):
            project(np.ones((5, 3)), "tsne")


def test_plot(tmp_path):
    pytest.importorskip("matplotlib")
    words = [f"w{i}" for i in range(9)]
    vectors = WordVectors(words, np.random.default_rng(0).standard_normal((9, 4)))
    groups = {"first": words[:3], "last": words[6:]}
    figure = plot_words(vectors, groups, tmp_path / "map.png", title="words")
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == words[:3] + words[6:]
    assert (tmp_path / "map.png").stat().st_size > 1000
    assert len(plot_words(vectors, words).axes[0].texts) == 9
    with pytest.raises(DTypeError, match="expected a list of words, got a str"):
        plot_words(vectors, "w1")
    dollars = WordVectors(["$$", "$x_1$"], np.eye(2))
    plot_words(dollars, dollars.words, tmp_path / "dollars.png")  # no formulae
    with pytest.raises(UnknownWordError, match="'x' is none of its 9 words"):
        plot_words(vectors, ["w1", "x"])
