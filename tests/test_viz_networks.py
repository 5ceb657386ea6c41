"""Pictures of filters, feature maps and mistakes."""

from __future__ import annotations

import numpy as np
import pytest

import nnlib
from nnlib import nn
from nnlib.backend.errors import DTypeError, ShapeError
from nnlib.viz import confusion_matrix

RNG = np.random.default_rng(0)


@pytest.fixture
def pictures():
    pytest.importorskip("matplotlib", reason="pictures need matplotlib")
    from nnlib import viz

    return viz


def test_confusion_matrix():
    labels = RNG.integers(0, 5, 300)
    guesses = RNG.integers(0, 5, 300)
    counts = confusion_matrix(labels, guesses, 6)
    assert counts.shape == (6, 6) and counts.sum() == 300 and counts.dtype == np.int64
    for row in range(6):
        for column in range(6):
            assert counts[row, column] == ((labels == row) & (guesses == column)).sum()
    scores = nnlib.nn.functional.one_hot(nnlib.tensor(guesses), 6)
    same = confusion_matrix(nnlib.tensor(labels), scores.float())
    np.testing.assert_array_equal(same, counts)
    assert confusion_matrix([], []).shape == (0, 0)
    with pytest.raises(
        IndexError, match="predictions: class 7 at position 1, expected"
    ):
        confusion_matrix([0, 1], [1, 7], 3)
    with pytest.raises(ShapeError, match=r"got \(2,\) and \(3,\)"):
        confusion_matrix([0, 1], [1, 0, 1])


def test_plot_confusion_matrix(pictures, tmp_path):
    path = tmp_path / "confusion.png"
    figure = pictures.plot_confusion_matrix(
        [0, 0, 1, 2], [0, 1, 1, 2], path, classes=["cat", "dog", "horse"], title="x"
    )
    assert path.read_bytes().startswith(b"\x89PNG")
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == ["1", "1", "1", "1"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [
        "cat",
        "dog",
        "horse",
    ]
    np.testing.assert_allclose(axes.images[0].get_array()[0], [0.5, 0.5, 0])
    pictures.plot_confusion_matrix(np.arange(30), np.arange(30))
    with pytest.raises(ShapeError, match="there is no sample"):
        pictures.plot_confusion_matrix([], [], classes="ab")
    with pytest.raises(IndexError, match="class 2 at position 0"):
        pictures.plot_confusion_matrix([2], [0], classes="ab")


def test_filters(pictures, tmp_path):
    path = tmp_path / "filters.png"
    colour = pictures.show_filters(nn.Conv2d(3, 10, 5), path, columns=4, title="first")
    assert path.exists() and len(colour.axes) == 10
    assert colour.axes[0].images[0].get_array().shape == (5, 5, 3)
    grey = pictures.show_filters(nn.Conv2d(2, 3, 3))
    assert len(grey.axes) == 6
    limits = {axes.images[0].get_clim() for axes in grey.axes}
    assert len(limits) == 1 and sum(next(iter(limits))) == 0
    pictures.show_filters(np.zeros((1, 1, 2, 2)))
    with pytest.raises(ShapeError, match=r"expected a weight \(O, I, kh, kw\), got"):
        pictures.show_filters(nn.Linear(3, 4))
    with pytest.raises(DTypeError, match="a layer with a weight, got Sequential"):
        pictures.show_filters(nn.Sequential(nn.Conv2d(1, 1, 1)))


def test_feature_maps(pictures, tmp_path):
    nnlib.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 2))
    image = RNG.random((1, 6, 6)).astype(np.float32)
    path = tmp_path / "maps.png"
    figure = pictures.show_feature_maps(model, image, "1", path, columns=3, title="x")
    assert path.exists() and len(figure.axes) == 6
    with nnlib.no_grad():
        expected = model[1](model[0](nnlib.tensor(image[None])))
    np.testing.assert_allclose(
        figure.axes[4].images[0].get_array(), expected[0, 4].array, rtol=1e-5
    )
    again = pictures.show_feature_maps(model, nnlib.tensor(image[None]), model[0])
    assert len(again.axes) == 6
    assert not model[0]._forward_hooks
    with pytest.raises(DTypeError, match="the model has no layer 'conv'; it has 0, 1"):
        pictures.show_feature_maps(model, image, "conv")
    with pytest.raises(ShapeError, match=r"a layer that gives \(1, C, H, W\), got"):
        pictures.show_feature_maps(model, image, "3")
    with pytest.raises(ShapeError, match=r"image: expected .*, got \(2, 1, 6, 6\)"):
        pictures.show_feature_maps(model, np.zeros((2, 1, 6, 6)), "0")


