"""Every CUDA kernel, run in Numba's simulator, agrees with its CPU loop."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# The simulator runs Python alone: as many processes as any machine has cores.
PROCESSES = 2


def simulate(number: int, ran: Path) -> subprocess.CompletedProcess[str]:
    """Run every second test of `simulated.py`; the kernels that ran are noted."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    environment = {
        **os.environ,
        "NUMBA_ENABLE_CUDASIM": "1",
        "NNLIB_SIMULATED": f"{number}/{PROCESSES}",
        "NNLIB_SIMULATED_KERNELS": str(ran),
    }
    return subprocess.run(
        [*command, str(HERE / "simulated.py")],
        cwd=HERE.parent.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )


@pytest.mark.skipif(
    importlib.util.find_spec("numba_cuda") is None, reason="numba-cuda is not installed"
)
def test_in_simulator(tmp_path):
    notes = [tmp_path / f"{number}.txt" for number in range(PROCESSES)]
    with ThreadPoolExecutor(PROCESSES) as pool:
        for done in pool.map(simulate, range(PROCESSES), notes):
            assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    found = [json.loads(note.read_text("utf-8")) for note in notes]
    # Some kernels come to be when a case asks for them: so each process says which.
    missing = {name for part in found for name in part["registered"]}
    missing -= {name for part in found for name in part["ran"]}
    assert not missing, f"no case in tests/kernels/cases_*.py launches {missing}"
