"""What lies on ``cuda:1`` is computed there, whichever device is the current one."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def run(*command: object) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", *map(str, command)],
        env={**os.environ, "NNLIB_DISABLE_CUDA": ""},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    path = tmp_path_factory.mktemp("devices") / "calls.json"
    run(HERE / "second_device.py", path)
    return path


def test_everything_runs_on_the_device_of_its_tensors(calls):
    assert calls.exists()


@pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="needs CuPy")
def test_cupy_has_what_is_called(calls):
    run(HERE / "cupy_has.py", calls)
