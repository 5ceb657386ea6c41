"""The cases of the CUDA kernels, their PTX run by the interpreter in `ptx`.

    python tests/kernels/ptx_cases.py                    # all cases
    python tests/kernels/ptx_cases.py pooling softmax    # those with such names

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
)
from ptx import Fault, Machine, Program

from nnlib.kernels.machinery import compile as compiler
from nnlib.kernels.machinery.gpu import Launch

_programs: dict[tuple[str, str], Program] = {}


def program(kernel: Any, signature: tuple[Any, ...]) -> Program:
    """Return a kernel's program, compiled once."""
    key = kernel.name, str(signature)
    if key not in _programs:
        ptx = compiler._to_ptx(kernel.function, signature, (8, 0))
        _programs[key] = Program(ptx)
    return _programs[key]


@contextlib.contextmanager
def interpreter() -> Iterator[set[str]]:
    """Run launches in the interpreter; yields the names of the kernels that ran."""
    ran: set[str] = set()

    def interpret(launch: Launch) -> None:
        made = program(launch.kernel, compiler.signature_of(launch.args))
        try:
            with np.errstate(all="ignore"):
                Machine(made, launch.args, launch.blocks, launch.threads).run()
        except Fault as fault:
            raise Fault(f"{launch.kernel.name}: {fault}") from None
        ran.add(launch.kernel.name)

    with _in_place_of_gpu(interpret):
        yield ran


def check(case: Any) -> set[str]:
    """Run a case; raise if it differs. Return the names of its kernels."""
    with interpreter() as ran:
        actual = results(case, put_on_fake_device)
    compare(case, actual, results(case, put_on_cpu))
    return ran


def main() -> int:
    """Run the cases and say which fail."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of the cases' names")
    names = parser.parse_args().names
    load_families()
    failed = 0
    for name, case in all_cases().items():
        if names and not any(part in name for part in names):
            continue
        start = time.perf_counter()
        try:
            check(case)
        except (Fault, AssertionError) as error:
            failed += 1
            print(f"FAIL {name}: {error}", flush=True)
        else:
            print(f"{time.perf_counter() - start:6.2f} s  {name}", flush=True)
    print(f"{failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
