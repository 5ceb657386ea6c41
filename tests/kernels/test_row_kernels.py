"""Kernels along rows and by channels: odd sizes, `out=`, non-finite rows, threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nnlib
from nnlib import kernels

Array = np.ndarray[Any, Any]
ERROR = {"f4": 3e-5, "f8": 1e-11}


def draw(seed: int, *shape: int, dtype: str = "f4") -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("shape", [(5, 3), (70, 64), (130, 117), (3, 5000), (1, 16)])
def test_normal_rows(shape: tuple[int, int], dtype: str, centred: bool) -> None:
    rows, error = kernels.normalization_rows, ERROR[dtype]
    x = draw(0, *shape, dtype=dtype) * 2 + (30 if centred else 0)
    x = x.astype(dtype)
    g = draw(1, *shape, dtype=dtype)
    weight, bias = draw(2, 2, shape[1], dtype=dtype)
    wide = x.astype("f8")
    middle = wide.mean(1, keepdims=True) if centred else 0.0
    scale = 1 / np.sqrt(((wide - middle) ** 2).mean(1, keepdims=True) + 1e-5)
    normal = (wide - middle) * scale
    out = np.full_like(x, np.nan)
    y, *stats = rows.forward(x, weight, bias, 1e-5, centred, out)
    assert y is out
    np.testing.assert_allclose(y, normal * weight + bias, error, error)
    out = np.full_like(x, np.nan)
    dx, dw, db = rows.backward(g, x, weight, *stats, centred, out)
    assert dx is out
    p = g * weight
    expected = p - normal * (p * normal).mean(1, keepdims=True)
    if centred:
        expected -= p.mean(1, keepdims=True)
    np.testing.assert_allclose(dx, expected * scale, 3 * error, 5 * error)
    np.testing.assert_allclose(dw, (g * normal).sum(0), error, 20 * error)
    np.testing.assert_allclose(db, g.sum(0), error, 10 * error)
    with pytest.raises(nnlib.ShapeError, match="out is"):
        rows.forward(x, weight, bias, 1e-5, centred, out[:, 1:])


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("count", [24, 129, 768])
def test_rows_of_one_large_number(count: int, dtype: str) -> None:
    x = np.full((70, count), 1e17, dtype)
    x[3, 2] = np.nan
    weight, bias = np.ones(count, dtype), np.full(count, 0.5, dtype)
    y, means, scales = kernels.normalization_rows.forward(x, weight, bias, 1e-5)
    assert np.isnan(y[3]).all() and np.isnan(scales[3])
    rest = np.delete(np.arange(70), 3)
    np.testing.assert_array_equal(y[rest], 0.5)
    np.testing.assert_allclose(means[rest], 1e17, 1e-6)


SETS = [(1, 7, 3), (2, 1000, 64), (1, 5000, 6), (3, 300, 130), (1, 129, 512), (4, 1, 5)]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("shape", SETS)
def test_by_channels(shape: tuple[int, int, int], dtype: str) -> None:
    norm, error = kernels.normalization, ERROR[dtype] / 3
    sets, rows, channels = shape
    x = (draw(0, *shape, dtype=dtype) * 2 + 50).astype(dtype)
    g = draw(1, *shape, dtype=dtype)
    mean, var = norm.moments(x)
    wide = x.astype("f8")
    np.testing.assert_allclose(mean, wide.mean(1), error)
    np.testing.assert_allclose(var, wide.var(1), 10 * error, error)
    a, k, c = draw(2, 3, sets, channels, dtype=dtype)
    away = wide - mean[:, None]
    np.testing.assert_allclose(
        norm.normalize(x, mean, a, k), away * a[:, None] + k[:, None], error, error
    )
    plain, weighted = norm.gradient_sums(g, x, mean)
    np.testing.assert_allclose(plain, g.astype("f8").sum(1), error, error * rows)
    np.testing.assert_allclose(weighted, (g * away).sum(1), error, error * rows)
    np.testing.assert_allclose(
        norm.input_gradient(g, x, mean, a, k, c),
        a[:, None] * g + k[:, None] * away + c[:, None],
        error,
        10 * error,
    )


def test_far_from_zero() -> None:
    x = (draw(0, 1, 20000, 7) + 10000).astype("f4")
    _, var = kernels.normalization.moments(x)
    np.testing.assert_allclose(var, x.astype("f8").var(1), 1e-4)


@pytest.mark.parametrize("rows", [5, 80])
def test_cross_entropy_of_rows_that_are_not_finite(rows: int) -> None:
    x = np.zeros((rows, 20), "f4")
    x[0, 3], x[1, 3], x[2] = np.nan, np.inf, -np.inf
    x[3, 1:] = -np.inf
    x[4] = np.linspace(0, -300, 20)
    target = np.zeros(rows, np.int64)
    loss, lse, _ = kernels.softmax_cross_entropy.forward(x, target)
    assert np.isnan(loss[:3]).all() and loss[3] == 0
    grad = kernels.softmax_cross_entropy.backward(x, target, lse, np.ones(1, "f4"))
    assert np.isnan(grad[:3]).all() and not grad[3].any()
    share = np.exp(x[4].astype("f8") - lse[4])
    share[0] -= 1
    np.testing.assert_allclose(grad[4], share, 1e-5, 1e-7)


@pytest.mark.parametrize("bits", [0x7FC00001, 0xFFC001FF, 0x7FC000FE])
def test_a_nan_with_any_bits_stays_one(bits: int) -> None:
    x = np.zeros((40, 20), "f4")
    x.view("u4")[[5, 38], 3] = bits
    odd = np.isnan(x).any(1)
    loss, lse, _ = kernels.softmax_cross_entropy.forward(x, np.zeros(40, np.int64))
    for found in (loss, lse, *kernels.softmax.softmax(x).T):
        np.testing.assert_array_equal(np.isnan(found), odd)


def test_results_do_not_depend_on_threads() -> None:
    x, g = draw(0, 3000, 70), draw(1, 3000, 70)
    weight, target = np.ones(70, "f4"), np.arange(3000) % 70
    threads = nnlib.get_num_threads()
    found = []
    try:
        for count in (1, 2, 2):
            nnlib.set_num_threads(count)
            y, *stats = kernels.normalization_rows.forward(x, weight, weight, 1e-5)
            back = kernels.normalization_rows.backward(g, x, weight, *stats)
            mean, var = kernels.normalization.moments(x[None])
            sums = kernels.normalization.gradient_sums(g[None], x[None], mean)
            loss, lse, _ = kernels.softmax_cross_entropy.forward(x, target)
            found.append((y, *stats, *back, mean, var, *sums, loss, lse))
    finally:
        nnlib.set_num_threads(threads)
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one, two)
