"""How far float32 leads a training run away from the same run in float64.

    python -m nnlib.bench.rounding [--seeds N] [--steps N]

Both libraries train the MLP of `nnlib.bench.training` with Adam in float32, from the
same weights on the same batch, and PyTorch trains it in float64: that is what both
ought to compute. The table gives the relative distance of each library's losses from
it, for losses of at least 0.02 and for those below.

Two float32 runs part by themselves: Adam divides a gradient by its own size, so that an
entry whose gradient is nothing but rounding moves by a full step, in a direction that
the order of a sum decides. It is the distance from float64 that tells which run is off.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.bench.compare import libraries
from nnlib.bench.options import at_least, command
from nnlib.bench.training import CASES, draw

__all__ = ["CASE", "HEADER", "losses", "main", "run"]

CASE = "MLP 784-512-512-10, batch 128, Adam"
SMALL_LOSS = 0.02
HEADER = (
    "| seed | losses | steps | nnlib, mean (most) | PyTorch, mean (most) |\n"
    "| --- | --- | --- | --- | --- |"
)


def losses(lib: Any, seed: int, steps: int, dtype: str = "float32") -> Any:
    """Return the losses of a training run, an array of float64."""
    case, rng = CASES[CASE], np.random.default_rng(seed)
    model = case.model(lib)
    draw(lib, model, rng)
    inputs = rng.random((case.batch, *case.shape), dtype=np.float32)
    target = lib.tensor(rng.integers(0, 10, case.batch))
    if dtype == "float64":
        model.double()
    x = lib.from_numpy(inputs.astype(dtype))
    optimizer = case.optimizer(lib, model)
    found = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = lib.nn.functional.cross_entropy(model(x), target)
        loss.backward()
        optimizer.step()
        found.append(float(loss.item()))
    return np.array(found)


def run(seeds: int = 3, steps: int = 60) -> None:
    """Print the table."""
    mine, theirs = libraries("nnlib"), libraries("torch")
    print(HEADER, flush=True)
    for seed in range(seeds):
        exact = losses(theirs, seed, steps, "float64")
        off = [
            np.abs(losses(lib, seed, steps) - exact) / exact for lib in (mine, theirs)
        ]
        for name, chosen in (
            (f"{SMALL_LOSS} and above", exact >= SMALL_LOSS),
            (f"below {SMALL_LOSS}", exact < SMALL_LOSS),
        ):
            if chosen.any():
                parts = [f"{x[chosen].mean():.1e} ({x[chosen].max():.1e})" for x in off]
                count = int(chosen.sum())
                print(f"| {seed} | {name} | {count} | {parts[0]} | {parts[1]} |")


def main() -> None:
    """Run from the command line."""
    parser = command("rounding", __doc__)
    parser.add_argument("--seeds", type=at_least(1), default=3)
    parser.add_argument("--steps", type=at_least(1), default=60)
    options = parser.parse_args()
    run(options.seeds, options.steps)


if __name__ == "__main__":
    main()
