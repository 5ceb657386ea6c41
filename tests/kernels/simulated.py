"""The cases in Numba's CUDA simulator; `test_cuda_simulator.py` runs this in a process.

The simulator replaces CUDA for the whole process, so these tests cannot share one with
the others.
"""

from __future__ import annotations

import pytest
from kernel_cases import (
    all_cases,
    compare,
    load_families,
    put_on_cpu,
    put_on_fake_device,
    results,
    simulator,
)

from nnlib.kernels.machinery import gpu

CASES = all_cases()
ran: set[str] = set()


@pytest.mark.parametrize("name", CASES)
def test_cuda_loop_agrees_with_cpu_loop(name):
    case = CASES[name]
    with simulator() as names:
        actual = results(case, put_on_fake_device)
    ran.update(names)
    compare(case, actual, results(case, put_on_cpu))


def test_every_kernel_ran():
    # Last in the file: the cases above have run.
    load_families()
    missing = {n for n in gpu.registry if n.startswith("nnlib.kernels.")} - ran
    assert not missing, f"no case in tests/kernels/cases_*.py launches {missing}"
