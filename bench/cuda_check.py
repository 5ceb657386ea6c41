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
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nnlib
from nnlib.backend import device as backend
from nnlib.backend.threads import available_cores
from nnlib.bench.__main__ import machine
from nnlib.bench.cuda_figures import PARTS
from nnlib.bench.cuda_tests import ROOT, run_tests, start, stop
from nnlib.bench.options import command
from nnlib.bench.report import Report, read_report

__all__ = ["Budget", "main", "missing", "run_part"]

# The share of the time that each part may take at most; the tests take what is left.
SHARES = {
    "bandwidth": 0.11,
    "training": 0.07,
    "host": 0.015,
    "recurrent": 0.05,
    "persistent": 0.05,
    "convolution": 0.08,
    "generative": 0.04,
    "attention": 0.03,
    "compilation": 0.05,
}
# Kept for the last lines and the file.
_RESERVE = 10.0
# Processes that a part may lose.
_MOST_DEATHS = 8
# What is left out where trying it takes the process down, one after the other.
_SAFER: tuple[dict[str, str], ...] = (
    {},
    {"NNLIB_DIRECT_LAUNCH": "0"},
    {"NNLIB_DIRECT_CUBLAS": "0"},
)


class Budget:
    """The time that is left.

    Parameters
    ----------
    minutes : float
        Of the whole run.

    Examples
    --------
    >>> budget = Budget(9.0)
    >>> 50 < budget.share("bandwidth") <= 9 * 60 * 0.11
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
        **_tried(),
    }


def _tried() -> dict[str, Any]:
    """Say how kernels are launched and matrices multiplied: both are tried first.

    In a process of its own: where it dies or hangs, the way that it tried is left out
    from then on, by the environment.
    """
    command = [sys.executable, "-m", "nnlib.bench.cuda_host"]
    problems: list[str] = []
    for settings in _SAFER:
        os.environ.update(settings)
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=100)
            if done.returncode == 0:
                found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
                return {**found, "problems": problems}
            problems.append(f"exit status {done.returncode}: {done.stderr[-2000:]}")
        except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
            problems.append(repr(error))
        print(f"trial of launches and products: {problems[-1]}", flush=True)
    return {"problems": problems}


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError) as error:
        return f"unknown: {error!r}"
    return done.stdout.strip() or "unknown"


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
    codes: list[Any] = []
    while True:
        before = read_report(path)
        left = seconds - (time.monotonic() - begin)
        command[-1] = f"{max(1.0, left - 15):.0f}"
        codes.append(_wait(start(command, None, **environment), left))
        found = read_report(path)
        # A process that died goes on behind what it died of, as long as it gets on.
        left = seconds - (time.monotonic() - begin)
        died = type(codes[-1]) is int and codes[-1] != 0
        if not died or found == before or left < 20 or len(codes) >= _MOST_DEATHS:
            break
    exits = codes[0] if len(codes) == 1 else codes
    return {**found, "exit": exits, "seconds": round(time.monotonic() - begin, 1)}


def _wait(process: Any, seconds: float) -> Any:
    """Return a process's exit status, or that it was stopped."""
    try:
        return process.wait(timeout=max(0.1, seconds))
    except subprocess.TimeoutExpired:
        stop(process)
        return "stopped: the time was up"
    except BaseException:
        stop(process)
        raise


def _results_folder() -> Path:
    """Return ``bench/results`` of a clone, or the current folder."""
    if (ROOT / "pyproject.toml").exists():
        return ROOT / "bench" / "results"
    return Path.cwd()


def _file_name(name: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return f"{datetime.date.today().isoformat()}-cuda-{slug}.json"


def _free(folder: Path, name: str) -> Path:
    """Return a path that does not exist: an earlier run of the day is kept."""
    path = folder / name
    number = 2
    while path.exists():
        path = folder / name.replace(".json", f"-{number}.json")
        number += 1
    return path


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command("cuda_check", __doc__)
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
    path = _free(options.output or _results_folder(), _file_name(name))
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
        workers = max(1, min(12, available_cores() * 3 // 4))
        found = run_tests(folder, max(1.0, seconds), chosen, workers=workers)
    except Exception as error:  # noqa: BLE001 - the figures are worth having
        found = {"error": repr(error), "counts": {}, "others": {}, "whole": False}
    report.put("tests", found)
    counts = ", ".join(f"{n} {what}" for what, n in sorted(found["counts"].items()))
    print(f"  {counts or 'none ran'}", flush=True)
    for name, entry in found["others"].items():
        if entry["outcome"] != "skipped":
            last = entry.get("message", entry["outcome"]).strip().splitlines()[-1:]
            print(f"  {name}: {' '.join(last)}", flush=True)
    bad = [e for e in found["others"].values() if e["outcome"] != "skipped"]
    return bool(found["whole"]) and not bad


if __name__ == "__main__":
    sys.exit(main())
