"""What works on this machine's GPU, and how fast: one command, one dated file.

    python -m nnlib.bench.cuda_check [--minutes 9] [--output FOLDER] [--only PART ...]

Runs the tests marked ``cuda`` (where pytest and the folder of tests are) and a first
benchmark: memory-bound kernels against copy bandwidth, training steps (against PyTorch
where it is installed), the time of each kernel's first launch. Needs no network and
only what is installed; what is missing is printed. Every part runs in a process of its
own within its share of the time: a crash or a hang loses that part's remainder alone.
Exits with 0 if all tests passed and every part ended, 1 if not, 2 without a GPU.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nnlib
from nnlib.backend import device as backend
from nnlib.bench.__main__ import machine
from nnlib.bench.cuda_figures import PARTS
from nnlib.bench.outcomes import VARIABLE, read_outcomes
from nnlib.bench.report import Report, read_report

__all__ = ["Budget", "main", "missing", "run_tests"]

ROOT = Path(__file__).resolve().parent.parent
# The share of the time that each part may take at most; the tests take what is left.
SHARES = {"bandwidth": 0.14, "training": 0.16, "compilation": 0.16}
# A test that is silent for so long hangs.
SILENCE = 90.0
# Kept for the last lines and the file.
_RESERVE = 10.0


class Budget:
    """The time that is left.

    Parameters
    ----------
    minutes : float
        Of the whole run.

    Examples
    --------
    >>> budget = Budget(9.0)
    >>> 70 < budget.share("bandwidth") <= 9 * 60 * 0.14
    True
    """

    def __init__(self, minutes: float) -> None:
        self.total = minutes * 60.0
        self.start = time.monotonic()

    def left(self) -> float:
        """Return the seconds that may still be used."""
        return self.total - _RESERVE - (time.monotonic() - self.start)

    def share(self, part: str) -> float:
        """Return the seconds that `part` may take: its share, or what is left."""
        return max(0.0, min(self.left(), self.total * SHARES.get(part, 1.0)))


def missing(tests: Path | None) -> list[str]:
    """Return what is not here, and what therefore is not done."""
    lines = []
    for module, consequence in (
        (
            "numba_cuda",
            "no CUDA kernel can be compiled (cubins of the cache still run)",
        ),
        ("torch", "no comparison with PyTorch"),
        ("pytest", "no tests"),
    ):
        if importlib.util.find_spec(module) is None:
            lines.append(f"{module} is not installed: {consequence}")
    if tests is None:
        lines.append("the folder of tests is not here: no tests (run from a clone)")
    return lines


def _environment(device: str) -> dict[str, Any]:
    """Return the device, the driver, the versions and the commit."""
    found: dict[str, Any] = {"device": device, "machine": machine()}
    for key, question in (
        ("commit", _commit),
        ("packages", _packages),
        ("gpu", lambda: _gpu() if device.startswith("cuda") else None),
    ):
        try:
            found[key] = question()
        except Exception as error:  # noqa: BLE001 - the rest is worth having
            found[key] = {"error": repr(error)}
    return found


def _commit() -> dict[str, Any]:
    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(ROOT), *words],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        ).stdout.strip()

    return {"hash": git("rev-parse", "HEAD"), "changed": bool(git("status", "-s"))}


def _packages() -> dict[str, str]:
    from importlib.metadata import distributions

    names = re.compile(
        r"cupy|numba|nvidia|cuda|torch|numpy|llvmlite|nnlib|pytest", re.I
    )
    pairs = {d.metadata["Name"]: d.version for d in distributions()}
    return {n: pairs[n] for n in sorted(filter(None, pairs)) if names.match(n)}


def _gpu() -> dict[str, Any]:
    runtime = backend.cupy().cuda.runtime
    free, total = nnlib.cuda.mem_get_info()
    return {
        "name": nnlib.cuda.get_device_name(),
        "capability": nnlib.cuda.get_device_capability(),
        "count": nnlib.cuda.device_count(),
        "memory_mb": total / 1e6,
        "free_mb": free / 1e6,
        "driver_cuda": runtime.driverGetVersion(),
        "runtime_cuda": runtime.runtimeGetVersion(),
        "driver": _driver(),
    }


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError) as error:
        return f"unknown: {error!r}"
    return done.stdout.strip() or "unknown"


def _stop(process: subprocess.Popen[Any]) -> None:
    """End a process that we started, and those that it started."""
    if os.name == "posix":
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    else:
        process.kill()
    process.wait()


def _start(command: Sequence[str], log: Any, **environment: str) -> Any:
    return subprocess.Popen(
        command,
        cwd=ROOT if (ROOT / "pyproject.toml").exists() else None,
        env={**os.environ, **environment},
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=os.name == "posix",
    )


def run_part(part: str, folder: Path, device: str, seconds: float) -> dict[str, Any]:
    """Run one part of the benchmark; return its figures and how it ended."""
    path = folder / f"{part}.json"
    command = [sys.executable, "-m", "nnlib.bench.cuda_figures", part]
    command += ["--report", str(path), "--device", device]
    command += ["--seconds", f"{max(1.0, seconds - 15):.0f}"]
    environment = {}
    if part == "compilation":
        environment["NNLIB_CACHE_DIR"] = str(folder / "empty-cache")
    begin = time.monotonic()
    process = _start(command, None, **environment)
    try:
        code: Any = process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        _stop(process)
        code = "stopped: the time was up"
    except BaseException:
        _stop(process)
        raise
    found = read_report(path)
    return {**found, "exit": code, "seconds": round(time.monotonic() - begin, 1)}


def run_tests(
    folder: Path, seconds: float, chosen: Sequence[str], silence: float = SILENCE
) -> dict[str, Any]:
    """Run tests by pytest until all are known or the time is up.

    A process that dies, hangs or breaks the CUDA context is followed by another one,
    which goes on with the tests that are left.

    Parameters
    ----------
    folder : Path
        Where the log and the list of outcomes go.
    seconds : float
        The time for all of it.
    chosen : sequence of str
        Arguments of pytest that choose the tests.
    silence : float
        Seconds without an outcome after which a test counts as hanging.
    """
    outcomes = folder / "outcomes.jsonl"
    deadline = time.monotonic() + seconds
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "--tb=short"]
    command += ["-p", "nnlib.bench.outcomes", "-p", "no:cacheprovider", *chosen]
    codes: list[Any] = []
    log_path = folder / "pytest.log"
    while len(codes) < 20 and time.monotonic() < deadline:
        before = len(read_outcomes(outcomes))
        with log_path.open("ab") as log:
            process = _start(command, log, **{VARIABLE: str(outcomes)})
            codes.append(_watch(process, outcomes, deadline, silence))
        # 0: passed, 1: failed, 5: nothing left; else the run goes on if it moved
        found = read_outcomes(outcomes)
        whole = codes[-1] in (0, 5) or (codes[-1] == 1 and not _broken(log_path))
        if whole or len(found) == before:
            break
    return _summary(read_outcomes(outcomes), codes, log_path)


def _watch(process: Any, outcomes: Path, deadline: float, silence: float) -> Any:
    """Wait for a process of tests; end it when it is silent or the time is up."""
    size, heard = -1, time.monotonic()
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
                _stop(process)
                return "stopped: the time was up"
            if now - heard > silence:
                _stop(process)
                return "stopped: no outcome for too long"
    except BaseException:
        _stop(process)
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
    outcomes: dict[str, dict[str, Any]], codes: list[Any], log: Path
) -> dict[str, Any]:
    counts: dict[str, int] = {}
    for entry in outcomes.values():
        name = "crashed or hung" if entry["outcome"] == "started" else entry["outcome"]
        counts[name] = counts.get(name, 0) + 1
    quiet = ("passed",)
    return {
        "counts": counts,
        "exits": codes,
        "passed": [name for name, e in outcomes.items() if e["outcome"] == "passed"],
        "others": {n: e for n, e in outcomes.items() if e["outcome"] not in quiet},
        "slowest_s": dict(
            sorted(
                ((n, e.get("seconds", 0.0)) for n, e in outcomes.items()),
                key=lambda pair: -pair[1],
            )[:20]
        ),
        "log_end": _tail(log),
    }


def _results_folder() -> Path:
    """Return ``bench/results`` of a clone, or the current folder."""
    if (ROOT / "pyproject.toml").exists():
        return ROOT / "bench" / "results"
    return Path.cwd()


def _file_name(name: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return f"{datetime.date.today().isoformat()}-cuda-{slug}.json"


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m nnlib.bench.cuda_check", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--minutes", type=float, default=8.8, help="for all of it")
    parser.add_argument("--output", type=Path, help="folder of the results file")
    parser.add_argument(
        "--only", nargs="+", choices=(*PARTS, "tests"), default=(*PARTS, "tests")
    )
    parser.add_argument(
        "--device", choices=("cuda", "cpu"), default="cuda",
        help="cpu tries the command itself, where there is no GPU",
    )  # fmt: skip
    parser.add_argument(
        "--select",
        default="cuda",
        help="tests of this marker expression (-m of pytest)",
    )
    parser.add_argument("--tests", type=Path, help="the tests' folder or file")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Check the GPU from the command line; return the exit status."""
    options = _arguments(argv)
    status = backend.cuda_status()
    if options.device == "cuda" and not status.ok:
        print(f"No CUDA check: {status.reason}.\nTo mend it: {status.mend}")
        return 2
    budget = Budget(options.minutes)
    environment = _environment(options.device)
    gpu = environment.get("gpu")
    name = gpu.get("name", "unknown") if isinstance(gpu, dict) else "cpu"
    path = (options.output or _results_folder()) / _file_name(name)
    path.unlink(missing_ok=True)
    report = Report(path)
    report.put("date", datetime.datetime.now(datetime.UTC).isoformat("T", "seconds"))
    report.put("environment", environment)
    tests = options.tests or (ROOT / "tests" if (ROOT / "tests").is_dir() else None)
    print(f"CUDA check on {name}, {options.minutes:g} minutes at most", flush=True)
    lacking = missing(tests)
    for line in lacking:
        print(f"missing: {line}", flush=True)
    report.put("missing", lacking)
    failed = False
    with tempfile.TemporaryDirectory(prefix="nnlib-cuda-check-") as folder:
        for part in PARTS:
            if part in options.only:
                failed |= not _guarded_part(part, Path(folder), options, budget, report)
        if "tests" in options.only and tests is not None and _has_pytest():
            failed |= not _guarded_tests(Path(folder), tests, options, budget, report)
    report.put("seconds", round(time.monotonic() - budget.start, 1))
    print(f"written: {path}")
    return int(failed)


