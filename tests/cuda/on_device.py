"""Run a case of tests/ops on a device and compare it with the CPU."""

from __future__ import annotations

import contextlib
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from harness import Case, as_tensors, outputs, public_function

import nnlib

OPS_FOLDER = Path(__file__).parent.parent / "ops"


def all_cases() -> list[Case]:
    """Return the cases of every public operation."""
    found: list[Case] = []
    for path in sorted(OPS_FOLDER.glob("cases_*.py")):
        found += importlib.import_module(path.stem).CASES
    return found


def move(value: Any, device: str) -> Any:
    """Return (nested) arguments with every tensor on `device`, leaves as leaves."""
    if isinstance(value, nnlib.Tensor):
        moved = value.detach().to(device)
        return moved.requires_grad_() if value.requires_grad else moved
    if isinstance(value, nnlib.nn.utils.rnn.PackedSequence):
        return value.to(device)
    if isinstance(value, list | tuple):
        parts = [move(item, device) for item in value]
        if hasattr(value, "_fields"):
            return type(value)(*parts)
        return type(value)(parts)
    if isinstance(value, dict):
        return {key: move(item, device) for key, item in value.items()}
    return value


def to_host(value: Any) -> Any:
    """Return a result as arrays on the CPU."""
    if isinstance(value, nnlib.Tensor):
        array = value.detach().cpu().array
        return array.astype(np.float32) if array.dtype.kind == "V" else array
    return np.asarray(value)


def run(case: Case, sample: Any, device: str) -> tuple[list[Any], list[Any]]:
    """Run one sample on `device`; return the outputs and the inputs' gradients."""
    args = move(as_tensors(sample.args, requires_grad=case.grad), device)
    kwargs = move(as_tensors(sample.kwargs), device)
    has_tensor = any(isinstance(x, nnlib.Tensor) for x in outputs(args))
    parameters = inspect.signature(public_function(case.name)).parameters
    if not has_tensor and case.call is None and "device" in parameters:
        kwargs.setdefault("device", device)
    results = outputs(case.run(*args, **kwargs))
    for result in results:
        if has_tensor and isinstance(result, nnlib.Tensor) and case.call is None:
            check_device(case, result, device)
    gradients = [] if not case.grad else list(gradients_of(results, outputs(args)))
    return [to_host(item) for item in results], gradients


def check_device(case: Case, result: nnlib.Tensor, device: str) -> None:
    """Fail if a result left its device (`cpu` and `to` are asked to)."""
    if case.name not in ("cpu", "to", "cuda", "to_cpu", "to_cuda"):
        assert result.device.type == device, (
            f"{case.name} gave a {result.device} tensor"
        )


def gradients_of(results: list[Any], leaves: list[Any]) -> Iterator[Any]:
    """Yield each leaf's gradient of a fixed weighted sum of the results."""
    total: Any = None
    for result in results:
        if not (isinstance(result, nnlib.Tensor) and result.requires_grad):
            continue
        seed = np.cos(np.arange(result.numel(), dtype=np.float64)).reshape(result.shape)
        weight = nnlib.tensor(seed).to(result.device).to(result.dtype)
        part = (result * weight).sum()
        total = part if total is None else total + part
    if total is None:
        return
    total.backward()
    for leaf in leaves:
        if isinstance(leaf, nnlib.Tensor) and leaf.requires_grad:
            grad = leaf.grad
            yield np.zeros(leaf.shape) if grad is None else to_host(grad)


def agree(case: Case, actual: Any, expected: Any) -> None:
    """Fail unless arrays of both devices agree: float64, so nearly to the last bit."""
    assert len(actual) == len(expected)
    for mine, theirs in zip(actual, expected, strict=True):
        assert mine.shape == theirs.shape and mine.dtype == theirs.dtype, case.name
        if mine.dtype.kind in "biu":
            np.testing.assert_array_equal(mine, theirs)
        elif mine.dtype.kind in "fc":
            single = mine.dtype.itemsize <= (8 if mine.dtype.kind == "c" else 4)
            rtol, atol = (1e-4, 1e-5) if single else (1e-8, 1e-9)
            np.testing.assert_allclose(mine, theirs, rtol, atol)


@contextlib.contextmanager
def seeded() -> Iterator[None]:
    """Draw the same numbers inside, whatever was drawn before."""
    state = nnlib.default_generator.get_state()
    nnlib.manual_seed(7)
    try:
        yield
    finally:
        nnlib.default_generator.set_state(state)


# What is not compared element by element, and why.
FREE = {
    "empty": "its values are what the memory holds",
    "empty_like": "its values are what the memory holds",
    "new_empty": "its values are what the memory holds",
    "qr": "the signs of its columns are free",
    "svd": "the signs of its vectors are free",
    "eigh": "the signs of its vectors are free",
}


def compare(case: Case, device: str) -> None:
    """Fail unless every sample gives on `device` what it gives on the CPU."""
    for sample in case.samples:
        with seeded():
            actual, grads = run(case, sample, device)
        with seeded():
            expected, cpu_grads = run(case, sample, "cpu")
        if case.name in FREE:
            assert [a.shape for a in actual] == [e.shape for e in expected]
            continue
        agree(case, actual, expected)
        agree(case, grads, cpu_grads)
