"""A pytest plugin: each test's outcome as a line of JSON, written when it is known.

``python -m pytest -p nnlib.bench.outcomes`` appends to the file that the environment
variable NNLIB_TEST_OUTCOMES names. Tests that the file knows already are left out, so
that a run goes on after one that crashed or hung; NNLIB_TEST_SHARD, such as ``1/4``,
leaves every fourth test to this process. A CUDA context that an invalid
access has broken fails every later test: the run stops there, for another process.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from nnlib.bench.attempts import is_broken

__all__ = ["read_outcomes"]

VARIABLE = "NNLIB_TEST_OUTCOMES"
SHARD = "NNLIB_TEST_SHARD"
_LONGEST = 4000
_PASSED, _STARTED = "passed", "started"
# The many tests of this name come after all others.
_LAST = "smaller_floats"


def read_outcomes(path: Path) -> dict[str, dict[str, Any]]:
    """Return by test what is known of it: its outcome, seconds and message.

    A test whose outcome is "started" took its process down, or hung.
    """
    found: dict[str, dict[str, Any]] = {}
    if not path.exists():
        return found
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            # The last line of a killed process may be torn.
            continue
        if not isinstance(entry, dict):
            continue
        found[entry.pop("test")] = entry
    return found


def _note(**entry: Any) -> None:
    path = os.environ.get(VARIABLE)
    if path:
        with Path(path).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Leave out other processes' tests, and what an earlier process has done."""
    path = os.environ.get(VARIABLE)
    if path:
        number, _, count = os.environ.get(SHARD, "0/1").partition("/")
        mine = sorted(items, key=lambda item: _LAST in item.nodeid)
        done = read_outcomes(Path(path))
        items[:] = [
            item for item in mine[int(number) :: int(count)] if item.nodeid not in done
        ]


def pytest_runtest_logstart(nodeid: str, location: Any) -> None:
    """Note that a test begins."""
    _note(test=nodeid, outcome=_STARTED)


def pytest_runtest_logreport(report: Any) -> None:
    """Note the outcome of a test, once: of its call, or of what kept it from one."""
    if report.when != "call" and report.outcome == _PASSED:
        return
    message = "" if report.outcome == _PASSED else report.longreprtext
    if report.outcome == "skipped" and isinstance(report.longrepr, tuple):
        message = str(report.longrepr[2])
    entry = {"seconds": round(report.duration, 3), "when": report.when}
    if message:
        entry["message"] = message[-_LONGEST:]
    _note(test=report.nodeid, outcome=report.outcome, **entry)


def pytest_collectreport(report: Any) -> None:
    """Note a file that cannot be loaded."""
    if report.failed:
        message = str(report.longreprtext)[-_LONGEST:]
        _note(test=report.nodeid, outcome="failed", when="collect", message=message)


def pytest_runtest_makereport(item: Any, call: Any) -> None:
    """Stop the run when the CUDA context is broken."""
    text = "" if call.excinfo is None else repr(call.excinfo.value)
    if is_broken(text):
        item.session.shouldstop = "the CUDA context is broken"
