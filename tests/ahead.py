"""Tests that wait for a process of their own: it runs beside the tests before them.

Most tests keep one core busy. A test marked ``ahead(job=job)`` asks for the fixture
``begun``: what ``job(folder, **parameters)`` returned or raised, a skip among it. The
jobs of a run are begun from its start, the last test's first, one at a time; a test
whose job has not begun runs it itself, so that the two meet in the middle.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from nnlib.backend.threads import available_cores


class Ahead:
    """The jobs of a run of tests.

    Parameters
    ----------
    items : list of pytest.Item
        The tests of the run, in order.
    folder : Path
        In which each job finds an empty folder.
    """

    def __init__(self, items: list[pytest.Item], folder: Path) -> None:
        self._folder = folder
        self._pool = ThreadPoolExecutor(1)
        self._jobs: dict[pytest.Item, Future[Any]] = {}
        for item in reversed(items):
            if item.get_closest_marker("ahead"):
                self._jobs[item] = self._pool.submit(self._run, item)

    def _run(self, item: pytest.Item) -> Any:
        job = item.get_closest_marker("ahead").kwargs["job"]
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        return job(folder, **parameters)

    def result(self, item: pytest.Item) -> Any:
        """Return what the job of `item` returns, or raise what it raises."""
        job = self._jobs.pop(item, None)
        if job is None or job.cancel():
            return self._run(item)
        return job.result()

    def stop(self) -> None:
        """Begin no more, and end what runs: the run of tests is at its end."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in list(_running):
            process.kill()
        self._pool.shutdown()


# Seconds until a process counts as hanging, on a machine that is too busy as well.
_LONGEST = 900
_running: set[subprocess.Popen[str]] = set()


def run_script(
    script: list[str], folder: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run Python with the arguments `script` in `folder`, on half of the cores."""
    threads = str(max(1, available_cores() // 2))
    names = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    with subprocess.Popen(
        [sys.executable, *script],
        cwd=folder,
        env={**os.environ, **dict.fromkeys(names, threads), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        _running.add(process)
        try:
            output, errors = process.communicate(timeout=_LONGEST)
        except BaseException:
            process.kill()
            raise
        finally:
            _running.discard(process)
    return subprocess.CompletedProcess(script, process.returncode, output, errors)
