"""What can go wrong with words."""

from __future__ import annotations

from nnlib.backend.errors import Error

__all__ = ["UnknownWordError"]


class UnknownWordError(Error, KeyError):
    """A word was asked for that a vocabulary or a set of vectors does not hold."""

    def __str__(self) -> str:
        # KeyError would show the message's repr
        return str(self.args[0]) if self.args else ""
