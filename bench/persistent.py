"""Recurrent layers on CUDA in three ways, and cuDNN's.

A part of `nnlib.bench.cuda_check`: by cuBLAS, by a kernel for each step with the
product inside, and by one launch for all steps (`nnlib.kernels.persistent`). In the
last one blocks wait for one another, so it is off until a run of this has shown it
right on a GPU; of each shape it comes last, and all figures are written down before
the next ones are tried. The peer's times are those of its whole layer, the products of
the input and the weights' gradients included.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from nnlib import kernels
from nnlib.backend import device as backend
from nnlib.bench.attempts import attempt
from nnlib.bench.report import Report

__all__ = ["SHAPES", "measure"]

# Whether all steps are one launch, and whether the kernels are used at all.
WAYS = {
    "cublas": (False, False),
    "each_step": (False, True),
    "one_launch": (True, True),
}
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
# Units, sequences, steps.
SHAPES = ((256, 32, 64), (128, 32, 64), (512, 32, 64), (256, 128, 64), (256, 1, 256))

Call = Callable[[], Any]


def _calls(kind: str, shape: tuple[int, int, int], dtype: Any, device: str) -> Any:
    """Return the two passes of a layer on random numbers, each giving its arrays."""
    hidden, batch, count = shape
    module = np if device == "cpu" else backend.cupy()
    rng = np.random.default_rng(0)
    steps = kernels.recurrent.equal_steps(count, batch)

    def draw(*dims: int, scale: float = 0.5) -> Any:
        drawn = (rng.standard_normal(dims) * scale).astype(np.float32)
        return module.asarray(drawn, dtype)

    gates = draw(steps.total, GATES[kind] * hidden)
    h, c, dh, dc = (draw(batch, hidden) for _ in range(4))
    dy, bias = draw(steps.total, hidden), draw(hidden)
    weight = draw(GATES[kind] * hidden, hidden, scale=1 / hidden**0.5)
    out = module.empty((steps.total, hidden), dtype)
    used = gates.copy()
    kept: list[Any] = []

    def forward() -> tuple[Any, ...]:
        used[...] = gates
        if kind == "LSTM":
            made = kernels.lstm.forward(used, h, c, weight, steps, False, out)
        elif kind == "GRU":
            made = kernels.gru.forward(used, bias, h, weight, steps, False, out)
        else:
            made = (kernels.rnn.forward(used, h, weight, steps, False, False, out),)
        kept[:] = made[-1:]
        return (out, *made)

    def backward() -> tuple[Any, ...]:
        found: tuple[Any, ...]
        if kind == "LSTM":
            found = kernels.lstm.backward(
                used, kept[0], c, weight, steps, False, dy, dh, dc
            )
        elif kind == "GRU":
            found = kernels.gru.backward(
                used, kept[0], out, h, weight, steps, False, dy, dh
            )
        else:
            found = kernels.rnn.backward(out, weight, steps, False, False, dy, dh)
        return found

    return forward, backward


def _results(calls: tuple[Call, Call]) -> list[Any]:
    arrays = [a.copy() for call in calls for a in call()]
    backend.synchronize("cpu" if isinstance(arrays[0], np.ndarray) else "cuda")
    return [a.get() if hasattr(a, "get") else a for a in arrays]


def _peer(kind: str, shape: tuple[int, int, int], device: str) -> tuple[Call, Call]:
    import torch

    hidden, batch, count = shape
    layer = getattr(torch.nn, kind)(hidden, hidden).to(device)
    x = torch.randn(count, batch, hidden, device=device, requires_grad=True)
    out = layer(x)[0]
    grad = torch.ones_like(out)

    def forward() -> Any:
        with torch.no_grad():
            return layer(x)

    return forward, partial(out.backward, grad, retain_graph=True)


def measure(
    report: Report, device: str, deadline: float, clock: Any, why_not: str
) -> None:
    """Check and time every kind and shape until the deadline.

    Parameters
    ----------
    report : Report
    device : str
    deadline : float
        In `time.monotonic`'s seconds.
    clock : nnlib.bench.cuda_figures.Clock
    why_not : str
        Why PyTorch cannot be compared with; empty if it can.
    """
    shapes = SHAPES if clock.cuda else ((16, 4, 3),)
    for shape, way, kind in itertools.product(shapes, WAYS, GATES):
        if time.monotonic() > deadline:
            report.put("left_out", "the time was up")
            return
        name = f"{kind}, {shape[0]} units, batch {shape[1]}, {shape[2]} steps"
        together, ours = WAYS[way]
        before = kernels.persistent.enable(together)
        kernels.persistent.decide(ours)
        try:
            call = partial(_figures, kind, shape, device, clock)
            figures = attempt(report, way, name, call)
        finally:
            kernels.persistent.enable(before)
            kernels.persistent.decide(None)
        if figures is not None:
            print(f"  {way}: {name}: {figures}", flush=True)
        if not why_not and way == "cublas":
            attempt(
                report, "pytorch", name, partial(_peers, kind, shape, device, clock)
            )


def _figures(
    kind: str, shape: tuple[int, int, int], device: str, clock: Any
) -> dict[str, Any]:
    """Return how right a way is, and its times."""
    true = _results(_calls(kind, shape, np.dtype("f8"), device))
    calls = _calls(kind, shape, np.dtype("f4"), device)
    first, again = _results(calls), _results(calls)
    errors = [
        float(np.linalg.norm(a - t) / np.linalg.norm(t))
        for a, t in zip(first, true, strict=True)
    ]
    forward, backward = (clock.median(call) * 1e3 for call in calls)
    return {
        "right": bool(max(errors) < 1e-5),
        "largest_relative_error": max(errors),
        "same_bits": all(
            bool((a == b).all()) for a, b in zip(first, again, strict=True)
        ),
        "forward_ms": forward,
        "backward_ms": backward,
    }


def _peers(
    kind: str, shape: tuple[int, int, int], device: str, clock: Any
) -> dict[str, Any]:
    forward, backward = (
        clock.median(call) * 1e3 for call in _peer(kind, shape, device)
    )
    return {"forward_ms": forward, "backward_ms": backward}
