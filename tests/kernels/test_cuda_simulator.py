"""Every CUDA kernel, run in Numba's simulator, agrees with its CPU loop."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from ahead import run_script

HERE = Path(__file__).parent


def simulate(folder):
    """Run all tests of `simulated.py`; the kernels that ran are noted."""
    if importlib.util.find_spec("numba_cuda") is None:
        pytest.skip("numba-cuda is not installed")
    notes = folder / "kernels.txt"
    done = run_script(
        ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "simulated.py"],
        HERE,
        NUMBA_ENABLE_CUDASIM="1",
        NNLIB_SIMULATED_KERNELS=str(notes),
    )
    return done, notes


@pytest.mark.ahead(job=simulate)
def test_in_simulator(begun):
    done, notes = begun
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    # Some kernels come to be when a case asks for them: so the process says which.
    found = json.loads(notes.read_text("utf-8"))
    missing = set(found["registered"]) - set(found["ran"])
    assert not missing, f"no case in tests/kernels/cases_*.py launches {missing}"
