"""What a recorded operation on a tiny tensor costs, against PyTorch.

python -m nnlib.bench.overhead [--rounds N]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from nnlib.bench.compare import HEADER, Comparison, compare

__all__ = ["CASES", "build", "main"]

REPEATS = 200

CASES: dict[str, Callable[[Any, Any, Any], Any]] = {
    "x + y": lambda lib, x, y: x + y,
    "x * y": lambda lib, x, y: x * y,
    "x * 2": lambda lib, x, y: x * 2,
    "exp(x)": lambda lib, x, y: lib.exp(x),
    "relu(x)": lambda lib, x, y: lib.relu(x),
    "x.sum()": lambda lib, x, y: x.sum(),
    "x @ y": lambda lib, x, y: x @ y,
    "x.reshape(-1)": lambda lib, x, y: x.reshape(-1),
    "chain of 20, forward and backward, per op": lambda lib, x, y: chain(x, y),
}


def chain(x: Any, y: Any) -> Any:
    """Run 20 recorded products and the backward pass through them."""
    z = x
    for _ in range(20):
        z = z * y
    z.backward(y)
    return z


def build(lib: Any, case: str) -> Callable[[], float]:
    """Return a step of `REPEATS` operations (so that a step is far above the timer)."""
    x = lib.ones(3, 3, requires_grad=True)
    y = lib.ones(3, 3)
    function = CASES[case]
    repeats = REPEATS // 20 if case.startswith("chain") else REPEATS

    def step() -> float:
        for _ in range(repeats):
            function(lib, x, y)
        return 0.0

    return step


def run(rounds: int = 15) -> list[Comparison]:
    """Time every case; 1 ms a step is 5 us an operation."""
    print(f"(a step is {REPEATS} operations)")
    print(HEADER, flush=True)
    found = []
    for case in CASES:
        found.append(compare(build, case, rounds=rounds, budget=0.02))
        print(found[-1].row(), flush=True)
    return found


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    run(parser.parse_args().rounds)


if __name__ == "__main__":
    main()
