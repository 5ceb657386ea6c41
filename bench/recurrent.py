"""Training steps of recurrent networks, against PyTorch.

    python -m nnlib.bench.recurrent [--rounds N] [--only NAME ...] [--threads N]

Same initial weights, same batch, same optimiser; the losses of the third step are
printed side by side. A character model reads 32 lines of 64 characters of an alphabet
of 65 and predicts each next one; the classifier reads 32 sentences of 8 to 64 words and
chooses one of 77 classes by the last states of both directions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nnlib.bench.compare import HEADER, Comparison, compare, read_options
from nnlib.bench.options import require_cases

__all__ = ["CASES", "build", "main", "run"]

_BATCH, _STEPS, _SYMBOLS = 32, 64, 65
_CLASSES = 77

# name: (kind of layer, options of the layer, the aim as PyTorch's time / nnlib's)
CASES: dict[str, tuple[str, dict[str, Any], float]] = {
    "char-LSTM, batch 32, 64 steps, 64-256-65, Adam": ("LSTM", {}, 1.05),
    "char-GRU, batch 32, 64 steps, 64-256-65, Adam": ("GRU", {}, 1.4),
    "char-RNN, batch 32, 64 steps, 64-256-65, Adam": ("RNN", {}, 1.0),
    "bidirectional two-layer LSTM, packed, batch 32, 8-64 steps, 64-128-77, Adam": (
        "LSTM", {"num_layers": 2, "bidirectional": True}, 1.05
    ),
}  # fmt: skip


def _draw(lib: Any, modules: list[Any], rng: np.random.Generator) -> list[Any]:
    """Set all parameters: the same in both libraries; return them."""
    for module in modules:
        drawn = {}
        for name, parameter in module.named_parameters():
            shape = tuple(parameter.shape)
            bound = 1 / np.sqrt(shape[-1])
            drawn[name] = lib.tensor(rng.uniform(-bound, bound, shape).astype("f4"))
        module.load_state_dict(drawn)
    return [p for module in modules for p in module.parameters()]


def build(lib: Any, case: str, device: str = "cpu") -> Callable[[], float]:
    """Return one training step of `case` in `lib` (nnlib or torch) on `device`."""
    kind, options, _ = CASES[case]
    nn, rng = lib.nn, np.random.default_rng(0)
    packed = bool(options)
    hidden = 128 if packed else 256
    table = nn.Embedding(_SYMBOLS, 64)
    layer = getattr(nn, kind)(64, hidden, batch_first=True, **options)
    wide = 2 * hidden if packed else hidden
    head = nn.Linear(wide, _CLASSES if packed else _SYMBOLS)
    modules = [module.to(device) for module in (table, layer, head)]
    parameters = _draw(lib, modules, rng)
    optimizer = lib.optim.Adam(parameters, lr=1e-3)
    x = lib.tensor(rng.integers(0, _SYMBOLS, (_BATCH, _STEPS))).to(device)
    lengths = lib.tensor(rng.integers(8, _STEPS + 1, _BATCH))
    count = _CLASSES if packed else _SYMBOLS
    size = _BATCH if packed else _BATCH * _STEPS
    target = lib.tensor(rng.integers(0, count, size)).to(device)

    def scores() -> Any:
        embedded = table(x)
        if not packed:
            return head(layer(embedded)[0].reshape(-1, hidden))
        batch = nn.utils.rnn.pack_padded_sequence(
            embedded, lengths, batch_first=True, enforce_sorted=False
        )
        last = layer(batch)[1][0]
        return head(lib.cat([last[-2], last[-1]], 1))

    def step() -> float:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(scores(), target)
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step


def run(
    rounds: int = 15, only: list[str] | None = None, threads: int | None = None
) -> list[Comparison]:
    """Time every case; print each row as it is known."""
    print(HEADER, flush=True)
    return compare(build, CASES, rounds=rounds, only=only, threads=threads)


def main() -> None:
    """Run from the command line."""
    options = read_options("recurrent", __doc__)
    require_cases(run(options.rounds, options.only, options.threads), options.only)


if __name__ == "__main__":
    main()
