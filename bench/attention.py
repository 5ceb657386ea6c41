"""Attention over the length of the sequences: peak memory and time, against PyTorch.

    python -m nnlib.bench.attention [--lengths T ...] [--picture FILE] [--threads N]

One head of 64 features, forward and backward. Memory is what is allocated above the
inputs at the highest moment (`tracemalloc`, which sees NumPy's arrays): by tiles, which
`scaled_dot_product_attention` does, and with the whole matrix of scores, by the
composed form. The first grows in proportion to T, the second to its square.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import nnlib
from nnlib.bench.options import at_least, command, read_threads
from nnlib.ops import attention as forms

__all__ = ["CASES", "build", "main", "peak_memory", "run"]

WIDTH = 64
# Above so many keys the whole matrix takes longer than it tells.
_LONGEST_WHOLE = 4096


def _step(lib: Any, length: int, attend: Callable[..., Any]) -> Callable[[], None]:
    rng = np.random.default_rng(0)
    q, k, v = (
        lib.from_numpy(rng.standard_normal((1, 1, length, WIDTH)).astype(np.float32))
        for _ in range(3)
    )
    for x in (q, k, v):
        x.requires_grad_()

    def step() -> None:
        for x in (q, k, v):
            x.grad = None
        attend(q, k, v).sum().backward()

    return step


# Batch, heads, length and features of the cases that `build` knows, and if causal.
_SHAPES = {
    "32 x 4 x 64 x 16": (32, 4, 64, 16, False),
    "8 x 8 x 1024 x 64": (8, 8, 1024, 64, False),
    "8 x 8 x 1024 x 64, causal": (8, 8, 1024, 64, True),
}
FORWARD, BOTH = "forward", "forward and backward"
CASES = [f"{shape}: {what}" for shape in _SHAPES for what in (FORWARD, BOTH)]


def build(lib: Any, case: str, device: str = "cpu") -> Callable[[], Any]:
    """Return a step of attention, of one of `CASES`, in `lib` (nnlib or torch).

    On CUDA it returns nothing: the work is left to the device, and the step has a
    ``synchronize`` to wait for it.
    """
    shape, what = case.split(": ")
    batch, heads, length, width, causal = _SHAPES[shape]
    rng = np.random.default_rng(0)
    q, k, v, g = (
        lib.from_numpy(
            rng.standard_normal((batch, heads, length, width)).astype(np.float32)
        ).to(device)
        for _ in range(4)
    )
    for x in (q, k, v):
        x.requires_grad_(what == BOTH)
    attend = lib.nn.functional.scaled_dot_product_attention

    def step() -> Any:
        for x in (q, k, v):
            x.grad = None
        out = attend(q, k, v, is_causal=causal)
        if what == BOTH:
            out.backward(g)
        return 0.0

    if device != "cpu":
        vars(step)["synchronize"] = lib.cuda.synchronize
    return step


def _whole(q: Any, k: Any, v: Any) -> Any:
    setting = nnlib.kernels.attention.Setting(WIDTH**-0.5)
    return forms.composed_attention(q, k, v, None, setting)


_tiles = nnlib.nn.functional.scaled_dot_product_attention


def peak_memory(length: int, *, whole: bool = False) -> int:
    """Return the bytes above the inputs at the highest moment of a step.

    Examples
    --------
    >>> peak_memory(64) < peak_memory(64, whole=True) * 10
    True
    """
    step = _step(nnlib, length, _whole if whole else _tiles)
    step()
    tracemalloc.start()
    step()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def _seconds(
    step: Callable[[], None], rounds: int, clock: Callable[[], float]
) -> float:
    step()
    times = []
    for _ in range(rounds):
        start = clock()
        step()
        times.append(clock() - start)
    return float(np.median(times))


def run(lengths: list[int], rounds: int, threads: int | None) -> list[dict[str, Any]]:
    """Measure every length; print each row as it is known."""
    try:
        import torch
    except ImportError:
        torch = None
    clock = time.perf_counter
    if threads:
        nnlib.set_num_threads(threads)
        clock = time.thread_time if threads == 1 else clock
        if torch is not None:
            torch.set_num_threads(threads)
    print(f"{'T':>6} {'tiles, MB':>10} {'whole, MB':>10} {'ms':>8} {'PyTorch':>8}")
    rows = []
    for length in lengths:
        row: dict[str, Any] = {"length": length, "tiles": peak_memory(length)}
        if length <= _LONGEST_WHOLE:
            row["whole"] = peak_memory(length, whole=True)
        row["seconds"] = _seconds(_step(nnlib, length, _tiles), rounds, clock)
        told = "-"
        if torch is not None:
            theirs = torch.nn.functional.scaled_dot_product_attention
            row["torch"] = _seconds(_step(torch, length, theirs), rounds, clock)
            told = f"{row['torch'] * 1e3:.2f}"
        whole = f"{row['whole'] / 1e6:.2f}" if "whole" in row else "-"
        print(
            f"{length:>6} {row['tiles'] / 1e6:>10.2f} {whole:>10} "
            f"{row['seconds'] * 1e3:>8.2f} {told:>8}",
            flush=True,
        )
        rows.append(row)
    return rows


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw peak memory over the length, both axes logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, label in (("tiles", "by tiles"), ("whole", "the whole matrix")):
        points = [(row["length"], row[name] / 1e6) for row in rows if name in row]
        axes.loglog(*zip(*points, strict=True), marker="o", label=label, base=2)
    axes.set_xlabel("length T")
    axes.set_ylabel("peak memory of a step, MB")
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Run from the command line."""
    parser = command("attention", __doc__)
    lengths = [2**k for k in range(7, 14)]
    parser.add_argument("--lengths", nargs="*", type=at_least(1), default=lengths)
    parser.add_argument("--rounds", type=at_least(1), default=5)
    parser.add_argument("--threads", type=read_threads, help="of each library")
    parser.add_argument("--picture", type=Path, help="a file to draw the memory to")
    options = parser.parse_args()
    rows = run(options.lengths, options.rounds, options.threads)
    if options.picture:
        draw(rows, options.picture)
        print(f"drew {options.picture}")


if __name__ == "__main__":
    main()
