"""Reductions where they are special: NaN, infinities, ties, nothing at all."""

from __future__ import annotations

import math

import numpy as np
import pytest

import nnlib

nan, inf = float("nan"), float("inf")


def gradient(function, values):
    x = nnlib.tensor(values, dtype="float64", requires_grad=True)
    out = function(x)
    out.backward(nnlib.ones_like(out))
    return x.grad.tolist()


def test_gradients_are_shared_evenly_among_equal_extremes():
    assert gradient(lambda x: x.amax(), [1, 3, 3]) == [0, 0.5, 0.5]
    assert gradient(lambda x: x.max(), [3, 3, 3, 1]) == [1 / 3, 1 / 3, 1 / 3, 0]
    assert gradient(lambda x: x.amin(1), [[1, 1], [2, 0]]) == [[0.5, 0.5], [0, 1]]


def test_the_chosen_element_alone_gets_the_gradient_of_max_along_a_dim():
    assert gradient(lambda x: x.max(0).values, [1, 3, 3]) == [0, 1, 0]
    assert gradient(lambda x: x.min(0).values, [1, 1, 3]) == [1, 0, 0]


def test_nan_wins():
    x = nnlib.tensor([1.0, nan, 3.0])
    for found in (x.max(), x.min(), x.amax(0), x.amin(0), x.median(), x.sum()):
        assert np.isnan(found.item())
    assert x.argmax().item() == x.argmin().item() == x.max(0).indices.item() == 1
    assert x.nanmedian().item() == 1.0
    assert x.nansum().item() == 4.0
    assert x.nanmean().item() == 2.0
    assert x.sort().indices.tolist() == [0, 2, 1]
    assert x.sort(descending=True).indices.tolist() == [1, 2, 0]
    assert x.topk(2).indices.tolist() == [1, 2]
    assert gradient(lambda x: x.nansum(), [1, nan, 3]) == [1, 0, 1]


def test_nothing():
    empty = nnlib.zeros(0, 3)
    assert empty.sum().item() == 0
    assert empty.sum(0).tolist() == [0, 0, 0]
    assert empty.prod().item() == 1
    assert np.isnan(empty.mean().item())
    assert empty.any().item() is False
    assert empty.all().item() is True
    assert empty.logsumexp(0).tolist() == [-inf] * 3
    assert empty.cumsum(0).shape == (0, 3)
    assert empty.sort(0).values.shape == (0, 3)
    assert empty.amax(1).shape == (0,)
    assert gradient(lambda x: x.sum(0), np.zeros((0, 3))) == []
    with pytest.raises(nnlib.backend.errors.ShapeError, match="^max: no largest"):
        empty.max()
    with pytest.raises(nnlib.backend.errors.ShapeError, match="^median: no median"):
        empty.median()


def test_logsumexp_of_infinities():
    x = nnlib.tensor([[-inf, -inf], [inf, 1.0], [-inf, 2.0]], requires_grad=True)
    out = x.logsumexp(1)
    assert out.tolist() == [-inf, inf, 2.0]
    out[2].backward()
    assert x.grad[2].tolist() == [0, 1]


def test_std_of_equal_elements_has_slope_zero():
    assert gradient(lambda x: x.std(), [2, 2, 2]) == [0, 0, 0]
    assert gradient(lambda x: x.norm(), [0, 0]) == [0, 0]


def test_sums_of_many_sixteen_bit_floats_are_exact():
    ones = nnlib.ones(4096, dtype="bfloat16")
    assert ones.sum().item() == 4096
    leaf = nnlib.tensor(1.0, dtype="bfloat16", requires_grad=True)
    leaf.expand(4096).backward(ones)
    assert leaf.grad.item() == 4096


def test_sums_of_small_integers_do_not_overflow():
    x = nnlib.full((1000,), 100, dtype="int8")
    assert x.sum().item() == 100_000
    assert x.sum().dtype == nnlib.int64
    assert nnlib.full((1000,), 200, dtype="uint8").cumsum(0)[-1].item() == 200_000


@pytest.mark.parametrize("dim", [None, 0, 1, (0, 1), 2, (1, 2), (0, 2)])
def test_large_float32_sums_are_accurate(dim):
    x = np.random.default_rng(3).standard_normal((70, 60, 50)).astype(np.float32) + 1
    want = x.astype(np.float64).sum(dim)
    mine = nnlib.tensor(x)
    np.testing.assert_allclose(mine.sum(dim).numpy(), want, 2e-6)
    kept = mine.sum(dim, keepdim=True).shape
    assert tuple(kept) == x.sum(dim, keepdims=True).shape
    np.testing.assert_allclose(mine.mean(dim).numpy(), x.mean(dim), 2e-5)


