"""Cross-entropy kernels against float64 formulas and PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

from nnlib.backend.errors import BoundsError, DTypeError, ShapeError
from nnlib.kernels import softmax_cross_entropy as kernel

TOLERANCE = {"float32": 2e-6, "float64": 1e-13}


def reference(x, target, weight, ignore, e):
    """Return losses, gradients (for a factor of 1) and counted weights in float64."""
    x = x.astype(np.float64)
    rows, classes = x.shape
    w = np.ones(classes) if weight is None else weight.astype(np.float64)
    z = x - x.max(1, keepdims=True)
    logp = z - np.log(np.exp(z).sum(1, keepdims=True))
    hot = np.zeros_like(x)
    counted = target != ignore
    hot[np.arange(rows)[counted], target[counted]] = 1
    q = ((1 - e) * hot + e / classes) * w * counted[:, None]
    loss = -(q * logp).sum(1)
    grad = np.exp(logp) * q.sum(1, keepdims=True) - q
    return loss, grad, (hot * w).sum()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows,classes", [(1, 1), (3, 10), (128, 10), (37, 1001)])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_values(rng, dtype, rows, classes, weighted, smoothing):
    x = (3 * rng.standard_normal((rows, classes))).astype(dtype)
    target = rng.integers(0, classes, rows)
    target[::5] = -7
    weight = rng.uniform(0.1, 2, classes).astype(dtype) if weighted else None
    loss, lse, sums = kernel.forward(x, target, weight, -7, smoothing)
    expected, grad, count = reference(x, target, weight, -7, smoothing)
    tol = TOLERANCE[dtype]
    np.testing.assert_allclose(loss, expected, rtol=5 * tol, atol=5 * tol)
    cost, divisor = expected.sum(), count or 1
    wanted = [cost, count, cost / divisor, divisor]
    np.testing.assert_allclose(sums, wanted, rtol=5 * tol, atol=tol)
    factor = rng.standard_normal(rows).astype(dtype)
    out = kernel.backward(x, target, lse, factor, weight, -7, smoothing)
    np.testing.assert_allclose(out, grad * factor[:, None], rtol=1e-4, atol=5 * tol)
    one = kernel.backward(x, target, lse, factor[:1], weight, -7, smoothing)
    np.testing.assert_allclose(one, grad * factor[0], rtol=1e-4, atol=5 * tol)


@pytest.mark.parametrize("seed", range(20))
def test_against_pytorch(seed):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    rows, classes = rng.integers(1, 40, 2)
    x = rng.standard_normal((rows, classes))
    target = rng.integers(0, classes, rows)
    target[0] = 0
    ignore = int(rng.integers(-1, classes))
    weight = rng.uniform(0.1, 2, classes) if rng.random() < 0.5 else None
    smoothing = float(rng.choice([0.0, 0.3, 1.0]))
    tx = torch.tensor(x, requires_grad=True)
    losses = torch.nn.functional.cross_entropy(
        tx,
        torch.tensor(target),
        None if weight is None else torch.tensor(weight),
        ignore_index=ignore,
        label_smoothing=smoothing,
        reduction="none",
    )
    losses.sum().backward()
    loss, lse, sums = kernel.forward(x, target, weight, ignore, smoothing)
    np.testing.assert_allclose(loss, losses.detach(), rtol=1e-12, atol=1e-13)
    grad = kernel.backward(x, target, lse, np.ones(1), weight, ignore, smoothing)
    np.testing.assert_allclose(grad, tx.grad, rtol=1e-10, atol=1e-13)
    if (target != ignore).any():
        mean = torch.nn.functional.cross_entropy(
            tx,
            torch.tensor(target),
            None if weight is None else torch.tensor(weight),
            ignore_index=ignore,
            label_smoothing=smoothing,
        )
        np.testing.assert_allclose(sums[2], mean.detach(), rtol=1e-12)


def test_non_finite_logits_and_layouts(rng):
    x = rng.standard_normal((4, 5)).astype("f4")
    target = np.arange(4)
    x[0, 2] = np.nan
    x[1, 1] = np.inf
    x[2, 0] = -np.inf
    x[3] = -np.inf
    loss, lse, _ = kernel.forward(x, target)
    assert np.isnan(loss[[0, 1, 3]]).all() and np.isfinite(loss[2])
    grad = kernel.backward(x, target, lse, np.ones(1, "f4"))
    assert np.isnan(grad[[0, 3]]).all() and np.isfinite(grad[2]).all()
    strided = np.asfortranarray(rng.standard_normal((6, 7)))[::2]
    wide = np.arange(6)[::2].astype(np.int32)
    a = kernel.forward(strided, wide)
    b = kernel.forward(strided.copy(), wide.astype(np.int64))
    for left, right in zip(a, b, strict=True):
        np.testing.assert_array_equal(left, right)


def test_extreme_logits_stay_finite():
    x = np.array([[1e4, -1e4], [88.0, 89.0]], "f4")
    loss, lse, _ = kernel.forward(x, np.array([1, 0]))
    np.testing.assert_allclose(loss, [2e4, np.log1p(np.e)], rtol=1e-6)
    grad = kernel.backward(x, np.array([1, 0]), lse, np.ones(1, "f4"))
    np.testing.assert_allclose(grad[0], [1, -1])


def test_empty():
    loss, lse, sums = kernel.forward(np.empty((0, 3), "f4"), np.empty(0, np.int64))
    assert loss.shape == lse.shape == (0,) and sums.tolist() == [0, 0, 0, 1]
    one = np.ones(1, "f4")
    empty = np.empty((0, 3), "f4")
    assert kernel.backward(empty, np.empty(0, np.int64), lse, one).shape == (0, 3)


def test_bad_arguments(rng):
    x = rng.standard_normal((3, 4)).astype("f4")
    with pytest.raises(BoundsError, match="target 4 at position 1 is no class"):
        kernel.forward(x, np.array([0, 4, -9]))
    with pytest.raises(BoundsError, match="target -9 at position 2"):
        kernel.forward(x, np.array([0, 3, -9]))
    with pytest.raises(DTypeError, match="targets must be integers"):
        kernel.forward(x, np.array([0.0, 1.0, 2.0]))
    with pytest.raises(ShapeError, match=r"expected logits \(N, C\)"):
        kernel.forward(x, np.array([0, 1]))
    with pytest.raises(ShapeError, match="weight"):
        kernel.forward(x, np.array([0, 1, 2]), np.ones(3, "f4"))


def test_independent_of_threads(rng):
    from nnlib.backend import threads

    x = rng.standard_normal((300, 50)).astype("f4")
    target = rng.integers(0, 50, 300)
    before = threads.get_num_threads()
    results = []
    try:
        for count in (1, before):
            threads.set_num_threads(count)
            loss, lse, sums = kernel.forward(x, target)
            results.append((loss, lse, sums, kernel.backward(x, target, lse, sums[:1])))
    finally:
        threads.set_num_threads(before)
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("classes", [1, 7, 64, 130])
def test_logits_far_apart(rng, classes):
    """Rows whose sums overflow stand among others, in groups and alone."""
    rows = 4 * 16 + 5
    size = 10.0 ** rng.uniform(-3, 30, (rows, 1))
    x = (rng.standard_normal((rows, classes)) * size).astype(np.float32)
    x[3, :] = -1e30
    target = rng.integers(0, classes, rows)
    loss, lse, _ = kernel.forward(x, target)
    expected, _, _ = reference(x, target, None, -100, 0.0)
    np.testing.assert_allclose(loss, expected, rtol=1e-6, atol=1e-6)
    wide = x.astype(np.float64)
    top = wide.max(1)
    wanted = top + np.log(np.exp(wide - top[:, None]).sum(1))
    np.testing.assert_allclose(lse, wanted, rtol=1e-6, atol=1e-6)


def test_small_losses_keep_their_digits(rng):
    """A confident answer costs little, and never less than nothing."""
    rows, classes = 200, 10
    target = rng.integers(0, classes, rows)
    x = rng.standard_normal((rows, classes)).astype(np.float32) + 20
    x[np.arange(rows), target] += rng.uniform(5, 14, rows).astype(np.float32)
    loss, _, _ = kernel.forward(x, target)
    expected, _, _ = reference(x, target, None, -100, 0.0)
    assert (loss >= 0).all()
    np.testing.assert_allclose(loss, expected, rtol=2e-6, atol=2e-7)
