"""What lies on ``cuda:1`` is computed there, whichever device is the current one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("second_device.py")


def test_everything_runs_on_the_device_of_its_tensors():
    environment = {**os.environ, "NNLIB_DISABLE_CUDA": "", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
