"""The word vectors' kernel against plain NumPy, and its promises."""

from __future__ import annotations

import numpy as np
import pytest

import nnlib
from nnlib.backend.errors import DTypeError, ShapeError
from nnlib.kernels import row_vectors, skipgram
from nnlib.kernels.machinery import cpu_kernel


@cpu_kernel(parallel=False)
def _both(x, y, factor):
    value = row_vectors.dot(x.ctypes.data, y.ctypes.data, x.size, factor)
    row_vectors.prefetch(x.ctypes.data, x.size)
    row_vectors.add_scaled(x.ctypes.data, y.ctypes.data, x.size, factor)
    return value


@pytest.mark.parametrize("count", [0, 1, 3, 15, 16, 17, 100, 112])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows(count, dtype):
    rng = np.random.default_rng(count)
    x, y = (rng.standard_normal(count).astype(dtype) for _ in range(2))
    expected = x + dtype(0.3) * y
    product = x.astype("f8") @ y
    got = _both(x, y, dtype(0.3))
    np.testing.assert_allclose(got, product, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(x, expected, rtol=1e-6, atol=1e-7)


def test_alias_table_draws_the_distribution():
    weights = np.array([0.0, 1, 2, 5, 0.01])
    table = skipgram.alias_table(weights)
    found = np.zeros(5)
    for place, (threshold, other) in enumerate(table.tolist()):
        part = threshold / 2**32
        found[place] += part / 5
        found[other] += (1 - part) / 5
    np.testing.assert_allclose(found, weights / weights.sum(), atol=1e-8)
    assert skipgram.alias_table([3.0]).tolist() == [[2**32 - 1, 0]]
    for bad in ([], [0.0], [1, -1.0], [np.nan], [[1.0]]):
        with pytest.raises(ShapeError, match="expected a vector of numbers from 0"):
            skipgram.alias_table(bad)


def _drawn(table, seed, counter):
    mask = 2**64 - 1
    z = (seed + counter * 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    z ^= z >> 31
    place = (z >> 32) * len(table) >> 32
    return place if z & 0xFFFFFFFF < table[place, 0] else int(table[place, 1])


def _reference(inputs, outputs, text, first, last, rates, batch, seed, offset):
    """Do in float64, position by position, what the kernel does."""
    inputs, outputs = inputs.astype("f8"), outputs.astype("f8")
    for number, rate in enumerate(rates.astype("f8")):
        start = first + number * batch
        old_in, old_out = inputs.copy(), outputs.copy()
        for i in range(start, min(start + batch, last)):
            near = [j for j in range(text.low[i], text.high[i]) if j != i]
            if not near:
                continue
            if text.cbow:
                sources, wanted = text.words[near], [text.words[i]]
            else:
                sources, wanted = text.words[[i]], text.words[near]
            hidden = old_in[sources].mean(0)
            change = np.zeros_like(hidden)
            count = 0
            for own in wanted:
                for k in range(1 + text.negatives):
                    row = own
                    if k:
                        at = (offset + i) * text.slots + count
                        row = _drawn(text.table, seed, at)
                    count += 1
                    if k and row == own:
                        continue
                    g = rate * ((k == 0) - 1 / (1 + np.exp(-hidden @ old_out[row])))
                    change += g * old_out[row]
                    outputs[row] += g * hidden
            np.add.at(inputs, sources, change)
    return inputs, outputs


def _problem(cbow, columns, count=60, vocabulary=20, seed=0):
    rng = np.random.default_rng(seed)
    matrices = [
        rng.standard_normal((vocabulary, columns)).astype("f4") for _ in range(2)
    ]
    at, reach = np.arange(count), rng.integers(0, 4, count)
    text = skipgram.Text(
        rng.integers(0, vocabulary, count).astype(np.int32),
        np.maximum(at - reach, 0).astype(np.int32),
        np.minimum(at + reach + 1, count).astype(np.int32),
        skipgram.alias_table(rng.random(vocabulary)),
        3,
        4,
        cbow,
    )
    return matrices, text


@pytest.mark.parametrize("cbow", [False, True])
@pytest.mark.parametrize(("columns", "batch"), [(3, 1), (16, 7), (37, 64)])
def test_against_numpy(cbow, columns, batch):
    (inputs, outputs), text = _problem(cbow, columns)
    rates = np.linspace(0.1, 0.02, -(-52 // batch)).astype("f4")
    expected = _reference(inputs, outputs, text, 5, 57, rates, batch, 3, 1000)
    skipgram.train(
        inputs, outputs, text, 5, 57, rates, batch=batch, seed=3, offset=1000
    )
    for got, wanted in zip((inputs, outputs), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cbow", [False, True])
def test_bits_do_not_depend_on_threads(cbow):
    before = nnlib.get_num_threads()
    if before < 2:
        pytest.skip("one core")
    results = []
    try:
        for threads in (1, 2):
            nnlib.set_num_threads(threads)
            (inputs, outputs), text = _problem(cbow, 100, 3000, 500)
            rates = np.full(-(-3000 // 64), 0.05, np.float32)
            skipgram.train(inputs, outputs, text, 0, 3000, rates, seed=1)
            results.append(inputs.tobytes() + outputs.tobytes())
    finally:
        nnlib.set_num_threads(before)
    assert results[0] == results[1]


def test_bad_arguments():
    (inputs, outputs), text = _problem(False, 8)
    rates = np.ones(1, np.float32)
    with pytest.raises(DTypeError, match="inputs: expected float32, got float64"):
        skipgram.train(inputs.astype("f8"), outputs, text, 0, 1, rates)
    with pytest.raises(ShapeError, match=r"outputs has shape \(19, 8\), expected"):
        skipgram.train(inputs, outputs[1:], text, 0, 1, rates)
    with pytest.raises(ShapeError, match="one for each batch of 64 of positions 0 to"):
        skipgram.train(inputs, outputs, text, 0, 100, rates)
    with pytest.raises(ShapeError, match="outputs is not C-contiguous"):
        skipgram.train(inputs, np.asfortranarray(outputs), text, 0, 1, rates)
    with pytest.raises(ShapeError, match="words, low and high: expected vectors"):
        short = text._replace(low=text.low[1:])
        skipgram.train(inputs, outputs, short, 0, 1, rates)
    skipgram.train(inputs, outputs, text, 4, 4, rates[:0])
