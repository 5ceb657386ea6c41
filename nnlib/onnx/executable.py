"""A graph ready to run: steps over numbered slots, each value freed after its last use.

A value is a Tensor, or, where it came from shapes and constants alone, a NumPy array:
what has to do with shapes is computed on the host and never recorded.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import CPU, device_of, to_device
from nnlib.backend.errors import Error
from nnlib.onnx.errors import OnnxError

__all__ = ["Executable", "Step", "as_tensor", "call", "mode", "to_host"]


class _Mode(threading.local):
    """Whether the model that runs in this thread is in training mode."""

    training = False


mode = _Mode()


class Step(NamedTuple):
    """One node: what runs, between which values.

    Attributes
    ----------
    run : callable
    inputs, outputs : tuple of str
        Names of values; "" for one that is left out.
    host : tuple of int
    raw : bool
        As in `nnlib.onnx.table.Entry`.
    label : str
        How messages call the node.
    op : str
    """

    run: Callable[..., Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    host: tuple[int, ...]
    raw: bool
    label: str
    op: str = ""


def to_host(value: Any) -> Any:
    """Return a value as a NumPy array (None stays)."""
    if isinstance(value, Tensor):
        return to_device(value._array, CPU)
    return value


def as_tensor(value: Any, like: Tensor | None = None) -> Any:
    """Return a value as a Tensor, on the device of `like`."""
    if isinstance(value, np.ndarray):
        if like is not None and type(like._array) is not np.ndarray:
            return Tensor._from_array(to_device(value, device_of(like._array)))
        return Tensor._from_array(value)
    return value


def _back(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value._array
    if isinstance(value, tuple):
        return tuple(map(_back, value))
    return value


def call(run: Callable[..., Any], args: list[Any], host: tuple[int, ...]) -> Any:
    """Run one node: on Tensors if an input is one, else on the host.

    Inputs at positions `host` are handed over as arrays.
    """
    like = None
    plain = True
    for position, value in enumerate(args):
        if isinstance(value, Tensor):
            if position in host:
                args[position] = to_device(value._array, CPU)
            else:
                like = value
        elif value is not None and position not in host:
            plain = False
    if plain and like is not None:
        return run(*args)
    for position, value in enumerate(args):
        if type(value) is np.ndarray and position not in host:
            args[position] = as_tensor(value, like)
    out = run(*args)
    return out if like is not None else _back(out)


class Executable:
    """Steps in order, from given values to wanted ones.

    Parameters
    ----------
    steps : sequence of Step
        In an order in which each finds its inputs.
    inputs : sequence of str
        Names of the values that `run` is given, in this order.
    outputs : sequence of str
    captures : sequence of str
        Names from outside that the last of the inputs stand for (bodies of If, Loop and
        Scan).
    """

    def __init__(
        self,
        steps: Sequence[Step],
        inputs: Sequence[str],
        outputs: Sequence[str],
        captures: Sequence[str] = (),
    ) -> None:
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.captures = tuple(captures)
        slots: dict[str, int] = {"": 0}
        for name in self.inputs:
            slots[name] = len(slots)
        last: dict[str, int] = dict.fromkeys(self.inputs, -1)
        for number, step in enumerate(steps):
            for name in step.outputs:
                slots.setdefault(name, len(slots))
                last[name] = number
            for name in step.inputs:
                last[name] = number
        kept = {"", *self.outputs}
        dead: list[list[int]] = [[] for _ in steps]
        for name, number in last.items():
            if number >= 0 and name not in kept:
                dead[number].append(slots[name])
        self._steps = [
            (
                step.run,
                tuple(slots[name] for name in step.inputs),
                tuple(slots[name] for name in step.outputs),
                step.host,
                step.raw,
                tuple(dead[number]),
                step.label,
            )
            for number, step in enumerate(steps)
        ]
        self._count = len(slots)
        self._wanted = [slots[name] for name in self.outputs]

    def run(self, given: Sequence[Any]) -> list[Any]:
        """Return the wanted values, from those given in the order of `inputs`."""
        values: list[Any] = [None] * self._count
        values[1 : len(given) + 1] = given
        for run, ins, outs, host, raw, dead, label in self._steps:
            args = [values[slot] for slot in ins]
            try:
                out = run(*args) if raw else call(run, args, host)
            except Error as error:
                if not getattr(error, "_onnx", False):
                    error.add_note(f"in the ONNX model's {label}")
                    error._onnx = True  # type: ignore[attr-defined]
                raise
            except (ValueError, TypeError, IndexError, ArithmeticError) as error:
                raise OnnxError(f"{label}: {error}") from error
            if type(out) is tuple:
                for slot, value in zip(outs, out, strict=False):
                    if slot:
                        values[slot] = value
            else:
                values[outs[0]] = out
            for slot in dead:
                values[slot] = None
        return [values[slot] for slot in self._wanted]
