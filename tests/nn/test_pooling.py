"""Pooling and resizing layers against PyTorch, and in themselves."""

from __future__ import annotations

import numpy as np
import pytest
from compare import array, compare, needs_torch, torch

import nnlib
from nnlib import nn
from nnlib.backend.errors import ArgumentError, DTypeError, ShapeError

LAYERS = {
    "MaxPool1d": [((2,), {}), ((3, 2, 1), {"ceil_mode": True})],
    "MaxPool2d": [((2,), {}), ((3, 2, 1), {}), ((2, 1), {"dilation": 2})],
    "MaxPool3d": [((2,), {})],
    "AvgPool1d": [((2,), {})],
    "AvgPool2d": [((3, 2, 1), {"count_include_pad": False}), ((2,), {})],
    "AvgPool3d": [((2,), {"divisor_override": 3})],
    "LPPool1d": [((2, 3), {})],
    "LPPool2d": [((2, 3), {"stride": 2})],
    "LPPool3d": [((2, 2), {})],
    "AdaptiveAvgPool1d": [((3,), {})],
    "AdaptiveAvgPool2d": [((1,), {}), (((3, None),), {})],
    "AdaptiveAvgPool3d": [((2,), {})],
    "AdaptiveMaxPool1d": [((3,), {})],
    "AdaptiveMaxPool2d": [((2,), {})],
    "AdaptiveMaxPool3d": [((2,), {})],
    "Upsample": [((), {"scale_factor": 2, "mode": "bilinear"}), ((5,), {})],
    "UpsamplingNearest2d": [((), {"scale_factor": 2})],
    "UpsamplingBilinear2d": [((7,), {})],
    "PixelShuffle": [((2,), {})],
    "PixelUnshuffle": [((2,), {})],
    "ChannelShuffle": [((2,), {})],
}
CASES = [(name, *case) for name, cases in LAYERS.items() for case in cases]


@needs_torch
@pytest.mark.parametrize(("name", "args", "kwargs"), CASES)
def test_equals_pytorch(name, args, kwargs):
    rank = int(name[-2]) if name[-1] == "d" else 2
    x = np.random.default_rng(0).standard_normal((2, 4, *(6, 8, 4)[:rank]))
    if name.startswith("LP"):
        x = np.abs(x)
    mine = getattr(nn, name)(*args, **kwargs)
    compare(mine, getattr(torch.nn, name)(*args, **kwargs), x)
    assert repr(mine).startswith(name + "(")


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_unpooling_puts_maxima_back(rank):
    x = nnlib.randn(2, 3, *(4,) * rank)
    y, places = getattr(nn, f"MaxPool{rank}d")(2, return_indices=True)(x)
    back = getattr(nn, f"MaxUnpool{rank}d")(2)(y, places)
    kept = array(back) != 0
    np.testing.assert_array_equal(array(back)[kept], array(x)[kept])
    assert kept.sum() == y.numel()


def test_gaussian_layer_weighs_the_middle_most():
    x = nnlib.zeros(1, 1, 3, 3)
    x[0, 0, 1, 1] = 1.0
    layer = nn.GaussianAvgPool2d(3, sigma=0.5)
    assert 1 / 9 < layer(x).item() < 1
    assert nn.GaussianAvgPool2d(3, sigma=1e6)(x).item() == pytest.approx(1 / 9)


def test_power_pooling_at_its_edges():
    """Empty patches behind a ReLU are common: their root has no slope to pass on."""
    x = nnlib.tensor([[[0.0, 0.0, 3.0, -4.0]]], requires_grad=True)
    for power, value in ((1, -1.0), (2, 5.0), (float("inf"), 4.0)):
        x.grad = None
        y = nn.LPPool1d(power, 2)(x)
        y.sum().backward()
        np.testing.assert_allclose(array(y), [[[0.0, value]]], 1e-6)
        assert not x.grad[..., :2].any() and np.isfinite(array(x.grad)).all()
    with pytest.raises(ArgumentError, match="lp_pool1d: norm_type: expected another"):
        nn.LPPool1d(0, 2)(x)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_nan_reaches_every_maximum_that_holds_it(rank):
    x = nnlib.zeros(1, 1, *(6,) * rank)
    x.array[(0, 0, *(2,) * rank)] = np.nan
    y = array(getattr(nn, f"MaxPool{rank}d")(3, 1)(x))
    assert np.isnan(y).sum() == 3**rank
    x.requires_grad_()
    y = getattr(nn, f"MaxPool{rank}d")(3, 1)(x)
    assert np.isnan(array(y)).sum() == 3**rank


def test_minus_infinity_is_a_maximum():
    x = nnlib.full((1, 1, 2, 2), float("-inf"), requires_grad=True)
    y = nn.MaxPool2d(2)(x)
    y.sum().backward()
    assert y.item() == float("-inf")
    np.testing.assert_array_equal(array(x.grad)[0, 0], [[1, 0], [0, 0]])


def test_images_stay_channels_last():
    x = nnlib.from_numpy(np.ones((2, 8, 8, 4), "f4").transpose(0, 3, 1, 2))
    for layer in (nn.MaxPool2d(2), nn.AvgPool2d(2), nn.Upsample(scale_factor=2)):
        y = layer(x).array
        assert y.transpose(0, 2, 3, 1).flags.c_contiguous


def test_equal_bits_from_run_to_run():
    x = nnlib.randn(4, 16, 33, 31).requires_grad_()
    results = []
    for _ in range(2):
        x.grad = None
        y = nn.MaxPool2d(3, 2, 1)(x) + nn.AvgPool2d(3, 2, 1)(x)
        (y * y).sum().backward()
        results.append((array(y).tobytes(), array(x.grad).tobytes()))
    assert results[0] == results[1]


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_unpooling_an_empty_batch(rank):
    pool = getattr(nn, f"MaxPool{rank}d")(2, return_indices=True)
    y, places = pool(nnlib.ones(0, 3, *(4, 6, 8)[:rank]))
    back = getattr(nn, f"MaxUnpool{rank}d")(2)(y, places)
    assert tuple(back.shape) == (0, 3, *(4, 6, 8)[:rank])


def test_sizes_that_are_asked_for_are_read_strictly():
    y, places = nn.MaxPool2d(2, return_indices=True)(nnlib.ones(1, 1, 5, 5))
    unpool, up = nn.MaxUnpool2d(2), nn.ConvTranspose2d(1, 1, 3, stride=2)
    for layer, args in ((unpool, (y, places)), (up, (y,))):
        assert tuple(layer(*args, output_size=(1, 1, 5, 5)).shape) == (1, 1, 5, 5)
        with pytest.raises(
            DTypeError, match="output_size: expected 2 or 4 ints, got 5"
        ):
            layer(*args, output_size=5)
        with pytest.raises(ShapeError, match=r"expected 2 or 4 ints, got \(1, 5, 5\)"):
            layer(*args, output_size=(1, 5, 5))


def test_arrays_and_odd_powers():
    x = np.abs(np.random.default_rng(0).standard_normal((1, 2, 4, 4)))
    for power in (1, 2.5, float("inf")):
        pool = nn.LPPool2d(power, 2)
        np.testing.assert_array_equal(pool(x), array(pool(nnlib.tensor(x))))
    with pytest.raises(DTypeError, match="norm_type: expected a number, got None"):
        nn.LPPool2d(None, 2)(nnlib.tensor(x))
    assert nn.Flatten()(x).shape == (1, 32)
