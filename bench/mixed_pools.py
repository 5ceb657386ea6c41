"""What a step loses when the user's code calls NumPy's BLAS between steps.

    python -m nnlib.bench.mixed_pools

NumPy's OpenBLAS has threads of its own; two pools that both spin fight for the
cores. The loss of a step is the time of (step + product) less the time of a step
alone and of a product alone.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import nnlib
from nnlib.bench.options import command
from nnlib.bench.training import build

__all__ = ["main", "run"]


def _median(function: Callable[[], Any], rounds: int = 200) -> float:
    for _ in range(20):
        function()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


def run() -> dict[str, float]:
    """Print and return the milliseconds of step, product, both, and the loss."""
    step = build(nnlib, "MLP 784-64-10, batch 32, SGD")
    rng = np.random.default_rng(0)
    a, b = (rng.random((256, 256), dtype=np.float32) for _ in range(2))

    def both() -> None:
        step()
        np.matmul(a, b)

    alone, product = _median(step), _median(lambda: np.matmul(a, b))
    together = _median(both)
    found = {
        "step_ms": alone,
        "numpy_matmul_ms": product,
        "both_ms": together,
        "lost_ms": together - alone - product,
    }
    print(
        f"step {alone:.3f} ms, numpy.matmul {product:.3f} ms, both {together:.3f} ms: "
        f"lost {found['lost_ms']:.3f} ms a step"
    )
    return found


def main() -> None:
    """Run from the command line."""
    command("mixed_pools", __doc__).parse_args()
    run()


if __name__ == "__main__":
    main()
