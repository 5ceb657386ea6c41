"""Byte-pair encoding, through the ``tokenizers`` package (extra ``text``).

R. Sennrich, B. Haddow, A. Birch: Neural machine translation of rare words with subword
units, ACL 2016: the most frequent pair of neighbouring symbols becomes a symbol, again
and again, until the vocabulary has its size.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnlib.backend.errors import ArgumentError, DTypeError, Error
from nnlib.text.tokenize import check_text
from nnlib.text.vocabulary import read_ids

__all__ = ["BytePairEncoding", "SubwordError"]


class SubwordError(Error, ImportError):
    """Byte-pair encoding was asked for where ``tokenizers`` is missing."""


def _library() -> Any:
    try:
        import tokenizers
    except ModuleNotFoundError as error:
        raise SubwordError(
            f'byte-pair encoding needs tokenizers ({error}): python -m pip install "'
            'nnlib-dl[text]"'
        ) from error
    return tokenizers


class BytePairEncoding:
    """Subword units over bytes: no text is unknown, and decoding gives it back.

    What a special is called is that special wherever a text has it, as in
    ``tokenizers``, and decoding leaves specials out.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
        Trained; see `train` and `load`.

    Examples
    --------
    >>> bpe = BytePairEncoding.train(["low lower lowest"] * 5, 262)  # doctest: +SKIP
    >>> bpe.decode(bpe.encode("lowest"))  # doctest: +SKIP
    'lowest'
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        size: int = 8000,
        *,
        min_count: int = 2,
        specials: Sequence[str] = ("<pad>",),
    ) -> BytePairEncoding:
        """Learn the units from texts.

        Parameters
        ----------
        texts : iterable of str
        size : int, default 8000
            Units, the 256 bytes and the specials among them; fewer if the texts do
            not hold so many pairs.
        min_count : int, default 2
            A pair is joined if it occurs so often.
        specials : sequence of str
            Numbered first.

        Raises
        ------
        SubwordError
            If ``tokenizers`` is not installed.
        ArgumentError
            If `size` is below 256 and the specials, or there is no text.
        DTypeError
            If `texts` is a string, or holds something else.
        """
        library = _library()
        if isinstance(texts, str):
            raise DTypeError(
                "BytePairEncoding: texts: expected a list of texts, got a str; divide "
                "it into lines"
            )
        least = 256 + len(specials)
        if size < least:
            raise ArgumentError(
                f"BytePairEncoding: size: expected at least {least} (the bytes and the "
                f"specials), got {size}"
            )
        lines = []
        for text in texts:
            check_text("BytePairEncoding", text)
            if text:
                lines.append(text)
        if not lines:
            raise ArgumentError("BytePairEncoding: texts: the corpus is empty")
        tokenizer = library.Tokenizer(library.models.BPE())
        tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(
            add_prefix_space=False
        )
        tokenizer.decoder = library.decoders.ByteLevel()
        trainer = library.trainers.BpeTrainer(
            vocab_size=size,
            min_frequency=min_count,
            special_tokens=list(specials),
            initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(lines, trainer)
        return cls(tokenizer)

    def __len__(self) -> int:
        """Return the number of units."""
        return int(self.tokenizer.get_vocab_size())

    def __call__(self, text: str) -> list[str]:
        """Return the units of a text as strings, a blank as a G with a dot."""
        check_text("BytePairEncoding", text)
        return list(self.tokenizer.encode(text).tokens)

    def encode(self, text: str) -> NDArray[np.int64]:
        """Return the numbers of a text's units, ``(length,)``."""
        check_text("BytePairEncoding.encode", text)
        return np.asarray(self.tokenizer.encode(text).ids, np.int64)

    def decode(self, ids: ArrayLike) -> str:
        """Return the text of a list of numbers; specials are left out.

        Raises
        ------
        BoundsError
            If a number is that of no unit.
        """
        numbers = read_ids("BytePairEncoding.decode", ids, len(self))
        return str(self.tokenizer.decode(numbers))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the units as JSON, in the format of ``tokenizers``."""
        self.tokenizer.save(os.fspath(path))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> BytePairEncoding:
        """Read what `save` wrote.

        Raises
        ------
        SubwordError
            If ``tokenizers`` is not installed.
        ArgumentError
            If the file is none of these.
        """
        library = _library()
        try:
            return cls(library.Tokenizer.from_file(os.fspath(path)))
        except Exception as error:  # the package raises Exception itself
            if not os.path.exists(path):
                raise FileNotFoundError(f"{os.fspath(path)}: no such file") from error
            raise ArgumentError(
                f"BytePairEncoding: {os.fspath(path)}: not a file of units: {error}"
            ) from error
