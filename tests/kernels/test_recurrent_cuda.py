"""Recurrent kernels on a real GPU: each way against double precision by cuBLAS."""

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


@pytest.fixture(params=["cuBLAS", "each step", "one launch"])
def launched(request, monkeypatch):
    """Choose a way; yields the kernels that were launched."""
    seen = []
    original = kernels.persistent.launch

    def launch(kernel, *args):
        seen.append(kernel.name)
        original(kernel, *args)

    monkeypatch.setattr(kernels.persistent, "launch", launch)
    before = kernels.persistent.enable(request.param == "one launch")
    kernels.persistent.decide(request.param != "cuBLAS")
    try:
        yield seen, 0 if request.param == "cuBLAS" else 2
    finally:
        kernels.persistent.enable(before)
        kernels.persistent.decide(None)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s[0]}, {len(s[1])} steps")
@pytest.mark.parametrize("kind", GATES)
def test_each_way_is_right_and_gives_the_same_bits(kind, shape, launched):
    names, expected_launches = launched
    actual = _run(kind, np.dtype("f4"), *shape)
    assert len(names) == expected_launches
    again = _run(kind, np.dtype("f4"), *shape)
    expected = _run(kind, np.dtype("f8"), *shape)
    for one, two, true in zip(actual, again, expected, strict=True):
        np.testing.assert_array_equal(one, two)
        error = np.linalg.norm(one - true) / np.linalg.norm(true)
        assert error < 1e-5


@pytest.mark.parametrize("kind", GATES)
def test_the_trial_finds_the_kernels_right(kind, monkeypatch, recwarn):
    verdicts = {}
    monkeypatch.setattr(kernels.persistent, "_verdicts", verdicts)
    _run(kind, np.dtype("f4"), *SHAPES[0])
    assert list(verdicts.values()) == [True, True]
    assert not [w for w in recwarn if "trial" in str(w.message)]
