"""Peak memory of training steps above parameters and optimiser state.

    python -m nnlib.bench.memory [--only NAME ...]

Each library runs each case in a process of its own (Linux: it reads
``/proc/self/status``). Small models are trained first, so that code, kernels and
the libraries' own buffers are loaded before the count begins. Then the C library's
free memory is given back: an import leaves holes (PyTorch's larger ones than nnlib's),
and what a step finds in a hole would seem to take no memory, though it takes it.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nnlib.bench.compare import libraries
from nnlib.bench.options import command, require_cases
from nnlib.bench.training import CASES, CHANNELS_LAST, build

__all__ = ["HEADER", "Peak", "main", "run"]

HEADER = "| case | nnlib, MB | PyTorch, MB |\n| --- | --- | --- |"
STEPS = 20


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


def _give_back() -> None:
    """Return the C library's free memory to the system (where it is glibc)."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _measure(library: str, case: str, held: int, results: Any) -> None:
    lib = libraries(library)
    # The same code and kernels; and one wide product: the buffers of the library that
    # multiplies.
    wide = "softmax regression 784-10, batch 128, SGD"
    for warm_up in (build(lib, case, small=True), build(lib, wide)):
        for _ in range(3):
            warm_up()
    # From before the model is built: memory that a library keeps after building it,
    # to use it again in the steps, counts.
    _give_back()
    before = _status("VmRSS")
    step = build(lib, case)
    Path("/proc/self/clear_refs").write_text("5")
    for _ in range(STEPS):
        step()
    results.put((_status("VmHWM") - before - held) / 1e6)


def _in_its_own_process(library: str, case: str) -> float:
    """Return the peak of one case in megabytes."""
    wanted = CASES[case.removesuffix(CHANNELS_LAST)]
    weights = sum(p.numel() for p in wanted.model(libraries("nnlib")).parameters())
    held = (1 + wanted.state) * weights * 4
    context = multiprocessing.get_context("spawn")
    results: Any = context.Queue()
    process = context.Process(target=_measure, args=(library, case, held, results))
    process.start()
    value: float = results.get(timeout=300)
    process.join()
    return value


def run(only: list[str] | None = None) -> list[Peak]:
    """Measure every case; print each row as it is known.

    Of PyTorch's two memory formats for images the smaller peak counts.
    """
    print(HEADER, flush=True)
    found = []
    for case, what in CASES.items():
        if only and not any(part in case for part in only):
            continue
        theirs = [_in_its_own_process("torch", case)]
        if what.images:
            theirs.append(_in_its_own_process("torch", case + CHANNELS_LAST))
        # The first process may compile a kernel, which takes memory too.
        mine = [_in_its_own_process("nnlib", case) for _ in range(2)]
        found.append(Peak(case, mine[1], min(theirs)))
        print(found[-1].row(), flush=True)
    return found


def main() -> None:
    """Run from the command line."""
    parser = command("memory", __doc__)
    parser.add_argument("--only", nargs="*", help="parts of case names")
    only = parser.parse_args().only
    require_cases(run(only), only)


if __name__ == "__main__":
    main()
