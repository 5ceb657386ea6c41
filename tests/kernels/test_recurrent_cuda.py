"""Recurrent kernels on a real GPU: all steps in one launch against step by step."""

from __future__ import annotations

import numpy as np
import pytest

from nnlib import kernels
from nnlib.backend import device
from nnlib.kernels import gru_cuda, lstm_cuda, rnn_cuda

STATUS = device.cuda_status()
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not STATUS.ok, reason=f"CUDA: {STATUS.reason}"),
]
GATES = {"lstm": 4, "gru": 3, "rnn": 1}
FALLING = [100, 93, 64, 64, 33, 10, 9, 2, 1]
SHAPES = [
    (5, [3, 2, 2, 1], False),
    (5, [1] * 40, True),
    (100, [33] * 9, True),
    (256, [32] * 16, False),
    (256, FALLING, False),
    (250, FALLING, True),
    (512, [32] * 8, True),
    (600, [5] * 4, False),
]


def _run(kind, dtype, hidden, sizes, reverse):
    """Return all that the kernels make of the same numbers in this dtype."""
    module = device.cupy()
    rng = np.random.default_rng(hidden)
    steps = kernels.recurrent.steps_of(sizes)

    def draw(*shape):
        return module.asarray((rng.standard_normal(shape) / 2).astype("f4"), dtype)

    gates = draw(steps.total, GATES[kind] * hidden)
    h, c, dh, dc = (draw(steps.batch, hidden) for _ in range(4))
    dy, bias = draw(steps.total, hidden), draw(hidden)
    weight = draw(GATES[kind] * hidden, hidden) * dtype.type(2 / hidden**0.5)
    out = module.full((steps.total, hidden), np.nan, dtype)
    family = getattr(kernels, kind)
    if kind == "lstm":
        after = family.forward(gates, h, c, weight, steps, reverse, out)
        grads = family.backward(gates, after[2], c, weight, steps, reverse, dy, dh, dc)
    elif kind == "gru":
        after = family.forward(gates, bias, h, weight, steps, reverse, out)
        grads = family.backward(gates, after[1], out, h, weight, steps, reverse, dy, dh)
    else:
        after = (family.forward(gates, h, weight, steps, reverse, False, out),)
        grads = family.backward(out, weight, steps, reverse, False, dy, dh)
    device.synchronize("cuda")
    return [x.get() for x in (out, gates, *after, *grads)]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s[0]}, {len(s[1])} steps")
@pytest.mark.parametrize("kind", GATES)
def test_one_launch_agrees_with_step_by_step(kind, shape, monkeypatch):
    monkeypatch.setitem(kernels.persistent._state, "enabled", True)
    launched = []
    for module in (lstm_cuda, gru_cuda, rnn_cuda):
        original = module.launch
        monkeypatch.setattr(
            module, "launch", lambda *a, f=original: (launched.append(a[0]), f(*a))
        )
    actual = _run(kind, np.dtype("f4"), *shape)
    assert len(launched) == 2
    again = _run(kind, np.dtype("f4"), *shape)
    expected = _run(kind, np.dtype("f8"), *shape)
    assert len(launched) == 4
    for one, two, true in zip(actual, again, expected, strict=True):
        np.testing.assert_array_equal(one, two)
        error = np.linalg.norm(one - true) / np.linalg.norm(true)
        assert error < 1e-5
