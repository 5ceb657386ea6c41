"""A trial of launches that go straight to the CUDA driver, before they are relied on.

At the first launch on a device a small kernel runs both ways, through CuPy and straight
through the driver, on arrays of several ranks and dtypes with numbers of several types
between them, on two streams. Only if both give what NumPy computes are launches on the
device direct from then on; else they go through CuPy, and `report` says why.

Environment
-----------
NNLIB_DIRECT_LAUNCH
    ``0``: all launches go through CuPy.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np

from nnlib.backend import device, driver
from nnlib.kernels.machinery.gpu import CudaKernel, cuda

__all__ = ["direct", "report"]

_lock = threading.RLock()
# What the trial has found, by device: nothing wrong, or what.
_found: dict[int, str] = {}

# The elements of the result and of the arrays, and one of the numbers.
_SIZE, _A, _B, _C = 70, 12, 10, 24
_WORD = np.uint64(1 << 41)


def probe(
    a: Any, flag: Any, b: Any, n: Any, single: Any, c: Any, double: Any, short: Any,
    word: Any, out: Any,
) -> None:  # fmt: skip
    """Mix all arguments into each element of `out`.

    Arrays are touched only if the numbers around their addresses have arrived as they
    should: a false address would be the end of CUDA in this process.
    """
    i = cuda.grid(1)
    whole = out.size == _SIZE and word == _WORD and a.size == _A and b.size == _B
    whole = whole and c.size == _C and a.itemsize == 4 and c.shape[2] == 3
    if whole and i < out.size:
        total = np.float64(a[i % a.shape[0], i % a.shape[1]]) + b[i % b.size]
        total += np.float64(c[i % c.shape[0], i % c.shape[1], i % c.shape[2]])
        total += np.float64(n) * np.float64(single) + double * np.float64(short)
        total += np.float64(word) + np.float64(a.size + a.strides[0] + b.strides[0])
        out[i] = total if flag else -total


def _arguments(make: Any, flag: bool, sign: int) -> tuple[Any, ...]:
    """Return what the kernel is tried with: numbers whose sums are exact.

    `make` returns an array where it is to be, from a contiguous one on the host.
    """
    a = make(np.arange(_A, dtype=np.float32).reshape(3, 4))
    b = make(np.arange(2 * _B, dtype=np.float64) * 0.5)[::2]
    c = make(np.arange(_C, dtype=np.int64).reshape(2, 3, 4) - 5).transpose(2, 0, 1)
    n, single, double = sign * (3 << 33), np.float32(0.25), np.float64(sign * 1.5)
    return a, flag, b, n, single, c, double, np.int32(-7 * sign), _WORD


def _expected(args: tuple[Any, ...]) -> Any:
    """Return what the kernel writes, by NumPy."""
    a, flag, b, n, single, c, double, short, word = args
    i = np.arange(_SIZE)
    total = a[i % 3, i % 4].astype(np.float64) + b[i % b.size]
    total += c[i % c.shape[0], i % c.shape[1], i % c.shape[2]]
    total += float(n) * float(single) + float(double) * int(short)
    total += float(word) + (a.size + a.strides[0] + b.strides[0])
    return total if flag else -total


def _try(cupy: Any) -> str:
    """Run the trial on the current device; return what is wrong, if anything."""
    if driver.bindings()[2] is None:
        return "the driver's library has no cuLaunchKernel"
    plain, fast = CudaKernel(probe, 32), CudaKernel(probe, 32)
    plain.direct, fast.direct = False, True
    other = cupy.cuda.Stream(non_blocking=True)
    for round_, stream in enumerate((cupy.cuda.get_current_stream(), other)):
        kind = not round_, 1 - 2 * round_
        with stream:
            there = _arguments(cupy.asarray, *kind)
            results = []
            for kernel in (plain, fast):
                # Twice: the second launch fills the arguments of the first anew.
                for part in (1, 2):
                    out = cupy.asarray(np.zeros(_SIZE * part))
                    kernel(*there, out[:_SIZE], items=_SIZE)
                    results.append(out.get()[:_SIZE])
        expected = _expected(_arguments(np.asarray, *kind))
        if not all(np.array_equal(x, expected) for x in results[:2]):
            return "CuPy's launch of the trial's kernel gave a wrong result"
        if not all(np.array_equal(x, expected) for x in results[2:]):
            return "the trial's kernel gave a wrong result"
    try:
        # Refused by every GPU: an error must be told.
        fast(*there, out[:_SIZE], blocks=1, threads=1 << 20)
    except cupy.cuda.driver.CUDADriverError:
        return ""
    return "an error of the driver was not told"


def direct(number: int) -> bool:
    """Tell whether launches on a device go straight to the driver; try it once.

    Parameters
    ----------
    number : int
        The current device.
    """
    found = _found.get(number)
    if found is not None:
        return not found
    if driver.capturing():
        # A trial waits for the device, which would break the recording.
        return False
    with _lock:
        found = _found.get(number)
        if found is None:
            if os.environ.get("NNLIB_DIRECT_LAUNCH") == "0":
                found = "NNLIB_DIRECT_LAUNCH is 0"
            else:
                try:
                    found = _try(device.cupy())
                except Exception as error:  # noqa: BLE001 - any failure: CuPy's way
                    found = f"the trial failed: {type(error).__name__}: {error}"
            _found[number] = found
    return not found


def report() -> dict[int, str]:
    """Say how kernels are launched on each device used so far.

    Examples
    --------
    >>> report()
    {}
    """
    return {
        number: f"through CuPy: {reason}" if reason else "straight by the driver"
        for number, reason in _found.items()
    }
