"""The exceptions of nnlib: each is also the built-in class that fits it."""

from __future__ import annotations

__all__ = [
    "ArgumentError",
    "BoundsError",
    "DTypeError",
    "DeviceError",
    "Error",
    "LinAlgError",
    "ShapeError",
]


class Error(Exception):
    """Base of every error that nnlib raises on purpose."""


class ShapeError(Error, ValueError):
    """A shape, size or dimension does not fit."""


class ArgumentError(Error, ValueError):
    """A value (a label, a probability, an option) is none that is allowed there."""


class BoundsError(Error, IndexError):
    """An index or a dimension is out of range."""


class DTypeError(Error, TypeError):
    """A dtype or argument type does not fit."""


class LinAlgError(Error, RuntimeError):
    """A matrix is singular, or a factorisation does not exist or converge."""


class DeviceError(Error, RuntimeError):
    """A device is unknown or absent, or tensors live on different devices."""
