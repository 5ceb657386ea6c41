"""Tests of word vectors: judged similarities of pairs, and analogies.

WordSim-353 (L. Finkelstein et al. 2002; its halves: E. Agirre et al. 2009), SimLex-999
(F. Hill et al. 2015), MEN (E. Bruni et al. 2014), Google's analogies (T. Mikolov et al.
2013).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from nnlib.backend.errors import ArgumentError
from nnlib.data.errors import DataError
from nnlib.data.fetch import DataFile, locate

__all__ = [
    "Analogy",
    "SimilarPair",
    "google_analogies",
    "parse_analogies",
    "parse_similarities",
    "similarity_test",
]

_FOLDER = "text/embedding-eval"
_PAIRS = (
    "https://raw.githubusercontent.com/mfaruqui/eval-word-vectors/master/data/word-sim/",
)
_SIMILARITY_FILES = {
    "WordSim-353": DataFile(
        _FOLDER,
        "EN-WS-353-ALL.txt",
        "ce12919b240af45bdf46d243601eaca2b6212b159b5e7e9b435ee7ee40c5619c",
        _PAIRS,
    ),
    "WordSim-353-similarity": DataFile(
        _FOLDER,
        "EN-WS-353-SIM.txt",
        "f1da938998863c94e53f72f984a5c6e215f0b46c323aae8f0f4930703a339107",
        _PAIRS,
    ),
    "WordSim-353-relatedness": DataFile(
        _FOLDER,
        "EN-WS-353-REL.txt",
        "66a7c88100624d0a391605ff61ce84e11d11ee620d51ec0298da49592838f8fa",
        _PAIRS,
    ),
    "SimLex-999": DataFile(
        _FOLDER,
        "EN-SIMLEX-999.txt",
        "405394ffb7d25f6d0e3c041f87c9f27d29dc6b047506769953e85c4523b11685",
        _PAIRS,
    ),
    "MEN": DataFile(
        _FOLDER,
        "EN-MEN-TR-3k.txt",
        "888b13580faa362c7b11da0a670258cf1b1eb4bf0ecbcd418918729a3bd3f43a",
        _PAIRS,
    ),
}
_ANALOGIES_FILE = DataFile(
    _FOLDER,
    "questions-words.txt",
    "8c29b3332afc46f3fb8be04cb5297bf96f39aa7131272dff57869b4485b22a36",
    ("https://raw.githubusercontent.com/tmikolov/word2vec/master/",),
)


class SimilarPair(NamedTuple):
    """Two words and how similar people found them."""

    first: str
    second: str
    score: float


class Analogy(NamedTuple):
    """``a`` is to ``b`` as ``c`` is to ``d``, and the section of the question."""

    a: str
    b: str
    c: str
    d: str
    section: str


def parse_similarities(content: str, name: str = "pairs") -> list[SimilarPair]:
    r"""Read lines of two words and a number, divided by tabs or blanks.

    Raises
    ------
    DataError
        If a line is another one, or there is none.

    Examples
    --------
    >>> parse_similarities("tiger\tcat\t7.35\n")
    [SimilarPair(first='tiger', second='cat', score=7.35)]
    """
    pairs = []
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        fields = line.split()
        try:
            first, second, score = fields
            pairs.append(SimilarPair(first, second, float(score)))
        except ValueError as error:
            raise DataError(
                f"{name}: line {number}: expected two words and a number, got {line!r}"
            ) from error
    if not pairs:
        raise DataError(f"{name}: there is no pair")
    return pairs


def parse_analogies(content: str, name: str = "analogies") -> list[Analogy]:
    r"""Read lines of four words, below ``: name`` of their section.

    Raises
    ------
    DataError
        If a line is another one, or there is none.

    Examples
    --------
    >>> parse_analogies(": family\nboy girl brother sister\n")[0].section
    'family'
    """
    section = ""
    found = []
    for number, line in enumerate(content.splitlines(), start=1):
        if line.startswith(":"):
            section = line[1:].strip()
        elif line.strip():
            fields = line.split()
            if len(fields) != 4:
                raise DataError(
                    f"{name}: line {number}: expected four words, got {line!r}"
                )
            a, b, c, d = fields
            found.append(Analogy(a, b, c, d, section))
    if not found:
        raise DataError(f"{name}: there is no question")
    return found


def similarity_test(
    name: str, root: str | os.PathLike[str] | None = None
) -> list[SimilarPair]:
    """Return a published list of pairs and their judged similarity.

    Parameters
    ----------
    name : str
        ``WordSim-353`` (and its halves ``-similarity`` and ``-relatedness``),
        ``SimLex-999`` or ``MEN``.
    root : str or os.PathLike, optional
        A data root to look in first.
    """
    file = _SIMILARITY_FILES.get(name)
    if file is None:
        raise ArgumentError(
            f"similarity_test: name: expected one of {list(_SIMILARITY_FILES)}, got "
            f"{name!r}"
        )
    path = locate(file, root)
    return parse_similarities(_text(path), str(path))


def google_analogies(root: str | os.PathLike[str] | None = None) -> list[Analogy]:
    """Return the 19,544 questions of Google's test, in 14 sections."""
    path = locate(_ANALOGIES_FILE, root)
    return parse_analogies(_text(path), str(path))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8: {error}") from error
