"""The exceptions of nnlib: each is also the built-in class that fits it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = [
    "ArgumentError",
    "BoundsError",
    "DTypeError",
    "DeviceError",
    "Error",
    "LinAlgError",
    "ShapeError",
    "not_a_tensor",
]


class Error(RuntimeError):
    """Base of every error that nnlib raises on purpose.

    A RuntimeError, as most of PyTorch's errors are; each is also the class named below.
    """


class ShapeError(Error, ValueError):
    """A shape, size or dimension does not fit."""


class ArgumentError(Error, ValueError):
    """A value (a label, a probability, an option) is none that is allowed there."""


class BoundsError(Error, IndexError):
    """An index or a dimension is out of range."""


class DTypeError(Error, TypeError):
    """A dtype or argument type does not fit."""


class LinAlgError(Error):
    """A matrix is singular, or a factorisation does not exist or converge."""


class DeviceError(Error):
    """A device is unknown or absent, or tensors live on different devices."""


def not_a_tensor(
    op: str, error: AttributeError, arguments: Mapping[str, Any]
) -> DTypeError | None:
    """Return what to raise where `error` came of an argument that is no tensor.

    Nobody asks before whether an argument is one: a list or None has not the attributes
    of a tensor, and then this tells which argument it was.
    """
    for name, value in arguments.items():
        if value is error.obj and not hasattr(value, "dtype"):
            kind = type(value).__name__
            return DTypeError(f"{op}: {name}: expected a Tensor, got {kind}")
    return None
