"""Training steps of the models of the introductory courses, against PyTorch.

    python -m nnlib.bench.training [--rounds N] [--only NAME ...] [--threads N]

Same initial weights, same batch, same optimiser; the losses of the third step are
printed side by side. Rounding drives two float32 runs apart later, by some per cent at
losses below 0.02; `nnlib.bench.rounding` compares both with a run in float64: with seed
0 PyTorch's leaves it by 4 % (nnlib's by 1e-5), with seed 3 nnlib's by 0.1 %, with seeds
1 and 2 neither. PyTorch
trains convolutional networks in both of its memory formats, and the faster one is told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnlib.bench import generative, networks, word_vectors
from nnlib.bench.compare import HEADER, Comparison, compare, read_options
from nnlib.bench.graphed import GRAPHED, graphed
from nnlib.bench.options import require_cases

__all__ = ["CASES", "Case", "build", "draw", "main"]

CHANNELS_LAST = ", channels-last"


@dataclass(frozen=True)
class Case:
    """One training step.

    Attributes
    ----------
    model : callable
        Given a library, returns the model.
    batch : int
    shape : tuple of int
        Of one input.
    optimizer : callable
        Given a library and a model, returns the optimiser.
    loss : {"cross_entropy", "mse_loss"}
        Against one of ten classes, or against the input.
    aim : float
        PyTorch's time over nnlib's.
    state : int
        Copies of the parameters that the optimiser keeps.
    small : Case, optional
        The same layers, narrow: runs the same code, and leaves no memory worth telling.
    """

    model: Callable[[Any], Any]
    batch: int
    shape: tuple[int, ...]
    optimizer: Callable[[Any, Any], Any]
    loss: str
    aim: float
    state: int
    small: Case | None = None

    @property
    def images(self) -> bool:
        """Whether inputs are images, which have two memory formats."""
        return len(self.shape) == 3


def _adam(lib: Any, model: Any) -> Any:
    return lib.optim.Adam(model.parameters(), lr=1e-3)


def _sgd(lib: Any, model: Any) -> Any:
    return lib.optim.SGD(model.parameters(), lr=0.1)


def _momentum(lib: Any, model: Any) -> Any:
    return lib.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)


def _mlp(sizes: list[int], batch: int, optimizer: Any, loss: str) -> Case:
    def case(sizes: list[int], small: Case | None) -> Case:
        state = 2 if optimizer is _adam else 0
        return Case(
            lambda lib: networks.mlp(lib, sizes), batch, (sizes[0],), optimizer, loss,
            1.0, state, small,
        )  # fmt: skip

    narrow = [8] * (len(sizes) - 1) + [sizes[-1] if loss == "cross_entropy" else 8]
    return case(sizes, case(narrow, None))


_DIGITS, _COLOURS = (1, 28, 28), (3, 32, 32)

CASES: dict[str, Case] = {
    "MLP 784-512-512-10, batch 128, Adam": _mlp(
        [784, 512, 512, 10], 128, _adam, "cross_entropy"
    ),
    "MLP 784-64-10, batch 32, SGD": _mlp([784, 64, 10], 32, _sgd, "cross_entropy"),
    "autoencoder 784-256-32-256-784, batch 128, Adam": _mlp(
        [784, 256, 32, 256, 784], 128, _adam, "mse_loss"
    ),
    "softmax regression 784-10, batch 128, SGD": _mlp(
        [784, 10], 128, _sgd, "cross_entropy"
    ),
    "LeNet-5, batch 64, Adam": Case(
        networks.lenet, 64, _DIGITS, _adam, "cross_entropy", 1.3, 2
    ),
    "VGG-6, batch 64, SGD with momentum": Case(
        networks.vgg6, 64, _COLOURS, _momentum, "cross_entropy", 1.6, 1
    ),
    "ResNet-20, batch 64, SGD with momentum": Case(
        networks.resnet20, 64, _COLOURS, _momentum, "cross_entropy", 1.4, 1
    ),
    "convolutional autoencoder, batch 64, Adam": Case(
        networks.autoencoder, 64, _DIGITS, _adam, "mse_loss", 1.3, 2
    ),
    "Transformer encoder layer, 32 x 64 x 64, 4 heads, Adam": Case(
        networks.encoder_layer, 32, (64, 64), _adam, "mse_loss", 1.2, 2
    ),
}


def draw(lib: Any, model: Any, rng: np.random.Generator) -> None:
    """Set all parameters: the same in both libraries."""
    drawn = {}
    for name, parameter in model.named_parameters():
        shape = tuple(parameter.shape)
        if len(shape) == 1 and name.endswith("weight"):
            values = np.ones(shape)
        else:
            bound = 1 / np.sqrt(np.prod(shape[1:]) if len(shape) > 1 else shape[0])
            values = rng.uniform(-bound, bound, shape)
        drawn[name] = lib.tensor(values.astype(np.float32))
    model.load_state_dict(drawn, strict=False)


def build(
    lib: Any, case: str, device: str = "cpu", *, small: bool = False
) -> Callable[[], float]:
    """Return one training step of `case` in `lib` (nnlib or torch) on `device`.

    A name that ends with ``", channels-last"`` asks for that format of PyTorch's
    memory; nnlib has no other. One that ends with ``", graphed"`` asks for a CUDA graph
    of the step. `small` asks for two rows of the narrow form.
    """
    graph = case.endswith(GRAPHED)
    case = case.removesuffix(GRAPHED)
    name = case.removesuffix(CHANNELS_LAST)
    wanted = CASES[name]
    rows = wanted.batch
    if small:
        wanted, rows = wanted.small or wanted, 2
    rng = np.random.default_rng(0)
    model = wanted.model(lib)
    draw(lib, model, rng)
    model.to(device)
    x = lib.from_numpy(rng.random((rows, *wanted.shape), dtype=np.float32)).to(device)
    if name != case and lib.__name__ == "torch":
        model.to(memory_format=lib.channels_last)
        x = x.to(memory_format=lib.channels_last)
    optimizer = wanted.optimizer(lib, model)
    target = x
    if wanted.loss == "cross_entropy":
        target = lib.tensor(rng.integers(0, 10, rows)).to(device)
    loss_function = getattr(lib.nn.functional, wanted.loss)

    def work() -> Any:
        loss = loss_function(model(x), target)
        loss.backward()
        optimizer.step()
        return loss

    def step() -> float:
        optimizer.zero_grad()
        return float(work().item())

    return graphed(lib, optimizer, work) if graph else step


def run(
    rounds: int = 15, only: list[str] | None = None, threads: int | None = None
) -> list[Comparison]:
    """Time every case; print each row as it is known."""
    print(HEADER, flush=True)
    cases = [
        (case, case + CHANNELS_LAST) if what.images else case
        for case, what in CASES.items()
    ]
    found = compare(build, cases, rounds=rounds, only=only, threads=threads)
    for module in (generative, word_vectors):
        found += compare(
            module.build, module.CASES, rounds=rounds, only=only, threads=threads
        )
    return found


def main() -> None:
    """Run from the command line."""
    options = read_options("training", __doc__)
    require_cases(run(options.rounds, options.only, options.threads), options.only)


if __name__ == "__main__":
    main()
