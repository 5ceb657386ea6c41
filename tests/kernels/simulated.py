"""The cases in Numba's CUDA simulator; `test_cuda_simulator.py` runs this in a process.

The simulator replaces CUDA for the whole process, so these tests cannot share one with
the others.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import cases_recurrent
import numpy as np
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
from numba import cuda
from together import blocks_together

from nnlib.backend.errors import DeviceError
from nnlib.kernels import lstm_cuda, persistent
from nnlib.kernels.machinery import faults, gpu

CASES = all_cases()
GRIDS = range(len(cases_recurrent.GRIDS))
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


def _neighbours(out, barriers):
    shared = cuda.shared.array(4, np.float32)
    i = cuda.threadIdx.x
    for turn in range(2):
        shared[i] = 10 * turn + i
        if barriers > turn:
            cuda.syncthreads()
        out[turn, i] = shared[i ^ 1]
        if barriers > turn:
            cuda.syncthreads()


@pytest.mark.parametrize("barriers", [0, 1, 2])
def test_a_missing_barrier_shows(barriers):
    out = np.zeros((2, 4), np.float32)
    with simulator():
        cuda.jit(_neighbours)[1, 4](out, barriers)
    right = np.array([[1, 0, 3, 2], [11, 10, 13, 12]], np.float32)
    assert (out == right).all(axis=1).tolist() == [barriers > 0, barriers > 1]


def test_an_error_of_a_thread_is_the_launch_s():
    def reaches_too_far(out):
        cuda.syncthreads()
        out[cuda.threadIdx.x] = 1

    with simulator(), pytest.raises(IndexError) as caught:
        cuda.jit(reaches_too_far)[1, 4](np.zeros(3))
    assert caught.value.__notes__ == ["in thread (3, 0, 0) of block (0, 0, 0)"]


def test_note_the_kernels_that_ran():
    # Last in the file: the cases above have run.
    path = os.environ.get("NNLIB_SIMULATED_KERNELS")
    if path:
        load_families()
        own = [name for name in gpu.registry if name.startswith("nnlib.kernels.")]
        found = {"ran": sorted(ran), "registered": sorted(own)}
        Path(path).write_text(json.dumps(found), "utf-8")
