"""How long a user waits: import, first training step with and without a cache.

python -m nnlib.bench.startup [--only NAME ...]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile

from nnlib.bench.options import command, require_cases

__all__ = ["main", "run"]

CASES = ("MLP 784-512-512-10, batch 128, Adam", "LeNet-5, batch 64, Adam")

_PROCESSES = ("fresh install (empty kernel cache)", "second process", "third process")

_PROGRAM = """
import json, time
start = time.perf_counter()
import nnlib
imported = time.perf_counter() - start
from nnlib.bench.training import build
step = build(nnlib, CASE)
begin = time.perf_counter()
step()
first = time.perf_counter() - begin
begin = time.perf_counter()
step()
second = time.perf_counter() - begin
print(json.dumps({"import": imported, "first_step": first, "second_step": second,
                  "total": time.perf_counter() - start}))
"""


def _process(cache: str, case: str) -> dict[str, float]:
    environment = {**os.environ, "NNLIB_CACHE_DIR": cache}
    output = subprocess.run(
        [sys.executable, "-c", _PROGRAM.replace("CASE", repr(case))],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return json.loads(output.splitlines()[-1])  # type: ignore[no-any-return]


def run(cases: tuple[str, ...] = CASES) -> dict[str, dict[str, float]]:
    """Time a process with an empty kernel cache, then two that find it filled."""
    print("| case | process | import, s | first step, s | second step, s |")
    print("| --- | --- | --- | --- | --- |")
    found = {}
    for case in cases:
        with tempfile.TemporaryDirectory() as cache:
            for process in _PROCESSES:
                times = _process(cache, case)
                found[f"{case}: {process}"] = times
                print(
                    f"| {case} | {process} | {times['import']:.2f} | "
                    f"{times['first_step']:.2f} | {times['second_step']:.4f} |",
                    flush=True,
                )
    return found


def main() -> None:
    """Run from the command line."""
    parser = command("startup", __doc__)
    parser.add_argument("--only", nargs="*", help="parts of case names")
    only = parser.parse_args().only
    cases = tuple(x for x in CASES if not only or any(part in x for part in only))
    require_cases(cases, only)
    run(cases)


if __name__ == "__main__":
    main()