def test_named_results():
    x = nnlib.tensor([[1.0, 5.0], [7.0, 2.0]])
    values, indices = x.max(dim=1)
    assert values.tolist() == [5, 7]
    assert x.min(1).indices.tolist() == indices.tolist()[::-1] == [0, 1]
    assert x.median(1).values.tolist() == [1, 2]


def test_logsumexp_of_nothing_but_minus_infinity_has_no_gradient():
    x = nnlib.tensor([[-inf, -inf], [0.0, -inf]], requires_grad=True)
    x.logsumexp(1).sum().backward()
    assert x.grad.tolist() == [[0, 0], [1, 0]]


def test_quantiles_and_nan() -> None:
    x = nnlib.tensor([[3.0, math.nan, 1.0], [2.0, 6.0, 4.0]], requires_grad=True)
    whole = nnlib.quantile(x, nnlib.tensor([0.25, 0.5]), 1)
    np.testing.assert_array_equal(whole.tolist(), [[math.nan, 3], [math.nan, 4]])
    rest = nnlib.nanquantile(x, 0.75, 1)
    assert rest.tolist() == [2.5, 5.0]
    rest.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[0.75, 0, 0.25], [0, 0.5, 0.5]]
    assert math.isnan(nnlib.nanquantile(x[0, 1:2], 0.5).item())


def test_x_log_y_at_zero() -> None:
    x = nnlib.tensor([0.0, 0.0, 0.0], requires_grad=True)
    y = nnlib.tensor([0.0, 2.0, math.nan], requires_grad=True)
    out = nnlib.xlogy(x, y)
    np.testing.assert_array_equal(out.tolist(), [0, 0, math.nan])
    out[:2].sum().backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.tolist()[:2], [0, math.log(2)], rtol=1e-6)


def test_x_log_y_where_y_is_infinite_and_where_x_holds_integers() -> None:
    x, y = nnlib.tensor([0.0, 0.0, 2.0]), nnlib.tensor([inf, -1.0, inf])
    assert nnlib.xlogy(x, y).tolist() == [0, 0, inf]
    out = nnlib.xlogy(nnlib.tensor([1, 2]), 0.5)
    np.testing.assert_allclose(out.tolist(), np.log(0.5) * np.array([1, 2]), rtol=1e-6)


def test_the_names_of_numpy() -> None:
    x = nnlib.arange(6.0).reshape(2, 3)
    assert x.mean(axis=1, keepdims=True).tolist() == [[1.0], [4.0]]
    assert nnlib.sum(x, axis=0).tolist() == [3.0, 5.0, 7.0]
    assert x.argmax(axis=1).tolist() == [2, 2]
    assert x.max(axis=0).values.tolist() == [3.0, 4.0, 5.0]
    assert nnlib.cat([x, x], axis=1).shape == (2, 6)
    assert nnlib.stack([x, x], axis=-1).shape == (2, 3, 2)
    assert [part.shape for part in x.split(2, axis=1)] == [(2, 2), (2, 1)]
    assert x.clone().unsqueeze_(axis=0).shape == (1, 2, 3)


def test_bad_names_and_values() -> None:
    x = nnlib.ones(2)
    with pytest.raises(nnlib.DTypeError, match="sum: expected dim or axis, got both"):
        x.sum(dim=0, axis=0)
    with pytest.raises(nnlib.BoundsError, match="sum: dim 9 is out of range"):
        x.sum(axis=9)
    with pytest.raises(TypeError, match="unexpected keyword argument 'along'"):
        x.sum(along=0)
    for value, kind in (([1.0], "list"), (None, "NoneType")):
        with pytest.raises(nnlib.DTypeError, match=f"softmax: input: .* got {kind}"):
            nnlib.softmax(value, 0)
        with pytest.raises(nnlib.DTypeError, match=f"mean: input: .* got {kind}"):
            nnlib.mean(value, axis=0)


def test_steps_of_infinities_and_covariances_of_integers() -> None:
    x = nnlib.tensor([inf, -inf, 0.0, nan, 2.0])
    np.testing.assert_array_equal(
        nnlib.heaviside(x, nnlib.tensor(0.5)).numpy(), [1, 0, 0.5, nan, 1]
    )
    counts = nnlib.tensor([[0, 2, 5], [2, 0, 1]])
    wanted = nnlib.cov(counts.float())
    assert nnlib.cov(counts).dtype == nnlib.float32
    assert nnlib.cov(counts).tolist() == wanted.tolist()
    assert nnlib.corrcoef(counts).tolist() == nnlib.corrcoef(counts.float()).tolist()


def test_the_mode_of_lines_that_are_not_there():
    found = nnlib.zeros(0, 3).mode(1)
    assert found.values.shape == found.indices.shape == (0,)
