"""How large a result may be that a few numbers of a file ask for."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from nnlib.onnx.errors import OnnxError

__all__ = ["TooLarge", "check", "folding"]

# Elements. While loading, larger results are left to the first call.
_MOST = 2**31
_MOST_FOLDED = 2**22


class TooLarge(OnnxError):
    """A result is too large to be made."""


class _Limit(threading.local):
    most = _MOST


_limit = _Limit()


@contextmanager
def folding() -> Iterator[None]:
    """Context in which constants are computed: only small ones."""
    _limit.most = _MOST_FOLDED
    try:
        yield
    finally:
        _limit.most = _MOST


def check(op: str, shape: Iterable[int]) -> None:
    """Refuse to make an array of `shape` if it is too large.

    Examples
    --------
    >>> check("Expand", (2, 3))
    """
    sizes = tuple(map(int, shape))
    if math.prod(sizes) > _limit.most:
        raise TooLarge(f"{op}: a result of shape {sizes} is too large")
