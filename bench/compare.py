"""Two libraries on the same work: one process each, in turns, medians of rounds.

Each library has a process of its own, so that neither's thread pool or memory pool
disturbs the other; the parent lets them work in turns, so that both see the same
moods of the machine. The code of a case is written once: the names of nnlib and
PyTorch are the same.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from typing import Any

__all__ = ["Comparison", "compare", "libraries"]


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
        What both computed last (a loss); they must agree.
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
    case: str,
    threads: int | None,
) -> None:
    """Build one case, then run as many steps as the parent asks for."""
    module = libraries(library)
    if threads is not None:
        module.set_num_threads(threads)
    step = build(module, case)
    while True:
        count = pipe.recv()
        if not count:
            return
        start = time.perf_counter()
        for _ in range(count):
            value = step()
        elapsed = time.perf_counter() - start
        pipe.send((elapsed / count, float(value)))


def compare(
    build: Callable[[Any, str], Any],
    case: str,
    *,
    rounds: int = 15,
    budget: float = 0.1,
    threads: int | None = None,
) -> Comparison:
    """Time ``build(library, case)()`` in both libraries, in turns.

    Parameters
    ----------
    build : callable
        Given the library's module and the case's name, returns a step: a function
        without arguments that does the work once and returns a number (a loss).
        Must be importable (the processes are spawned).
    case : str
    rounds : int
        Turns of each library.
    budget : float
        Seconds of one turn.
    threads : int, optional
        Threads of each library; default: its own choice.
    """
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for library in ("nnlib", "torch"):
        mine, theirs = context.Pipe()
        process = context.Process(
            target=_work, args=(theirs, library, build, case, threads), daemon=True
        )
        process.start()
        theirs.close()
        pipes.append(mine)
        processes.append(process)

    def turn(pipe: Connection, count: int) -> tuple[float, float]:
        pipe.send(count)
        return pipe.recv()  # type: ignore[no-any-return]

    counts = []
    for pipe in pipes:
        turn(pipe, 3)
        warm, _ = turn(pipe, 3)
        counts.append(max(3, int(budget / max(warm, 1e-7))))
    count = min(counts)
    for pipe in pipes:
        turn(pipe, count)
    times: list[list[float]] = [[], []]
    values = [0.0, 0.0]
    for round_ in range(rounds):
        order = (0, 1) if round_ % 2 == 0 else (1, 0)
        for which in order:
            seconds, values[which] = turn(pipes[which], count)
            times[which].append(seconds)
    for pipe, process in zip(pipes, processes, strict=True):
        pipe.send(0)
        process.join(5)
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
