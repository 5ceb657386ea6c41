"""`Vocabulary`: tokens and their numbers."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnlib.backend.errors import ArgumentError, BoundsError, DTypeError
from nnlib.data.errors import DataError
from nnlib.text.errors import UnknownWordError

__all__ = ["Vocabulary"]

_FORMAT = "nnlib-vocabulary-1"


def read_ids(op: str, ids: ArrayLike, size: int) -> list[int]:
    """Return token numbers as a flat list, or say which one is out of range."""
    numbers = np.asarray(ids).reshape(-1)
    if numbers.size and numbers.dtype.kind not in "iu":
        raise DTypeError(f"{op}: ids: expected integers, got {numbers.dtype}")
    bad = np.flatnonzero((numbers < 0) | (numbers >= size))
    if bad.size:
        raise BoundsError(
            f"{op}: {numbers[bad[0]]} at position {bad[0]} is out of range for {size} "
            "tokens"
        )
    return [int(number) for number in numbers]


class Vocabulary:
    """Tokens by number and numbers by token, with how often each was seen.

    Specials come first, in their order; then the others, the most frequent first and
    equally frequent ones in the order of their characters, so that the numbers do not
    depend on the order of the texts.

    Parameters
    ----------
    counts : mapping of str to int
        How often each token was seen.
    min_count : int, default 1
        Leave out what was seen less often.
    max_size : int, optional
        Keep so many tokens at most, the specials among them.
    unknown : str or None, default "<unk>"
        Stands for every token that is not held; None: such a token is an error.
    specials : sequence of str, default ()
        Numbered first whatever their counts, the first one 0 (padding, by custom).
        `unknown` follows them if it is not among them.

    Raises
    ------
    ArgumentError
        If nothing is left, a special comes twice, or an option is out of range.
    DTypeError
        If a token is no string.

    Examples
    --------
    >>> vocabulary = Vocabulary({"the": 3, "cat": 1, "sat": 2}, specials=["<pad>"])
    >>> vocabulary.tokens
    ['<pad>', '<unk>', 'the', 'sat', 'cat']
    >>> vocabulary.encode(["the", "dog", "sat"]).tolist()
    [2, 1, 3]
    >>> vocabulary.decode([2, 3])
    ['the', 'sat']
    """

    tokens: list[str]
    counts: NDArray[np.int64]
    unknown: str | None
    specials: tuple[str, ...]

    def __init__(
        self,
        counts: Mapping[str, int],
        *,
        min_count: int = 1,
        max_size: int | None = None,
        unknown: str | None = "<unk>",
        specials: Sequence[str] = (),
    ) -> None:
        if not isinstance(counts, Mapping):
            raise DTypeError(
                "Vocabulary: counts: expected a mapping of tokens to counts, got "
                f"{type(counts).__name__}; Vocabulary.build counts texts"
            )
        for token in counts:
            if not isinstance(token, str):
                raise DTypeError(
                    f"Vocabulary: counts: expected tokens that are str, got {token!r}"
                )
        first = list(specials)
        if unknown is not None and unknown not in first:
            first.append(unknown)
        if len(set(first)) != len(first):
            raise ArgumentError(f"Vocabulary: specials: one comes twice in {first}")
        if min_count < 1:
            raise ArgumentError(
                f"Vocabulary: min_count: expected at least 1, got {min_count}"
            )
        if max_size is not None and max_size < len(first):
            raise ArgumentError(
                f"Vocabulary: max_size: expected at least the {len(first)} specials, "
                f"got {max_size}"
            )
        marked = set(first)
        kept = sorted(
            (item for item in counts.items() if item[1] >= min_count),
            key=lambda item: (-item[1], item[0]),
        )
        kept = [item for item in kept if item[0] not in marked]
        if max_size is not None:
            kept = kept[: max_size - len(first)]
        if not kept:
            raise ArgumentError(
                "Vocabulary: the corpus is empty"
                if not counts
                else f"Vocabulary: none of {len(counts)} tokens is left (min_count="
                f"{min_count}, max_size={max_size})"
            )
        known = sum(count for _, count in kept)
        numbers = [int(counts.get(token, 0)) for token in first]
        if unknown is not None:
            # what was left out is seen as unknown, beside what was so in the text
            seen = sum(counts.get(token, 0) for token in first)
            numbers[first.index(unknown)] += sum(counts.values()) - known - seen
        self._set(
            [*first, *(token for token, _ in kept)],
            np.array([*numbers, *(count for _, count in kept)], np.int64),
            unknown,
            tuple(first),
        )

    def _set(
        self,
        tokens: list[str],
        counts: NDArray[np.int64],
        unknown: str | None,
        specials: tuple[str, ...],
    ) -> None:
        self.tokens = tokens
        self.counts = counts
        self.unknown = unknown
        self.specials = specials
        self._numbers = {token: number for number, token in enumerate(tokens)}

    @classmethod
    def build(
        cls,
        corpus: Iterable[str] | Iterable[Iterable[str]],
        *,
        min_count: int = 1,
        max_size: int | None = None,
        unknown: str | None = "<unk>",
        specials: Sequence[str] = (),
    ) -> Vocabulary:
        """Count the tokens of a corpus: tokens, or sentences of tokens.

        See `Vocabulary` for the other arguments.

        Examples
        --------
        >>> Vocabulary.build([["a", "b"], ["b"]], unknown=None).tokens
        ['b', 'a']
        """
        counter: Counter[str] = Counter()
        single: list[str] = []
        for item in corpus:
            if isinstance(item, str):
                single.append(item)
            else:
                counter.update(item)
        counter.update(single)
        return cls(
            counter,
            min_count=min_count,
            max_size=max_size,
            unknown=unknown,
            specials=specials,
        )

    def __len__(self) -> int:
        """Return the number of tokens, specials among them."""
        return len(self.tokens)

    def __contains__(self, token: object) -> bool:
        """Tell whether `token` has a number of its own."""
        return token in self._numbers

    def __iter__(self) -> Iterator[str]:
        """Yield the tokens in the order of their numbers."""
        return iter(self.tokens)

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} tokens, unknown={self.unknown!r})"

    def __getitem__(self, token: str) -> int:
        """Return the number of `token`, or that of the unknown one.

        Raises
        ------
        UnknownWordError
            If it is not held and there is no unknown token.
        """
        number = self._numbers.get(token)
        if number is not None:
            return number
        if self.unknown is None:
            raise UnknownWordError(
                f"Vocabulary: {token!r} is none of its {len(self)} tokens, and it has "
                "no unknown token"
            )
        return self._numbers[self.unknown]

    def encode(self, tokens: Iterable[str]) -> NDArray[np.int64]:
        """Return the numbers of tokens, ``(length,)``.

        Raises
        ------
        UnknownWordError
            If one is not held and there is no unknown token; its position is named.
        DTypeError
            If `tokens` is a string: its characters are not meant.
        """
        if isinstance(tokens, str):
            raise DTypeError(
                "Vocabulary.encode: tokens: expected a list of tokens, got a str; "
                "tokenise it first"
            )
        items = list(tokens)
        get = self._numbers.get
        if self.unknown is not None:
            other = self._numbers[self.unknown]
            return np.array([get(token, other) for token in items], np.int64)
        found = [get(token, -1) for token in items]
        if -1 in found:
            where = found.index(-1)
            raise UnknownWordError(
                f"Vocabulary.encode: {items[where]!r} at position {where} is none of "
                f"{len(self)} tokens, and the vocabulary has no unknown token"
            )
        return np.array(found, np.int64)

    def decode(self, ids: ArrayLike) -> list[str]:
        """Return the tokens of numbers.

        Raises
        ------
        BoundsError
            If a number is out of range.
        """
        numbers = read_ids("Vocabulary.decode", ids, len(self))
        return [self.tokens[number] for number in numbers]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write tokens, counts and specials as JSON."""
        content = {
            "format": _FORMAT,
            "unknown": self.unknown,
            "specials": list(self.specials),
            "tokens": self.tokens,
            "counts": self.counts.tolist(),
        }
        text = json.dumps(content, ensure_ascii=False, indent=0)
        Path(path).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Vocabulary:
        """Read what `save` wrote.

        Raises
        ------
        DataError
            If the file is no vocabulary.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            tokens, counts = content["tokens"], content["counts"]
            good = (
                content["format"] == _FORMAT
                and len(tokens) == len(counts) == len(set(tokens))
                and all(isinstance(token, str) for token in tokens)
                and set(content["specials"]) <= set(tokens)
                and content["unknown"] in (None, *tokens)
            )
            numbers = np.array(counts, np.int64)
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{path}: not a vocabulary: {error!r}") from error
        if not good:
            raise DataError(
                f"{path}: not a vocabulary: expected format {_FORMAT!r}, each token "
                "once, with a count, the specials among them"
            )
        vocabulary = cls.__new__(cls)
        vocabulary._set(tokens, numbers, content["unknown"], tuple(content["specials"]))
        return vocabulary
