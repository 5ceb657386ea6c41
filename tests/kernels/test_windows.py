"""Kernels over windows: `out=`, NaN, channels in whole and part vectors, threads."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nnlib
from nnlib import kernels
from nnlib.kernels.windows import (
    adaptive,
    adaptive_mean,
    interpolated,
    plan,
    sliding,
    sliding_mean,
)

Array = np.ndarray[Any, Any]
MAXIMA = plan(sliding, (6, 3, 3, 2, 1, 1), (7, 4, 2, 2, 1, 1))
MEANS = plan(sliding_mean, (6, 3, 3, 2, 1), (7, 4, 2, 2, 1))
TWICE = plan(
    interpolated, (6, 12, "linear", False, None), (7, 14, "linear", False, None)
)
# Windows that overlap so much that rows are added up first.
LARGE = plan(sliding_mean, (6, 6, 5, 1, 2), (7, 7, 5, 1, 2))


def images(channels: int, dtype: str = "f4") -> Array:
    rng = np.random.default_rng(channels)
    return rng.standard_normal((2, channels, 6, 7)).astype(dtype)


def reference(x: Array, windows: Any, reduce: Callable[..., Array]) -> Array:
    """Reduce the windows of a (N, C, H, W) array pixel by pixel."""
    _, rows, columns = windows.axes
    y = np.empty((*x.shape[:2], *windows.outputs[1:]), x.dtype)
    for h in range(windows.outputs[1]):
        for w in range(windows.outputs[2]):
            tall = slice(*rows.ptr[h : h + 2])
            wide = slice(*columns.ptr[w : w + 2])
            pixels = x[:, :, rows.index[tall][:, None], columns.index[wide]]
            weights = rows.value[tall][:, None] * columns.value[wide]
            y[:, :, h, w] = reduce(pixels, weights)
    return y


def top(pixels: Array, _: Array) -> Array:
    return pixels.max((2, 3))


def mean(pixels: Array, weights: Array) -> Array:
    return (pixels * weights).sum((2, 3))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("channels", [1, 5, 16, 17, 33, 64, 117])
def test_any_number_of_channels(channels: int, dtype: str) -> None:
    x = images(channels, dtype)
    expected = reference(x, MAXIMA, top)
    y, places = kernels.pooling.max_pool(x, MAXIMA)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(kernels.pooling.max_pool_values(x, MAXIMA), expected)
    back = kernels.pooling.max_pool_backward(np.ones_like(y), places, MAXIMA)
    assert back.sum() == y.size
    np.testing.assert_allclose((back * x).sum(), y.sum(), 1e-4)
    for windows in (MEANS, LARGE, TWICE):
        np.testing.assert_allclose(
            kernels.resize.resample(x, windows), reference(x, windows, mean),
            2e-6, 1e-6,
        )  # fmt: skip


def calls() -> dict[str, tuple[Callable[..., Any], tuple[int, ...]]]:
    x = images(20)
    y, places = kernels.pooling.max_pool(x, MAXIMA)
    pooling, resize = kernels.pooling, kernels.resize
    return {
        "values": (lambda out: pooling.max_pool_values(x, MAXIMA, out), y.shape),
        "backward": (
            lambda out: pooling.max_pool_backward(y, places, MAXIMA, out), x.shape
        ),
        "mean": (lambda out: resize.resample(x, MEANS, out), y.shape),
        "mean, apart": (lambda out: resize.resample(x, LARGE, out), x.shape),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["values", "backward", "mean", "mean, apart"])
def test_out_of_any_strides(name: str) -> None:
    run, shape = calls()[name]
    expected = run(None)
    n, c, h, w = shape
    last = np.full((n, h, w, c), np.nan, "f4").transpose(0, 3, 1, 2)
    wide = np.full((n, c, h, 2 * w), np.nan, "f4")
    for out in (last, np.full(shape, np.nan, "f4"), wide[..., ::2]):
        assert run(out) is out
        np.testing.assert_array_equal(out, expected)
    assert np.isnan(wide[..., 1::2]).all()
    for wrong in (np.empty((n, c, h, w + 1), "f4"), np.empty(shape, "f8")):
        with pytest.raises(nnlib.ShapeError, match="out is float"):
            run(wrong)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("channels", [1, 5, 16, 64, 117])
def test_streamed_results_have_the_same_bits(
    channels: int, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = images(channels, dtype)
    y, places = kernels.pooling.max_pool(x, MAXIMA)

    def backward(out: Array | None) -> Array:
        return kernels.pooling.max_pool_backward(y, places, MAXIMA, out)

    runs = [
        functools.partial(kernels.resize.resample, x, windows)
        for windows in (MEANS, LARGE, TWICE)
    ]
    for run in (*runs, backward):
        expected = run(None)
        n, c, h, w = expected.shape
        with monkeypatch.context() as patch:
            patch.setattr(kernels.channels, "outgrows_caches", lambda count: True)
            for start in (0, 3):
                memory = np.full(expected.size + 8, np.nan, dtype)
                room = memory[start : start + expected.size]
                out = room.reshape(n, h, w, c).transpose(0, 3, 1, 2)
                run(out)
                np.testing.assert_array_equal(out, expected)
                assert np.isnan(memory).sum() == 8


def test_out_of_maxima_with_places() -> None:
    x = images(20)
    y, places = kernels.pooling.max_pool(x, MAXIMA)
    out = np.empty(y.shape, "f4"), np.empty(y.shape, "u1")
    assert kernels.pooling.max_pool(x, MAXIMA, out)[1] is out[1]
    np.testing.assert_array_equal(out[0], y)
    np.testing.assert_array_equal(out[1], places)
    with pytest.raises(nnlib.ShapeError, match="expected uint8"):
        kernels.pooling.max_pool(x, MAXIMA, (out[0], np.empty(y.shape, "i4")))


@pytest.mark.parametrize("channels", [3, 70])
def test_nan_and_infinity(channels: int) -> None:
    x = images(channels)
    x[0, 1, 2, 3] = np.nan
    x[1, 2, 4, 4] = np.inf
    x[0, 0] = -np.inf
    y, places = kernels.pooling.max_pool(x, MAXIMA)
    np.testing.assert_array_equal(y, reference(x, MAXIMA, top))
    np.testing.assert_array_equal(y, kernels.pooling.max_pool_values(x, MAXIMA))
    held = kernels.pooling.max_pool_backward(np.ones_like(y), places, MAXIMA)
    assert held[0, 1, 2, 3] == np.isnan(y[0, 1]).sum() > 0
    # A window of -inf alone has its maximum at its first element.
    whole = plan(adaptive, (6, 1), (7, 1))
    assert kernels.pooling.max_pool(x, whole)[1][0, 0, 0, 0] == 0
    mean = kernels.resize.resample(x, plan(adaptive_mean, (6, 1), (7, 1)))
    assert np.isnan(mean[0, 1]) and mean[1, 2] == np.inf and mean[0, 0] == -np.inf


@pytest.mark.parametrize("channels", [5, 64, 83])
@pytest.mark.parametrize("kernel", [2, 3])
def test_the_last_nan_of_a_small_window_is_its_maximum(
    channels: int, kernel: int
) -> None:
    rng = np.random.default_rng(kernel)
    x = rng.standard_normal((2, 7, 8, channels)).astype("f4").transpose(0, 3, 1, 2)
    x[rng.random(x.shape) < 0.03] = np.nan
    x[rng.random(x.shape) < 0.03] = -np.inf
    height, width = (size // kernel for size in x.shape[2:])
    axes = [(n, m, kernel, kernel, 0, 1) for n, m in ((7, height), (8, width))]
    windows = plan(sliding, *axes)
    cut = x[..., : height * kernel, : width * kernel]
    held = cut.reshape(2, channels, height, kernel, width, kernel)
    held = held.transpose(0, 1, 2, 4, 3, 5).reshape(2, channels, height, width, -1)
    odd = np.isnan(held)
    last = kernel**2 - 1 - odd[..., ::-1].argmax(-1)
    expected = np.where(odd.any(-1), last, held.argmax(-1))
    y, places = kernels.pooling.max_pool(x, windows)
    np.testing.assert_array_equal(places, expected)
    np.testing.assert_array_equal(y, held.max(-1))
    np.testing.assert_array_equal(y, kernels.pooling.max_pool_values(x, windows))


def test_result_does_not_depend_on_threads() -> None:
    x = np.random.default_rng(0).standard_normal((3, 70, 40, 40)).astype("f4")
    windows = plan(sliding, (40, 20, 3, 2, 1, 1), (40, 20, 3, 2, 1, 1))
    means = plan(sliding_mean, (40, 40, 5, 1, 2), (40, 40, 5, 1, 2))
    threads = nnlib.get_num_threads()
    found = []
    try:
        for count in (1, 2, 2):
            nnlib.set_num_threads(count)
            y, places = kernels.pooling.max_pool(x, windows)
            back = kernels.pooling.max_pool_backward(y, places, windows)
            found.append((y, places, back, kernels.resize.resample(x, means)))
    finally:
        nnlib.set_num_threads(threads)
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


def test_more_than_256_taps() -> None:
    x = np.random.default_rng(0).standard_normal((1, 20, 17, 18))
    whole = plan(adaptive, (17, 1), (18, 1))
    y, places = kernels.pooling.max_pool(x, whole)
    assert places.dtype == np.int32
    flat = x.reshape(20, -1)
    np.testing.assert_array_equal(places.ravel(), flat.argmax(1))
    back = kernels.pooling.max_pool_backward(y, places, whole)
    np.testing.assert_array_equal(back.reshape(20, -1).argmax(1), flat.argmax(1))


def test_long_signals_have_tables_at_once_and_few_are_kept():
    for length in range(20_000, 20_030):
        axis = sliding(length, length - 2, 3, 1, 0, 1)
        assert axis.index[-1] == length - 1 and len(axis.ptr) == length - 1
        plan(interpolated, (length, 2 * length, "linear", False, None))
    assert sliding(10**6, 10**6, 3, 1, 1, 1).ptr[-1] == 3 * 10**6 - 2
    assert kernels.windows._long_plans.cache_info().currsize <= kernels.windows._FEW
