"""The table of operators: (domain, type, version) to the function that builds one.

A builder is called once per node while a model is loaded. It reads the attributes,
refuses what it does not support, and returns what runs at each call: a function of the
inputs (Tensors; None where one is left out) that returns the output, or a tuple of
outputs. Builders stand in the files ``ops_*.py``, one per family::

    @operator("LeakyRelu", 6, 16)
    def leaky_relu(node):
        slope = node.float("alpha", 0.01)
        return lambda x: F.leaky_relu(x, slope)
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

from nnlib.onnx.node import Node

__all__ = ["Entry", "find", "operator", "simple", "supported"]

Run = Callable[..., Any]
Builder = Callable[[Node], Run]

_FAMILIES = (
    "arithmetic",
    "activation",
    "reduction",
    "shape",
    "indexing",
    "convolution",
    "pooling",
    "normalization",
    "resize",
    "grid",
    "recurrent",
    "control",
    "attention",
    "random",
    "loss",
)
_TABLE: dict[tuple[str, str], list[tuple[int, Entry]]] = {}
_loaded = False


class Entry(NamedTuple):
    """How an operator is built and called.

    Attributes
    ----------
    build : callable
    host : tuple of int
        Positions of inputs that are handed over as NumPy arrays: shapes, axes, ...
    state : tuple of int
        Positions of inputs that are no parameters even if they are floating
        initialisers (running statistics).
    raw : bool
        Whether all inputs are handed over as they are, arrays or Tensors.
    pure : bool
        Whether equal inputs give equal outputs: then a node whose inputs are constants
        is computed while loading.
    """

    build: Builder
    host: tuple[int, ...] = ()
    state: tuple[int, ...] = ()
    raw: bool = False
    pure: bool = True


def operator(
    op: str,
    *versions: int,
    host: tuple[int, ...] = (),
    state: tuple[int, ...] = (),
    raw: bool = False,
    pure: bool = True,
    domain: str = "",
) -> Callable[[Builder], Builder]:
    """Enter a builder for an operator, in each of the versions that changed it."""

    def enter(build: Builder) -> Builder:
        entry = Entry(build, host, state, raw, pure)
        known = _TABLE.setdefault((domain, op), [])
        known.extend((version, entry) for version in versions)
        known.sort(key=lambda pair: pair[0])
        return build

    return enter


def simple(op: str, versions: tuple[int, ...], run: Run, **options: Any) -> None:
    """Enter an operator without attributes."""
    operator(op, *versions, **options)(lambda node: run)


def _load() -> None:
    global _loaded
    if not _loaded:
        for family in _FAMILIES:
            importlib.import_module(f"nnlib.onnx.ops_{family}")
        _loaded = True


def find(domain: str, op: str, version: int) -> tuple[int, Entry] | None:
    """Return the entry of an operator as of an opset, and its version; or None.

    Examples
    --------
    >>> find("", "Relu", 13)[0]
    13
    >>> find("", "Relu", 21)[0]
    14
    """
    _load()
    best = None
    for since, entry in _TABLE.get((domain, op), ()):
        if since <= version:
            best = (since, entry)
    return best


def supported() -> dict[tuple[str, str], list[int]]:
    """Return the versions of every operator in the table."""
    _load()
    return {key: [since for since, _ in known] for key, known in _TABLE.items()}
