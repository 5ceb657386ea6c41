"""Pictures."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import nnlib
from nnlib import nn
from nnlib.backend.errors import ShapeError
from nnlib.train import History


@pytest.fixture
def pictures():
    pytest.importorskip("matplotlib", reason="pictures need matplotlib")
    from nnlib import viz

    return viz


def test_plot_history(pictures, tmp_path):
    history = History(loss=[2.0, 1.0], val_loss=[2.5, 1.5], accuracy=[0.1, 0.2], lr=[1])
    path = tmp_path / "new" / "curves.png"
    figure = pictures.plot_history(history, path, title="run")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "accuracy"]
    assert [len(axes.lines) for axes in figure.axes] == [2, 1]
    np.testing.assert_array_equal(figure.axes[0].lines[1].get_ydata(), [2.5, 1.5])
    with pytest.raises(ShapeError, match="holds no epoch"):
        pictures.plot_history({})
    assert "matplotlib.pyplot" not in sys.modules


def test_decision_regions(pictures, tmp_path):
    points = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    path = tmp_path / "regions.svg"
    for labels, columns in [([-1, -1, 1, 1], 1), ([0, 1, 2, 1], 3)]:
        nnlib.manual_seed(0)
        model = nn.Linear(2, columns)
        figure = pictures.plot_decision_regions(
            model, points, labels, path, resolution=11, title="x"
        )
        assert b"<svg" in path.read_bytes()
        assert len(figure.axes) == 1
    with pytest.raises(ShapeError, match=r"got \(4, 2\) and \(3,\)"):
        pictures.plot_decision_regions(model, points, [0, 1, 0])


def test_show_images(pictures, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (5, 3, 4, 4))
    path = tmp_path / "images.png"
    figure = pictures.show_images(pixels, list("abcde"), path, columns=3, title="t")
    assert path.exists() and len(figure.axes) == 5
    pictures.show_images(nnlib.zeros(2, 1, 4, 4))
    with pytest.raises(ShapeError, match=r"got \(5, 4\)"):
        pictures.show_images(np.zeros((5, 4)))
    with pytest.raises(ShapeError, match="labels: expected 5, got 1"):
        pictures.show_images(pixels, ["a"])


def test_pictures_without_matplotlib(monkeypatch):
    from nnlib import viz

    for name in ("matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(viz.VizError, match=r'pip install "nnlib-dl\[viz\]"'):
        viz.plot_history(History(loss=[1.0]))
    assert issubclass(viz.VizError, ImportError)
