"""Training steps of the models of the introductory courses, against PyTorch.

    python -m nnlib.bench.training [--rounds N] [--only NAME ...]

Same initial weights, same batch, same optimiser; the losses after all steps are
printed side by side.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np

from nnlib.bench.compare import HEADER, Comparison, compare

__all__ = ["CASES", "build", "main"]


def _mlp(lib: Any, sizes: list[int]) -> Any:
    layers: list[Any] = []
    for inputs, outputs in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [lib.nn.Linear(inputs, outputs), lib.nn.ReLU()]
    return lib.nn.Sequential(*layers[:-1])


def _adam(lib: Any, model: Any) -> Any:
    return lib.optim.Adam(model.parameters(), lr=1e-3)


def _sgd(lib: Any, model: Any) -> Any:
    return lib.optim.SGD(model.parameters(), lr=0.1)


# name: (layer sizes, batch, optimiser, loss, the aim as PyTorch's time / nnlib's)
CASES: dict[str, tuple[list[int], int, Callable[[Any, Any], Any], str, float]] = {
    "MLP 784-512-512-10, batch 128, Adam": (
        [784, 512, 512, 10], 128, _adam, "cross_entropy", 1.0
    ),
    "MLP 784-64-10, batch 32, SGD": ([784, 64, 10], 32, _sgd, "cross_entropy", 1.0),
    "autoencoder 784-256-32-256-784, batch 128, Adam": (
        [784, 256, 32, 256, 784], 128, _adam, "mse_loss", 1.0
    ),
    "softmax regression 784-10, batch 128, SGD": (
        [784, 10], 128, _sgd, "cross_entropy", 1.0
    ),
}  # fmt: skip


def build(lib: Any, case: str, device: str = "cpu") -> Callable[[], float]:
    """Return one training step of `case` in `lib` (nnlib or torch) on `device`."""
    sizes, batch, make_optimizer, loss_name, _ = CASES[case]
    rng = np.random.default_rng(0)
    model = _mlp(lib, sizes)
    weights = {}
    for name, parameter in model.state_dict().items():
        bound = 1 / np.sqrt(parameter.shape[-1])
        drawn = rng.uniform(-bound, bound, tuple(parameter.shape))
        weights[name] = lib.tensor(drawn.astype(np.float32))
    model.load_state_dict(weights)
    model.to(device)
    optimizer = make_optimizer(lib, model)
    x = lib.from_numpy(rng.random((batch, sizes[0]), dtype=np.float32)).to(device)
    target = x
    if loss_name == "cross_entropy":
        target = lib.tensor(rng.integers(0, sizes[-1], batch)).to(device)
    loss_function = getattr(lib.nn.functional, loss_name)

    def step() -> float:
        optimizer.zero_grad()
        loss = loss_function(model(x), target)
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step


def run(rounds: int = 15, only: list[str] | None = None) -> list[Comparison]:
    """Time every case; print each row as it is known."""
    print(HEADER, flush=True)
    found = []
    for case in CASES:
        if only and not any(part in case for part in only):
            continue
        found.append(compare(build, case, rounds=rounds))
        print(found[-1].row(), flush=True)
    return found


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", nargs="*", help="parts of case names")
    options = parser.parse_args()
    run(options.rounds, options.only)


if __name__ == "__main__":
    main()
