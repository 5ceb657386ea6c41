"""`WordVectors`: words and their vectors, neighbours and analogies."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnlib.backend.errors import ArgumentError, ShapeError
from nnlib.text import word_files
from nnlib.text.errors import UnknownWordError
from nnlib.text.vocabulary import Vocabulary

__all__ = ["WordVectors"]


class WordVectors:
    """Words with a vector each.

    Parameters
    ----------
    words : sequence of str
        Each once; the most frequent first, by custom.
    vectors : array_like
        Shape ``(V, D)``; kept as float32.
    counts : array_like, optional
        How often each word was seen, ``(V,)``.

    Attributes
    ----------
    words : list of str
    vectors : numpy.ndarray
    counts : numpy.ndarray or None

    Raises
    ------
    ShapeError
        If there is no word, or the lengths differ.
    ArgumentError
        If a word comes twice.

    Examples
    --------
    >>> vectors = WordVectors(["king", "queen", "man", "woman"],
    ...                       [[1, 1, 0], [1, 0, 1], [0, 1, 0], [0, 0, 1]])
    >>> [word for word, _ in vectors.analogy("man", "king", "woman", k=1)]
    ['queen']
    >>> vectors.neighbours("king", k=1)[0][0]
    'man'
    """

    def __init__(
        self,
        words: Sequence[str],
        vectors: ArrayLike,
        counts: ArrayLike | None = None,
    ) -> None:
        self.words = list(words)
        self.vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        self.counts = None if counts is None else np.asarray(counts)
        shape = self.vectors.shape
        if len(shape) != 2 or shape[0] != len(self.words) or not self.words:
            raise ShapeError(
                f"WordVectors: expected vectors of shape (words, columns) for "
                f"{len(self.words)} words, got {shape}"
            )
        if self.counts is not None and self.counts.shape != (len(self.words),):
            raise ShapeError(
                f"WordVectors: counts: expected shape ({len(self.words)},), got "
                f"{self.counts.shape}"
            )
        self._numbers = {word: number for number, word in enumerate(self.words)}
        if len(self._numbers) != len(self.words):
            twice = next(w for i, w in enumerate(self.words) if self._numbers[w] != i)
            raise ArgumentError(f"WordVectors: words: {twice!r} comes twice")
        self._unit: NDArray[np.float32] | None = None

    @property
    def size(self) -> int:
        """The number of columns."""
        return int(self.vectors.shape[1])

    def __len__(self) -> int:
        """Return the number of words."""
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        """Tell whether `word` has a vector."""
        return word in self._numbers

    def __iter__(self) -> Iterator[str]:
        """Yield the words."""
        return iter(self.words)

    def __repr__(self) -> str:
        return f"WordVectors({len(self)} words of {self.size} columns)"

    def number(self, word: str) -> int:
        """Return the row of a word.

        Raises
        ------
        UnknownWordError
            If it has none.
        """
        found = self._numbers.get(word)
        if found is None:
            hint = ""
            if isinstance(word, str) and word.lower() in self._numbers:
                hint = f"; {word.lower()!r} is"
            raise UnknownWordError(
                f"WordVectors: {word!r} is none of its {len(self)} words{hint}"
            )
        return found

    def __getitem__(self, word: str) -> NDArray[np.float32]:
        """Return the vector of a word."""
        row: NDArray[np.float32] = self.vectors[self.number(word)]
        return row

    @property
    def unit(self) -> NDArray[np.float32]:
        """The vectors at length 1 (a vector of zeros stays so)."""
        if self._unit is None:
            lengths = np.sqrt((self.vectors**2).sum(1, keepdims=True))
            self._unit = self.vectors / np.maximum(lengths, 1e-12)
        return self._unit

    def similarity(self, first: str, second: str) -> float:
        """Return the cosine of the angle between two words' vectors."""
        unit = self.unit
        return float(unit[self.number(first)] @ unit[self.number(second)])

    def neighbours(self, word: str | ArrayLike, k: int = 10) -> list[tuple[str, float]]:
        """Return the `k` words nearest to a word, or to a vector, by cosine.

        Parameters
        ----------
        word : str or array_like
            A word, which is not among its own neighbours; or a vector, ``(D,)``.
        k : int, default 10

        Raises
        ------
        UnknownWordError, ShapeError
            If there is no such word, or the vector has another length.
        """
        if isinstance(word, str):
            number = self.number(word)
            return self._nearest(self.unit[number], k, [number])
        query = np.asarray(word, np.float32)
        if query.shape != (self.size,):
            raise ShapeError(
                f"WordVectors.neighbours: expected a word or a vector of shape "
                f"({self.size},), got shape {query.shape}"
            )
        return self._nearest(query, k, [])

    def analogy(self, a: str, b: str, c: str, k: int = 10) -> list[tuple[str, float]]:
        """Return the `k` best answers to "a is to b as c is to what?".

        3CosAdd: the nearest to ``b - a + c`` of unit vectors, a, b and c themselves
        left out (T. Mikolov, W. Yih, G. Zweig 2013).

        Raises
        ------
        UnknownWordError
            If one of the words has no vector.
        """
        rows = [self.number(word) for word in (a, b, c)]
        unit = self.unit
        return self._nearest(unit[rows[1]] - unit[rows[0]] + unit[rows[2]], k, rows)

    def _nearest(
        self, query: NDArray[np.float32], k: int, without: Iterable[int]
    ) -> list[tuple[str, float]]:
        if k < 1:
            raise ArgumentError(f"WordVectors: k: expected at least 1, got {k}")
        length = max(float(np.sqrt(query @ query)), 1e-12)
        scores = self.unit @ (query / np.float32(length))
        scores[list(without)] = -np.inf
        count = min(k, len(self) - len(set(without)))
        if count < 1:
            return []
        best = np.argpartition(-scores, count - 1)[:count]
        order = best[np.lexsort((best, -scores[best]))]
        return [(self.words[i], float(scores[i])) for i in order]

    def save(self, path: str | os.PathLike[str], *, binary: bool | None = None) -> None:
        """Write the vectors in word2vec's text or binary format.

        Parameters
        ----------
        path : str or os.PathLike
        binary : bool, optional
            By default for names that end in ``.bin``. The text format keeps float32
            to the last bit too.

        Raises
        ------
        ArgumentError
            If a word has white space in it or is empty, which the format cannot hold.
        """
        if binary is None:
            binary = os.fspath(path).endswith(".bin")
        word_files.write(path, self.words, self.vectors, binary)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        binary: bool | None = None,
        limit: int | None = None,
    ) -> WordVectors:
        """Read word2vec's text or binary format, or GloVe's (text without a header).

        Parameters
        ----------
        path : str or os.PathLike
        binary : bool, optional
            By default for names that end in ``.bin``.
        limit : int, optional
            Read the first so many words only.

        Raises
        ------
        DataError
            If the file is malformed; the line or the word is named.
        """
        if binary is None:
            binary = os.fspath(path).endswith(".bin")
        return cls(*word_files.read(path, binary, limit))

    def matrix(
        self, vocabulary: Vocabulary | Sequence[str], generator: Any = None
    ) -> NDArray[np.float32]:
        """Return a row for each token of a vocabulary, ``(len(vocabulary), D)``.

        Tokens without a vector, specials among them, get numbers from a normal
        distribution of the deviation of all vectors; the first one is zeros if it is a
        special, since it stands for padding.

        Parameters
        ----------
        vocabulary : Vocabulary or sequence of str
        generator : Generator or int, optional
            The source of those numbers, or its seed.
        """
        from nnlib import kernels
        from nnlib.data.order import as_generator

        tokens = list(vocabulary)
        rows = np.empty((len(tokens), self.size), np.float32)
        seed, offset = as_generator(generator).reserve(rows.size + 1)
        kernels.normal.normal(
            rows, seed, offset + offset % 2, 0.0, float(self.vectors.std())
        )
        for number, token in enumerate(tokens):
            found = self._numbers.get(token)
            if found is not None:
                rows[number] = self.vectors[found]
        specials = getattr(vocabulary, "specials", ())
        if specials and specials[0] not in self._numbers:
            rows[0] = 0
        return rows

    def embedding(
        self,
        vocabulary: Vocabulary | Sequence[str] | None = None,
        *,
        freeze: bool = True,
        padding_idx: int | None = None,
        sparse: bool = False,
        generator: Any = None,
    ) -> Any:
        """Return an `nnlib.nn.Embedding` that begins with these vectors.

        Parameters
        ----------
        vocabulary : Vocabulary or sequence of str, optional
            The tokens that the layer's numbers mean, see `matrix`; without it, the
            words themselves.
        freeze : bool, default True
            Do not train the vectors.
        padding_idx, sparse
            As for `nnlib.nn.Embedding`.
        """
        from nnlib.autograd.construct import as_tensor
        from nnlib.nn import Embedding

        if vocabulary is None:
            rows = self.vectors.copy()
        else:
            rows = self.matrix(vocabulary, generator)
        return Embedding.from_pretrained(
            as_tensor(rows), freeze=freeze, padding_idx=padding_idx, sparse=sparse
        )
