"""Every public operation against NumPy, PyTorch and finite differences."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import (
    Case,
    as_tensors,
    map_arrays,
    outputs,
    public_function,
    to_numpy,
    torch_call,
)

import nnlib
from nnlib.autograd.registry import OPS

try:
    import torch
except ImportError:
    torch = None

CASES: list[Case] = []
for path in sorted(Path(__file__).parent.glob("cases_*.py")):
    CASES += importlib.import_module(path.stem).CASES

each_case = pytest.mark.parametrize("case", CASES, ids=str)
needs_torch = pytest.mark.skipif(torch is None, reason="PyTorch is not installed")


def test_every_operation_has_one_case() -> None:
    names = [case.name for case in CASES]
    assert sorted(set(OPS) - set(names)) == []
    assert sorted(name for name in set(names) if names.count(name) > 1) == []


def close(got: Any, want: Any, rtol: float, atol: float) -> None:
    got, want = outputs(got), outputs(want)
    assert len(got) == len(want)
    for mine, theirs in zip(got, want, strict=True):
        a, b = to_numpy(mine), to_numpy(theirs)
        assert a.shape == b.shape
        kind = np.complex128 if b.dtype.kind == "c" else np.float64
        np.testing.assert_allclose(a.astype(kind), b.astype(kind), rtol, atol)


@each_case
def test_float64_equals_the_reference(case: Case) -> None:
    if case.reference is None:
        pytest.skip("no NumPy reference: PyTorch is the reference")
    for sample in case.samples:
        args = as_tensors(sample.args)
        got = case.run(*args, **as_tensors(sample.kwargs))
        close(got, case.reference(*sample.args, **sample.kwargs), 1e-10, 1e-10)


@needs_torch
@each_case
def test_float64_and_gradient_equal_pytorch(case: Case) -> None:
    if case.torch is None:
        pytest.skip("PyTorch has no counterpart")
    for sample in case.samples:

        def theirs(array: np.ndarray) -> Any:
            made = torch.tensor(array)
            return made.requires_grad_(case.grad and array.dtype.kind == "f")

        args = as_tensors(sample.args, requires_grad=case.grad)
        kwargs = as_tensors(sample.kwargs)
        other = map_arrays(theirs, sample.args)
        other_kwargs = map_arrays(torch.tensor, sample.kwargs)
        got = case.run(*args, **kwargs)
        want = torch_call(case, torch, other, other_kwargs)
        close(got, want, 1e-9, 1e-9)
        for mine, ref in zip(outputs(got), outputs(want), strict=True):
            if isinstance(mine, nnlib.Tensor) and hasattr(ref, "numpy"):
                assert str(ref.dtype).removeprefix("torch.") == mine.dtype.name
        if case.grad:
            compare_gradients(got, want, args, other)


def compare_gradients(got: Any, want: Any, args: Any, other: Any) -> None:
    total, ref = None, None
    for mine, theirs in zip(outputs(got), outputs(want), strict=True):
        if not (isinstance(mine, nnlib.Tensor) and mine.requires_grad):
            continue
        seed = np.cos(np.arange(mine.numel(), dtype=np.float64)).reshape(mine.shape)
        part = (mine * nnlib.tensor(seed)).sum()
        their = (theirs * torch.tensor(seed)).sum()
        total = part if total is None else total + part
        ref = their if ref is None else ref + their
    if total is None:
        return
    total.backward()
    ref.backward()
    for mine, theirs in zip(outputs(args), outputs(other), strict=True):
        if isinstance(mine, nnlib.Tensor) and mine.requires_grad:
            grad = 0 if theirs.grad is None else theirs.grad.numpy()
            mine_grad = np.zeros(mine.shape) if mine.grad is None else mine.grad.array
            np.testing.assert_allclose(
                mine_grad, np.broadcast_to(grad, mine.shape), 1e-8, 1e-8
            )


@each_case
def test_gradient(case: Case) -> None:
    if not case.grad:
        pytest.skip("not differentiable")
    for sample in case.samples:
        args = as_tensors(sample.args, requires_grad=True)
        if not any(getattr(x, "requires_grad", False) for x in outputs(args)):
            continue
        kwargs = as_tensors(sample.kwargs)
        nnlib.autograd.gradcheck(lambda *a, k=kwargs: case.run(*a, **k), args)
        if case.second:
            nnlib.autograd.gradgradcheck(lambda *a, k=kwargs: case.run(*a, **k), args)


@each_case
def test_float32(case: Case) -> None:
    for sample in case.samples:
        want = case.run(*as_tensors(sample.args), **as_tensors(sample.kwargs))
        args = as_tensors(sample.args, np.float32)
        got = case.run(*args, **as_tensors(sample.kwargs, np.float32))
        for mine in outputs(got):
            assert not isinstance(mine, nnlib.Tensor) or mine.dtype != np.float64
        close(got, want, case.rtol32, case.atol32)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float16", 1e-2), ("bfloat16", 2e-2)]
)
@each_case
def test_half(case: Case, dtype: str, tolerance: float) -> None:
    if not case.half:
        pytest.skip("not defined on 16-bit floats")
    for sample in case.samples[:2]:
        args = as_tensors(sample.args, dtype)
        kwargs = as_tensors(sample.kwargs, dtype)

        def widen(value: Any) -> Any:
            if isinstance(value, list | tuple):
                return type(value)(widen(item) for item in value)
            if isinstance(value, nnlib.Tensor) and value.is_floating_point():
                return value.to("float64")
            return value

        want = case.run(*widen(args), **{k: widen(v) for k, v in kwargs.items()})
        close(case.run(*args, **kwargs), want, tolerance, tolerance)


@each_case
def test_non_contiguous(case: Case) -> None:
    def stretch(array: np.ndarray) -> np.ndarray:
        if not array.ndim:
            return array
        wide = np.zeros((*array.shape[:-1], array.shape[-1] * 2), array.dtype)
        wide[..., ::2] = array
        return wide[..., ::2]

    for sample in case.samples:

        def share(array: np.ndarray) -> nnlib.Tensor:
            return nnlib.from_numpy(stretch(array))

        want = case.run(*as_tensors(sample.args), **as_tensors(sample.kwargs))
        got = case.run(*map_arrays(share, sample.args), **as_tensors(sample.kwargs))
        close(got, want, 1e-12, 1e-12)


@each_case
def test_empty(case: Case) -> None:
    if not case.empty or case.reference is None:
        pytest.skip("not defined on empty input")
    sample = case.samples[0]
    args = map_arrays(lambda x: x[:0] if x.ndim else x, sample.args)
    got = case.run(*as_tensors(args), **as_tensors(sample.kwargs))
    close(got, case.reference(*args, **sample.kwargs), 0, 0)


@each_case
def test_method_equals_function(case: Case) -> None:
    methods = OPS[case.name].methods
    if not methods or not case.method or case.call is not None:
        pytest.skip("no method")
    for sample in case.samples[:1]:
        args = as_tensors(sample.args)
        if not isinstance(args[0], nnlib.Tensor):
            pytest.skip("the first argument is no tensor")
        want = public_function(case.name)(*args, **as_tensors(sample.kwargs))
        for method in methods:
            got = getattr(args[0], method)(*args[1:], **as_tensors(sample.kwargs))
            close(got, want, 0, 0)


@each_case
def test_bad_calls(case: Case) -> None:
    for call, exception, pattern in case.errors:
        with pytest.raises(exception, match=pattern):
            call()
