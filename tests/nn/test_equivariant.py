"""What commutes with what: convolution, group convolution, shifts, turns."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import nnlib
from nnlib import nn
from nnlib.autograd import gradcheck
from nnlib.backend.errors import Error, ShapeError
from nnlib.nn import functional as F
from nnlib.nn.equivariant import (
    GroupConv2d,
    GroupPool,
    LiftingConv2d,
    act,
    order,
)

RNG = np.random.default_rng(5)
GROUPS = ("p4", "p4m")


def draw(*shape):
    return nnlib.tensor(RNG.standard_normal(shape))


def near(a, b, tolerance=1e-12):
    return a.shape == b.shape and bool((a - b).abs().max() < tolerance)


def network(group, pool=None):
    layers = [
        LiftingConv2d(2, 3, 5, padding=2, group=group),
        nn.ReLU(),
        GroupConv2d(3, 4, 3, padding=1, group=group),
        nn.Tanh(),
        GroupConv2d(4, 3, 2, bias=False, group=group),
    ]
    return nn.Sequential(*layers, *([pool] if pool else [])).double()


def test_convolution_commutes_with_shifts():
    x, weight = draw(2, 3, 9, 8), draw(4, 3, 3, 3)
    padded = F.pad(x, (1, 1, 1, 1), mode="circular")
    plain = F.conv2d(padded, weight)
    for shift in ((1, 0), (3, 5), (-2, 4)):
        moved = F.pad(nnlib.roll(x, shift, (2, 3)), (1, 1, 1, 1), mode="circular")
        assert near(F.conv2d(moved, weight), nnlib.roll(plain, shift, (2, 3)))


def test_convolution_does_not_commute_with_turns():
    x, weight = draw(2, 3, 8, 8), draw(4, 3, 3, 3)
    for element in range(1, 8):
        turned = F.conv2d(act(x, element, "p4m"), weight, padding=1)
        wanted = act(F.conv2d(x, weight, padding=1), element, "p4m")
        assert (turned - wanted).abs().mean() > 1


def test_act_is_the_action_of_a_group():
    x, features = draw(1, 2, 4, 3), draw(1, 2, 8, 4, 3)
    tables = []
    for value in (x, features):
        images = [act(value, g, "p4m") for g in range(8)]
        table = {}
        for g, h in itertools.product(range(8), repeat=2):
            found = act(act(value, h, "p4m"), g, "p4m")
            same = [i for i, image in enumerate(images) if near(found, image)]
            assert len(same) == 1
            table[g, h] = same[0]
        tables.append(table)
    assert tables[0] == tables[1]
    assert tables[0][1, 1] == 2 and tables[0][4, 4] == 0
    assert tables[0][1, 4] != tables[0][4, 1]


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("shape", [(2, 2, 8, 8), (1, 2, 7, 10)])
def test_the_network_commutes_with_the_group(group, shape):
    model, x = network(group), draw(*shape)
    y = model(x)
    for element in range(order(group)):
        assert near(model(act(x, element, group)), act(y, element, group))


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("mode", ["max", "mean"])
def test_pooled_features_turn_with_the_image(group, mode):
    model, x = network(group, GroupPool(mode)), draw(2, 2, 8, 8)
    y = model(x)
    for element in range(order(group)):
        turned = model(act(x, element, group))
        assert near(turned, act(y, element, group))
        assert near(turned.mean((2, 3)), y.mean((2, 3)))


def test_float32_commutes_to_its_rounding():
    model, x = network("p4m").float(), draw(2, 2, 8, 8).float()
    y = model(x)
    for element in range(8):
        assert near(model(act(x, element, "p4m")), act(y, element, "p4m"), 1e-5)


def test_a_stride_that_fits_keeps_it_and_another_does_not():
    for size, keeps in ((9, True), (8, False)):
        model = nn.Sequential(LiftingConv2d(1, 2, 3, stride=2), GroupConv2d(2, 2, 1))
        model.double()
        x = draw(1, 1, size, size)
        assert near(model(act(x, 1)), act(model(x), 1)) is keeps


def test_p4m_differs_from_p4_under_a_flip():
    model, x = network("p4", GroupPool()), draw(1, 2, 8, 8)
    flipped = nnlib.flip(x, (-1,))
    assert not near(model(flipped).mean((2, 3)), model(x).mean((2, 3)), 1e-3)


@pytest.mark.parametrize("group", GROUPS)
def test_group_convolution_equals_its_definition(group):
    layer = GroupConv2d(2, 3, 3, padding=1, group=group).double()
    x = draw(1, 2, order(group), 5, 5)
    y = layer(x)
    for g in range(order(group)):
        # The filter under g, by the action on feature maps.
        turned = act(layer.weight.detach(), g, group)
        wanted = F.conv2d(x.flatten(1, 2), turned.flatten(1, 2), layer.bias, padding=1)
        assert near(y[:, :, g], wanted)


def test_gradients():
    lift, layer = (
        LiftingConv2d(1, 2, 3, padding=1).double(),
        GroupConv2d(2, 1, 3, group="p4").double(),
    )
    x = draw(1, 1, 4, 4).requires_grad_()
    assert gradcheck(lambda x: layer(lift(x).tanh()), (x,))
    for part in (lift, layer):
        weight = part.weight
        part.zero_grad()
        layer(lift(x).tanh()).square().sum().backward()
        direction = draw(*weight.shape)
        values = []
        for step in (1e-5, -2e-5):
            with nnlib.no_grad():
                weight += step * direction
            values.append(layer(lift(x).tanh()).square().sum().item())
        slope = (values[0] - values[1]) / 2e-5
        assert slope == pytest.approx((weight.grad * direction).sum().item(), 1e-6)


def test_parameters_state_and_text():
    layer = GroupConv2d(3, 5, 3, padding=1, group="p4m")
    assert set(layer.state_dict()) == {"weight", "bias"}
    assert tuple(layer.weight.shape) == (5, 3, 8, 3, 3)
    assert tuple(layer.filters().shape) == (40, 24, 3, 3)
    assert repr(layer) == (
        "GroupConv2d(3, 5, kernel_size=3, stride=1, padding=1, bias=True, group='p4m')"
    )
    assert repr(GroupPool()) == "GroupPool(mode='max')"
    assert tuple(layer(nnlib.zeros(0, 3, 8, 4, 4)).shape) == (0, 5, 8, 4, 4)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: LiftingConv2d(1, 2, 3, group="p6"), Error, "'p6'"),
        (lambda: LiftingConv2d(0, 2, 3), ShapeError, "in_channels"),
        (lambda: LiftingConv2d(1, 2, 3, padding=(1, 0)), Error, "padding: expected an"),
        (lambda: LiftingConv2d(1, 2, 3, stride=0), ShapeError, "stride: expected at l"),
        (lambda: GroupPool("sum"), Error, "'sum'"),
        (lambda: GroupPool()(nnlib.zeros(1, 2, 3, 3)), ShapeError, r"\(1, 2, 3, 3\)"),
        (
            lambda: LiftingConv2d(3, 2, 3)(nnlib.zeros(1, 1, 5, 5)),
            ShapeError,
            r"expected \(N, 3, H, W\), got \(1, 1, 5, 5\)",
        ),
        (
            lambda: GroupConv2d(3, 2, 3)(nnlib.zeros(1, 3, 8, 5, 5)),
            ShapeError,
            r"expected \(N, C, 4, H, W\), got \(1, 3, 8, 5, 5\)",
        ),
        (
            lambda: GroupConv2d(3, 2, 3)(nnlib.zeros(1, 2, 4, 5, 5)),
            ShapeError,
            "2 channels, expected 3",
        ),
        (lambda: act(nnlib.zeros(2, 2), 0), ShapeError, r"\(2, 2\)"),
        (lambda: act(nnlib.zeros(1, 1, 2, 2), 4), ShapeError, "0 to 3, got 4"),
    ],
)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()
