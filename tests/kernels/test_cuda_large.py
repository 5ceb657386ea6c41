"""Rows, channels and reductions of sizes that the simulator cannot do, on a real GPU.

``pytest -m cuda``. References are NumPy's, in float64.
"""

from __future__ import annotations

import numpy as np
import pytest

from nnlib import kernels
from nnlib.backend import device

STATUS = device.cuda_status()
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not STATUS.ok, reason=f"CUDA: {STATUS.reason}"),
]
ROWS = [
    (1000, 1024, "f4"), (333, 10, "f4"), (100, 1, "f4"), (5, 50257, "f4"),
    (64, 5000, "f4"), (77, 100, "f8"), (5000, 33, "f4"), (20000, 3, "f4"),
]  # fmt: skip
IMAGES = [
    (32, 16, 32, "f4", 0.0), (4, 3, 50, "f4", 5.0), (16, 64, 8, "f8", 0.0),
    (8, 48, 16, "f4", 100.0), (64, 512, 4, "f4", 1.0), (4, 5, 40, "f4", 0.0),
]  # fmt: skip


def put(array):
    return device.cupy().asarray(array)


def near(actual, expected, tolerance=1e-5):
    actual = np.asarray(actual.get(), np.float64)
    assert actual.shape == expected.shape
    size = max(np.linalg.norm(expected), 1e-30)
    assert np.linalg.norm(actual - expected) / size < tolerance


@pytest.mark.parametrize("rows,count,dtype", ROWS)
def test_softmax_and_cross_entropy(rng, rows, count, dtype):
    x, g = (rng.standard_normal((rows, count)).astype(dtype) for _ in range(2))
    wide = x.astype(np.float64)
    power = np.exp(wide - wide.max(1, keepdims=True))
    p = power / power.sum(1, keepdims=True)
    y, logarithm = kernels.softmax.softmax(put(x)), kernels.softmax.log_softmax(put(x))
    near(y, p)
    if count > 1:
        near(logarithm, np.log(p))
        along = (g * p).sum(1, keepdims=True)
        near(kernels.softmax.softmax_backward(put(g), y), p * (g - along))
    target = rng.integers(0, count, rows)
    target[::7] = -100
    counts, hot = target >= 0, np.zeros((rows, count))
    hot[np.arange(rows), np.maximum(target, 0)] = 1
    logs = np.log(p)
    q = 0.9 * hot + 0.1 / count
    loss = np.where(counts, -(q * logs).sum(1), 0)
    cross = kernels.softmax_cross_entropy
    values, lse, sums = cross.forward(put(x), put(target), None, -100, 0.1)
    total, number = loss.sum(), counts.sum()
    if count > 1:
        near(values, loss)
        near(sums, np.array([total, number, total / number, number]))
    one = put(np.ones(1, dtype))
    grad = cross.backward(put(x), put(target), lse, one, None, -100, 0.1)
    if count > 1:
        near(grad, (p - q) * counts[:, None])


@pytest.mark.parametrize("rows,count,dtype", ROWS)
def test_reductions(rng, rows, count, dtype):
    x = (rng.standard_normal((rows, count)) + 1).astype(dtype)
    wide, reduction = x.astype(np.float64), kernels.reduction
    near(reduction.reduce_all(put(x)), wide.sum())
    near(reduction.reduce_all(put(x).reshape(-1)[1:]), wide.reshape(-1)[1:].sum())
    near(reduction.reduce_all(put(x), reduction.SQUARES), (wide * wide).sum())
    near(reduction.reduce_all(put(x), reduction.MAXIMUM), wide.max())
    near(reduction.reduce_rows(put(x)), wide.sum(1))
    near(reduction.reduce_rows(put(x), reduction.MINIMUM), wide.min(1))
    near(reduction.sum_columns(put(x)), wide.sum(0))


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("rows,count,dtype", [r for r in ROWS if r[1] > 1])
def test_normalisation_of_rows(rng, rows, count, dtype, centred):
    x, g = (rng.standard_normal((rows, count)).astype(dtype) for _ in range(2))
    w, b = (rng.standard_normal(count).astype(dtype) for _ in range(2))
    kernel = kernels.normalization_rows
    y, means, scales = kernel.forward(put(x), put(w), put(b), 1e-3, centred)
    dx, dw, db = kernel.backward(put(g), put(x), put(w), means, scales, centred)
    wide, p = x.astype(np.float64), g.astype(np.float64) * w
    mean = wide.mean(1, keepdims=True) if centred else 0
    scale = 1 / np.sqrt(((wide - mean) ** 2).mean(1, keepdims=True) + 1e-3)
    normal = (wide - mean) * scale
    shift = p.mean(1, keepdims=True) if centred else 0
    near(y, normal * w + b, 1e-4)
    slope = normal * (p * normal).mean(1, keepdims=True)
    near(dx, scale * (p - shift - slope), 1e-3)
    near(dw, (g * normal).sum(0), 1e-4)
    near(db, g.sum(0, dtype=np.float64), 1e-4)


@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("images,channels,side,dtype,centre", IMAGES)
def test_normalisation_of_channels(rng, images, channels, side, dtype, centre, planes):
    shape = (images, side * side, channels)
    x, g = ((rng.standard_normal(shape) + c).astype(dtype) for c in (centre, 0))
    w = rng.standard_normal(channels).astype(dtype)
    b = rng.standard_normal((1, channels)).astype(dtype)
    if planes:
        run = kernels.normalization_planes
        arrays = [put(np.ascontiguousarray(a.transpose(0, 2, 1))) for a in (x, g)]
        mean, var, scale, factor = run.statistics(arrays[0], put(w), 1e-5, True)
    else:
        run = kernels.normalization
        arrays = [put(a.reshape(1, -1, channels)) for a in (x, g)]
        mean, var, scale, factor = run.statistics(arrays[0], put(w), 1e-5)
    y = run.normalize(arrays[0], mean, factor, put(b))
    made = run.slopes(arrays[1], arrays[0], mean, scale, put(w))
    dx = run.input_gradient(arrays[1], arrays[0], mean, factor, *made[2:])
    wide, p = (a.reshape(-1, channels).astype(np.float64) for a in (x, g))
    middle, spread = wide.mean(0), wide.var(0)
    sigma = 1 / np.sqrt(spread + 1e-5)
    normal = (wide - middle) * sigma
    near(mean, middle[None])
    near(var, spread[None], 1e-4)
    near(made[0], p.sum(0)[None], 1e-4)
    near(made[1], (p * normal).sum(0)[None], 1e-3)
    p = p * w
    expected = sigma * (p - p.mean(0) - normal * (p * normal).mean(0))
    for actual, wanted in ((y, normal * w + b), (dx, expected)):
        wanted = wanted.reshape(shape)
        near(
            actual,
            wanted.transpose(0, 2, 1) if planes else wanted.reshape(1, -1, channels),
            1e-3,
        )
