"""Functions that run on the CUDA device of their tensors.

Operations do so at the door (`nnlib.autograd.function`); what computes on arrays itself
is marked.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar, cast

from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import ARRAYS, away

__all__ = ["away_from_tensors", "on_its_device"]

F = TypeVar("F", bound=Callable[..., Any])


def away_from_tensors(args: Any, kwargs: Any) -> AbstractContextManager[Any] | None:
    """Return a context in which the first tensor's device is the current one.

    None if it is already.
    """
    if len(ARRAYS) > 1:
        for x in (*args, *kwargs.values()):
            # Not that of a row-sparse gradient, which asking would make dense.
            if isinstance(x, Tensor) and "_array" in x.__dict__:
                return away(x._array)
    return None


def on_its_device(function: F) -> F:
    """Have a function run where the first of its tensors lies."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        there = away_from_tensors(args, kwargs)
        if there is None:
            return function(*args, **kwargs)
        with there:
            return function(*args, **kwargs)

    return cast(F, run)
