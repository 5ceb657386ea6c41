"""Recurrent kernels for CUDA by their PTX, with several blocks that wait or do not."""

from __future__ import annotations

import importlib.util

import cases_recurrent
import pytest
from kernel_cases import Case, compare, put_on_cpu, put_on_fake_device, results

from nnlib.kernels import persistent

ptx_cases = pytest.importorskip("ptx_cases", reason="there is no interpreter of PTX")
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("numba_cuda") is None, reason="numba-cuda is not installed"
)


@pytest.mark.parametrize("together", [False, True], ids=["each step", "one launch"])
@pytest.mark.parametrize("number", range(len(cases_recurrent.GRIDS)))
def test_several_blocks(number, together, monkeypatch):
    make, threads, *rest = cases_recurrent.GRIDS[number]
    monkeypatch.setattr(persistent, "_THREADS", threads)
    monkeypatch.setattr(persistent, "_room", lambda: 6)
    run = make("f4", *rest)
    case = Case("blocks", cases_recurrent.together(run) if together else run)
    with ptx_cases.interpreter() as ran:
        actual = results(case, put_on_fake_device)
    assert len(ran) == 2 and all(name.endswith("_all_cuda") for name in ran)
    compare(case, actual, results(case, put_on_cpu))


def test_blocks_of_a_whole_device(monkeypatch):
    """A layer of 256 units and 32 sequences takes 128 blocks, all at once."""
    monkeypatch.setattr(persistent, "_room", lambda: 132)
    run = cases_recurrent.GRIDS[0][0]("f4", [32, 20], 256, False, True)
    case = Case("whole", cases_recurrent.together(run), rtol=1e-3, atol=1e-3)
    with ptx_cases.interpreter():
        actual = results(case, put_on_fake_device)
    compare(case, actual, results(case, put_on_cpu))
