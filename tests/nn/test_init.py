"""Initial values: distributions, bounds, seeds."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from compare import needs_torch, torch

import nnlib
from nnlib.nn import Linear, init


def fresh(*shape: int, dtype: str = "float32") -> nnlib.Tensor:
    return nnlib.empty(*shape, dtype=dtype)


UNIFORM: list[tuple[str, dict[str, Any], float]] = [
    ("uniform_", {"a": -0.5, "b": 0.5}, 0.5),
    ("xavier_uniform_", {}, math.sqrt(6 / 500)),
    ("xavier_uniform_", {"gain": 2.0}, 2 * math.sqrt(6 / 500)),
    ("kaiming_uniform_", {}, math.sqrt(2) * math.sqrt(3 / 300)),
    ("kaiming_uniform_", {"a": math.sqrt(5)}, 1 / math.sqrt(300)),
    ("kaiming_uniform_", {"mode": "fan_out", "nonlinearity": "tanh"}, None),
    ("lecun_uniform_", {}, math.sqrt(3 / 300)),
]
NORMAL: list[tuple[str, dict[str, Any], float]] = [
    ("normal_", {"std": 0.3}, 0.3),
    ("xavier_normal_", {}, math.sqrt(2 / 500)),
    ("kaiming_normal_", {"nonlinearity": "relu"}, math.sqrt(2 / 300)),
    ("kaiming_normal_", {"mode": "fan_out"}, math.sqrt(2 / 200)),
    ("lecun_normal_", {}, math.sqrt(1 / 300)),
]


@pytest.mark.parametrize(("name", "options", "bound"), UNIFORM)
def test_uniform_rules(name: str, options: dict[str, Any], bound: float | None) -> None:
    nnlib.manual_seed(1)
    if bound is None:
        bound = 5 / 3 * math.sqrt(3 / 200)
    values = getattr(init, name)(fresh(200, 300), **options).numpy()
    assert values.min() >= -bound and values.max() <= bound
    np.testing.assert_allclose(values.std(), bound / math.sqrt(3), rtol=0.02)
    assert abs(values.mean()) < bound * 0.01


@pytest.mark.parametrize(("name", "options", "std"), NORMAL)
def test_normal_rules(name: str, options: dict[str, Any], std: float) -> None:
    nnlib.manual_seed(1)
    values = getattr(init, name)(fresh(200, 300), **options).numpy()
    np.testing.assert_allclose(values.std(), std, rtol=0.02)
    assert abs(values.mean()) < std * 0.02
    assert abs((values**4).mean() / std**4 - 3) < 0.2


def test_fans_count_the_receptive_field() -> None:
    nnlib.manual_seed(1)
    values = init.kaiming_normal_(fresh(64, 32, 3, 3), nonlinearity="linear").numpy()
    np.testing.assert_allclose(values.std(), 1 / math.sqrt(32 * 9), rtol=0.03)


@pytest.mark.parametrize(
    ("mean", "std", "a", "b"),
    [(0, 1, -2, 2), (0, 1, 3, 4), (0.5, 0.1, 0.4, 9.0), (0, 1, 7, 8), (0, 1, -9, -8)],
)
def test_truncated_normal(mean: float, std: float, a: float, b: float) -> None:
    from scipy import stats

    nnlib.manual_seed(1)
    values = init.trunc_normal_(fresh(20000, dtype="float64"), mean, std, a, b).numpy()
    assert values.min() >= a and values.max() <= b
    law = stats.truncnorm((a - mean) / std, (b - mean) / std, mean, std)
    assert stats.kstest(values, law.cdf).pvalue > 1e-3


def test_constants() -> None:
    assert init.constant_(fresh(3), 2.5).tolist() == [2.5] * 3
    assert init.ones_(fresh(2)).tolist() == [1, 1]
    assert init.zeros_(fresh(2)).tolist() == [0, 0]
    np.testing.assert_array_equal(init.eye_(fresh(2, 3)).numpy(), np.eye(2, 3))


@pytest.mark.parametrize("shape", [(4, 7), (7, 4), (5, 5), (6, 2, 3)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    values = init.orthogonal_(fresh(*shape, dtype="float64"), gain=2.0).numpy()
    matrix = values.reshape(shape[0], -1) / 2
    if matrix.shape[0] > matrix.shape[1]:
        matrix = matrix.T
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(len(matrix)), atol=1e-12)


def test_sparse() -> None:
    values = init.sparse_(fresh(50, 30), 0.31, std=0.5).numpy()
    assert ((values == 0).sum(0) == 16).all()
    np.testing.assert_allclose(values[values != 0].std(), 0.5, rtol=0.1)


def test_a_generator_gives_the_same_again() -> None:
    draws: list[Callable[[Any], Any]] = [
        lambda g: init.uniform_(fresh(9), generator=g),
        lambda g: init.trunc_normal_(fresh(9), generator=g),
        lambda g: init.orthogonal_(fresh(3, 3), generator=g),
        lambda g: init.sparse_(fresh(9, 3), 0.5, generator=g),
    ]
    for draw in draws:
        first = draw(nnlib.Generator().manual_seed(3)).numpy()
        again = draw(nnlib.Generator().manual_seed(3)).numpy()
        other = draw(nnlib.Generator().manual_seed(4)).numpy()
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_dtypes(dtype: str) -> None:
    weight = init.kaiming_uniform_(fresh(20, 30, dtype=dtype))
    assert str(weight.dtype) == dtype
    assert 0 < float(weight.double().abs().max()) < 0.5


def test_it_is_not_recorded() -> None:
    weight = Linear(3, 3).weight
    assert init.zeros_(weight) is weight and weight.is_leaf and weight.requires_grad


@needs_torch
def test_gains() -> None:
    for name in ("linear", "conv2d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"):
        want = torch.nn.init.calculate_gain(name)
        assert math.isclose(init.calculate_gain(name), want)
    assert math.isclose(
        init.calculate_gain("leaky_relu", 0.3),
        torch.nn.init.calculate_gain("leaky_relu", 0.3),
    )


def test_layers_begin_as_pytorchs_do() -> None:
    nnlib.manual_seed(0)
    layer = Linear(400, 300)
    for values in (layer.weight, layer.bias):
        array = values.detach().numpy()
        assert abs(array).max() <= 1 / 20
        np.testing.assert_allclose(array.std(), 1 / 20 / math.sqrt(3), rtol=0.08)


def test_bad_arguments() -> None:
    bad: list[tuple[Any, type[Exception], str]] = [
        (lambda: init.uniform_(fresh(2), 1, 0), nnlib.Error, "expected a <= b"),
        (lambda: init.normal_(fresh(2), std=-1), nnlib.Error, "std: expected at least"),
        (lambda: init.xavier_normal_(fresh(2)), nnlib.ShapeError, "at least 2 dimens"),
        (lambda: init.eye_(fresh(2)), nnlib.ShapeError, "expected 2 dimensions"),
        (lambda: init.zeros_([1]), nnlib.DTypeError, "expected a Tensor, got list"),
        (
            lambda: init.uniform_(nnlib.tensor([1])),
            nnlib.DTypeError,
            "expected a floating tensor, got int64",
        ),
        (
            lambda: init.kaiming_normal_(fresh(2, 2), mode="in"),
            nnlib.Error,
            "mode: expected 'fan_in' or 'fan_out'",
        ),
        (lambda: init.calculate_gain("x"), nnlib.Error, "nonlinearity: expected one"),
        (lambda: init.trunc_normal_(fresh(2), std=0), nnlib.Error, "std > 0"),
    ]
    for call, error, message in bad:
        with pytest.raises(error, match=message):
            call()


@needs_torch
def test_dirac() -> None:
    shapes = [((4, 2, 3), 2), ((3, 5, 3, 2), 1), ((5, 3, 1, 4, 3), 1), ((6, 2, 2), 3)]
    for shape, groups in shapes:
        want = torch.nn.init.dirac_(torch.empty(*shape), groups).numpy()
        np.testing.assert_array_equal(init.dirac_(fresh(*shape), groups).numpy(), want)
    with pytest.raises(nnlib.ShapeError, match="dirac_: expected 3 to 5 dimensions"):
        init.dirac_(fresh(2, 2))
    with pytest.raises(nnlib.ShapeError, match="dirac_: 3 output channels are not div"):
        init.dirac_(fresh(3, 2, 1), 2)
