"""Every public operation on CUDA agrees with the CPU: values and gradients."""

from __future__ import annotations

import numpy as np
import pytest
from harness import Case, as_tensors, outputs
from on_device import all_cases, compare, move, to_host

import nnlib

CASES = all_cases()


@pytest.mark.cuda
@pytest.mark.parametrize("case", CASES, ids=str)
def test_cuda_agrees_with_the_cpu(case: Case) -> None:
    compare(case, "cuda")
    nnlib.cuda.synchronize()


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_cuda_in_smaller_floats(case: Case, dtype: str) -> None:
    if dtype != "float32" and not case.half:
        pytest.skip("not defined on 16-bit floats")
    if case.call is not None or not case.samples or case.reference is None:
        pytest.skip("compared in float64")
    rtol, atol = {
        "float32": (max(case.rtol32, 1e-4), max(case.atol32, 1e-5)),
        "float16": (1e-2, 1e-2),
        "bfloat16": (2e-2, 2e-2),
    }[dtype]
    sample = case.samples[0]
    results = []
    for device in ("cuda", "cpu"):
        args = move(as_tensors(sample.args, dtype), device)
        kwargs = move(as_tensors(sample.kwargs, dtype), device)
        if not any(isinstance(x, nnlib.Tensor) for x in outputs(args)):
            pytest.skip("no tensor among its arguments")
        results.append([to_host(x) for x in outputs(case.run(*args, **kwargs))])
    for mine, theirs in zip(*results, strict=True):
        assert mine.shape == theirs.shape and mine.dtype == theirs.dtype
        if mine.dtype.kind in "fc":
            wide = np.complex128 if mine.dtype.kind == "c" else np.float64
            np.testing.assert_allclose(
                mine.astype(wide), theirs.astype(wide), rtol, atol
            )


@pytest.mark.parametrize("case", CASES[::9], ids=str)
def test_the_comparison_itself(case: Case) -> None:
    """The CPU against itself, so that the tests above can be trusted unseen."""
    compare(case, "cpu")
