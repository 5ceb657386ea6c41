"""Convolution kernels against sums written out, and one another."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nnlib.backend.errors import DTypeError
from nnlib.kernels import convolution as kernel
from nnlib.kernels import (
    depthwise,
    depthwise_bands,
    direct,
    direct_grad,
    strided,
    winograd,
    winograd_grad,
)
from nnlib.kernels.channels import images_of
from nnlib.kernels.convolution_plan import forward_plan, input_grad_plans
from nnlib.kernels.unfold import fold, unfold

PAIR, NONE = (1, 1), (0, 0)
TOLERANCE = {"float32": 1e-5, "float64": 1e-13}


def written_out(x, w, before, out):
    """Sum a 3x3 convolution of stride 1 tap by tap, in float64."""
    padded = np.pad(x.astype("f8"), [(0, 0), (0, 0), (before, 3), (before, 3)])
    return sum(
        np.einsum(
            "nchw,kc->nkhw",
            padded[:, :, a : a + out[0], b : b + out[1]],
            w[:, :, a, b].astype("f8"),
        )
        for a, b in itertools.product(range(3), range(3))
    )


def close(got, want, dtype):
    scale = np.abs(want).max()
    np.testing.assert_allclose(got, want, 0, TOLERANCE[dtype] * scale)


# Sizes round the tiles' edges; channels round the vectors' and tiles'.
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "n,c,k,h,w,before",
    [
        (1, 16, 16, 4, 4, 1),
        (2, 33, 40, 9, 6, 0),
        (3, 40, 17, 5, 11, 1),
        (2, 18, 70, 6, 7, 1),
    ],
)
def test_winograd_equals_the_sum_and_the_direct_form(rng, dtype, n, c, k, h, w, before):
    x = rng.standard_normal((n, c, h + 2, w + 2)).astype(dtype)
    weight = rng.standard_normal((k, c, 3, 3)).astype(dtype)
    bias = rng.standard_normal(k).astype(dtype)
    out = (h + 2 * before, w + 2 * before)
    plan = forward_plan((1, *out), (1, 3, 3), (1,) * 3, (0, before, before), (1,) * 3)
    a = images_of(x)
    assert winograd.fits(plan, a, k)
    want = written_out(x, weight, before, out) + bias.reshape(-1, 1, 1)
    split = weight.reshape(1, k, c, 9).swapaxes(1, 2)
    for run in (
        lambda y: winograd.correlate(plan, a, split[0], bias, y),
        lambda y: direct.correlate((plan,), a, split, bias, y),
    ):
        y = np.empty((n, 1, *out, k), dtype)
        run(y)
        close(y[:, 0].transpose(0, 3, 1, 2), want, dtype)
    g = rng.standard_normal((n, k, *out)).astype(dtype)
    g = images_of(g)
    found = []
    for run in (winograd_grad.weight_grad, direct_grad.weight_grad):
        dw = np.empty((1, k, c, 9), dtype)
        run(plan, a, g, dw)
        found.append(dw)
    close(found[0], found[1], dtype)


# Sizes round the tiles' edges, paddings of none to whole windows, channels round the
# vectors.
@pytest.mark.parametrize(
    ("dtype", "n", "c", "k", "h", "w", "before"),
    [
        ("float32", 70, 16, 32, 4, 5, 1),
        ("float32", 2, 33, 40, 9, 6, 0),
        ("float32", 3, 40, 17, 7, 11, 2),
        ("float32", 1, 16, 16, 3, 3, 3),
        ("float64", 2, 17, 70, 6, 3, 1),
        ("float64", 5, 24, 16, 8, 12, 1),
    ],
)
def test_stride_two_by_phases_equals_the_sum(rng, dtype, n, c, k, h, w, before):
    x = rng.standard_normal((n, c, h, w)).astype(dtype)
    x[0, 1, -1, 0] = np.inf
    weight = rng.standard_normal((k, c, 3, 3)).astype(dtype)
    bias = rng.standard_normal(k).astype(dtype)
    ones = tuple(size + 2 * before - 2 for size in (h, w))
    want = written_out(np.nan_to_num(x, posinf=0), weight, before, ones)
    want = want[:, :, ::2, ::2] + bias.reshape(-1, 1, 1)
    holds = written_out(np.isinf(x), np.ones_like(weight), before, ones)[:, :, ::2, ::2]
    out = want.shape[2:]
    pads = (before, before)
    plan = forward_plan(out, (3, 3), (2, 2), pads, PAIR)
    y = np.empty((n, 1, *out, k), dtype)
    split = weight.reshape(k, c, 9).swapaxes(0, 1)
    strided.correlate(plan, images_of(x), split, bias, y)
    y = y[:, 0].transpose(0, 3, 1, 2)
    assert not np.isfinite(y[holds > 0]).any()
    # Beyond the windows that hold it, one value that is not finite reaches their tiles.
    apart = np.isfinite(y)
    assert apart.all(axis=1)[1:].all()
    assert (~apart).sum() <= 16 * k
    close(y[apart], want[apart], dtype)


def test_stride_two_goes_by_phases_where_that_pays(rng, monkeypatch):
    taken = []
    for way in (strided, direct):
        monkeypatch.setattr(
            way, "correlate", lambda *args, way=way: taken.append(way.__name__)
        )
    for n, c, k, stride in [(32, 16, 32, 2), (1, 16, 16, 2), (32, 16, 32, 3)]:
        x = np.zeros((n, c, 12, 12), np.float32)
        w = np.zeros((k, c, 3, 3), np.float32)
        out = (12 // stride,) * 2
        kernel.convolve(x, w, None, out, (stride, stride), PAIR, PAIR, 1)
    assert [name.rpartition(".")[2] for name in taken] == [
        "strided",
        "direct",
        "direct",
    ]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "n,k,h,w,c,kh,kw,before",
    [
        (2, 16, 10, 10, 6, 5, 5, (0, 0)),
        (3, 40, 5, 7, 3, 3, 3, (1, 0)),
        (1, 17, 4, 1, 1, 3, 5, (2, 0)),
        (2, 33, 3, 11, 13, 1, 3, (0, 0)),
        (1, 20, 1, 2, 5, 2, 4, (0, 0)),
    ],
)
def test_taps_as_filters(rng, dtype, n, k, h, w, c, kh, kw, before):
    # The gradient by an unpadded input of few channels: each of g's pixels is added
    # to the outputs of its window.
    g = rng.standard_normal((n, k, h, w)).astype(dtype)
    g[0, 0, 0, -1] = np.nan
    weight = rng.standard_normal((k, c, kh, kw)).astype(dtype)
    bias = rng.standard_normal(c).astype(dtype)
    want = np.zeros((n, c, h + kh - 1, w + kw - 1))
    for a, b in itertools.product(range(kh), range(kw)):
        each = np.einsum("nkhw,kc->nchw", g.astype("f8"), weight[:, :, a, b])
        want[:, :, a : a + h, b : b + w] += each
    want = want[:, :, before[0] : want.shape[2] - before[0]]
    want += bias.reshape(-1, 1, 1)
    size = want.shape[2:]
    got = kernel.input_grad(g, weight, bias, size, PAIR, before, PAIR, 1)
    assert np.array_equal(np.isnan(got), np.isnan(want))
    close(np.nan_to_num(got), np.nan_to_num(want), dtype)


def test_one_by_one_is_a_product_of_matrices(rng):
    x = rng.standard_normal((2, 5, 3, 4))
    w = rng.standard_normal((7, 5, 1, 1))
    y = kernel.convolve(x, w, None, (3, 4), PAIR, NONE, PAIR, 1)
    np.testing.assert_allclose(y, np.einsum("nchw,kc->nkhw", x, w[..., 0, 0]), 1e-12)


@pytest.mark.parametrize("stride,size,kernel_size", [(1, 6, 3), (3, 7, 2), (2, 5, 4)])
def test_phases_cover_each_input_once(stride, size, kernel_size):
    plans = input_grad_plans(
        (1, 1, size), (1, 1, kernel_size), (1, 1, stride), (0, 0, 1), (1, 1, 1)
    )
    places = [p.start[2] + p.step[2] * q for p in plans for q in range(p.grid[2])]
    assert sorted(places) == list(range(size))
    assert sum(p.order.size for p in plans) == kernel_size


def test_fold_is_the_transpose_of_unfold(rng):
    args = ((3, 2), (2, 3), (1, 2), (1, 1), (2, 1))
    x = rng.standard_normal((2, 3, 3, 4))
    columns = unfold(x, *args)
    other = rng.standard_normal(columns.shape)
    back = fold(other, (3, 4), *args)
    np.testing.assert_allclose((columns * other).sum(), (x * back).sum(), 1e-12)


def test_half_floats_are_computed_in_float32(rng):
    x = rng.standard_normal((1, 3, 5, 5)).astype("f2")
    w = rng.standard_normal((4, 3, 3, 3)).astype("f2")
    y = kernel.convolve(x, w, None, (3, 3), PAIR, NONE, PAIR, 1)
    wide = kernel.convolve(
        x.astype("f4"), w.astype("f4"), None, (3, 3), PAIR, NONE, PAIR, 1
    )
    assert y.dtype == np.float16
    np.testing.assert_array_equal(y, wide.astype("f2"))


def test_bad_dtypes():
    x, w = np.zeros((1, 1, 3, 3)), np.zeros((1, 1, 2, 2), np.float32)
    with pytest.raises(DTypeError, match="convolve: expected one dtype, x is float64"):
        kernel.convolve(x, w, None, (2, 2), PAIR, NONE, PAIR, 1)
    with pytest.raises(DTypeError, match="weight_grad: expected a floating dtype"):
        x = np.zeros((1, 1, 3, 3), np.int64)
        kernel.weight_grad(x, x, (1, 1), PAIR, NONE, PAIR, 1)


# Heights and widths round the blocks; channels of whole vectors and not; both strides;
# padding of none, half and all of a line's taps.
@pytest.mark.parametrize(
    ("dtype", "n", "c", "size", "kernel_size", "stride", "before"),
    [
        ("float32", 2, 32, (5, 9), (3, 3), 1, 1),
        ("float32", 1, 35, (8, 15), (3, 3), 2, 1),
        ("float32", 3, 64, (4, 4), (2, 3), 1, 2),
        ("float32", 1, 17, (1, 1), (3, 3), 1, 1),
        ("float32", 2, 16, (9, 5), (3, 3), 1, 2),
        ("float32", 1, 20, (6, 7), (3, 3), 1, 0),
        ("float32", 1, 16, (7, 6), (1, 5), 2, 0),
        ("float64", 2, 19, (6, 11), (3, 3), 1, 1),
        ("float64", 1, 16, (9, 8), (3, 3), 2, 1),
    ],
)
def test_depthwise_blocks_equal_bands(
    rng, dtype, n, c, size, kernel_size, stride, before
):
    pads, steps = (before, before), (stride, stride)
    out = tuple(
        (length + 2 * before - k) // stride + 1
        for length, k in zip(size, kernel_size, strict=True)
    )
    plan = forward_plan(out, kernel_size, steps, pads, PAIR)
    back = input_grad_plans(size, kernel_size, steps, pads, PAIR)
    x = rng.standard_normal((n, 1, *size, c)).astype(dtype)
    g = rng.standard_normal((n, 1, *out, c)).astype(dtype)
    w = rng.standard_normal((c, kernel_size[0] * kernel_size[1])).astype(dtype)
    bias = rng.standard_normal(c).astype(dtype)
    assert depthwise._cut(plan.key, size[1], x.dtype, False) is not None
    found = []
    for module in (depthwise, depthwise_bands):
        y, dx, dw = np.empty_like(g), np.empty_like(x), np.empty_like(w)
        module.correlate((plan,), x, w, bias, y, 1)
        module.correlate(back, g, w, bias[:0], dx, 1)
        module.weight_grad(plan, x, g, dw)
        found.append((y, dx, dw))
    for got, want in zip(*found, strict=True):
        close(got, want, dtype)


def test_depthwise_of_what_outgrows_the_caches_is_the_same(rng, monkeypatch):
    x, g = rng.standard_normal((2, 2, 16, 9, 24), dtype="f4").transpose(0, 1, 4, 2, 3)
    w = rng.standard_normal((24, 1, 3, 3), dtype="f4")
    found = []
    for large in (False, True):
        monkeypatch.setattr(depthwise, "outgrows_caches", lambda count, so=large: so)
        way = PAIR, PAIR, PAIR, 24
        y = kernel.convolve(x, w, None, (16, 9), *way)
        found.append((y, kernel.weight_grad(x, g, (3, 3), *way)))
    for few, many in zip(*found, strict=True):
        np.testing.assert_array_equal(few, many)


@pytest.mark.parametrize(("c", "most"), [(16, 1.5e-6), (512, 6e-6)])
def test_winograds_error_is_what_the_docs_say(rng, c, most):
    x = rng.standard_normal((2, c, 14, 14), dtype="f4")
    weight = rng.standard_normal((32, c, 3, 3), dtype="f4")
    want = written_out(x, weight, 1, (14, 14))

    plan = forward_plan((14, 14), (3, 3), PAIR, PAIR, PAIR)
    assert winograd.fits(plan, images_of(x), 32)

    def error(w, pads):
        got = kernel.convolve(x, w, None, (14, 14), PAIR, pads, PAIR, 1)
        return np.sqrt(np.mean((got - want) ** 2) / np.mean(want**2))

    # Five by five goes the direct way.
    framed = np.pad(weight, [(0, 0), (0, 0), (1, 1), (1, 1)])
    direct_error = error(framed, (2, 2))
    found = error(weight, PAIR)
    assert direct_error < found < most and found < 6 * direct_error


# Winograd, by phases and depthwise: enough images for several threads.
@pytest.mark.parametrize(
    ("c", "groups", "stride"), [(32, 1, 1), (16, 1, 2), (32, 32, 1)]
)
def test_equal_bits_from_run_to_run(rng, c, groups, stride):
    x = rng.standard_normal((16, c, 12, 12)).astype("f4")
    w = rng.standard_normal((32, c // groups, 3, 3)).astype("f4")
    way = ((stride, stride), PAIR, PAIR, groups)
    out = (12 // stride,) * 2
    g = kernel.convolve(x, w, None, out, *way)

    def run():
        return (
            kernel.convolve(x, w, None, out, *way),
            kernel.input_grad(g, w, None, (12, 12), *way),
            kernel.weight_grad(x, g, (3, 3), *way),
        )

    for first, second in zip(run(), run(), strict=True):
        assert np.array_equal(first, second)
