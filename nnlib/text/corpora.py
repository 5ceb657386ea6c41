"""Texts of the field: WikiText-2, Banking77, and English-French sentence pairs.

WikiText-2: S. Merity et al., "Pointer sentinel mixture models", 2016 (CC BY-SA).
Banking77: I. Casanueva et al., "Efficient intent detection with dual sentence
encoders", 2020 (CC BY 4.0). Sentence pairs: the Tatoeba project, as prepared by
manythings.org/anki (CC BY 2.0).
"""

from __future__ import annotations

import csv
import io
import lzma
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnlib.backend.errors import ArgumentError
from nnlib.data.dataset import Dataset
from nnlib.data.errors import DataError
from nnlib.data.fetch import DataFile, locate

__all__ = ["Banking77", "Tatoeba", "WikiText2", "parse_pairs", "parse_queries"]

Root = str | os.PathLike[str] | None

_WIKITEXT = "https://raw.githubusercontent.com/pytorch/examples/main/"
_WIKITEXT_FILES = {
    split: DataFile(
        "text/wikitext-2",
        f"{split}.txt.xz",
        packed,
        (),
        raw,
        (f"{_WIKITEXT}word_language_model/data/wikitext-2/",),
    )
    for split, packed, raw in (
        (
            "train",
            "7f5b03a0219b81adcc680f2d8bd24b7b3f19e4a01ac52f9533ca18cc807ac2bd",
            "9e9fa1ad55b1c2c95b08e37dd8e653f638fac2c6de904b79e813611eefbc985f",
        ),
        (
            "valid",
            "1322771e23310248961e17b3c55df138cd3e5c57f2e36ac1d131e9c6158ccd74",
            "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
        ),
        (
            "test",
            "306c08b989e77ca6d5587c58d90bf8f8fa3be85671b0eda75315de9f68584fbe",
            "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
        ),
    )
}
_BANKING = (
    "https://raw.githubusercontent.com/PolyAI-LDN/task-specific-datasets/master/"
    "banking_data/",
)
_BANKING_FILES = {
    True: DataFile(
        "text/banking77",
        "train.csv",
        "b06e26ac675513959a63135f11b94ea7786ed02da65db93a5650d8838cbc664b",
        _BANKING,
    ),
    False: DataFile(
        "text/banking77",
        "test.csv",
        "d12d6e3bc4c3103966ae786dc435913c0c563dfa328f5a3646d0e62cfeeb474d",
        _BANKING,
    ),
}
_TATOEBA_FILE = DataFile(
    "text/tatoeba-eng-fra",
    "fra-eng.zip",
    "16c4f7d0df9e7c5e6c54cdb0447f3f4a18a55052ff5e2e0b27dd4a06c0e49d04",
    ("https://www.manythings.org/anki/",),
)


def _decode(content: bytes, name: object) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name}: not UTF-8: byte {content[error.start]:#04x} at position "
            f"{error.start}"
        ) from error


class WikiText2:
    """Wikipedia articles as tokens between blanks, rare words as ``<unk>``.

    Parameters
    ----------
    split : {"train", "valid", "test"}, default "train"
        2,088,628, 217,646 and 245,569 tokens with the ends of lines; the vocabulary of
        all three has 33,278.
    root : str or os.PathLike, optional
        A data root to look in first.
    end : str, default "<eos>"
        The token at the end of each line.

    Attributes
    ----------
    text : str

    Examples
    --------
    >>> len(WikiText2("valid").tokens())  # doctest: +SKIP
    217646
    """

    def __init__(
        self, split: str = "train", root: Root = None, *, end: str = "<eos>"
    ) -> None:
        file = _WIKITEXT_FILES.get(split)
        if file is None:
            raise ArgumentError(
                f"WikiText2: split: expected one of {list(_WIKITEXT_FILES)}, got "
                f"{split!r}"
            )
        path = locate(file, root)
        content = path.read_bytes()
        if path.suffix == ".xz":
            try:
                content = lzma.decompress(content)
            except (lzma.LZMAError, EOFError) as error:
                raise DataError(f"{path}: the xz stream is corrupt: {error}") from error
        self.split = split
        self.end = end
        self.text = _decode(content, path)

    def sentences(self) -> Iterator[list[str]]:
        """Yield the tokens of each line that has any, without its end."""
        for line in self.text.split("\n"):
            tokens = line.split()
            if tokens:
                yield tokens

    def tokens(self) -> list[str]:
        """Return all tokens in a row, each line's end (empty ones' too) among them."""
        lines = self.text.split("\n")
        if lines and not lines[-1].strip():
            lines.pop()
        return f" {self.end} ".join([*lines, ""]).split()


