"""Public operations on arrays that play CUDA's, their kernels' PTX interpreted.

    python tests/kernels/ptx_ops.py                  # every operation's cases
    python tests/kernels/ptx_ops.py softmax conv2d   # those of these operations
    python tests/kernels/ptx_ops.py --dtype float32

What `ptx_cases` does for the kernels' own cases, from the operations down: which kernel
an operation takes on CUDA and what it hands over, forward and backward, against the
CPU. The command fails if one differs. It needs ``numba-cuda``.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

# Before this folder, whose cases have the same names.
sys.path[:0] = [str(Path(__file__).parent.parent / name) for name in ("ops", "cuda")]

import on_device  # noqa: E402 - found by the paths above
from harness import as_tensors, outputs  # noqa: E402
from kernel_cases import load_families  # noqa: E402
from ptx_cases import interpreter  # noqa: E402

import nnlib  # noqa: E402
from nnlib.backend import device  # noqa: E402
from nnlib.kernels.machinery import arrays, faults  # noqa: E402
from nnlib.kernels.machinery.arrays import DeviceArray  # noqa: E402

# What is left out, and why.
LEFT_OUT = {
    "cpu": "it asks for a device",
    "to": "it asks for a device",
    "cuda": "it asks for a device",
    "lgamma": "in double precision it calls a function of the GPU's library",
    "mvlgamma": "as lgamma",
}


@contextlib.contextmanager
def played() -> Iterator[set[str]]:
    """Let NumPy stand for CuPy, and the interpreter for the GPU.

    Yields the names of the kernels that ran.
    """
    kind: Any = DeviceArray

    # CuPy gives arrays without dimensions where NumPy gives numbers.
    def wrap(self: Any, array: Any, context: Any = None, scalar: bool = False) -> Any:
        return np.asarray(array).view(kind)

    def element(self: Any, key: Any) -> Any:
        found = np.ndarray.__getitem__(self, key)
        return np.asarray(found).view(kind) if isinstance(found, np.generic) else found

    device.ARRAYS[kind] = arrays._device_module
    kind.__array_wrap__, kind.__getitem__ = wrap, element
    try:
        with interpreter() as ran:
            yield ran
        faults.check()
    finally:
        del kind.__array_wrap__, kind.__getitem__, device.ARRAYS[kind]


def move(value: Any) -> Any:
    """Return (nested) arguments with every tensor where kernels take it for CUDA's."""
    if isinstance(value, nnlib.Tensor):
        there = np.array(value.array, order="K").view(DeviceArray)
        return nnlib.Tensor._from_array(there).requires_grad_(value.requires_grad)
    if isinstance(value, list | tuple):
        parts = [move(item) for item in value]
        named = hasattr(value, "_fields")
        return type(value)(*parts) if named else type(value)(parts)
    if isinstance(value, dict):
        return {key: move(item) for key, item in value.items()}
    return value


def run(case: Any, sample: Any, dtype: str, there: bool) -> list[np.ndarray]:
    """Return a sample's results and gradients as arrays of the CPU."""
    args = as_tensors(sample.args, dtype, requires_grad=case.grad)
    kwargs = as_tensors(sample.kwargs, dtype)
    if there:
        args, kwargs = move(args), move(kwargs)
    results = outputs(case.run(*args, **kwargs))
    found = [x.detach().array if hasattr(x, "array") else x for x in results]
    if case.grad:
        found += gradients(results, outputs(args), there)
    return [np.asarray(x).view(np.ndarray) for x in found]


def gradients(results: list[Any], leaves: list[Any], there: bool) -> list[Any]:
    """Return the leaves' gradients of a fixed weighted sum of the results."""
    wanted = [x for x in results if isinstance(x, nnlib.Tensor) and x.requires_grad]
    weights = [
        nnlib.tensor(np.cos(np.arange(x.numel())).reshape(x.shape).astype(x.dtype))
        for x in wanted
    ]
    if wanted:
        pairs = zip(wanted, move(weights) if there else weights, strict=True)
        parts = [(x * weight).sum() for x, weight in pairs]
        sum(parts[1:], parts[0]).backward()
    return [
        np.zeros(x.shape) if x.grad is None else x.grad.array
        for x in leaves
        if isinstance(x, nnlib.Tensor) and x.requires_grad
    ]


def check(case: Any, dtype: str = "float64") -> int:
    """Compare the samples of a case; return how many launched a kernel."""
    launched = 0
    for sample in case.samples:
        with on_device.seeded():
            expected = run(case, sample, dtype, False)
        with on_device.seeded(), played() as ran:
            actual = run(case, sample, dtype, True)
        launched += bool(ran)
        if case.name in on_device.FREE:
            continue
        for mine, other in zip(actual, expected, strict=True):
            agree(case, mine, other)
    return launched


def agree(case: Any, mine: np.ndarray, other: np.ndarray) -> None:
    """Fail unless two arrays are the same but for rounding."""
    assert (mine.shape, mine.dtype) == (other.shape, other.dtype)
    if mine.dtype.kind not in "fc":
        np.testing.assert_array_equal(mine, other)
        return
    single = np.finfo(mine.dtype).eps > 1e-10
    rtol = max(case.rtol32, 2e-4) if single else 1e-8
    atol = max(case.atol32, 2e-5) if single else 1e-9
    np.testing.assert_allclose(mine, other, rtol, atol)


def cases(dtype: str) -> list[Any]:
    """Return the cases that can be run in a dtype."""
    return [
        case
        for case in on_device.all_cases()
        if case.name not in LEFT_OUT and (case.call is None or dtype == "float64")
    ]


def main() -> int:
    """Run the cases and say which fail."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="operations; default: all")
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64")
    options = parser.parse_args()
    load_families()
    failed = 0
    for case in cases(options.dtype):
        if options.names and case.name not in options.names:
            continue
        start = time.perf_counter()
        try:
            launched = check(case, options.dtype)
        except Exception as error:  # noqa: BLE001 - the others are worth knowing
            failed += 1
            text = " ".join(str(error).split())
            print(f"FAIL {case.name}: {type(error).__name__}: {text}", flush=True)
        else:
            seconds = time.perf_counter() - start
            print(f"{seconds:6.2f} s  {case.name}, {launched} launched", flush=True)
    print(f"{failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
