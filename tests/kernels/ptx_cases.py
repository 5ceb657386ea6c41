"""The cases of the CUDA kernels, their PTX run by the interpreter in `ptx`.

    python tests/kernels/ptx_cases.py                    # all cases
    python tests/kernels/ptx_cases.py pooling softmax    # those with such names
    python tests/kernels/ptx_cases.py --whole            # blocks as large as on a GPU
    python tests/kernels/ptx_cases.py --shifted          # arrays aligned to an element

The command fails if one differs from the loops of the CPU, or does what a GPU would
not. It needs ``numba-cuda``.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from kernel_cases import (
    _in_place_of_gpu,
    all_cases,
    compare,
    load_families,
    put_on_cpu,
    put_on_fake_device,
    results,
    to_host,
)
from ptx import Fault, Machine, Program

from nnlib.kernels.machinery import compile as compiler
from nnlib.kernels.machinery import gpu
from nnlib.kernels.machinery.arrays import DeviceArray
from nnlib.kernels.machinery.gpu import Launch

# In place, they read elements of other threads past the ends, and do not use them.
_READ_MORE = {"nnlib.kernels.dropout.dropout_cuda"}
_programs: dict[tuple[str, str], Program] = {}


def program(kernel: Any, signature: tuple[Any, ...]) -> Program:
    """Return a kernel's program, compiled once."""
    key = kernel.name, str(signature)
    if key not in _programs:
        ptx = compiler._to_ptx(kernel.function, signature, (8, 0))
        _programs[key] = Program(ptx)
    return _programs[key]


class _Launch(Launch):
    """A launch that knows whether its grid was made small for the simulator."""

    __slots__ = ("free",)

    def __init__(self, kernel: Any, args: Any, blocks: Any, threads: Any) -> None:
        super().__init__(kernel, args, blocks, threads)
        self.free = not blocks and not threads


@contextlib.contextmanager
def interpreter(whole: bool = False) -> Iterator[set[str]]:
    """Run launches in the interpreter; yields the names of the kernels that ran.

    `whole`: where a kernel runs on any grid, its blocks have a GPU's threads.
    """
    ran: set[str] = set()

    def interpret(launch: Launch) -> None:
        made = program(launch.kernel, compiler.signature_of(launch.args))
        grid = launch.blocks, launch.threads
        if whole and getattr(launch, "free", False):
            grid = 3, launch.kernel.threads
        try:
            with np.errstate(all="ignore"):
                machine = Machine(made, launch.args, *grid)
                machine.order.reads = launch.kernel.name not in _READ_MORE
                machine.run()
        except Fault as fault:
            raise Fault(f"{launch.kernel.name}: {fault}") from None
        ran.add(launch.kernel.name)

    gpu.Launch = _Launch  # type: ignore[misc]
    try:
        with _in_place_of_gpu(interpret):
            yield ran
    finally:
        gpu.Launch = Launch  # type: ignore[misc]


def put_shifted(array: Any) -> Any:
    """Place an array one element after an address that vectors could begin at."""
    plain = to_host(array)
    room = np.zeros(plain.nbytes + 64, np.uint8)
    start = -room.ctypes.data % 32 + plain.itemsize
    shifted = room[start : start + plain.nbytes].view(plain.dtype)
    shifted = shifted.reshape(plain.shape)
    shifted[...] = plain
    return shifted.view(DeviceArray)


def check(case: Any, whole: bool = False, shifted: bool = False) -> set[str]:
    """Run a case; raise if it differs. Return the names of its kernels."""
    with interpreter(whole) as ran:
        actual = results(case, put_shifted if shifted else put_on_fake_device)
    compare(case, actual, results(case, put_on_cpu))
    return ran


def main() -> int:
    """Run the cases and say which fail."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of the cases' names")
    parser.add_argument("--whole", action="store_true", help="a GPU's threads")
    parser.add_argument("--shifted", action="store_true", help="unaligned arrays")
    options = parser.parse_args()
    names = options.names
    load_families()
    failed = 0
    for name, case in all_cases().items():
        if names and not any(part in name for part in names):
            continue
        start = time.perf_counter()
        try:
            check(case, options.whole, options.shifted)
        except (Fault, AssertionError) as error:
            failed += 1
            print(f"FAIL {name}: {error}", flush=True)
        else:
            print(f"{time.perf_counter() - start:6.2f} s  {name}", flush=True)
    print(f"{failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
