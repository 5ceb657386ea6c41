"""Peak memory of training steps above parameters and optimiser state.

    python -m nnlib.bench.memory

Each library runs each case in a process of its own (Linux: it reads
``/proc/self/status``). Small models are trained first, so that code, kernels and
the libraries' own buffers are loaded before the count begins.
"""

from __future__ import annotations

import multiprocessing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nnlib.bench.compare import libraries
from nnlib.bench.training import CASES, build

__all__ = ["HEADER", "Peak", "main", "run"]

HEADER = "| case | nnlib, MB | PyTorch, MB |\n| --- | --- | --- |"
STEPS = 20
_STATE_COPIES = {"_adam": 2, "_sgd": 0}


@dataclass
class Peak:
    """Peak of resident memory above parameters and optimiser state, in megabytes."""

    case: str
    nnlib_mb: float
    torch_mb: float

    def row(self) -> str:
        """Return a row of the table that `HEADER` begins."""
        return f"| {self.case} | {self.nnlib_mb:.1f} | {self.torch_mb:.1f} |"

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, for a results file."""
        return asdict(self)


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return 0


def _measure(library: str, case: str, results: Any) -> None:
    lib = libraries(library)
    sizes, _, optimizer, loss, aim = CASES[case]
    # The same layers, loss and optimiser, eight wide: the same code and kernels. And
    # one wide product: the buffers of the library that multiplies.
    CASES["warm-up"] = ([8] * len(sizes), 4, optimizer, loss, aim)
    for name in ("warm-up", "softmax regression 784-10, batch 128, SGD"):
        warm_up = build(lib, name)
        for _ in range(3):
            warm_up()
    weights = sum((a + 1) * b for a, b in zip(sizes[:-1], sizes[1:], strict=True))
    held = (1 + _STATE_COPIES[optimizer.__name__]) * weights * 4
    # From before the model is built: memory that a library keeps after building it,
    # to use it again in the steps, counts.
    before = _status("VmRSS")
    step = build(lib, case)
    Path("/proc/self/clear_refs").write_text("5")
    for _ in range(STEPS):
        step()
    results.put((_status("VmHWM") - before - held) / 1e6)


def run() -> list[Peak]:
    """Measure every case; print each row as it is known."""
    print(HEADER, flush=True)
    context = multiprocessing.get_context("spawn")
    found = []
    for case in CASES:
        values = []
        for library in ("nnlib", "torch"):
            results: Any = context.Queue()
            process = context.Process(target=_measure, args=(library, case, results))
            process.start()
            values.append(results.get(timeout=300))
            process.join()
        found.append(Peak(case, *values))
        print(found[-1].row(), flush=True)
    return found


def main() -> None:
    """Run from the command line."""
    run()


if __name__ == "__main__":
    main()
