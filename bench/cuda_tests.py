"""The tests of `nnlib.bench.cuda_check`: pytest in processes that may die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from nnlib.bench.outcomes import SHARD, VARIABLE, read_outcomes

__all__ = ["ROOT", "SILENCE", "run_tests", "start", "stop"]

ROOT = Path(__file__).resolve().parent.parent
# A test that is silent for so long hangs.
SILENCE = 90.0


def stop(process: subprocess.Popen[Any]) -> None:
    """End a process that we started, and those that it started."""
    if os.name == "posix":
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    else:
        process.kill()
    process.wait()


def start(command: Sequence[str], log: Any, **environment: str) -> Any:
    """Start a command in a group of its own, in the clone if there is one."""
    return subprocess.Popen(
        command,
        cwd=ROOT if (ROOT / "pyproject.toml").exists() else None,
        env={**os.environ, **environment},
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=os.name == "posix",
    )


def run_tests(
    folder: Path,
    seconds: float,
    chosen: Sequence[str],
    silence: float = SILENCE,
    workers: int = 1,
) -> dict[str, Any]:
    """Run tests by pytest until all are known or the time is up.

    A process that dies, hangs or breaks the CUDA context is followed by another one,
    which goes on with the tests that are left.

    Parameters
    ----------
    folder : Path
        Where the logs and the lists of outcomes go.
    seconds : float
        The time for all of it.
    chosen : sequence of str
        Arguments of pytest that choose the tests.
    silence : float
        Seconds without an outcome after which a test counts as hanging.
    workers : int
        How many processes share the tests.
    """
    deadline = time.monotonic() + seconds
    with ThreadPoolExecutor(workers) as pool:
        jobs = [
            pool.submit(_run_shard, folder, deadline, chosen, silence, k, workers)
            for k in range(workers)
        ]
        codes = [job.result() for job in jobs]
    outcomes: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("outcomes-*.jsonl")):
        outcomes.update(read_outcomes(path))
    return _summary(outcomes, codes, sorted(folder.glob("pytest-*.log")))


def _run_shard(
    folder: Path,
    deadline: float,
    chosen: Sequence[str],
    silence: float,
    number: int,
    count: int,
) -> list[Any]:
    """Run the tests of one worker; return how its processes ended."""
    outcomes = folder / f"outcomes-{number}.jsonl"
    log_path = folder / f"pytest-{number}.log"
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "--tb=short"]
    # A warning of CuPy's is no failure here: the first run should tell what works.
    command += ["-W", "default", "-p", "nnlib.bench.outcomes"]
    command += ["-p", "no:cacheprovider", "--continue-on-collection-errors"]
    command += chosen
    environment = {VARIABLE: str(outcomes), SHARD: f"{number}/{count}"}
    codes: list[Any] = []
    while len(codes) < 20 and time.monotonic() < deadline:
        before = len(read_outcomes(outcomes))
        with log_path.open("ab") as log:
            process = start(command, log, **environment)
            codes.append(_watch(process, outcomes, deadline, silence))
        # 0: passed, 1: failed, 5: nothing left; else the run goes on if it moved
        whole = codes[-1] in (0, 5) or (codes[-1] == 1 and not _broken(log_path))
        if whole or len(read_outcomes(outcomes)) == before:
            break
    return codes


def _watch(process: Any, outcomes: Path, deadline: float, silence: float) -> Any:
    """Wait for a process of tests; end it when it is silent or the time is up."""
    # Until its first outcome it loads and collects, which no test's limit is for.
    first = size = outcomes.stat().st_size if outcomes.exists() else 0
    heard = time.monotonic()
    try:
        while True:
            try:
                return process.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                now = time.monotonic()
            new = outcomes.stat().st_size if outcomes.exists() else 0
            if new != size:
                size, heard = new, now
            if now > deadline:
                stop(process)
                return "stopped: the time was up"
            if now - heard > (max(silence, SILENCE) if size == first else silence):
                stop(process)
                return "stopped: no outcome for too long"
    except BaseException:
        stop(process)
        raise


def _broken(log: Path) -> bool:
    """Tell whether the last run ended because the CUDA context was broken."""
    return "the CUDA context is broken" in _tail(log)


def _tail(path: Path, characters: int = 3000) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")[-characters:]
    except OSError:
        return ""


def _summary(
    outcomes: dict[str, dict[str, Any]], exits: list[list[Any]], logs: list[Path]
) -> dict[str, Any]:
    counts: dict[str, int] = {}
    for entry in outcomes.values():
        name = "crashed or hung" if entry["outcome"] == "started" else entry["outcome"]
        counts[name] = counts.get(name, 0) + 1
    times = {name: entry.get("seconds", 0.0) for name, entry in outcomes.items()}
    slowest = sorted(times, key=lambda name: -times[name])[:20]
    return {
        "counts": counts,
        "exits": exits,
        "whole": all(codes and codes[-1] in (0, 1, 5) for codes in exits),
        "passed": [name for name, e in outcomes.items() if e["outcome"] == "passed"],
        "others": {n: e for n, e in outcomes.items() if e["outcome"] != "passed"},
        "slowest_s": {name: times[name] for name in slowest},
        "log_ends": [_tail(log) for log in logs],
    }