def test_misclassified(pictures, tmp_path):
    images = RNG.random((6, 1, 4, 4))
    labels = np.array([0, 1, 2, 0, 1, 2])
    scores = np.eye(3)[[0, 2, 2, 1, 1, 0]] * np.array([1, 2, 1, 9, 1, 5])[:, None]
    path = tmp_path / "wrong.png"
    figure = pictures.show_misclassified(
        images, labels, scores, path, classes="abc", limit=2
    )
    titles = [axes.get_title() for axes in figure.axes]
    assert path.exists() and titles == ["a, not b", "c, not a"]
    assert figure.get_suptitle() == "3 of 6 misclassified"
    plain = pictures.show_misclassified(nnlib.tensor(images), labels, scores.argmax(1))
    assert [axes.get_title() for axes in plain.axes] == [
        "1, not 2", "0, not 1", "2, not 0"
    ]  # fmt: skip
    with pytest.raises(ShapeError, match="every image is classified right"):
        pictures.show_misclassified(images, labels, labels)
    with pytest.raises(ShapeError, match="as many images as labels, got 5 and 6"):
        pictures.show_misclassified(images[:5], labels, labels)


def test_receptive_field_is_what_the_layers_reach(pictures):
    two = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 3, 3, stride=2))
    field = pictures.receptive_field(two, (17, 13), 2)
    assert field.shape == (17, 13) and (field > 0).sum() == 25
    corner = pictures.receptive_field(two, (17, 13), 2, position=(0, 0))
    assert (corner[:4, :4] > 0).all() and (corner > 0).sum() == 16
    assert two[0].weight.grad is None
    with pytest.raises(ShapeError, match=r"position: \(99, 0\) is not in the maps"):
        pictures.receptive_field(two, (17, 13), 2, position=(99, 0))
    with pytest.raises(ShapeError, match="expected maps"):
        pictures.receptive_field(nn.Sequential(two, nn.Flatten()), (17, 13), 2)


def test_receptive_field_is_drawn(pictures, tmp_path):
    path = tmp_path / "field.png"
    pictures.show_receptive_field(nn.Conv2d(1, 2, 3), (9, 9), path=path)
    assert path.stat().st_size > 1000


def test_what_cannot_be_drawn_is_refused(pictures):
    filters, images = np.zeros((3, 1, 2, 2)), np.zeros((2, 1, 4, 4))
    for columns in (0, -1):
        with pytest.raises(
            ShapeError, match="show_filters: columns: expected at least"
        ):
            pictures.show_filters(filters, columns=columns)
    with pytest.raises(
        DTypeError, match="show_images: columns: expected an int, got 2"
    ):
        pictures.show_images(images, columns=2.5)
    with pytest.raises(ShapeError, match=r"\(N, 3, H, W\), got \(2, 5, 4, 4\)"):
        pictures.show_images(np.zeros((2, 5, 4, 4)))
    with pytest.raises(DTypeError, match="show_filters: expected numbers, got <U1"):
        pictures.show_filters("a")
    with pytest.raises(
        DTypeError, match="labels: expected classes as integers, got fl"
    ):
        pictures.confusion_matrix([0.5, 1.0], [0, 1])
    with pytest.raises(ShapeError, match="classes: expected 3 names, got 1"):
        pictures.show_misclassified(images, [0, 1], [2, 1], classes=["zero"])


def test_filters_that_diverged_are_drawn(pictures):
    filters = np.full((2, 1, 2, 2), np.nan)
    filters[0, 0, 0, 0], filters[0, 0, 1, 1] = 2.0, np.inf
    assert len(pictures.show_filters(filters).axes) == 2


def test_receptive_field_of_a_function(pictures):
    field = pictures.receptive_field(lambda x: nn.functional.avg_pool2d(x, 3, 1), 7)
    assert field.shape == (7, 7) and (field > 0).sum() == 9
