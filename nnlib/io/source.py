"""What is read from and written to: a file by its name, or an open one."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import IO, Any, BinaryIO

from nnlib.backend.errors import DTypeError

__all__ = ["Opened", "Place", "source", "target"]

Place = str | os.PathLike[str] | IO[bytes]


class Opened:
    """The rest of an open file, read as a `Path` is: `open`, `suffix` and a name."""

    suffix = ""

    def __init__(self, op: str, file: Any) -> None:
        data = file.read()
        if not isinstance(data, bytes | bytearray | memoryview):
            raise DTypeError(
                f"{op}: path: expected a file opened for bytes ('rb'), got one that "
                f"gives {type(data).__name__}"
            )
        self._data = bytes(data)
        self._name = str(getattr(file, "name", f"the {type(file).__name__}"))

    def __str__(self) -> str:
        """Return what messages call it."""
        return self._name

    def open(self, mode: str = "rb") -> BinaryIO:
        """Return the bytes as a file that stands at their beginning."""
        return io.BytesIO(self._data)


def source(op: str, where: Any) -> Path | Opened:
    """Return what to read: a path, or what is left of an open file.

    Raises
    ------
    DTypeError
        If it is neither, or a file opened for text.
    """
    if isinstance(where, Opened):
        return where
    if isinstance(where, str | os.PathLike):
        return Path(where)
    if hasattr(where, "read"):
        return Opened(op, where)
    raise _neither(op, where)


def target(op: str, where: Any) -> Path | BinaryIO:
    """Return what to write to: a path, or the open file.

    Raises
    ------
    DTypeError
        If it is neither, or a file opened for text.
    """
    if isinstance(where, str | os.PathLike):
        return Path(where)
    if isinstance(where, io.TextIOBase):
        raise DTypeError(
            f"{op}: path: expected a file opened for bytes ('wb'), got one for text"
        )
    if hasattr(where, "write"):
        return where  # type: ignore[no-any-return]
    raise _neither(op, where)


def _neither(op: str, where: Any) -> DTypeError:
    return DTypeError(
        f"{op}: path: expected a path or an open file, got {type(where).__name__}"
    )
