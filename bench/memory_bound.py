"""Pooling, normalisation and cross-entropy beyond the cache: bandwidth, PyTorch's time.

    python -m nnlib.bench.memory_bound --rounds 15

Two questions, two measurements.

*Part of copy*: how near a kernel comes to what the machine's memory gives. The kernel
runs alone, writes into memory that is used again (``out=``), and counts each array that
its algorithm must read or write, once for each time: the column "arrays" (1 is the 51
MB of the input; batch normalisation in training reads it twice, because no value can be
normalised before all are known). A copy into memory that is used again counts in the
same way, one read and one write; what the hardware reads on its own before a write
counts nowhere. The copy is the fastest of NumPy's by one thread, NumPy's shared by all
threads, and PyTorch's.

*Ratio*: PyTorch's time divided by nnlib's for the function a user calls, in
channels-last memory, which makes new memory for its result in both libraries. Each
library has a process of its own and they work in turns.

Times are minima, because others may use the machine.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

from nnlib.bench.options import at_least, command, read_threads

# (N, C, H, W): 51 MB of float32.
SHAPE = (16, 64, 112, 112)


class Case(NamedTuple):
    """A row of the table.

    Attributes
    ----------
    name : str
    kernel : str
        Names the call of `kernel_calls`, or empty.
    arrays : float
        How often its algorithm reads or writes an array of the input's size.
    op : str
        Names the call of `op_calls`, or empty.
    """

    name: str
    kernel: str
    arrays: float
    op: str


CASES = (
    Case("max_pool2d 2x2, evaluation", "max2 values", 1.25, "max2 evaluation"),
    Case("max_pool2d 2x2, training", "max2", 1.3125, "max2"),
    Case("... backward", "max2 backward", 1.3125, ""),
    Case("... forward and backward", "", 0, "max2 both"),
    Case("max_pool2d 3x3 stride 2, training", "max3", 1.3125, "max3"),
    Case("... backward", "max3 backward", 1.3125, ""),
    Case("... forward and backward", "", 0, "max3 both"),
    Case("avg_pool2d 2x2", "mean2", 1.25, "mean2"),
    Case("... backward", "mean2 backward", 1.25, ""),
    Case("... forward and backward", "", 0, "mean2 both"),
    Case("adaptive_avg_pool2d 1", "mean all", 1.0, "mean all"),
    Case("batch_norm, evaluation", "normalize", 2.0, "batch evaluation"),
    Case("batch_norm, training", "batch", 3.0, "batch"),
    Case("... backward", "batch backward", 5.0, ""),
    Case("... forward and backward", "", 0, "batch both"),
    Case("layer_norm over 64 channels", "layer", 2.0, "layer"),
    Case("... backward", "layer backward", 3.0, ""),
    Case("... forward and backward", "", 0, "layer both"),
    Case("cross_entropy of 64 classes", "entropy", 1.0, "entropy"),
    Case("... backward", "entropy backward", 2.0, ""),
    Case("... forward and backward", "", 0, "entropy both"),
    Case("interpolate bilinear x2 of a quarter", "bilinear", 1.25, "bilinear"),
)


def _pixels(h: int, w: int) -> Any:
    """Return (N, h, w, C) with a value in each page."""
    n, c = SHAPE[:2]
    return np.random.default_rng(0).standard_normal((n, h, w, c), np.float32)


def kernel_calls(threads: int) -> dict[str, Callable[[], Any]]:
    """Return the calls of nnlib's kernels, with memory for all results."""
    from nnlib import kernels

    pool, resize, windows = kernels.pooling, kernels.resize, kernels.windows
    norm, rows = kernels.normalization, kernels.normalization_rows
    entropy = kernels.softmax_cross_entropy
    n, c, h, w = SHAPE
    x, out = _pixels(h, w), _pixels(h, w)
    y = _pixels(h // 2, w // 2)
    image, result, half = (a.transpose(0, 3, 1, 2) for a in (x, out, y))
    places = np.zeros(y.shape, np.uint8).transpose(0, 3, 1, 2)
    two = [(size, size // 2, 2, 2, 0) for size in (h, w)]
    three = [(size, size // 2, 3, 2, 1, 1) for size in (h, w)]
    max2 = windows.plan(windows.sliding, *[(*size, 1) for size in two])
    max3 = windows.plan(windows.sliding, *three)
    mean2 = windows.plan(windows.sliding_mean, *two)
    whole = windows.plan(windows.adaptive_mean, (h, 1), (w, 1))
    twice = windows.plan(
        windows.interpolated,
        *[(size // 2, size, "linear", False, None) for size in (h, w)],
    )
    one = np.zeros((n, c, 1, 1), np.float32)
    flat, into, table = (a.reshape(1, -1, c) for a in (x, out, _pixels(h, w)))
    vector = np.ones((1, c), np.float32)
    weight = vector[0]
    lines, target = flat[0], np.arange(flat.shape[1]) % c
    _, means, scales = rows.forward(lines, weight, weight, 1e-5, out=into[0])
    _, lse, _ = entropy.forward(lines, target)
    pool.max_pool(image, max2, (half, places))
    parts = np.array_split(x, threads), np.array_split(out, threads)
    workers = concurrent.futures.ThreadPoolExecutor(threads)
    return {
        "copy alone": lambda: np.copyto(out, x),
        "copy shared": lambda: list(workers.map(np.copyto, parts[1], parts[0])),
        "max2 values": lambda: pool.max_pool_values(image, max2, half),
        "max2": lambda: pool.max_pool(image, max2, (half, places)),
        "max2 backward": lambda: pool.max_pool_backward(half, places, max2, result),
        "max3": lambda: pool.max_pool(image, max3, (half, places)),
        "max3 backward": lambda: pool.max_pool_backward(half, places, max3, result),
        "mean2": lambda: resize.resample(image, mean2, half),
        "mean2 backward": lambda: resize.resample(half, mean2.turned, result),
        "mean all": lambda: resize.resample(image, whole, one),
        "bilinear": lambda: resize.resample(half, twice, result),
        "normalize": lambda: norm.normalize(flat, vector, vector, vector, into),
        "batch": lambda: norm.normalize(flat, *norm.moments(flat), vector, into),
        "batch backward": lambda: norm.input_gradient(
            table, flat, vector, *norm.gradient_sums(table, flat, vector), vector, into
        ),
        "layer": lambda: rows.forward(lines, weight, weight, 1e-5, True, into[0]),
        "layer backward": lambda: rows.backward(
            table[0], lines, weight, means, scales, True, into[0]
        ),
        "entropy": lambda: entropy.forward(lines, target),
        "entropy backward": lambda: entropy.backward(
            lines, target, lse, vector[0, :1], out=into[0]
        ),
    }


def op_calls(lib: Any) -> dict[str, Callable[[], Any]]:
    """Return the calls of a library's functions; the same names in both."""
    functional = lib.nn.functional
    n, c, h, w = SHAPE
    x = lib.from_numpy(_pixels(h, w)).permute(0, 3, 1, 2)
    small = lib.from_numpy(_pixels(h // 2, w // 2)).permute(0, 3, 1, 2)
    recorded = x.detach().requires_grad_()
    rows = recorded.permute(0, 2, 3, 1)
    lines = lib.from_numpy(_pixels(h, w).reshape(-1, c)).requires_grad_()
    target = lib.arange(lines.shape[0]) % c
    ones, zeros = lib.ones(c), lib.zeros(c)
    mean, var = lib.zeros(c), lib.ones(c)
    forward: dict[str, Callable[[], Any]] = {
        "max2": lambda: functional.max_pool2d(recorded, 2),
        "max3": lambda: functional.max_pool2d(recorded, 3, 2, 1),
        "mean2": lambda: functional.avg_pool2d(recorded, 2),
        "batch": lambda: functional.batch_norm(recorded, mean, var, ones, zeros, True),
        "layer": lambda: functional.layer_norm(rows, (c,), ones, zeros),
        "entropy": lambda: functional.cross_entropy(lines, target),
    }

    def both(name: str) -> Callable[[], Any]:
        run = forward[name]
        leaf = lines if name == "entropy" else recorded
        # The gradient lies as the result does.
        seed = run().detach() * 0 + 1
        return lambda: lib.autograd.grad(run(), leaf, seed)

    target_copy = x.clone()
    return (
        forward
        | {f"{name} both": both(name) for name in forward}
        | {
            "copy": lambda: target_copy.copy_(x),
            "max2 evaluation": lambda: functional.max_pool2d(x, 2),
            "mean all": lambda: functional.adaptive_avg_pool2d(x, 1),
            "batch evaluation": (
                lambda: functional.batch_norm(x, mean, var, ones, zeros)
            ),
            "bilinear": (
                lambda: functional.interpolate(small, scale_factor=2, mode="bilinear")
            ),
        }
    )


def _work(pipe: Connection, library: str, threads: int) -> None:
    lib = __import__(library)
    lib.set_num_threads(threads)
    ops = op_calls(lib)
    alone = kernel_calls(threads) if library == "nnlib" else {}
    while True:
        message = pipe.recv()
        if message is None:
            return
        kind, name = message
        run = (alone if kind == "kernel" else ops)[name]
        start = time.perf_counter()
        run()
        pipe.send(time.perf_counter() - start)


class Measured(NamedTuple):
    """Seconds of everything measured, by kind ("kernel", "nnlib", "torch") and name."""

    seconds: dict[tuple[str, str], float]

    def of(self, kind: str, name: str) -> float:
        """Return the seconds of one call, infinite if it was not measured."""
        return self.seconds.get((kind, name), float("inf"))


def measure(rounds: int, threads: int) -> Measured:
    """Return the minima of the rounds."""
    context = multiprocessing.get_context("spawn")
    pipes = {}
    for library in ("nnlib", "torch"):
        mine, theirs = context.Pipe()
        context.Process(
            target=_work, args=(theirs, library, threads), daemon=True
        ).start()
        pipes[library] = mine
    names = ["copy", *dict.fromkeys(case.op for case in CASES if case.op)]
    kernels = ["copy alone", "copy shared", *(x.kernel for x in CASES if x.kernel)]
    tasks = [("nnlib", "kernel", name) for name in kernels]
    tasks += [(lib, "op", name) for name in names for lib in ("nnlib", "torch")]
    best: dict[tuple[str, str], float] = {}
    # The first round compiles and takes memory.
    for number in range(rounds + 1):
        for library, kind, name in tasks:
            pipes[library].send((kind, name))
            seconds = pipes[library].recv()
            key = ("kernel" if kind == "kernel" else library, name)
            if number:
                best[key] = min(best.get(key, seconds), seconds)
    for pipe in pipes.values():
        pipe.send(None)
    return Measured(best)


def table(measured: Measured) -> list[str]:
    """Return the lines of the table."""
    size = 4 * int(np.prod(SHAPE))
    copies = {
        "NumPy, one thread": measured.of("kernel", "copy alone"),
        "NumPy, shared": measured.of("kernel", "copy shared"),
        "PyTorch": measured.of("torch", "copy"),
    }
    fastest = min(copies, key=lambda name: copies[name])
    bandwidth = 2 * size / copies[fastest]
    lines = [
        f"copy: {bandwidth / 1e9:.1f} GB/s ({fastest})",
        "",
        "| kernel | arrays | ms | GB/s | part of copy | op ms | PyTorch ms | ratio |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for case in CASES:
        cells = ["", "", "", "", "", "", ""]
        if case.kernel:
            seconds = measured.of("kernel", case.kernel)
            rate = case.arrays * size / seconds
            cells[:4] = [
                f"{case.arrays:.2f}",
                f"{seconds * 1e3:.2f}",
                f"{rate / 1e9:.1f}",
                f"{rate / bandwidth:.2f}",
            ]
        if case.op:
            mine, theirs = measured.of("nnlib", case.op), measured.of("torch", case.op)
            cells[4:] = [
                f"{mine * 1e3:.2f}",
                f"{theirs * 1e3:.2f}",
                f"{theirs / mine:.2f}",
            ]
        lines.append(f"| {' | '.join([case.name, *cells])} |")
    return lines


def run(rounds: int = 15, threads: int = 2) -> list[str]:
    """Measure, print and return the table, line by line."""
    lines = table(measure(rounds, threads))
    print("\n".join(lines), flush=True)
    return lines


def main() -> None:
    """Print the table."""
    parser = command("memory_bound", __doc__)
    parser.add_argument("--rounds", type=at_least(1), default=15)
    parser.add_argument("--threads", type=read_threads, default=2)
    options = parser.parse_args()
    run(options.rounds, options.threads)


if __name__ == "__main__":
    main()
