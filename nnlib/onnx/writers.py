"""How each operation of nnlib is said in ONNX: the table that an export looks up.

A writer is given the graph under way and the operation's record, adds nodes, and
returns the name of the output (a list, if there are several). Writers stand in the
files ``write_*.py``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from nnlib.autograd.function import Function
from nnlib.onnx.tracing import Record
from nnlib.onnx.writing import Writer

__all__ = ["named", "writer_of", "writes"]

Write = Callable[[Writer, Record], Any]

_FAMILIES = (
    "elementwise",
    "activation",
    "layout",
    "layers",
    "reduction",
    "sequence",
    "windows",
)
_TABLE: dict[type[Function], Write] = {}
_loaded = False


def writes(*classes: type[Function]) -> Callable[[Write], Write]:
    """Enter a writer for some operations."""

    def enter(write: Write) -> Write:
        for cls in classes:
            _TABLE[cls] = write
        return write

    return enter


def named(op: str, *classes: type[Function]) -> None:
    """Enter operations that are one node with the same inputs, and no attributes."""

    def write(g: Writer, record: Record) -> str:
        dtype = dtype_at(record)
        return g.add(op, [g.value(n, dtype) for n in range(len(record.args))])

    writes(*classes)(write)


def dtype_at(record: Record) -> Any:
    """Return the dtype of the first tensor among the arguments."""
    return next(x.dtype for x in record.args if hasattr(x, "dtype"))


def writer_of(cls: type[Function]) -> Write | None:
    """Return the writer of an operation, or None."""
    global _loaded
    if not _loaded:
        for family in _FAMILIES:
            importlib.import_module(f"nnlib.onnx.write_{family}")
        _loaded = True
    return _TABLE.get(cls)
