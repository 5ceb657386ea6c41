"""Fractional pooling as a layer: windows at random, places for the way back."""

from __future__ import annotations

import numpy as np
import pytest

import nnlib
from nnlib import nn
from nnlib.nn import functional as F


def test_windows_are_drawn_for_each_image_and_channel() -> None:
    x = nnlib.arange(36.0).reshape(1, 1, 6, 6).expand(4, 8, 6, 6)
    layer = nn.FractionalMaxPool2d(2, output_size=4)
    y = layer(x)
    assert tuple(y.shape) == (4, 8, 4, 4)
    assert len({tuple(plane.reshape(-1).tolist()) for plane in y.reshape(32, 4, 4)}) > 4
    # The last window ends where the image does.
    assert (y[..., -1, -1] == 35).all()
    nnlib.manual_seed(1)
    first = layer(x)
    nnlib.manual_seed(1)
    assert (layer(x) == first).all()


def test_places_lead_back() -> None:
    x = nnlib.randn(2, 3, 7, 9).abs() + 1
    pool = nn.FractionalMaxPool2d((2, 3), output_ratio=0.5, return_indices=True)
    values, places = pool(x)
    assert tuple(values.shape) == (2, 3, 3, 4)
    flat = x.reshape(2, 3, -1).gather(2, places.reshape(2, 3, -1))
    assert (flat.reshape(values.shape) == values).all()


def test_without_a_batch_and_in_volumes() -> None:
    samples = nnlib.full((1, 2, 2), 0.3)
    x = nnlib.randn(2, 8, 8)
    alone = F.fractional_max_pool2d(x, 2, 3, _random_samples=samples)
    batch = F.fractional_max_pool2d(x[None], 2, 3, _random_samples=samples)
    assert (alone == batch[0]).all()
    volumes = nn.FractionalMaxPool3d(2, output_ratio=(0.5, 0.6, 0.7))
    assert tuple(volumes(nnlib.zeros(1, 2, 8, 10, 10)).shape) == (1, 2, 4, 6, 7)
    assert "output_ratio=(0.5, 0.6, 0.7)" in repr(volumes)
    nobody = F.fractional_max_pool2d(
        nnlib.ones(0, 2, 6, 6), 2, output_ratio=np.single(0.5)
    )
    assert tuple(nobody.shape) == (0, 2, 3, 3)


def test_one_of_both_sizes_is_needed() -> None:
    with pytest.raises(nnlib.ArgumentError, match="FractionalMaxPool2d: expected outp"):
        nn.FractionalMaxPool2d(2)
    with pytest.raises(nnlib.ShapeError, match="_random_samples: expected shape"):
        F.fractional_max_pool2d(
            nnlib.ones(1, 2, 5, 5), 2, 3, _random_samples=nnlib.ones(2)
        )
