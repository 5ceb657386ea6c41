"""Word vectors: a step of skip-gram against PyTorch, words per second against gensim.

    python -m nnlib.bench.word_vectors [--rounds N] [--threads N] [--words N]

The step: a batch of 512 words, 5 negatives each, two tables of 20,000 x 100, SGD. In
PyTorch it is composed of look-ups, products and logsigmoid, once with sparse gradients
and once with its default, dense ones; nnlib has `skipgram_loss`, sparse. The losses of
the third step are printed side by side.

Words per second: the same random text, drawn by Zipf's law, through both trainers with
the same settings (100 columns, window 5, 5 negatives, words at random windows and
dropped when frequent). Time of the process for one thread, which holds on a busy
machine; else the clock's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from nnlib.bench.compare import HEADER, Comparison, compare, read_options
from nnlib.bench.options import at_least, command, require_cases

__all__ = ["CASES", "build", "main", "run", "words_per_second"]

CASES = (
    "skip-gram, 5 negatives, batch 512, 20,000 x 100, SGD",
    "skip-gram, the same, against dense gradients",
)
_ROWS, _COLUMNS, _BATCH, _NEGATIVES = 20_000, 100, 512, 5


def build(lib: Any, case: str, device: str = "cpu") -> Callable[[], float]:
    """Return one training step of `case` in `lib` (nnlib or torch) on `device`."""
    rng = np.random.default_rng(0)
    drawn = [rng.uniform(-0.1, 0.1, (_ROWS, _COLUMNS)) for _ in range(2)]
    sparse = lib.__name__ == "nnlib" or case == CASES[0]
    tables = [
        lib.nn.Embedding.from_pretrained(
            lib.tensor(values.astype(np.float32)), freeze=False, sparse=sparse
        ).to(device)
        for values in drawn
    ]
    optimizer = lib.optim.SGD([table.weight for table in tables], lr=0.025)
    shapes = ((_BATCH,), (_BATCH,), (_BATCH, _NEGATIVES))
    words, targets, negatives = (
        lib.tensor(rng.integers(0, _ROWS, shape)).to(device) for shape in shapes
    )
    loss_of = _fused if lib.__name__ == "nnlib" else _composed
    seen: list[float] = []

    def step() -> float:
        optimizer.zero_grad()
        loss = loss_of(lib, tables, words, targets, negatives)
        loss.backward()
        optimizer.step()
        seen.append(float(loss.item()))
        return seen[min(2, len(seen) - 1)]

    return step


def _fused(lib: Any, tables: Any, words: Any, targets: Any, negatives: Any) -> Any:
    inputs, outputs = (table.weight for table in tables)
    return lib.nn.functional.skipgram_loss(
        inputs, outputs, words, targets, negatives, sparse=True
    )


def _composed(lib: Any, tables: Any, words: Any, targets: Any, negatives: Any) -> Any:
    inputs, outputs = tables
    log = lib.nn.functional.logsigmoid
    hidden = inputs(words)
    own = (hidden * outputs(targets)).sum(1)
    others = lib.bmm(outputs(negatives), hidden.unsqueeze(2)).squeeze(2)
    return -(log(own) + log(-others).sum(1)).mean()


def run(
    rounds: int = 15, only: list[str] | None = None, threads: int | None = None
) -> list[Comparison]:
    """Time the step against PyTorch; print each row as it is known."""
    print(HEADER, flush=True)
    return compare(build, CASES, rounds=rounds, only=only, threads=threads)


def _text(words: int) -> list[list[str]]:
    """Return sentences of 25 words drawn by Zipf's law."""
    rng = np.random.default_rng(0)
    chances = 1 / np.arange(1, 30_001)
    drawn = rng.choice(len(chances), words, p=chances / chances.sum())
    names = [f"w{number}" for number in drawn]
    return [names[first : first + 25] for first in range(0, words, 25)]


def _timed(threads: int, work: Callable[[], Any]) -> float:
    now = time.process_time if threads == 1 else time.perf_counter
    start = now()
    work()
    return now() - start


def words_per_second(
    cbow: bool, *, words: int = 500_000, threads: int = 1
) -> tuple[float, float | None]:
    """Return the words per second of nnlib, and of gensim where it is installed."""
    import nnlib
    from nnlib.text import Word2Vec

    nnlib.set_num_threads(threads)
    text = _text(words)
    Word2Vec(text[:100], 100, cbow=cbow, min_count=1).train(1)
    mine = Word2Vec(text, 100, cbow=cbow, generator=0)
    seconds = min(_timed(threads, lambda: mine.train(1)) for _ in range(3))
    try:
        from gensim.models import Word2Vec as Peer
    except ImportError:
        return words / seconds, None
    peer = Peer(
        vector_size=100, window=5, min_count=5, negative=5, sample=1e-3, sg=not cbow,
        alpha=0.05 if cbow else 0.025, workers=threads, seed=1,
    )  # fmt: skip
    peer.build_vocab(text)
    theirs = min(
        _timed(threads, lambda: peer.train(text, total_examples=len(text), epochs=1))
        for _ in range(3)
    )
    return words / seconds, words / theirs


def main() -> None:
    """Run from the command line."""
    parser = command("word_vectors", __doc__)
    parser.add_argument("--words", type=at_least(1), default=500_000)
    options = read_options("word_vectors", __doc__, parser=parser)
    require_cases(run(options.rounds, options.only, options.threads), options.only)
    threads = options.threads or 1
    print("\n| words per second | nnlib | gensim | nnlib / gensim |")
    print("| --- | --- | --- | --- |")
    for cbow in (False, True):
        mine, theirs = words_per_second(cbow, words=options.words, threads=threads)
        name = f"{'CBoW' if cbow else 'skip-gram'}, {threads} thread(s)"
        other, ratio = "not installed", ""
        if theirs:
            other, ratio = f"{theirs:,.0f}", f"{mine / theirs:.2f}"
        print(f"| {name} | {mine:,.0f} | {other} | {ratio} |", flush=True)


if __name__ == "__main__":
    main()