def _has_pytest() -> bool:
    return importlib.util.find_spec("pytest") is not None


def _guarded_part(
    part: str, folder: Path, options: argparse.Namespace, budget: Budget, report: Report
) -> bool:
    seconds = budget.share(part)
    print(f"\n{part} ({seconds:.0f} s at most)", flush=True)
    if seconds < 5:
        report.put(part, {"left_out": "the time was up"})
        return False
    try:
        found = run_part(part, folder, options.device, seconds)
    except Exception as error:  # noqa: BLE001 - the other parts are worth having
        found = {"error": repr(error)}
    report.put(part, found)
    return found.get("exit") == 0


def _guarded_tests(
    folder: Path,
    tests: Path,
    options: argparse.Namespace,
    budget: Budget,
    report: Report,
) -> bool:
    seconds = budget.left()
    print(f"\ntests ({seconds:.0f} s at most)", flush=True)
    chosen = ["-m", options.select, str(tests)]
    try:
        found = run_tests(folder, max(1.0, seconds), chosen)
    except Exception as error:  # noqa: BLE001 - the figures are worth having
        found = {"error": repr(error), "counts": {}, "others": {}, "exits": []}
    report.put("tests", found)
    counts = ", ".join(f"{n} {what}" for what, n in sorted(found["counts"].items()))
    print(f"  {counts or 'none ran'}", flush=True)
    for name, entry in found["others"].items():
        if entry["outcome"] != "skipped":
            last = entry.get("message", entry["outcome"]).strip().splitlines()[-1:]
            print(f"  {name}: {' '.join(last)}", flush=True)
    return (
        bool(found["exits"])
        and found["exits"][-1] in (0, 5)
        and not any(entry["outcome"] != "skipped" for entry in found["others"].values())
    )


if __name__ == "__main__":
    sys.exit(main())
