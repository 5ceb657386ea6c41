"""Random numbers drawn ahead: small draws are cut from a stretch drawn at once.

A number belongs to its position in the stream and to nothing else, so it may be drawn
before it is asked for. To enter a kernel takes longer than to copy a few numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["FEW", "Ahead"]

# Draws of up to so many numbers on the CPU come from a stretch of so many.
FEW = 64
_STRETCH = 1024


class Ahead:
    """The last stretch of one kind of numbers.

    Parameters
    ----------
    draw : callable
        ``draw(out, seed, offset, *settings)`` fills the NumPy array `out` with the
        numbers from position `offset` on, and returns it.
    """

    def __init__(self, draw: Callable[..., Any]) -> None:
        self.draw = draw
        # In one tuple: threads see a whole one.
        self.last: tuple[Any, int, Any] = (None, 0, None)

    def take(
        self, shape: Any, count: int, kind: Any, seed: int, offset: int, *settings: Any
    ) -> Any:
        """Return an array of `shape` with `count` numbers, at most `FEW`.

        Parameters
        ----------
        shape : tuple of int
        count : int
            The number of its elements.
        kind : numpy.dtype
        seed, offset : int
        *settings
            What else the numbers depend on.
        """
        key = (seed, kind, settings)
        known, start, numbers = self.last
        first = offset - start
        if known != key or not 0 <= first <= _STRETCH - count:
            first = 0
            numbers = self.draw(np.empty(_STRETCH, kind), seed, offset, *settings)
            self.last = (key, offset, numbers)
        return numbers[first : first + count].reshape(shape).copy()
