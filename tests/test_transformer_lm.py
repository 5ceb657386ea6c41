"""The language model that writes on with its keys and values kept."""

from __future__ import annotations

import numpy as np
import pytest

import nnlib
from nnlib.backend.errors import ArgumentError, ShapeError
from nnlib.models import TransformerLM


def model() -> TransformerLM:
    nnlib.manual_seed(3)
    return TransformerLM(11, width=16, heads=2, layers=2, max_len=12)


def test_caches_change_nothing() -> None:
    lm = model()
    ids = nnlib.randint(0, 11, (2, 9))
    whole = lm(ids).detach().numpy()
    caches = lm.new_caches(2)
    with nnlib.no_grad():
        parts = [lm(ids[:, a:b], caches) for a, b in ((0, 4), (4, 5), (5, 9))]
    kept = np.concatenate([part.numpy() for part in parts], 1)
    np.testing.assert_allclose(kept, whole, 1e-4, 1e-5)


def test_what_comes_later_is_not_seen() -> None:
    lm = model()
    ids = nnlib.randint(0, 11, (1, 6))
    other = ids.clone()
    other[:, 4:] = (other[:, 4:] + 1) % 11
    np.testing.assert_allclose(
        lm(ids).detach().numpy()[:, :4], lm(other).detach().numpy()[:, :4], 1e-5, 1e-6
    )


def test_greedy_writing_is_that_without_caches() -> None:
    lm = model()
    text = nnlib.randint(0, 11, (2, 3))
    written = lm.generate(text, 8, temperature=0)
    with nnlib.no_grad():
        for _ in range(8):
            text = nnlib.cat([text, lm(text)[:, -1].argmax(-1, keepdim=True)], 1)
    np.testing.assert_array_equal(written.numpy(), text.numpy())


def test_long_texts_draws_and_seeds() -> None:
    lm = model()
    start = nnlib.tensor([[1]])
    nnlib.manual_seed(5)
    first = lm.generate(start, 40, temperature=0.7, top_k=3)
    nnlib.manual_seed(5)
    again = lm.generate(start, 40, temperature=0.7, top_k=3)
    assert tuple(first.shape) == (1, 41)
    np.testing.assert_array_equal(first.numpy(), again.numpy())
    only = lm.generate(start, 6, top_k=1).numpy()
    np.testing.assert_array_equal(only, lm.generate(start, 6, temperature=0).numpy())
    assert tuple(lm.generate(nnlib.ones(1, 30, dtype=nnlib.int64), 2).shape) == (1, 32)
    assert lm.training


def test_modes_come_back_after_writing() -> None:
    lm = model()
    lm.train()
    lm.norm.eval()
    lm.generate(nnlib.tensor([[1]]), 1)
    assert lm.training and lm.blocks[0].training and not lm.norm.training
    with pytest.raises(IndexError):
        lm.generate(nnlib.tensor([[99]]), 1)
    assert lm.training and lm.blocks[0].training


def test_bad_arguments() -> None:
    lm = model()
    with pytest.raises(ShapeError, match="prompt"):
        lm.generate(nnlib.zeros(1, 0, dtype=nnlib.int64), 3)
    with pytest.raises(ArgumentError, match="temperature"):
        lm.generate(nnlib.tensor([[1]]), 3, temperature=-1)
    with pytest.raises(ArgumentError, match="count: expected at least 0, got -1"):
        lm.generate(nnlib.tensor([[1]]), -1)
    assert lm.generate(nnlib.zeros(0, 2, dtype=nnlib.int64), 3).shape == (0, 5)
    with pytest.raises(ShapeError, match="ids"):
        lm(nnlib.tensor([1, 2]))
    with pytest.raises(ShapeError, match="max_len"):
        lm(nnlib.zeros(1, 13, dtype=nnlib.int64))
    with pytest.raises(ShapeError, match="multiple of heads"):
        TransformerLM(5, width=10, heads=3)
