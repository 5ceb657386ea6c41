"""Two libraries on the same work: one process each, in turns, medians of rounds.

Each library has a process of its own, so that neither's thread pool or memory pool
disturbs the other; the parent lets them work in turns, so that both see the same
moods of the machine. The code of a case is written once: the names of nnlib and
PyTorch are the same.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from typing import Any

from nnlib.backend.errors import Error
from nnlib.bench.options import at_least, command, read_threads

__all__ = ["HEADER", "Comparison", "Pair", "compare", "libraries", "read_options"]


@dataclass
class Comparison:
    """What both libraries took for one case.

    Attributes
    ----------
    case : str
    nnlib_ms, torch_ms : float
        Median time of one step, in milliseconds.
    ratio : float
        Median over rounds of PyTorch's time divided by nnlib's: above 1, nnlib is
        faster.
    ratio_low, ratio_high : float
        First and last quartile of the rounds' ratios.
    nnlib_value, torch_value : float
        What both computed in their first steps (a loss); they must agree.
    """

    case: str
    nnlib_ms: float
    torch_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float
    nnlib_value: float
    torch_value: float

    def row(self) -> str:
        """Return a row of the table that `header` begins."""
        return (
            f"| {self.case} | {self.nnlib_ms:.3f} | {self.torch_ms:.3f} | "
            f"{self.ratio:.2f} ({self.ratio_low:.2f}-{self.ratio_high:.2f}) | "
            f"{self.nnlib_value:.5g} / {self.torch_value:.5g} |"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, for a results file."""
        return asdict(self)


HEADER = (
    "| case | nnlib, ms | PyTorch, ms | PyTorch / nnlib (quartiles) | value of both |\n"
    "| --- | --- | --- | --- | --- |"
)


def libraries(name: str) -> Any:
    """Import nnlib or PyTorch under the names that the cases use."""
    if name == "torch":
        import torch

        return torch
    import nnlib

    return nnlib


def _work(
    pipe: Connection,
    library: str,
    build: Callable[[Any, str], Any],
    threads: int | None,
) -> None:
    """Run as many steps of a case as the parent asks for, until it asks for none."""
    module = libraries(library)
    if threads is not None:
        module.set_num_threads(threads)
    now = time.thread_time if threads == 1 else time.perf_counter
    built: str | None = None
    while True:
        case, count, idle = pipe.recv()
        if not count:
            return
        if case != built:
            step, built = build(module, case), case
        for _ in range(idle):
            step()
        start = now()
        for _ in range(count):
            value = step()
        # A step on CUDA that returns no number leaves its work to the device.
        getattr(step, "synchronize", int)()
        elapsed = now() - start
        pipe.send((elapsed / count, float(value)))


class Pair:
    """A process of each library, in which cases are timed in turns.

    Parameters
    ----------
    build : callable
        Given the library's module and a case's name, returns a step: a function
        without arguments that does the work once and returns a number (a loss).
        Must be importable (the processes are spawned).
    threads : int, optional
        Threads of each library; default: its own choice. With 1 the thread's own time
        is measured, which leaves out what other processes take.
    """

    def __init__(
        self,
        build: Callable[[Any, str], Any],
        *,
        threads: int | None = None,
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipes: list[Any] = []
        self.processes: list[Any] = []
        for library in ("nnlib", "torch"):
            mine, theirs = context.Pipe()
            process = context.Process(
                target=_work,
                args=(theirs, library, build, threads),
                daemon=True,
            )
            process.start()
            theirs.close()
            self.pipes.append(mine)
            self.processes.append(process)

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *error: object) -> None:
        for pipe, process in zip(self.pipes, self.processes, strict=True):
            # It may be about to end by an error of its own.
            with contextlib.suppress(OSError):
                if process.is_alive():
                    pipe.send(("", 0, 0))
            process.join(5)

    def turn(
        self, which: int, case: str, count: int, idle: int = 0
    ) -> tuple[float, float]:
        """Run `count` steps in one library; return the time of one, and its value.

        `idle` steps come before, unmeasured: at the start of a turn the other library's
        threads still spin, and the scheduler has yet to give each thread of this one a
        core of its own; neither is so in a training loop.
        """
        pipe = self.pipes[which]
        try:
            pipe.send((case, count, idle))
            return pipe.recv()  # type: ignore[no-any-return]
        except (EOFError, OSError):
            library = ("nnlib", "PyTorch")[which]
            raise Error(
                f"{case}: {library}'s process ended; what it said is above"
            ) from None

    def time(
        self, case: str, *, rounds: int = 15, budget: float = 0.1, least: int = 3
    ) -> Comparison:
        """Time a case in both libraries, in turns.

        Parameters
        ----------
        case : str
        rounds : int
            Turns of each library.
        budget : float
            Seconds of one turn.
        least : int
            Steps of one turn at least.
        """
        counts = []
        values = [0.0, 0.0]
        for which in (0, 1):
            _, values[which] = self.turn(which, case, least)
            warm, _ = self.turn(which, case, least)
            counts.append(max(least, int(budget / max(warm, 1e-7))))
        count = min(counts)
        for which in (0, 1):
            self.turn(which, case, count)
        times: list[list[float]] = [[], []]
        for round_ in range(rounds):
            for which in (0, 1) if round_ % 2 == 0 else (1, 0):
                found, _ = self.turn(which, case, count, max(2, count // 2))
                times[which].append(found)
        ratios = [theirs / mine for mine, theirs in zip(*times, strict=True)]
        quartiles = statistics.quantiles(ratios, n=4)
        return Comparison(
            case,
            statistics.median(times[0]) * 1e3,
            statistics.median(times[1]) * 1e3,
            statistics.median(ratios),
            quartiles[0],
            quartiles[2],
            *values,
        )


def compare(
    build: Callable[[Any, str], Any],
    cases: Iterable[str | tuple[str, ...]],
    *,
    rounds: int = 15,
    only: list[str] | None = None,
    threads: int | None = None,
) -> list[Comparison]:
    """Time ``build(library, case)()`` in both libraries, new processes for each case.

    Parameters
    ----------
    build, threads
        As for `Pair`.
    cases : iterable of str or tuple of str
        Of a tuple (PyTorch's memory formats) the one counts that PyTorch does best in.
    rounds
        As for `Pair.time`.
    only : list of str, optional
        Parts of names: others are left out.

    Returns
    -------
    list of Comparison
        Each is printed as it is known.
    """
    found = []
    for case in cases:
        names = (case,) if isinstance(case, str) else case
        if only and not any(part in names[0] for part in only):
            continue
        with Pair(build, threads=threads) as pair:
            rows = [pair.time(name, rounds=rounds) for name in names]
        found.append(min(rows, key=lambda row: row.ratio))
        print(found[-1].row(), flush=True)
    return found


def read_options(
    name: str,
    text: str | None,
    *,
    rounds: int = 15,
    parser: argparse.ArgumentParser | None = None,
) -> Any:
    """Read the options that comparisons share: rounds, only and threads.

    Parameters
    ----------
    name, text : str
        As for `command`.
    rounds : int
        The default.
    parser : argparse.ArgumentParser, optional
        Has the program's other options.
    """
    parser = parser or command(name, text)
    parser.add_argument(
        "--rounds", type=at_least(2), default=rounds, help="turns of each library"
    )
    parser.add_argument("--only", nargs="*", help="parts of case names")
    parser.add_argument(
        "--threads",
        type=read_threads,
        help="of each library; with 1, the thread's own time is measured, which holds "
        "on a busy machine",
    )
    return parser.parse_args()
