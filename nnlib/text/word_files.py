"""word2vec's files: a header ``words columns``, then a word and its numbers each.

Text: a line for each word, numbers between blanks. Binary: the word, a blank, the
numbers as little-endian float32, and a line's end, which some programs leave out.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnlib.backend.errors import ArgumentError
from nnlib.data.errors import DataError

__all__ = ["read", "write"]

Vectors = NDArray[np.float32]


def write(
    path: str | os.PathLike[str], words: Sequence[str], vectors: Vectors, binary: bool
) -> None:
    """Write a file; see `WordVectors.save`."""
    for word in words:
        if not word or word.split() != [word]:
            raise ArgumentError(
                f"WordVectors.save: {word!r}: word2vec's formats cannot hold a word "
                "that is empty or has white space in it"
            )
    rows = vectors.astype("<f4", copy=False)
    with Path(path).open("wb") as stream:
        stream.write(f"{rows.shape[0]} {rows.shape[1]}\n".encode())
        for word, row in zip(words, rows, strict=True):
            stream.write(word.encode())
            if binary:
                stream.write(b" " + row.tobytes() + b"\n")
            else:
                numbers = " ".join(map(repr, row.astype(np.float32).tolist()))
                # nine digits give a float32 back; those of its float64 do too
                stream.write(f" {numbers}\n".encode())


def read(
    path: str | os.PathLike[str], binary: bool, limit: int | None = None
) -> tuple[list[str], Vectors]:
    """Read a file; see `WordVectors.load`."""
    if limit is not None and limit < 1:
        raise ArgumentError(f"WordVectors.load: limit: expected 1 or more, got {limit}")
    name = os.fspath(path)
    # With a limit no more of a large file is read than its first words.
    with Path(path).open("rb") as stream:
        if not binary:
            last = None if limit is None else limit + 1
            words, vectors = _read_text(list(islice(stream, last)), name, limit)
        elif os.fstat(stream.fileno()).st_size:
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
                words, vectors = _read_binary(content, name, limit)
        else:
            words, vectors = _read_binary(b"", name, limit)
    seen: set[str] = set()
    for word in words:
        if word in seen:
            raise DataError(f"{name}: the word {word!r} comes twice")
        seen.add(word)
    finite = np.isfinite(vectors).all(1)
    if not finite.all():
        number = int(finite.argmin())
        raise DataError(
            f"{name}: word {number} ({words[number]!r}) has a number that is not "
            "finite, or is beyond float32"
        )
    return words, vectors


def _header(line: bytes) -> tuple[int, int] | None:
    fields = line.split()
    if len(fields) != 2 or not all(field.isdigit() for field in fields):
        return None
    return int(fields[0]), int(fields[1])


def _word(raw: bytes, name: str, number: int) -> str:
    try:
        word = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: word {number}: not UTF-8: {raw!r}") from error
    if not word:
        raise DataError(f"{name}: word {number} is empty")
    return word


def _read_binary(
    content: bytes | mmap.mmap, name: str, limit: int | None
) -> tuple[list[str], Vectors]:
    end = content.find(b"\n", 0, 100)
    header = _header(content[:end]) if end > 0 else None
    if header is None:
        raise DataError(
            f"{name}: not word2vec's binary format: expected a first line of two "
            f"numbers, got {content[:20]!r}"
        )
    count, columns = header
    least = count * (4 * columns + 2)
    if not count or not columns or least > len(content) - end:
        raise DataError(
            f"{name}: truncated, or a wrong header: {count} words of {columns} columns "
            f"take {least} bytes at least, the file has {len(content) - end - 1} more"
        )
    count = min(count, limit or count)
    words = []
    vectors = np.empty((count, columns), np.float32)
    at = end + 1
    for number in range(count):
        blank = content.find(b" ", at)
        last = blank + 1 + 4 * columns
        if blank < 0 or last > len(content):
            raise DataError(
                f"{name}: truncated: it ends within word {number} of {count}"
            )
        words.append(_word(content[at:blank].lstrip(b"\n"), name, number))
        vectors[number] = np.frombuffer(content[blank + 1 : last], "<f4")
        at = last
    return words, vectors


def _read_text(
    lines: list[bytes], name: str, limit: int | None
) -> tuple[list[str], Vectors]:
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise DataError(f"{name}: the file is empty")
    header = _header(lines[0])
    first = 0 if header is None else 1
    columns = len(lines[0].split()) - 1 if header is None else header[1]
    count = len(lines) - first
    # With a limit there may be more than was read, but not less than was promised.
    wrong = header is not None and header[0] != count
    if header is not None and wrong and (count != limit or header[0] < count):
        raise DataError(
            f"{name}: the header says {header[0]} words, the file has {count}"
        )
    if not count or columns < 1:
        raise DataError(f"{name}: there is no vector: {lines[0][:40]!r}")
    count = min(count, limit or count)
    words = []
    vectors = np.empty((count, columns), np.float32)
    for number in range(count):
        fields = lines[first + number].split()
        try:
            if len(fields) != columns + 1:
                raise ValueError(f"{len(fields) - 1} numbers")
            with np.errstate(over="ignore"):  # infinity is refused with its word
                vectors[number] = np.array(fields[1:], dtype=np.float64)
        except ValueError as error:
            raise DataError(
                f"{name}: line {first + number + 1}: expected a word and {columns} "
                f"numbers, got {error}"
            ) from error
        words.append(_word(fields[0], name, number))
    return words, vectors
