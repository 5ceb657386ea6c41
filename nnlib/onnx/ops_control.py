"""If, Loop and Scan over graphs of plain tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nnlib import ops
from nnlib.autograd.tensor import Tensor
from nnlib.onnx.executable import as_tensor, to_host
from nnlib.onnx.node import Node
from nnlib.onnx.table import operator
from nnlib.onnx.values import axis_of, shape_of

Run = Callable[..., Any]


def _true(value: Any) -> bool:
    return bool(np.asarray(to_host(value)).reshape(-1)[0])


@operator("If", 1, 11, 13, 16, 19, 21, 23, 24, 25, raw=True, pure=False)
def if_(node: Node) -> Run:
    """Build If."""
    yes, yes_part = node.graph("then_branch")
    no, no_part = node.graph("else_branch")

    def run(*values: Any) -> Any:
        if _true(values[0]):
            return tuple(yes.run(values[yes_part]))
        return tuple(no.run(values[no_part]))

    return run


def _joined(values: list[Any], axis: int = 0) -> Any:
    """Stack what the iterations gave."""
    if any(isinstance(value, Tensor) for value in values):
        like = next(value for value in values if isinstance(value, Tensor))
        values = [as_tensor(value, like) for value in values]
        return ops.stack(values, axis_of(axis, values[0].ndim + 1, "Scan"))
    return np.stack(values, axis)


@operator("Loop", 1, 11, 13, 16, 19, 21, 23, 24, 25, raw=True, pure=False)
def loop(node: Node) -> Run:
    """Build Loop: a counted or a conditional one; what each turn gives is stacked."""
    carried = len(node.inputs) - 2
    body, part = node.graph("body")
    scans = len(body.outputs) - 1 - carried
    if carried < 0 or scans < 0 or len(body.inputs) - len(body.captures) != carried + 2:
        raise node.fail("its body's inputs and outputs do not fit its own")

    def run(*values: Any) -> Any:
        most = None if values[0] is None else int(to_host(values[0]).reshape(()))
        running = values[1] is None or _true(values[1])
        state = list(values[2 : 2 + carried])
        captured = values[part]
        given: list[list[Any]] = [[] for _ in range(scans)]
        turn = 0
        while running and (most is None or turn < most):
            number = np.array(turn, np.int64)
            out = body.run([number, np.array(True), *state, *captured])
            running = _true(out[0])
            state = out[1 : 1 + carried]
            for kept, value in zip(given, out[1 + carried :], strict=True):
                kept.append(value)
            turn += 1
        stacked = [_joined(kept) if kept else np.zeros(0, np.float32) for kept in given]
        return (*state, *stacked)

    return run


def _scan(
    values: list[Any],
    sequences: list[Any],
    body: Any,
    captured: Any,
    reverse: tuple[int, ...],
    back: tuple[int, ...],
) -> tuple[list[Any], list[list[Any]]]:
    """Run a body over sequences along their first axes."""
    count = shape_of(sequences[0])[0]
    given: list[list[Any]] = [[] for _ in back]
    for t in range(count):
        parts = [
            x[count - 1 - t if turned else t]
            for x, turned in zip(sequences, reverse, strict=True)
        ]
        out = body.run([*values, *parts, *captured])
        kept = len(values)
        values = out[:kept]
        for part, value in zip(given, out[kept:], strict=True):
            part.append(value)
    for part, turned in zip(given, back, strict=True):
        if turned:
            part.reverse()
    return values, given


@operator("Scan", 8, raw=True, pure=False)
def scan_batched(node: Node) -> Run:
    """Build Scan of opset 8: over the second axis, for each sample of the first."""
    own = len(node.inputs)
    count = node.int("num_scan_inputs")
    reverse = node.ints("directions", (0,) * count)
    body, part = node.graph("body")
    kept = own - 1 - count
    back = (0,) * (len(body.outputs) - kept)

    def run(*values: Any) -> Any:
        if values[0] is not None:
            raise node.fail("sequence lengths are not supported in opset 8")
        states, sequences = values[1 : 1 + kept], values[1 + kept : own]
        samples = []
        for n in range(shape_of(sequences[0])[0]):
            final, given = _scan(
                [s[n] for s in states],
                [s[n] for s in sequences],
                body,
                values[part],
                reverse,
                back,
            )
            samples.append([*final, *map(_joined, given)])
        return tuple(_joined(list(parts)) for parts in zip(*samples, strict=True))

    return run


@operator("Scan", 9, 11, 16, 19, 21, 23, 24, 25, raw=True, pure=False)
def scan(node: Node) -> Run:
    """Build Scan."""
    own = len(node.inputs)
    count = node.int("num_scan_inputs")
    reverse = node.ints("scan_input_directions", (0,) * count)
    axes = node.ints("scan_input_axes", (0,) * count)
    body, part = node.graph("body")
    kept = own - count
    made = len(body.outputs) - kept
    if min(count, kept, made) < 0:
        raise node.fail("its body's inputs and outputs do not fit its own")
    back = node.ints("scan_output_directions", (0,) * made)
    out_axes = node.ints("scan_output_axes", (0,) * made)

    def run(*values: Any) -> Any:
        sequences = [
            x if not axis else _to_front(x, axis)
            for x, axis in zip(values[kept:own], axes, strict=True)
        ]
        final, given = _scan(
            list(values[:kept]), sequences, body, values[part], reverse, back
        )
        stacked = [_joined(x, axis) for x, axis in zip(given, out_axes, strict=True)]
        return (*final, *stacked)

    return run


def _to_front(x: Any, axis: int) -> Any:
    move = ops.movedim if isinstance(x, Tensor) else np.moveaxis
    return move(x, axis, 0)
