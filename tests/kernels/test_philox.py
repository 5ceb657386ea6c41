"""Random bits against published vectors; draws against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from nnlib.backend import threads
from nnlib.backend.errors import DTypeError, Error, ShapeError
from nnlib.kernels import dropout, philox
from nnlib.kernels.normal import normal

# The test vectors of Random123 (kat_vectors, philox4x32 with 10 rounds).
VECTORS = [
    ([0] * 4, [0] * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    (
        [0xFFFFFFFF] * 4,
        [0xFFFFFFFF] * 2,
        "408f276d 41c83b0e a20bc7c6 6d5451fd",
    ),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


@njit
def _philox(c0, c1, c2, c3, k0, k1):
    return philox.philox(c0, c1, c2, c3, k0, k1)


@pytest.mark.parametrize("counter,key,expected", VECTORS)
def test_published_vectors(counter, key, expected):
    args = [np.uint64(value) for value in (*counter, *key)]
    for function in (philox.philox, _philox):
        words = function(*args)
        assert [f"{int(word):08x}" for word in words] == expected.split()


DRAWS = {
    "bits32": lambda n, seed, offset: philox.random_bits(
        np.empty(n, np.uint32), seed, offset
    ),
    "bits64": lambda n, seed, offset: philox.random_bits(
        np.empty(n, np.uint64), seed, offset
    ),
    "uniform32": lambda n, seed, offset: philox.uniform(
        np.empty(n, np.float32), seed, offset
    ),
    "uniform64": lambda n, seed, offset: philox.uniform(np.empty(n), seed, offset),
    "randint": lambda n, seed, offset: philox.randint(
        np.empty(n, np.int64), seed, offset, -5, 12
    ),
    "bernoulli": lambda n, seed, offset: philox.bernoulli(
        np.empty(n, np.bool_), seed, offset, 0.3
    ),
    "normal32": lambda n, seed, offset: normal(np.empty(n, np.float32), seed, offset),
    "normal64": lambda n, seed, offset: normal(np.empty(n), seed, offset),
}


@pytest.mark.parametrize("name", DRAWS)
def test_an_element_depends_on_its_position_alone(name):
    draw = DRAWS[name]
    whole = draw(10_000, 7, 3)
    # Vector and scalar versions of log and cos may differ by a rounding.
    rtol = 1e-6 if name == "normal32" else 1e-14 if name == "normal64" else 0
    for first, count in [(0, 1), (1, 5), (255, 3), (256, 300), (4093, 5000), (9999, 1)]:
        part = draw(count, 7, 3 + first)
        np.testing.assert_allclose(
            part.astype("f8"), whole[first : first + count].astype("f8"), rtol=rtol
        )
    before = threads.get_num_threads()
    try:
        threads.set_num_threads(1)
        np.testing.assert_array_equal(draw(10_000, 7, 3), whole)
    finally:
        threads.set_num_threads(before)
    assert (draw(100, 8, 3) != whole[:100]).any()
    assert draw(0, 7, 3).shape == (0,)


@pytest.mark.parametrize("name", DRAWS)
def test_positions_beyond_32_bits(name):
    draw = DRAWS[name]
    far = draw(300, 2**64 - 1, 2**40 + 123)
    assert (far != draw(300, 2**64 - 1, 123)).any()


def test_words_follow_the_written_layout():
    bits = philox.random_bits(np.empty(600, np.uint32), 2**33 + 5, 0)
    for p in (0, 63, 64, 200, 255, 256, 599):
        block = p // 256 * 64 + p % 64
        args = (block, 0, 0, 0, 5, 2)
        words = philox.philox(*(np.uint64(a) for a in args))
        assert bits[p] == words[p % 256 // 64]
        assert (
            philox.word_at(np.uint64(2**33 + 5), np.uint64(0), np.uint64(p)) == bits[p]
        )


def test_uniforms_come_from_the_upper_bits():
    bits = philox.random_bits(np.empty(100, np.uint32), 1, 9)
    single = philox.uniform(np.empty(100, "f4"), 1, 9)
    np.testing.assert_array_equal(single, (bits >> 8) * np.float32(2**-24))
    wide = philox.random_bits(np.empty(100, np.uint64), 1, 9)
    double = philox.uniform(np.empty(100), 1, 9)
    np.testing.assert_array_equal(double, (wide >> 11) * 2.0**-53)
    moved = philox.uniform(np.empty(100), 1, 9, -2.0, 3.0)
    np.testing.assert_allclose(moved, double * 5 - 2)
    events = philox.bernoulli(np.empty(100, bool), 1, 9, 0.25)
    np.testing.assert_array_equal(events, single < 0.25)


def test_distributions():
    stats = pytest.importorskip("scipy.stats")
    for seed in range(3):
        u = philox.uniform(np.empty(200_000), seed, 0)
        assert stats.kstest(u, "uniform").pvalue > 1e-4
        u = philox.uniform(np.empty(200_000, "f4"), seed, 0).astype("f8")
        assert stats.kstest(u, "uniform").pvalue > 1e-4
        for dtype in ("f4", "f8"):
            z = normal(np.empty(200_000, dtype), seed, 1).astype("f8")
            assert stats.kstest(z, "norm").pvalue > 1e-4
            assert abs(np.corrcoef(z[::2], z[1::2])[0, 1]) < 0.02
            assert np.isfinite(z).all()
        k = philox.randint(np.empty(200_000, np.int64), seed, 0, 3, 13)
        counts = np.bincount(k, minlength=13)[3:]
        assert k.min() == 3 and k.max() == 12
        assert stats.chisquare(counts).pvalue > 1e-4


def test_integer_ranges():
    out = np.empty(1000, np.int64)
    assert (philox.randint(out, 0, 0, 7, 8) == 7).all()
    low, high = -(2**63), 2**63 - 1
    k = philox.randint(out, 0, 0, low, high)
    assert k.min() < -(2**61) and k.max() > 2**61
    k = philox.randint(out, 0, 0, 0, 2**40)
    assert k.min() >= 0 and 2**39 < k.max() < 2**40


def test_settings_and_layouts():
    z = normal(np.empty(1000), 3, 0, 5.0, 0.1)
    np.testing.assert_allclose(z, 5 + 0.1 * normal(np.empty(1000), 3, 0))
    flat = philox.uniform(np.empty(12), 1, 0)
    np.testing.assert_array_equal(
        philox.uniform(np.empty((4, 3)).T, 1, 0), flat.reshape(3, 4)
    )
    np.testing.assert_array_equal(
        normal(np.empty((4, 3)).T, 1, 0), normal(np.empty((3, 4)), 1, 0)
    )


def test_refused():
    with pytest.raises(DTypeError, match="uint32 or uint64"):
        philox.random_bits(np.empty(3), 0, 0)
    with pytest.raises(DTypeError, match="expected float32 or float64"):
        philox.uniform(np.empty(3, int), 0, 0)
    with pytest.raises(DTypeError, match="expected int64"):
        philox.randint(np.empty(3), 0, 0, 0, 2)
    with pytest.raises(ShapeError, match="from 2 to 2 is empty"):
        philox.randint(np.empty(3, np.int64), 0, 0, 2, 2)
    with pytest.raises(DTypeError, match="expected bool"):
        philox.bernoulli(np.empty(3), 0, 0, 0.5)
    with pytest.raises(Error, match="p is 1.5"):
        dropout.forward(np.ones(3), 1.5, 0, 0)
    with pytest.raises(Error, match="out is float32"):
        dropout.forward(np.ones(3), 0.5, 0, 0, np.ones(3, "f4"))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("p", [0.0, 0.2, 0.5, 1.0])
def test_dropout(dtype, p):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((50, 200)).astype(dtype)
    y = dropout.forward(x, p, 11, 5)
    kept = y != 0
    assert abs(kept.mean() - (1 - p)) < 0.02
    if p < 1:
        np.testing.assert_allclose(y[kept], x[kept] / (1 - p), rtol=1e-6)
    g = rng.standard_normal(x.shape).astype(dtype)
    dx = dropout.backward(g, p, 11, 5)
    np.testing.assert_array_equal(dx != 0, kept)
    small = dropout.forward(x[:1], p, 11, 5)
    np.testing.assert_array_equal(small, y[:1])
    turned = np.asfortranarray(x)
    np.testing.assert_array_equal(dropout.forward(turned, p, 11, 5), y)
    dropout.forward(x, p, 11, 5, out=x)
    np.testing.assert_array_equal(x, y)


def test_dropout_of_nan_and_infinity():
    x = np.array([np.nan, np.inf] * 50, "f4")
    y = dropout.forward(x, 0.5, 0, 0)
    dropped = y == 0
    assert 20 < dropped.sum() < 80
    np.testing.assert_array_equal(np.isnan(y[~dropped]), np.isnan(x[~dropped]))
    assert (dropout.forward(x, 1.0, 0, 0) == 0).all()
