"""LSTM, GRU and RNN against onnxruntime: every direction, lengths, states, options."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import nnlib

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

STEPS, BATCH, INPUTS, HIDDEN = 5, 3, 4, 2
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def model(
    op: str, direction: str, lengths: int, initial: int, bias: int, late: int, odd: int
) -> Any:
    helper, rng = onnx.helper, np.random.default_rng(0)
    d = 2 if direction == "bidirectional" else 1

    def draw(*shape: int) -> Any:
        return rng.normal(size=shape).astype(np.float32)

    rows = GATES[op] * HIDDEN
    held = {"W": draw(d, rows, INPUTS), "R": draw(d, rows, HIDDEN)}
    names = ["X", "W", "R", "B" * bias, "L" * lengths, "H" * initial]
    if bias:
        held["B"] = draw(d, 2 * rows)
    if lengths:
        held["L"] = np.array([5, 2, 3], np.int32)
    if initial:
        held["H"] = draw(d, BATCH, HIDDEN)
    if op == "LSTM":
        names += ["C" * initial, "P" * odd]
        if initial:
            held["C"] = draw(d, BATCH, HIDDEN)
        if odd:
            held["P"] = draw(d, 3 * HIDDEN)
    attributes: dict[str, Any] = {"hidden_size": HIDDEN, "direction": direction}
    if op == "GRU":
        attributes["linear_before_reset"] = late
    if odd:
        attributes["clip"] = 0.7
    while not names[-1]:
        names.pop()
    outputs = ["Y", "Yh", "Yc"][: 3 if op == "LSTM" else 2]
    graph = helper.make_graph(
        [helper.make_node(op, names, outputs, **attributes)],
        "g",
        [helper.make_tensor_value_info("X", 1, [STEPS, BATCH, INPUTS])],
        [helper.make_tensor_value_info(name, 1, None) for name in outputs],
        [onnx.numpy_helper.from_array(a, n) for n, a in held.items()],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8
    )


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_against_onnxruntime(op: str, direction: str) -> None:
    x = np.random.default_rng(1).normal(size=(STEPS, BATCH, INPUTS)).astype(np.float32)
    late = (0, 1) if op == "GRU" else (0,)
    for case in itertools.product((0, 1), (0, 1), (0, 1), late, (0, 1)):
        made = model(op, direction, *case)
        session = runtime.InferenceSession(
            made.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        wanted = session.run(None, {"X": x})
        back = nnlib.onnx.load(made)
        found = back(x)
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a.detach().numpy(), b, rtol=1e-4, atol=1e-5)
        found[0].sum().backward()
        assert all(p.grad is not None for n, p in back.named_parameters() if n in "WR")
