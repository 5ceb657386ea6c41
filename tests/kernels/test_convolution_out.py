"""`out=` of the convolution kernels, and the cache size that their blocks follow."""

from __future__ import annotations

import numpy as np
import pytest

from nnlib.backend.errors import ShapeError
from nnlib.kernels import convolution, unfold
from nnlib.kernels.machinery.caches import level2_bytes, parse_size

GEOMETRY = ((1, 1), (1, 1), (1, 1))


def data(*shape, dtype=np.float32):
    return np.random.default_rng(0).normal(size=shape).astype(dtype)


def places(shape, dtype):
    """Yield arrays of this shape in several memory layouts, filled with NaN."""
    n, c, h, w = shape
    yield np.full(shape, np.nan, dtype)
    yield np.full((n, h, w, c), np.nan, dtype).transpose(0, 3, 1, 2)
    yield np.full((n, 2 * c, h, w), np.nan, dtype)[:, ::2]


@pytest.mark.parametrize("channels", [(3, 5, 1), (16, 16, 1), (6, 6, 6)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_convolutions_write_where_they_are_told(channels, dtype):
    c, k, groups = channels
    x, w = data(2, c, 9, 8, dtype=dtype), data(k, c // groups, 3, 3, dtype=dtype)
    g = data(2, k, 9, 8, dtype=dtype)
    calls = [
        lambda out: convolution.convolve(
            x, w, None, (9, 8), *GEOMETRY, groups, out=out
        ),
        lambda out: convolution.input_grad(
            g, w, None, (9, 8), *GEOMETRY, groups, out=out
        ),
        lambda out: convolution.weight_grad(x, g, (3, 3), *GEOMETRY, groups, out=out),
    ]
    for call in calls:
        want = call(None)
        for out in places(want.shape, dtype):
            assert call(out) is out
            np.testing.assert_array_equal(out, want)
        with pytest.raises(ShapeError, match="out is float"):
            call(np.empty((1, 2, 3, 4), dtype))
        with pytest.raises(ShapeError, match="expected float"):
            call(np.empty(want.shape, np.int64))


def test_windows_write_where_they_are_told():
    x = data(2, 3, 5, 6)
    pairs = ((2, 2), (1, 1), (0, 0), (1, 1))
    want = unfold.unfold(x, (4, 5), *pairs)
    for out in (
        np.empty_like(want),
        np.empty((*want.shape[:2], 40), np.float32)[..., ::2],
    ):
        assert unfold.unfold(x, (4, 5), *pairs, out=out) is out
        np.testing.assert_array_equal(out, want)
    back = unfold.fold(want, (5, 6), (4, 5), *pairs)
    for out in places(back.shape, np.float32):
        assert unfold.fold(want, (5, 6), (4, 5), *pairs, out=out) is out
        np.testing.assert_array_equal(out, back)
    with pytest.raises(ShapeError, match="fold: out is"):
        unfold.fold(want, (5, 6), (4, 5), *pairs, out=np.empty((1, 1, 5, 6)))


def test_the_cache_size_is_within_bounds():
    assert 1 << 18 <= level2_bytes() <= 1 << 22
    assert parse_size("1024K\n") == 1 << 20 == parse_size("1M")