def parse_queries(content: str, name: str = "queries") -> list[tuple[str, str]]:
    r"""Read comma-separated (text, category) lines below the header that says so.

    Raises
    ------
    DataError
        If the header is another one, a line has another number of fields or an empty
        one, or there is no line.

    Examples
    --------
    >>> parse_queries("text,category\nWhere is it?,card_arrival\n")
    [('Where is it?', 'card_arrival')]
    """
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    rows: list[tuple[str, str]] = []
    try:
        header = next(reader, None)
        if header != ["text", "category"]:
            raise DataError(
                f"{name}: expected the header text,category, got {header or 'nothing'}"
            )
        for row in reader:
            if len(row) != 2 or not row[0].strip() or not row[1].strip():
                raise DataError(
                    f"{name}: line {reader.line_num}: expected a text and a category, "
                    f"got {row}"
                )
            rows.append((row[0].strip(), row[1].strip()))
    except csv.Error as error:
        raise DataError(f"{name}: line {reader.line_num}: {error}") from error
    if not rows:
        raise DataError(f"{name}: there is no line below the header")
    return rows


class Banking77(Dataset[tuple[str, int]]):
    """Customers' questions to a bank, in 77 intents: (text, number of the intent).

    Parameters
    ----------
    train : bool, default True
        10,003 queries; otherwise the 3,080 of the test set, 40 for each intent.
    root : str or os.PathLike, optional
        A data root to look in first.

    Attributes
    ----------
    texts : list of str
    labels : numpy.ndarray
        int64, ``(N,)``.
    classes : list of str
        The intents in alphabetical order.
    """

    def __init__(self, train: bool = True, root: Root = None) -> None:
        path = locate(_BANKING_FILES[bool(train)], root)
        rows = parse_queries(_decode(path.read_bytes(), path), str(path))
        self.texts = [text for text, _ in rows]
        self.classes = sorted({category for _, category in rows})
        numbers = {name: number for number, name in enumerate(self.classes)}
        self.labels: NDArray[np.int64] = np.array(
            [numbers[category] for _, category in rows], np.int64
        )

    def __len__(self) -> int:
        """Return the number of queries."""
        return len(self.texts)

    def __getitem__(self, index: int) -> tuple[str, int]:
        """Return a query and the number of its intent."""
        return self.texts[index], int(self.labels[index])


def parse_pairs(content: str, name: str = "pairs") -> list[tuple[str, str]]:
    r"""Read lines of a sentence, a tab and its translation; drop further fields.

    Raises
    ------
    DataError
        If a line has less than two fields or an empty one, or there is no line.

    Examples
    --------
    >>> parse_pairs("Go.\tVa !\n")
    [('Go.', 'Va !')]
    """
    pairs = []
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        fields = line.split("\t")
        if len(fields) < 2 or not fields[0].strip() or not fields[1].strip():
            raise DataError(
                f"{name}: line {number}: expected a sentence, a tab and its "
                f"translation, got {line!r}"
            )
        pairs.append((fields[0].strip(), fields[1].strip()))
    if not pairs:
        raise DataError(f"{name}: there is no pair")
    return pairs


class Tatoeba(Dataset[tuple[str, str]]):
    """142,787 English sentences and their French translations, short ones first.

    Parameters
    ----------
    root : str or os.PathLike, optional
        A data root to look in first. The publisher renews his file: where a newer
        one is downloaded its hash differs, which is an error; put the one you have
        through `parse_pairs`.

    Attributes
    ----------
    pairs : list of (str, str)
    """

    def __init__(self, root: Root = None) -> None:
        path = locate(_TATOEBA_FILE, root)
        self.pairs = parse_pairs(_decode(_member(path, "fra.txt"), path), str(path))

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[str, str]:
        """Return a sentence and its translation."""
        return self.pairs[index]


def _member(path: Path, name: str) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(name)
    except (zipfile.BadZipFile, KeyError) as error:
        raise DataError(f"{path}: {error}") from error
