"""CUDA graphs without a GPU: `replayed.py`, and the calls that NumPy answers here."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from ahead import run_script

import nnlib
from nnlib.backend import device, recording

HERE = Path(__file__).parent


def replay(folder):
    """Run all tests of `replayed.py` and `replayed_callables.py`."""
    if importlib.util.find_spec("numba_cuda") is None:
        pytest.skip("numba-cuda is not installed")
    command = ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    files = ["replayed.py", "replayed_callables.py"]
    return run_script([*command, *files], HERE, NUMBA_ENABLE_CUDASIM="1")


@pytest.mark.ahead(job=replay)
def test_recorded_and_replayed_on_a_stand_in(begun):
    assert begun.returncode == 0, begun.stdout[-8000:] + begun.stderr[-2000:]


def test_without_cuda_the_reason_is_told():
    if device.is_available():
        pytest.skip("CUDA is available")
    for make in (nnlib.cuda.CUDAGraph, nnlib.cuda.graph_pool_handle):
        with pytest.raises(nnlib.DeviceError, match="device 'cuda': .*to mend it"):
            make()
    x = nnlib.ones(2)
    with pytest.raises(nnlib.DeviceError, match="device 'cuda': .*to mend it"):
        nnlib.cuda.make_graphed_callables(nnlib.relu, (x,))
    assert not nnlib.cuda.is_current_stream_capturing()


def test_only_the_thread_that_records_is_refused(monkeypatch):
    found = recording.Recording(0, None)
    monkeypatch.setattr(recording.state, "recording", found)
    assert recording.current() is found
    with pytest.raises(nnlib.DeviceError, match="item: not while a CUDA graph"):
        recording.refuse("item")
    found.thread += 1
    assert recording.current() is None
    recording.refuse("item")
