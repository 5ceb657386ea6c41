"""Convolutional layers against PyTorch's, and what no table of cases holds."""

from __future__ import annotations

import numpy as np
import pytest
from compare import compare, needs_torch, torch

import nnlib
from nnlib import nn
from nnlib.backend.errors import DTypeError, Error, ShapeError
from nnlib.nn import functional as F

RNG = np.random.default_rng(3)


def draw(*shape):
    return RNG.standard_normal(shape)


LAYERS = {
    "Conv1d": [
        ((4, 6, 3), {}, (2, 4, 9)),
        ((4, 6, 2), {"padding": 1, "padding_mode": "circular"}, (2, 4, 7)),
    ],
    "Conv2d": [
        ((3, 8, 3), {"padding": 1}, (2, 3, 7, 6)),
        ((4, 6, (3, 2)), {"stride": 2, "groups": 2, "bias": False}, (2, 4, 7, 6)),
        ((2, 3, 3), {"padding": "same", "padding_mode": "reflect"}, (2, 2, 5, 6)),
        ((2, 3, 3), {"padding": (2, 1), "padding_mode": "replicate"}, (2, 2, 5, 6)),
        ((2, 3, 3), {"padding": "same", "dilation": 2}, (2, 5, 6)),
        ((4, 4, 3), {"groups": 4, "padding": "valid"}, (2, 4, 5, 6)),
    ],
    "Conv3d": [
        ((2, 3, 2), {"padding": 1, "padding_mode": "circular"}, (1, 2, 3, 4, 3))
    ],
    "ConvTranspose1d": [((4, 6, 3), {"stride": 2, "output_padding": 1}, (2, 4, 5))],
    "ConvTranspose2d": [
        ((4, 6, 4), {"stride": 2, "padding": 1}, (2, 4, 5, 3)),
        ((4, 6, 3), {"groups": 2, "bias": False, "dilation": 2}, (4, 5, 3)),
    ],
    "ConvTranspose3d": [((2, 3, 2), {"stride": 2}, (1, 2, 3, 2, 2))],
    "Unfold": [((3,), {"padding": 1, "stride": 2}, (2, 3, 5, 6))],
    "Fold": [(((5, 6), 3), {"padding": 1}, (2, 9, 30))],
}


@needs_torch
@pytest.mark.parametrize(
    ("name", "args", "kwargs", "shape"),
    [(name, *case) for name, cases in LAYERS.items() for case in cases],
)
def test_layer_equals_pytorch(name, args, kwargs, shape):
    mine = getattr(nn, name)(*args, **kwargs)
    theirs = getattr(torch.nn, name)(*args, **kwargs)
    compare(mine, theirs, draw(*shape))
    assert repr(mine) == repr(theirs)


@needs_torch
def test_initial_values_have_pytorchs_distribution():
    mine, theirs = nn.Conv2d(16, 64, 5), torch.nn.Conv2d(16, 64, 5)
    for name in ("weight", "bias"):
        a, b = getattr(mine, name), getattr(theirs, name).detach().numpy()
        bound = 1 / np.sqrt(16 * 25)
        assert a.abs().max().item() <= bound
        assert a.std().item() == pytest.approx(b.std(), rel=0.3)


@needs_torch
def test_output_size_picks_one_of_the_sizes():
    mine = nn.ConvTranspose2d(2, 3, 3, stride=3)
    theirs = torch.nn.ConvTranspose2d(2, 3, 3, stride=3)
    theirs.load_state_dict(
        {k: torch.tensor(v.detach().numpy()) for k, v in mine.state_dict().items()}
    )
    x = draw(1, 2, 4, 4).astype("f4")
    for size in [(12, 12), (13, 14)]:
        want = theirs(torch.tensor(x), output_size=size).detach().numpy()
        got = mine(nnlib.tensor(x), output_size=size).detach().numpy()
        np.testing.assert_allclose(got, want, 1e-5, 1e-5)
    with pytest.raises(ShapeError, match=r"ConvTranspose2d: output_size: expected"):
        mine(nnlib.tensor(x), output_size=(15, 12))


