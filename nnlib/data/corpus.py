"""Texts read by the character: tiny-shakespeare.

A. Karpathy, "The unreasonable effectiveness of recurrent neural networks", 2015: a
million characters of Shakespeare's plays (public domain).
"""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnlib.backend.errors import ArgumentError, BoundsError, DTypeError, ShapeError
from nnlib.data.errors import DataError
from nnlib.data.fetch import DataFile, locate

__all__ = ["TinyShakespeare", "streams"]

_FILE = DataFile(
    "text/tinyshakespeare",
    "input.txt",
    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    (
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/"
        "tinyshakespeare/",
    ),
)


class TinyShakespeare:
    """1,115,394 characters of plays, 65 different ones.

    Parameters
    ----------
    split : {"train", "validation", "all"}, default "train"
        The first nine tenths, the rest, or both.
    root : str or os.PathLike, optional
        A data root to look in first.

    Attributes
    ----------
    text : str
    alphabet : str
        The characters of the whole text in the order of their codes; the number of a
        character is its position here.

    Examples
    --------
    >>> plays = TinyShakespeare()  # doctest: +SKIP
    >>> plays.decode(plays.numbers()[:13])  # doctest: +SKIP
    'First Citizen'
    """

    def __init__(
        self, split: str = "train", root: str | os.PathLike[str] | None = None
    ) -> None:
        splits = ("train", "validation", "all")
        if split not in splits:
            raise ArgumentError(
                f"TinyShakespeare: split: expected one of {', '.join(splits)}, got "
                f"{split!r}"
            )
        path = locate(_FILE, root)
        text = path.read_text(encoding="utf-8")
        if not text:
            raise DataError(f"{path}: the corpus is empty")
        border = len(text) // 10 * 9
        first = border if split == "validation" else 0
        self.text = text[first : border if split == "train" else None]
        self.alphabet = "".join(sorted(set(text)))

    def __len__(self) -> int:
        return len(self.text)

    def numbers(self) -> NDArray[np.int64]:
        """Return the text as numbers of characters."""
        return self.encode(self.text)

    def encode(self, text: str) -> NDArray[np.int64]:
        """Return the numbers of the characters of `text`.

        Raises
        ------
        DataError
            If a character is not in the alphabet, with its position.
        """
        if not isinstance(text, str):
            raise DTypeError(
                f"TinyShakespeare: text: expected a str, got {type(text).__name__}"
            )
        table = {character: k for k, character in enumerate(self.alphabet)}
        found = np.empty(len(text), np.int64)
        for position, character in enumerate(text):
            number = table.get(character)
            if number is None:
                raise DataError(
                    f"TinyShakespeare: the character {character!r} at position "
                    f"{position} is not in the alphabet"
                )
            found[position] = number
        return found

    def decode(self, numbers: ArrayLike) -> str:
        """Return the text that `numbers` stand for.

        Raises
        ------
        BoundsError
            If a number is that of no character, with its position.
        """
        found = np.asarray(numbers).reshape(-1)
        if found.size and found.dtype.kind not in "iu":
            raise DTypeError(
                f"TinyShakespeare: numbers: expected integers, got {found.dtype}"
            )
        most = len(self.alphabet)
        for position, number in enumerate(found.tolist()):
            if not 0 <= number < most:
                raise BoundsError(
                    f"TinyShakespeare: {number} at position {position} is the number "
                    f"of no character, expected 0 to {most - 1}"
                )
        return "".join(self.alphabet[number] for number in found.tolist())


def streams(
    numbers: ArrayLike, batch: int, steps: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cut a long sequence for truncated back-propagation through time.

    The sequence is laid out in `batch` parallel streams; chunk k + 1 of a stream goes
    on where chunk k ended, so that the state may be carried over from one to the next.

    Parameters
    ----------
    numbers : array_like, shape (L,)
    batch, steps : int
        At least 1.

    Returns
    -------
    inputs, targets : numpy.ndarray, shape (chunks, batch, steps)
        The targets are the inputs one place later. What does not fill a chunk is left
        out.

    Raises
    ------
    ArgumentError
        If the sequence is too short for one chunk, or `batch` or `steps` below 1.
    ShapeError
        If `numbers` has other dimensions.

    Examples
    --------
    >>> inputs, targets = streams(np.arange(9), batch=2, steps=2)
    >>> inputs.tolist()
    [[[0, 1], [4, 5]], [[2, 3], [6, 7]]]
    """
    line = np.asarray(numbers)
    if line.ndim != 1:
        raise ShapeError(f"streams: numbers: expected shape (L,), got {line.shape}")
    for name, value in (("batch", batch), ("steps", steps)):
        if value < 1:
            raise ArgumentError(f"streams: {name}: expected at least 1, got {value}")
    each = (len(line) - 1) // batch
    chunks = each // steps
    if chunks < 1:
        raise ArgumentError(
            f"streams: numbers: expected at least {batch * steps + 1} of them for "
            f"{batch} streams of {steps} steps, got {len(line)}"
        )

    def cut(start: int) -> NDArray[np.int64]:
        rows = line[start : start + batch * each].reshape(batch, each)
        cubes = rows[:, : chunks * steps].reshape(batch, chunks, steps)
        return np.ascontiguousarray(cubes.swapaxes(0, 1))  # -> (chunks, batch, steps)

    return cut(0), cut(1)
