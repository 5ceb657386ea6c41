"""Pooling and normalisation on tensors beyond the cache: bandwidth and PyTorch's time.

    python -m nnlib.bench.memory_bound --rounds 15

For each kernel the table gives the bandwidth that its reads and writes reach, as a part
of that of ``numpy.copyto`` shared among the threads, and PyTorch's time (channels-last)
divided by nnlib's. Each library has a process of its own and they work in turns; times
are minima, because others may use the machine.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

# (N, C, H, W): 51 MB of float32.
SHAPE = (16, 64, 112, 112)
# How often an input-sized array is read or written.
CASES: dict[str, float] = {
    "copy": 2.0,
    "max_pool2d 2x2, evaluation": 1.25,
    "max_pool2d 2x2, training": 1.31,
    "max_pool2d 2x2, forward and backward": 2.6,
    "avg_pool2d 2x2": 1.25,
    "max_pool2d 3x3 stride 2, training": 1.31,
    "adaptive_avg_pool2d 1": 1.0,
    "batch_norm, evaluation": 2.0,
    "batch_norm, training": 3.0,
    "batch_norm, forward and backward": 8.0,
    "layer_norm over 64 channels": 2.0,
    "interpolate bilinear x2 of a quarter": 1.25,
}


def _inputs(lib: Any) -> tuple[Any, Any, Any, Any]:
    rng = np.random.default_rng(0)
    n, c, h, w = SHAPE
    rows = rng.standard_normal((n, h, w, c), np.float32)
    x = lib.from_numpy(rows).permute(0, 3, 1, 2)
    small = x[:, :, : h // 2, : w // 2]
    if lib.__name__ == "torch":
        small = small.contiguous(memory_format=lib.channels_last)
    else:
        small = lib.from_numpy(rows[:, : h // 2, : w // 2].copy()).permute(0, 3, 1, 2)
    ones, zeros = lib.ones(c), lib.zeros(c)
    return x, small, ones, zeros


def step(lib: Any, case: str) -> Callable[[], Any]:
    """Return the call that does the work of `case` once."""
    functional = lib.nn.functional
    x, small, ones, zeros = _inputs(lib)
    recorded = x.detach().requires_grad_()
    calls: dict[str, Callable[[], Any]] = {
        "copy": _copy(x.permute(0, 2, 3, 1)),
        "max_pool2d 2x2, evaluation": lambda: functional.max_pool2d(x, 2),
        "max_pool2d 2x2, training": lambda: functional.max_pool2d(recorded, 2),
        "avg_pool2d 2x2": lambda: functional.avg_pool2d(x, 2),
        "max_pool2d 3x3 stride 2, training": (
            lambda: functional.max_pool2d(recorded, 3, 2, 1)
        ),
        "adaptive_avg_pool2d 1": lambda: functional.adaptive_avg_pool2d(x, 1),
        "batch_norm, evaluation": (
            lambda: functional.batch_norm(x, zeros, ones, ones, zeros)
        ),
        "batch_norm, training": (
            lambda: functional.batch_norm(x, zeros, ones, ones, zeros, True)
        ),
        "layer_norm over 64 channels": (
            lambda: functional.layer_norm(x.permute(0, 2, 3, 1), (SHAPE[1],), ones)
        ),
        "interpolate bilinear x2 of a quarter": (
            lambda: functional.interpolate(small, scale_factor=2, mode="bilinear")
        ),
    }

    def backward(forward: Callable[[], Any]) -> Callable[[], Any]:
        seed = lib.ones_like(forward().detach())
        return lambda: lib.autograd.grad(forward(), recorded, seed)

    if case == "max_pool2d 2x2, forward and backward":
        return backward(calls["max_pool2d 2x2, training"])
    if case == "batch_norm, forward and backward":
        return backward(
            lambda: functional.batch_norm(recorded, None, None, ones, zeros, True)
        )
    return calls[case]


def _copy(x: Any) -> Callable[[], Any]:
    if hasattr(x, "copy_"):
        target = x.clone()
        return lambda: target.copy_(x)
    source = np.asarray(x)
    target = np.empty_like(source)
    return lambda: np.copyto(target, source)


def _work(pipe: Connection, library: str, threads: int) -> None:
    lib = __import__(library)
    if library == "torch":
        lib.set_num_threads(threads)
    run: Callable[[], Any] = list
    while True:
        case = pipe.recv()
        if case is None:
            return
        if case:
            run = step(lib, case)
            run()
        start = time.perf_counter()
        run()
        pipe.send(time.perf_counter() - start)


def measure(rounds: int, threads: int) -> list[tuple[str, float, float]]:
    """Return (case, nnlib's seconds, PyTorch's seconds), minima of the rounds."""
    context = multiprocessing.get_context("spawn")
    pipes = []
    for library in ("nnlib", "torch"):
        mine, theirs = context.Pipe()
        context.Process(
            target=_work, args=(theirs, library, threads), daemon=True
        ).start()
        pipes.append(mine)
    results = []
    for case in CASES:
        best = []
        for pipe in pipes:
            pipe.send(case)
            pipe.recv()
            best.append(float("inf"))
        for _ in range(rounds):
            for which, pipe in enumerate(pipes):
                pipe.send("")
                best[which] = min(best[which], pipe.recv())
        results.append((case, best[0], best[1]))
    for pipe in pipes:
        pipe.send(None)
    return results


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    size = 4 * int(np.prod(SHAPE))
    results = measure(options.rounds, options.threads)
    # The faster of both copies: PyTorch shares it among the threads.
    bandwidth = 2 * size / min(results[0][1:])
    print(f"copy: {bandwidth / 1e9:.1f} GB/s\n")
    print("| kernel | nnlib ms | GB/s | part of copy | PyTorch ms | ratio |")
    print("| --- | --- | --- | --- | --- | --- |")
    for case, mine, theirs in results:
        rate = CASES[case] * size / mine
        print(
            f"| {case} | {mine * 1e3:.2f} | {rate / 1e9:.1f} | "
            f"{rate / bandwidth:.2f} | {theirs * 1e3:.2f} | {theirs / mine:.2f} |"
        )


if __name__ == "__main__":
    main()
