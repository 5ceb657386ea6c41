"""From text to tokens: characters, and words by a few rules."""

from __future__ import annotations

import re
import unicodedata

from nnlib.backend.errors import DTypeError

__all__ = ["characters", "sentences", "words"]

# In this order: words with inner apostrophes and hyphens, numbers with inner points
# and commas, any other sign by itself.
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*|\d+(?:[.,]\d+)*|\S", re.UNICODE)
_END = re.compile(r"(?<=[.!?\u2026])[\"'\u201d\u2019)\]]*\s+")


def check_text(name: str, text: object) -> None:
    """Raise unless `text` is a string."""
    if not isinstance(text, str):
        raise DTypeError(f"{name}: text: expected a str, got {type(text).__name__}")


def characters(text: str) -> list[str]:
    """Return the characters of a text, one by one.

    Examples
    --------
    >>> characters("to be")
    ['t', 'o', ' ', 'b', 'e']
    """
    check_text("characters", text)
    return list(text)


def words(text: str, *, lower: bool = True, punctuation: bool = True) -> list[str]:
    """Return the words of a text.

    A word is a run of letters, with apostrophes or hyphens inside it; a number is a run
    of digits, with points or commas inside it; every other sign is a token of its own.
    White space separates and is dropped. A letter and its accent, where a text has them
    apart, become one character (Unicode's form NFC).

    Parameters
    ----------
    text : str
    lower : bool, default True
        In lower case.
    punctuation : bool, default True
        Keep signs; otherwise words and numbers alone.

    Raises
    ------
    DTypeError
        If `text` is no string.

    Examples
    --------
    >>> words("Don't pay $1,000.50, it's state-of-the-art!")
    ["don't", 'pay', '$', '1,000.50', ',', "it's", 'state-of-the-art', '!']
    >>> words("Top-up: failed?", punctuation=False)
    ['top-up', 'failed']
    """
    check_text("words", text)
    text = unicodedata.normalize("NFC", text)
    found = _WORD.findall(text.lower() if lower else text)
    if punctuation:
        return found
    return [token for token in found if token[0].isalnum()]


def sentences(text: str) -> list[str]:
    """Divide a text after full stops, question and exclamation marks, and at lines.

    A rule of thumb: it also divides after an abbreviation that a blank follows.

    Examples
    --------
    >>> sentences("It rains. Does it? Yes.")
    ['It rains.', 'Does it?', 'Yes.']
    """
    check_text("sentences", text)
    parts = (part for line in text.splitlines() for part in _END.split(line))
    return [stripped for part in parts if (stripped := part.strip())]
