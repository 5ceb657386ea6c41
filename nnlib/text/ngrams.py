"""n-grams as numbers, by hashing, as fastText has them.

A. Joulin, E. Grave, P. Bojanowski, T. Mikolov: Bag of tricks for efficient text
classification, EACL 2017 (word n-grams); P. Bojanowski et al.: Enriching word vectors
with subword information, TACL 2017 (character n-grams). The hashes are those of the
fastText program, so that a bucket means the same here and there.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nnlib.backend.errors import ArgumentError

__all__ = ["character_ngrams", "fnv1a", "hashed_subwords", "hashed_word_ngrams"]

_BASIS = 2166136261
_PRIME = 16777619
_MASK32 = 0xFFFFFFFF
_MASK64 = 0xFFFFFFFFFFFFFFFF
# By which fastText joins the hashes of neighbouring words.
_JOIN = 116049371


@functools.lru_cache(maxsize=1 << 18)
def fnv1a(token: str) -> int:
    """Return the 32-bit FNV-1a hash of a token's UTF-8 bytes, as fastText has it.

    ``h <- (h xor byte) * 16777619 mod 2**32``, from 2166136261. A byte above 127 is
    taken as negative and widened, which fastText keeps for its old models' sake; ASCII
    gives FNV-1a as published.

    Examples
    --------
    >>> hex(fnv1a("hello"))
    '0x4f9f2cab'
    """
    value = _BASIS
    for byte in token.encode():
        value ^= byte if byte < 128 else byte | 0xFFFFFF00
        value = value * _PRIME & _MASK32
    return value


def _check(name: str, buckets: int) -> None:
    if buckets < 1:
        raise ArgumentError(f"{name}: buckets: expected at least 1, got {buckets}")


def hashed_word_ngrams(
    tokens: Sequence[str], buckets: int, n: int = 2, *, shift: int = 0
) -> NDArray[np.int64]:
    """Return the buckets of the word n-grams of 2 up to `n` words.

    Parameters
    ----------
    tokens : sequence of str
    buckets : int
    n : int, default 2
        The longest: 2 gives bigrams; 1 gives none.
    shift : int, default 0
        Added to each bucket: the size of the vocabulary, where both share an embedding.

    Returns
    -------
    numpy.ndarray
        int64, from ``shift`` to ``shift + buckets - 1``; in the order of the words at
        which they begin, shorter ones first.

    Raises
    ------
    ArgumentError
        If `buckets` or `n` is below 1.

    Examples
    --------
    >>> len(hashed_word_ngrams(["lost", "my", "card"], 1000, 3))
    3
    """
    _check("hashed_word_ngrams", buckets)
    if n < 1:
        raise ArgumentError(f"hashed_word_ngrams: n: expected at least 1, got {n}")
    # as a signed 32-bit number, widened
    hashes = [(h if h < 1 << 31 else h - (1 << 32)) for h in map(fnv1a, tokens)]
    found = []
    for first in range(len(hashes)):
        value = hashes[first] & _MASK64
        for other in hashes[first + 1 : first + n]:
            value = (value * _JOIN + other) & _MASK64
            found.append(value % buckets + shift)
    return np.array(found, np.int64)


def character_ngrams(word: str, shortest: int = 3, longest: int = 6) -> list[str]:
    """Return the character n-grams of a word between ``<`` and ``>``.

    The marks alone are none, and neither is a single mark.

    Examples
    --------
    >>> character_ngrams("card", 3, 4)
    ['<ca', '<car', 'car', 'card', 'ard', 'ard>', 'rd>']
    """
    if not 1 <= shortest <= longest:
        raise ArgumentError(
            f"character_ngrams: expected 1 <= shortest <= longest, got {shortest} and "
            f"{longest}"
        )
    marked = f"<{word}>"
    found = []
    for first in range(len(marked)):
        for last in range(first + shortest, min(first + longest, len(marked)) + 1):
            part = marked[first:last]
            if part not in ("<", ">"):
                found.append(part)
    return found


def hashed_subwords(
    word: str, buckets: int, shortest: int = 3, longest: int = 6, *, shift: int = 0
) -> NDArray[np.int64]:
    """Return the buckets of a word's character n-grams.

    See `character_ngrams` and `hashed_word_ngrams` for the arguments.

    Examples
    --------
    >>> hashed_subwords("card", 100, 4, 4).shape
    (3,)
    """
    _check("hashed_subwords", buckets)
    parts = character_ngrams(word, shortest, longest)
    return np.array([fnv1a(part) % buckets + shift for part in parts], np.int64)