@pytest.mark.parametrize(
    ("make", "exception", "pattern"),
    [
        (lambda: nn.Conv2d(3, 4, 3, groups=2), ShapeError, "in_channels: 3 is not"),
        (lambda: nn.Conv2d(4, 3, 3, groups=2), ShapeError, "out_channels: 3 is not"),
        (lambda: nn.Conv2d(1, 1, 0), ShapeError, "kernel_size: expected at least 1"),
        (lambda: nn.Conv2d(1, 1, 3, stride=0), ShapeError, "stride: expected at least"),
        (lambda: nn.Conv2d(1, 1, (3, 3, 3)), ShapeError, "expected one value or 2"),
        (lambda: nn.Conv2d(1, 1, "3"), DTypeError, "kernel_size: expected an int"),
        (lambda: nn.Conv2d(1, 1, 3, padding="half"), Error, 'expected ints, "same"'),
        (
            lambda: nn.Conv2d(1, 1, 3, stride=2, padding="same"),
            ShapeError,
            '"same" needs stride 1',
        ),
        (lambda: nn.Conv1d(1, 1, 3, padding_mode="mirror"), Error, "padding_mode"),
        (
            lambda: nn.Conv2d(1, 1, 3)(nnlib.ones(1, 1, 4, 4, dtype=nnlib.uint8)),
            DTypeError,
            "conv2d: input: expected a floating dtype, got uint8",
        ),
        (
            lambda: nn.ConvTranspose1d(1, 1, 3, padding_mode="reflect"),
            Error,
            "padding_mode",
        ),
    ],
)
def test_bad_arguments(make, exception, pattern):
    with pytest.raises(exception, match=pattern):
        make()


@pytest.mark.parametrize("channels", [3, 4, 64])
def test_empty_batch(channels):
    layer = nn.Conv2d(channels, 8, 3, padding=1)
    x = nnlib.zeros(0, channels, 6, 5, requires_grad=True)
    y = layer(x)
    assert tuple(y.shape) == (0, 8, 6, 5)
    y.sum().backward()
    assert tuple(x.grad.shape) == (0, channels, 6, 5)
    assert not layer.weight.grad.array.any() and not layer.bias.grad.array.any()
    up = nn.ConvTranspose2d(channels, 8, 3, stride=2)
    assert tuple(up(x).shape) == (0, 8, 13, 11)


@pytest.mark.parametrize("channels", [1, 3, 8, 64])
@pytest.mark.parametrize("groups", [1, 8])
def test_a_non_finite_input_reaches_every_window_that_holds_it(channels, groups):
    if channels % groups:
        return
    x = np.zeros((1, channels, 13, 13), np.float32)
    x[0, 0, 6, 7] = np.nan
    w = nnlib.ones(groups * 64, channels // groups, 3, 3)
    y = F.conv2d(nnlib.tensor(x), w, padding=1, groups=groups).array
    assert np.isnan(y[0, :64, 5:8, 6:9]).all()
    # Far from it, nothing changes.
    assert not y[0, :, :3].any() and not y[0, :, :, :3].any()


def test_results_are_channels_last_and_repeatable():
    x = nnlib.tensor(draw(3, 32, 9, 9).astype("f4"), requires_grad=True)
    layer = nn.Conv2d(32, 48, 3, padding=1)
    runs = []
    for _ in range(2):
        x.grad = None
        layer.zero_grad()
        y = layer(x)
        assert y.array.transpose(0, 2, 3, 1).flags.c_contiguous
        (y * y).sum().backward()
        runs.append((y.array, x.grad.array, layer.weight.grad.array))
    for a, b in zip(*runs, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 3, 1), (3, 1, 0, 2)])
def test_any_strides(order):
    x, w, b = draw(2, 5, 6, 7), draw(4, 5, 3, 3), draw(4)
    want = F.conv2d(nnlib.tensor(x), nnlib.tensor(w), nnlib.tensor(b)).array

    def lay(array):
        return nnlib.from_numpy(
            array.transpose(order).copy().transpose(np.argsort(order))
        )

    got = F.conv2d(lay(x), lay(w), nnlib.tensor(b)).array
    np.testing.assert_allclose(got, want, 1e-12, 1e-12)


@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])
def test_sums_over_no_channels(name):
    shape = (3, 0, 2, 2) if name == "conv2d" else (0, 3, 2, 2)
    x = nnlib.zeros(2, 0, 4, 4, requires_grad=True)
    bias = nnlib.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = getattr(nnlib, name)(x, nnlib.zeros(shape), bias)
    np.testing.assert_array_equal(y.detach().numpy()[1, :, 2, 2], [1, 2, 3])
    y.sum().backward()
    assert x.grad.shape == x.shape
    assert bias.grad.numpy().tolist() == [y.numel() / 3] * 3


@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])
def test_no_channels_of_output(name):
    shape = (0, 3, 2, 2) if name == "conv2d" else (3, 0, 2, 2)
    x = nnlib.ones(2, 3, 4, 4, requires_grad=True)
    y = getattr(nnlib, name)(x, nnlib.zeros(shape))
    assert y.shape[:2] == (2, 0)
    y.sum().backward()
    assert not x.grad.numpy().any()


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(2, 3, 1, padding=1), nn.ConvTranspose2d(2, 3, 3)]
)
def test_images_without_pixels_are_refused(layer):
    assert tuple(layer(nnlib.ones(0, 2, 4, 4)).shape)[:2] == (0, 3)
    with pytest.raises(
        ShapeError, match=r"the spatial size is empty, got shape \(1, 2"
    ):
        layer(nnlib.ones(1, 2, 0, 4))
