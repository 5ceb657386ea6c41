"""Derivatives that end: a fused backward without a derivative of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nnlib.autograd.function import Function, next_sequence
from nnlib.autograd.halves import widen
from nnlib.autograd.mode import no_grad, state
from nnlib.autograd.saved import edge_of
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import Error

__all__ = ["once_differentiable"]

Backward = Callable[..., Any]


def once_differentiable(alternative: str | Backward) -> Any:
    """Mark a ``backward`` that has no derivative of its own.

    A recorded pass may go through it; the error comes where a second derivative is
    asked for, and names the alternative.

    Parameters
    ----------
    alternative : str
        What to call instead for a second derivative. PyTorch's form, the bare
        decorator, works too.

    Examples
    --------
    >>> from nnlib.autograd import Function
    >>> class Fused(Function):
    ...     def forward(self, x):
    ...         return x * 2
    ...     @once_differentiable("x + x")
    ...     def backward(self, grad):
    ...         return grad * 2
    """
    if callable(alternative):
        return _checked(alternative, "a composition of other operations")

    def mark(backward: Backward) -> Backward:
        return _checked(backward, alternative)

    return mark


def _checked(backward: Backward, alternative: str) -> Backward:
    def checked(self: Function, *grads: Any) -> Any:
        if not state.modes.derived:
            return backward(self, *grads)
        return _run_once(self, backward, grads, alternative)

    return checked


class NoSecondDerivative(Function):
    """Stands in the graph where a derivative ends."""

    operation = alternative = ""

    def backward(self, *grads: Any) -> Any:
        """Say what to call instead."""
        raise Error(
            f"{self.operation}: this fused operation has no second derivative; use "
            f"{self.alternative} instead"
        )


def _run_once(node: Function, backward: Backward, grads: Any, alternative: str) -> Any:
    """Run a backward without recording it; let its results depend on its inputs."""
    arrays = [x._array if isinstance(x, Tensor) else x for x in grads]
    if node.half:
        arrays = [widen(x) for x in arrays]
    given = arrays
    if node._sees_tensors:
        given = [x if x is None else Tensor._from_array(x) for x in arrays]
    modes = state.modes
    modes.derived = False
    try:
        with no_grad():
            results = backward(node, *given)
    finally:
        modes.derived = True
    end = NoSecondDerivative()
    end.operation, end.alternative = node.name(), alternative
    end.sequence = next_sequence()
    end.edges = list(node.edges or ())
    end.edges += [
        edge_of(x) for x in grads if isinstance(x, Tensor) and x._requires_grad
    ]
    several = isinstance(results, tuple | list)
    made = tuple(
        _tie(end, x, index)
        for index, x in enumerate(results if several else (results,))
    )
    end.meta = [None if x is None else (x._array.shape, x._array.dtype) for x in made]
    return made if several else made[0]


def _tie(end: Function, value: Any, index: int) -> Tensor | None:
    if value is None:
        return None
    array = value._array if isinstance(value, Tensor) else value
    result = Tensor._from_array(
        np.asarray(array) if isinstance(array, np.generic) else array
    )
    result._grad_fn, result._index, result._requires_grad = end, index, True
    return result
