"""The cases in Numba's CUDA simulator; `test_cuda_simulator.py` runs this in a process.

The simulator replaces CUDA for the whole process, so these tests cannot share one with
the others.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import cases_recurrent
import pytest
from kernel_cases import (
    Case,
    all_cases,
    compare,
    load_families,
    put_on_cpu,
    put_on_fake_device,
    results,
    simulator,
)
from together import blocks_together

from nnlib.backend.errors import DeviceError
from nnlib.kernels import lstm_cuda, persistent
from nnlib.kernels.machinery import faults, gpu

# This process takes every so-and-so-many-th case: "0/2" the even ones.
NUMBER, COUNT = map(int, os.environ.get("NNLIB_SIMULATED", "0/1").split("/"))
CASES = dict(list(all_cases().items())[NUMBER::COUNT])
GRIDS = range(NUMBER, len(cases_recurrent.GRIDS), COUNT)
ran: set[str] = set()


@pytest.mark.parametrize("name", CASES)
def test_cuda_loop_agrees_with_cpu_loop(name):
    case = CASES[name]
    with simulator() as names:
        actual = results(case, put_on_fake_device)
    ran.update(names)
    compare(case, actual, results(case, put_on_cpu))


@pytest.mark.parametrize("number", GRIDS)
def test_recurrent_blocks_wait_for_one_another(number, monkeypatch):
    make, threads, *rest = cases_recurrent.GRIDS[number]
    monkeypatch.setattr(persistent, "_THREADS", threads)
    monkeypatch.setattr(persistent, "_room", lambda: 6)
    case = Case("together", cases_recurrent.together(make("f4", *rest)))
    with simulator(), blocks_together() as counts:
        actual = results(case, put_on_fake_device)
    assert len(counts) == 2 and min(counts) > 1
    compare(case, actual, results(case, put_on_cpu))


@pytest.mark.parametrize("number", GRIDS)
def test_recurrent_steps_of_several_blocks(number, monkeypatch):
    make, threads, *rest = cases_recurrent.GRIDS[number]
    monkeypatch.setattr(persistent, "_THREADS", threads)
    monkeypatch.setattr(persistent, "_room", lambda: 6)
    case = Case("each step", make("f4", *rest))
    with simulator() as names:
        actual = results(case, put_on_fake_device)
    assert all(name.endswith("_all_cuda") for name in names)
    compare(case, actual, results(case, put_on_cpu))


def test_a_block_that_waits_in_vain_lets_go_and_says_so(monkeypatch):
    monkeypatch.setattr(persistent, "_SPINS", 3)
    monkeypatch.setattr(lstm_cuda, "arrive", lambda *_: None)
    make, _, *rest = cases_recurrent.GRIDS[0]
    case = Case("in vain", cases_recurrent.together(make("f4", *rest)))
    with simulator():
        results(case, put_on_fake_device)
        with pytest.raises(DeviceError, match="in vain"):
            faults.check()
        faults.check()


def test_note_the_kernels_that_ran():
    # Last in the file: the cases above have run.
    path = os.environ.get("NNLIB_SIMULATED_KERNELS")
    if path:
        load_families()
        own = [name for name in gpu.registry if name.startswith("nnlib.kernels.")]
        found = {"ran": sorted(ran), "registered": sorted(own)}
        Path(path).write_text(json.dumps(found), "utf-8")
