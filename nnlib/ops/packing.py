"""Padded batches of sequences to packed ones and back: each is the other's derivative.

A packed batch holds the rows of all sequences that are not padding, step after step
(`nnlib.kernels.recurrent`), the sequences from the longest to the shortest.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.autograd.function import Function
from nnlib.backend.device import array_module

__all__: list[str] = []


class Pack(Function):
    """(T, batch, *) to (total, *); `order` sorts the sequences, None if they are."""

    upcasts = False

    def forward(self, x: Any, *, steps: Any, order: Any) -> Any:
        """Return the rows that belong to a sequence."""
        self.steps, self.order, self.length = steps, order, x.shape[0]
        turned = x.swapaxes(0, 1)
        first = turned.flags.c_contiguous and not x.flags.c_contiguous
        index = rows_of(steps, order, x.shape[0], first)
        flat = (turned if first else x).reshape(-1, *x.shape[2:])
        return flat[array_module(x).asarray(index)]

    def backward(self, grad: Any) -> Any:
        """Put the gradients back among zeros."""
        return Unpack.apply(
            grad, steps=self.steps, order=self.order, length=self.length, value=0.0
        )


class Unpack(Function):
    """(total, *) to (length, batch, *), with `value` beyond a sequence's end."""

    upcasts = False

    def forward(
        self, x: Any, *, steps: Any, order: Any, length: int, value: float
    ) -> Any:
        """Return the padded batch."""
        self.steps, self.order = steps, order
        module = array_module(x)
        shape = (length * steps.batch, *x.shape[1:])
        dense = steps.dense and length == steps.offsets.size - 1
        if dense:
            out = module.empty(shape, dtype=x.dtype)
        else:
            out = module.full(shape, value, dtype=x.dtype)
        out[module.asarray(rows_of(steps, order, length, False))] = x
        return out.reshape(length, steps.batch, *x.shape[1:])

    def backward(self, grad: Any) -> Any:
        """Take the gradients of the rows."""
        return Pack.apply(grad, steps=self.steps, order=self.order)


def rows_of(steps: Any, order: Any, length: int, first: bool) -> Any:
    """Return where in a padded batch the rows of a packed one lie, as one number each.

    The number counts the rows of (length, batch), or of (batch, length) if the batch is
    `first`.
    """
    offsets = steps.offsets
    t = np.repeat(np.arange(offsets.size - 1), np.diff(offsets))
    b = np.arange(steps.total) - offsets[t]
    if order is not None:
        b = order[b]
    return b * length + t if first else t * steps.batch + b
