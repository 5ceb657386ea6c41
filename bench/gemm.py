"""Matrix products of the layers of three small networks, against NumPy and PyTorch.

    python -m nnlib.bench.gemm --rounds 31

For each layer: forward (x @ w.T + bias), gradient of the weight (g.T @ x), gradient of
the input (g @ w). Rounds are interleaved, results are medians; PyTorch uses as many
threads as nnlib, and is left out where it is not installed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from nnlib import kernels
from nnlib.backend import threads
from nnlib.bench.options import at_least, command

# (batch, inputs, outputs) of each layer.
LAYERS = {
    "MLP 784-512-512-10, batch 128": [
        (128, 784, 512),
        (128, 512, 512),
        (128, 512, 10),
    ],
    "MLP 784-64-10, batch 32": [(32, 784, 64), (32, 64, 10)],
    "autoencoder 784-256-32-256-784, batch 128": [
        (128, 784, 256),
        (128, 256, 32),
        (128, 32, 256),
        (128, 256, 784),
    ],
    "softmax regression, batch 128": [(128, 784, 10)],
}

Call = Callable[[], Any]


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(threads.get_num_threads())
    return torch


def products(batch: int, inputs: int, outputs: int, torch: Any) -> dict[str, Any]:
    """Return, per product of a layer, the calls to compare."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, inputs), np.float32)
    w = rng.standard_normal((outputs, inputs), np.float32)
    g = rng.standard_normal((batch, outputs), np.float32)
    bias = rng.standard_normal(outputs, np.float32)
    matmul = kernels.gemm.matmul
    y, dw, dx = np.empty_like(g), np.empty_like(w), np.empty_like(x)
    calls: dict[str, dict[str, Call]] = {
        "forward": {"nnlib": lambda: matmul(x, w.T, y, bias=bias)},
        "weight": {"nnlib": lambda: matmul(g.T, x, dw)},
        "input": {"nnlib": lambda: matmul(g, w, dx)},
    }
    if torch is not None:
        tx, tw, tg, tb = (torch.from_numpy(value) for value in (x, w, g, bias))
        ty, tdw, tdx = (torch.empty(v.shape) for v in (y, dw, dx))
        calls["forward"]["torch"] = lambda: torch.addmm(tb, tx, tw.t(), out=ty)
        calls["weight"]["torch"] = lambda: torch.mm(tg.t(), tx, out=tdw)
        calls["input"]["torch"] = lambda: torch.mm(tg, tw, out=tdx)
    return calls


def measure(calls: dict[str, Call], rounds: int, repeats: int) -> dict[str, float]:
    """Return the median time of each call in seconds, rounds interleaved."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            call()
            start = time.perf_counter()
            for _ in range(repeats):
                call()
            times[name].append((time.perf_counter() - start) / repeats)
    return {name: float(np.median(values)) for name, values in times.items()}


def main() -> None:
    """Measure every layer and print a table."""
    parser = command("gemm", __doc__)
    parser.add_argument("--rounds", type=at_least(1), default=31)
    rounds = parser.parse_args().rounds
    torch = _torch()
    print(f"{threads.get_num_threads()} threads; PyTorch: {torch is not None}")
    for network, layers in LAYERS.items():
        print(network)
        for batch, inputs, outputs in layers:
            operations = 2 * batch * inputs * outputs
            repeats = max(1, min(50, int(1e8 / operations)))
            for product, calls in products(batch, inputs, outputs, torch).items():
                took = measure(calls, rounds, repeats)
                ours = took["nnlib"]
                line = (
                    f"  {batch}x{inputs}x{outputs} {product:8}"
                    f"{ours * 1e6:9.1f} us {operations / ours / 1e9:6.0f} GFLOP/s"
                )
                if "torch" in took:
                    theirs = took["torch"]
                    line += f"   torch {theirs * 1e6:9.1f} us   {theirs / ours:5.2f}x"
                print(line)


if __name__ == "__main__":
    main()
