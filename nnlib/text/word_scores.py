"""How good word vectors are: judged similarities and analogies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnlib.backend.errors import ArgumentError, ShapeError
from nnlib.text.word_tests import Analogy, SimilarPair
from nnlib.text.word_vectors import WordVectors

__all__ = [
    "AnalogyScore",
    "SimilarityScore",
    "score_analogies",
    "score_similarity",
    "spearman",
]

# Questions at a time: their cosines with all words take some tens of megabytes.
_BLOCK = 512


class SimilarityScore(NamedTuple):
    """Spearman's correlation, the pairs it is of, and those without vectors."""

    correlation: float
    pairs: int
    missing: int


class AnalogyScore(NamedTuple):
    """The part answered right, of how many questions, those left out, by section."""

    accuracy: float
    questions: int
    missing: int
    sections: dict[str, tuple[int, int]]


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ranks from 0; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return (first + (counts - 1) / 2)[inverse.reshape(-1)]


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Return Spearman's rank correlation; equal values share the mean of their ranks.

    It is 0 where all values of one side are equal.

    Raises
    ------
    ShapeError
        If the lengths differ or are below 2.
    ArgumentError
        If a value is NaN, which has no rank.

    Examples
    --------
    >>> round(spearman([1, 2, 3], [1, 9, 8]), 3)
    0.5
    """
    a, b = (np.asarray(values, np.float64).reshape(-1) for values in (first, second))
    if len(a) != len(b) or len(a) < 2:
        raise ShapeError(
            f"spearman: expected two vectors of one length from 2, got {len(a)} and "
            f"{len(b)}"
        )
    for name, values in (("first", a), ("second", b)):
        if np.isnan(values).any():
            position = int(np.isnan(values).argmax())
            raise ArgumentError(f"spearman: {name}[{position}] is NaN")
    x, y = _ranks(a), _ranks(b)
    x -= x.mean()
    y -= y.mean()
    return float(x @ y) / max(float(np.sqrt((x @ x) * (y @ y))), 1e-300)


def _table(vectors: WordVectors, lower: bool) -> dict[str, int]:
    """Return the row of each word; with `lower`, the first row of each spelling."""
    table: dict[str, int] = {}
    for number, word in enumerate(vectors.words):
        table.setdefault(word.lower() if lower else word, number)
    return table


def score_similarity(
    vectors: WordVectors, pairs: Iterable[SimilarPair], *, lower: bool = True
) -> SimilarityScore:
    """Compare cosines with judged similarities, by Spearman's rank correlation.

    Parameters
    ----------
    vectors : WordVectors
    pairs : iterable of SimilarPair
        See `similarity_test`. Pairs with an unknown word are left out and counted.
    lower : bool, default True
        Do not mind capital letters.

    Raises
    ------
    ArgumentError
        If less than two pairs have vectors.

    Examples
    --------
    >>> vectors = WordVectors(["a", "b", "c"], [[1, 0], [1, 0.1], [0, 1]])
    >>> pairs = [SimilarPair("a", "b", 9.0), SimilarPair("b", "C", 2.0),
    ...          SimilarPair("a", "c", 1.0), SimilarPair("a", "?", 5.0)]
    >>> score_similarity(vectors, pairs)
    SimilarityScore(correlation=1.0, pairs=3, missing=1)
    """
    table = _table(vectors, lower)
    rows, scores, missing = [], [], 0
    for pair in pairs:
        names = [w.lower() if lower else w for w in (pair.first, pair.second)]
        if all(name in table for name in names):
            rows.append([table[name] for name in names])
            scores.append(pair.score)
        else:
            missing += 1
    if len(rows) < 2:
        raise ArgumentError(
            f"score_similarity: {len(rows)} of {len(rows) + missing} pairs have "
            "vectors, expected two at least"
        )
    unit = vectors.unit
    left, right = np.array(rows).T
    cosines = (unit[left] * unit[right]).sum(1)
    return SimilarityScore(spearman(cosines, scores), len(rows), missing)


def score_analogies(
    vectors: WordVectors,
    questions: Iterable[Analogy],
    *,
    lower: bool = True,
    limit: int | None = None,
) -> AnalogyScore:
    """Answer analogies by 3CosAdd and count the right answers.

    Parameters
    ----------
    vectors : WordVectors
    questions : iterable of Analogy
        See `google_analogies`. Those with an unknown word are left out and counted.
    lower : bool, default True
        Do not mind capital letters.
    limit : int, optional
        Look among the first so many words only: the most frequent.

    Raises
    ------
    ArgumentError
        If no question has vectors for all its words.
    """
    count = min(limit or len(vectors), len(vectors))
    table = {w: n for w, n in _table(vectors, lower).items() if n < count}
    rows, sections, missing = [], [], 0
    for question in questions:
        names = [w.lower() if lower else w for w in question[:4]]
        if all(name in table for name in names):
            rows.append([table[name] for name in names])
            sections.append(question.section)
        else:
            missing += 1
    if not rows:
        raise ArgumentError(
            f"score_analogies: none of {missing} questions has vectors for all words"
        )
    numbers = np.array(rows)
    unit = vectors.unit[:count]
    right = np.empty(len(rows), bool)
    for first in range(0, len(rows), _BLOCK):
        part = numbers[first : first + _BLOCK]
        a, b, c, d = part.T
        scores = (unit[b] - unit[a] + unit[c]) @ unit.T
        np.put_along_axis(scores, part[:, :3], -np.inf, axis=1)
        right[first : first + _BLOCK] = scores.argmax(1) == d
    found: dict[str, tuple[int, int]] = {}
    for section, good in zip(sections, right.tolist(), strict=True):
        hits, asked = found.get(section, (0, 0))
        found[section] = (hits + good, asked + 1)
    return AnalogyScore(float(right.mean()), len(rows), missing, found)
