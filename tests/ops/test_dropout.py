"""Dropout: how often, which, and that the backward pass makes the same mask."""

from __future__ import annotations

import math

import numpy as np
import pytest

import nnlib
import nnlib.nn.functional as F
from nnlib.backend.random import Generator


@pytest.fixture(autouse=True)
def seed() -> None:
    nnlib.backend.random.manual_seed(11)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_drops_with_probability_p_and_keeps_the_mean(p: float) -> None:
    count = 200_000
    y = F.dropout(nnlib.tensor(np.ones(count, np.float32)), p).numpy()
    error = math.sqrt(p * (1 - p) / count)
    assert abs((y == 0).mean() - p) < 5 * error
    np.testing.assert_allclose(y[y != 0], 1 / (1 - p), 1e-6)


def test_backward_uses_the_same_mask_and_keeps_none() -> None:
    x = nnlib.tensor(np.ones((300, 70)), requires_grad=True)
    y = F.dropout(x, 0.3)
    assert y.grad_fn is not None and not y.grad_fn._saved
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.detach().numpy())


def test_each_call_draws_anew_and_a_seed_repeats() -> None:
    x = nnlib.tensor(np.ones(1000))
    first, second = F.dropout(x).numpy(), F.dropout(x).numpy()
    assert (first != second).any()
    nnlib.backend.random.manual_seed(11)
    np.testing.assert_array_equal(F.dropout(x).numpy(), first)
    own = Generator().manual_seed(11)
    np.testing.assert_array_equal(F.dropout(x, generator=own).numpy(), first)


def test_the_mask_does_not_depend_on_dtype_or_layout() -> None:
    x = np.ones((40, 30))
    masks = []
    for array in (x, x.astype(np.float32), x.astype(np.float16), np.ones((30, 40)).T):
        own = Generator().manual_seed(5)
        masks.append(F.dropout(nnlib.from_numpy(array), generator=own).numpy() != 0)
    for mask in masks[1:]:
        np.testing.assert_array_equal(mask, masks[0])


def test_evaluation_returns_the_input_itself() -> None:
    x = nnlib.tensor([1.0, 2.0])
    assert F.dropout(x, 0.5, False) is x
    assert F.alpha_dropout(x) is x


def test_in_place() -> None:
    x = nnlib.tensor(np.ones(100))
    assert F.dropout(x, 0.5, inplace=True) is x
    assert set(x.tolist()) == {0.0, 2.0}
    y = nnlib.tensor(np.ones((10, 10)))
    assert F.dropout1d(y, 0.5, inplace=True) is y
    assert all(len(set(row)) == 1 for row in y.tolist())
    z = nnlib.tensor(np.ones(100))
    assert F.alpha_dropout(z, 0.5, True, True) is z


def test_alpha_dropout_keeps_mean_and_variance() -> None:
    x = np.random.default_rng(0).standard_normal(200_000)
    y = F.alpha_dropout(nnlib.tensor(x), 0.2, training=True).numpy()
    assert abs(y.mean()) < 0.02
    assert abs(y.std() - 1) < 0.02
    gone = F.alpha_dropout(nnlib.tensor(x[:9]), 1.0, training=True)
    np.testing.assert_array_equal(gone.numpy(), 0)


def test_whole_channels_go() -> None:
    y = F.dropout2d(nnlib.tensor(np.ones((50, 40, 3, 2)))).numpy()
    assert set(np.unique(y)) == {0.0, 2.0}
    np.testing.assert_array_equal(y.min((2, 3)), y.max((2, 3)))
    assert 0.4 < (y[:, :, 0, 0] == 0).mean() < 0.6


def test_rrelu_draws_a_slope_for_each_element() -> None:
    x = nnlib.tensor(-np.ones(2000), requires_grad=True)
    y = F.rrelu(x, 0.2, 0.4, training=True)
    slopes = -y.detach().numpy()
    assert 0.2 <= slopes.min() < 0.21 and 0.39 < slopes.max() <= 0.4
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), slopes)
    z = nnlib.tensor([-1.0, 2.0])
    assert F.rrelu_(z, 0.5, 0.5) is z
    assert z.tolist() == [-0.5, 2.0]
