"""What nnlib takes from NumPy's private modules, and does without where it is gone."""

from __future__ import annotations

import numpy as np
import pytest

from nnlib.ops import decompositions
from nnlib.ops.activation_hard import find_clip
from nnlib.ops.arrays import find_count


def test_clip_without_numpys_own_gives_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = np.array([-3.0, -0.5, 0.25, 7.0, np.nan, np.inf], np.float32)
    low, high = np.float32(-1), np.float32(2)
    ours = find_clip()
    assert isinstance(ours, np.ufunc)
    monkeypatch.delattr("numpy._core.umath.clip")
    composed = find_clip()
    assert not isinstance(composed, np.ufunc)
    np.testing.assert_array_equal(composed(x, low, high), ours(x, low, high))
    out = np.empty_like(x)
    assert composed(x, low, high, out) is out
    np.testing.assert_array_equal(out, ours(x, low, high))


def test_counting_without_numpys_own_gives_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = np.array([[0.0, 2.0, np.nan], [-0.0, 1.0, 0.0]], np.float32)
    ours = find_count()
    assert ours is not np.count_nonzero
    monkeypatch.delattr("numpy._core.multiarray.count_nonzero")
    composed = find_count()
    assert composed is np.count_nonzero
    monkeypatch.undo()
    assert composed(x) == ours(x) == 3
    assert ours(x[:0]) == 0


@pytest.mark.parametrize("shape", [(3, 3), (5, 2), (2, 4, 3), (40, 40), (0, 0)])
def test_qr_without_numpys_own_gives_the_same(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    a = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    assert decompositions.find_qr() is not None
    q, r = decompositions.reduced_qr(a)
    with monkeypatch.context() as patch:
        patch.delattr("numpy.linalg._umath_linalg.qr_reduced")
        assert decompositions.find_qr() is None
    monkeypatch.setattr(decompositions, "_qr", None)
    plain_q, plain_r = decompositions.reduced_qr(a)
    np.testing.assert_array_equal(q, plain_q)
    np.testing.assert_array_equal(r, plain_r)
    assert q.dtype == r.dtype == np.float32
