"""`Word2Vec`: word vectors from text, by skip-gram or CBoW with negative sampling."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnlib import kernels
from nnlib.backend.device import Device, array_module, context_of, resolve_device
from nnlib.backend.errors import ArgumentError, ShapeError
from nnlib.backend.random import Generator
from nnlib.data.order import as_generator
from nnlib.text.vocabulary import Vocabulary
from nnlib.text.word_vectors import WordVectors

__all__ = ["Word2Vec"]

# Positions between two looks at the clock: some hundredths of a second.
_STRETCH = 1 << 15
_LEAST_RATE = 1e-4


class Word2Vec:
    """Train word vectors on sentences.

    T. Mikolov et al., "Efficient estimation of word representations in vector space"
    and "Distributed representations of words and phrases and their compositionality",
    2013, with the choices of their program: a frequent word of frequency f is kept with
    probability ``(sqrt(f / sample) + 1) sample / f``; the window of each position is
    drawn from 1 to `window`; negatives are drawn by ``count ** power``; the learning
    rate falls along a line.

    The result depends on the seed alone, not on the number of threads: see
    `nnlib.kernels.skipgram`.

    Parameters
    ----------
    sentences : iterable of iterable of str
        Read once. Words that are not in the vocabulary are dropped.
    size : int, default 100
        Columns of a vector.
    cbow : bool, default False
        Predict a word from the mean of its neighbours (CBoW) instead of its neighbours
        from the word (skip-gram).
    window : int, default 5
    negatives : int, default 5
    min_count : int, default 5
        Words seen less often are left out.
    sample : float, default 1e-3
        The frequency from which words are dropped at random; 0: never.
    power : float, default 0.75
    lr : float, optional
        At the beginning; by default 0.025, and 0.05 for CBoW.
    batch : int, default 64
        Positions that see the same vectors. Larger ones share out better among many
        threads, and suit CUDA; from about 1,000 on they learn less per epoch.
    vocabulary : Vocabulary, optional
        Without it, one is made of `sentences` and `min_count`.
    generator : Generator or int, optional
        The source of all chance, or its seed.
    device : str or Device, default "cpu"

    Attributes
    ----------
    vocabulary : Vocabulary
    inputs, outputs : array
        The vectors of words and of targets, ``(V, columns)`` with `size` columns in
        use.

    Raises
    ------
    ArgumentError
        If an option is out of range, or the corpus is empty.

    Examples
    --------
    >>> text = [["the", "cat", "sat"], ["the", "dog", "sat"]] * 50
    >>> model = Word2Vec(text, size=8, min_count=1, sample=0, generator=0)
    >>> vectors = model.train(epochs=2).vectors
    >>> len(vectors), vectors["cat"].shape
    (4, (8,))
    """

    def __init__(
        self,
        sentences: Iterable[Iterable[str]],
        size: int = 100,
        *,
        cbow: bool = False,
        window: int = 5,
        negatives: int = 5,
        min_count: int = 5,
        sample: float = 1e-3,
        power: float = 0.75,
        lr: float | None = None,
        batch: int = 64,
        vocabulary: Vocabulary | None = None,
        generator: Generator | int | None = None,
        device: str | Device = "cpu",
    ) -> None:
        for name, value, least in (
            ("size", size, 1), ("window", window, 1), ("negatives", negatives, 1),
            ("batch", batch, 1), ("sample", sample, 0), ("power", power, 0),
            ("lr", 0 if lr is None else lr, 0),
        ):  # fmt: skip
            if not value >= least:
                raise ArgumentError(
                    f"Word2Vec: {name}: expected at least {least}, got {value}"
                )
        self.size, self.cbow = size, cbow
        self.window, self.negatives, self.batch = window, negatives, batch
        self.sample, self.power = sample, power
        self.lr = lr if lr is not None else 0.05 if cbow else 0.025
        self.generator = as_generator(generator)
        self.device = resolve_device(device)
        self.epochs = 0
        self.vocabulary, self._words, self._ends = _read(
            sentences, vocabulary, min_count
        )
        self.inputs, self.outputs = self._matrices()

    def _matrices(self) -> tuple[Any, Any]:
        vectors = kernels.vectors
        line = kernels.row_vectors.LINE
        shape = len(self.vocabulary), -(-self.size // line) * line
        inputs, outputs = (
            vectors.aligned_empty(shape, np.dtype(np.float32)) for _ in range(2)
        )
        inputs.fill(0)
        outputs.fill(0)
        start = np.empty((len(self.vocabulary), self.size), np.float32)
        bound = 0.5 / self.size
        self._uniform(start, -bound, bound)
        inputs[:, : self.size] = start
        return self._put(inputs), self._put(outputs)

    def _put(self, array: NDArray[Any]) -> Any:
        if self.device.type == "cpu":
            return array
        from nnlib.autograd.construct import as_tensor

        return as_tensor(array).to(self.device).array

    def _uniform(self, out: NDArray[Any], low: float = 0.0, high: float = 1.0) -> Any:
        seed, offset = self.generator.reserve(out.size)
        return kernels.philox.uniform(out, seed, offset, low, high)

    def _epoch(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Drop frequent words and draw windows: words, and their neighbours' bounds."""
        words, ends = self._words, self._ends
        if self.sample:
            counts = np.maximum(self.vocabulary.counts, 1)
            ratio = self.sample * counts.sum() / counts
            keep = (np.sqrt(ratio) + ratio).astype(np.float32)
            chosen = self._uniform(np.empty(len(words), np.float32)) < keep[words]
            before = np.concatenate([[0], np.cumsum(chosen)])
            words, ends = words[chosen], before[ends]
        lengths = np.diff(ends, prepend=0)
        high = np.repeat(ends, lengths)
        low = high - np.repeat(lengths, lengths)
        seed, offset = self.generator.reserve(len(words))
        reach = np.empty(len(words), np.int64)
        kernels.philox.randint(reach, seed, offset, 1, self.window + 1)
        at = np.arange(len(words))
        low = np.maximum(low, at - reach).astype(np.int32)
        high = np.minimum(high, at + reach + 1).astype(np.int32)
        return words, low, high

    def train(
        self,
        epochs: int = 5,
        *,
        least_rate: float = _LEAST_RATE,
        report: Callable[[float, float], None] | None = None,
    ) -> Word2Vec:
        """Go through the sentences `epochs` times; return itself.

        Parameters
        ----------
        epochs : int, default 5
        least_rate : float, default 1e-4
            The learning rate at the end.
        report : callable, optional
            Called now and then with the part that is done (0 to 1) and the learning
            rate.

        Raises
        ------
        ArgumentError
            If `epochs` is below 1.
        """
        if epochs < 1:
            raise ArgumentError(f"Word2Vec: epochs: expected at least 1, got {epochs}")
        weights = self.vocabulary.counts.astype(np.float64) ** self.power
        table = self._put(kernels.skipgram.alias_table(weights))
        stretch = -(-_STRETCH // self.batch) * self.batch
        for epoch in range(epochs):
            words, low, high = (self._put(array) for array in self._epoch())
            text = kernels.skipgram.Text(
                words, low, high, table, self.window, self.negatives, self.cbow
            )
            count = len(words)
            seed, offset = self.generator.reserve(count)
            for first in range(0, count, stretch):
                last = min(first + stretch, count)
                starts = np.arange(first, last, self.batch)
                done = (epoch + starts / max(count, 1)) / epochs
                rates = self.lr + (min(least_rate, self.lr) - self.lr) * done
                with context_of(self.inputs):
                    kernels.skipgram.train(
                        self.inputs, self.outputs, text, first, last,
                        rates.astype(np.float32), batch=self.batch, seed=seed,
                        offset=offset,
                    )  # fmt: skip
                if report is not None:
                    report((epoch + last / count) / epochs, float(rates[-1]))
        self.epochs += epochs
        return self

    @property
    def vectors(self) -> WordVectors:
        """The words' vectors as they are now, copied."""
        matrix = self.inputs[:, : self.size]
        module = array_module(matrix)
        with context_of(matrix):
            host = matrix.copy() if module is np else module.asnumpy(matrix)
        return WordVectors(self.vocabulary.tokens, host, self.vocabulary.counts)


def _read(
    sentences: Iterable[Iterable[str]], vocabulary: Vocabulary | None, min_count: int
) -> tuple[Vocabulary, NDArray[np.int32], NDArray[np.int64]]:
    """Return the vocabulary, the words of all sentences, and where each ends."""
    lines = []
    for number, sentence in enumerate(sentences):
        if isinstance(sentence, str):
            raise ShapeError(
                f"Word2Vec: sentences: number {number} is a str, expected a list of "
                "words; tokenise it first"
            )
        lines.append(list(sentence))
    if not any(lines):
        raise ArgumentError("Word2Vec: sentences: the corpus is empty")
    if vocabulary is None:
        vocabulary = Vocabulary.build(lines, min_count=min_count, unknown=None)
    numbers = {token: number for number, token in enumerate(vocabulary.tokens)}
    found, ends = [], []
    for line in lines:
        found.extend([n for word in line if (n := numbers.get(word, -1)) >= 0])
        ends.append(len(found))
    if not found:
        raise ArgumentError("Word2Vec: sentences: none of their words is in vocabulary")
    return vocabulary, np.array(found, np.int32), np.array(ends, np.int64)
