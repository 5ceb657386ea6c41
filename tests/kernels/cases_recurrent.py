"""Cases of nnlib.kernels.lstm, gru and rnn."""

from __future__ import annotations

from kernel_cases import Case

from nnlib import kernels

SHAPES = [
    ("f4", [2, 2, 2], 3, False, True),
    ("f4", [3, 2, 2, 1], 2, False, False),
    ("f8", [3, 2, 1], 2, True, True),
    ("f4", [2], 3, False, True),
]
# The same, and on CUDA all steps in one launch. The last one has more sequences than a
# block takes at once; a single step goes another way.
TOGETHER = [
    ("f4", [2, 2, 2], 3, False, True),
    ("f4", [3, 2, 2, 1], 2, False, False),
    ("f4", [1, 1], 5, True, True),
    ("f4", [10, 3], 18, True, False),
]


def together(run):
    """Return `run` with all steps in one launch turned on."""

    def enabled(rng, put):
        before = kernels.persistent.enable(True)
        try:
            return run(rng, put)
        finally:
            kernels.persistent.enable(before)

    return enabled


def _drawer(rng, put, dtype):
    return lambda *shape: put(rng.standard_normal(shape).astype(dtype) * 0.5)


def _lstm(dtype, sizes, hidden, reverse, summed):
    def run(rng, put):
        draw = _drawer(rng, put, dtype)
        steps = kernels.recurrent.steps_of(sizes)
        gates = draw(steps.total, 4 * hidden)
        h, c, dh, dc = (draw(steps.batch, hidden) for _ in range(4))
        weight = draw(4 * hidden, hidden)
        out = draw(steps.total, 2 * hidden)[:, hidden:]
        dy = draw(steps.total, hidden) if summed else None
        after = kernels.lstm.forward(gates, h, c, weight, steps, reverse, out)
        grads = kernels.lstm.backward(
            gates, after[2], c, weight, steps, reverse, dy, dh, dc
        )
        return out, *after, *grads

    return run


def _gru(dtype, sizes, hidden, reverse, summed):
    def run(rng, put):
        draw = _drawer(rng, put, dtype)
        steps = kernels.recurrent.steps_of(sizes)
        gates = draw(steps.total, 3 * hidden)
        bias = draw(hidden)
        h, dh = (draw(steps.batch, hidden) for _ in range(2))
        weight = draw(3 * hidden, hidden)
        out = draw(steps.total, 2 * hidden)[:, :hidden]
        dy = draw(steps.total, hidden) if summed else None
        after, ms = kernels.gru.forward(gates, bias, h, weight, steps, reverse, out)
        grads = kernels.gru.backward(gates, ms, out, h, weight, steps, reverse, dy, dh)
        return out, after, ms, *grads

    return run


def _rnn(dtype, sizes, hidden, reverse, rectified):
    def run(rng, put):
        draw = _drawer(rng, put, dtype)
        steps = kernels.recurrent.steps_of(sizes)
        x, dy = (draw(steps.total, hidden) for _ in range(2))
        h, dh = (draw(steps.batch, hidden) for _ in range(2))
        weight = draw(hidden, hidden)
        out = draw(steps.total, hidden)
        after = kernels.rnn.forward(x, h, weight, steps, reverse, rectified, out)
        grads = kernels.rnn.backward(out, weight, steps, reverse, rectified, dy, dh)
        return out, after, *grads

    return run


MAKERS = (_lstm, _gru, _rnn)
# Kernels with so few threads in a block that a sequence needs several blocks.
GRIDS = [
    (_lstm, 16, [3, 3, 2, 1], 9, False, True),
    (_gru, 32, [7, 6, 1], 14, True, False),
    (_rnn, 16, [3, 3, 2, 1], 9, False, True),
]
CASES = [
    Case(
        f"{make.__name__}, {dtype}, {sizes}, {option}",
        make(dtype, sizes, hidden, reverse, option),
    )
    for make in MAKERS
    for dtype, sizes, hidden, reverse, option in SHAPES
]
CASES += [
    Case(
        f"{make.__name__} in one launch, {dtype}, {sizes}, {option}",
        together(make(dtype, sizes, hidden, reverse, option)),
    )
    for make in MAKERS
    for dtype, sizes, hidden, reverse, option in TOGETHER
]
