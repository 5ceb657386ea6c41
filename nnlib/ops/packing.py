"""Padded batches of sequences to packed ones and back: each is the other's derivative.

A packed batch holds the rows of all sequences that are not padding, step after step
(`nnlib.kernels.recurrent`), the sequences from the longest to the shortest.
"""

from __future__ import annotations

from typing import Any

from nnlib.autograd.function import Function
from nnlib.backend.device import array_module

__all__: list[str] = []


class Pack(Function):
    """(T, batch, *) to (total, *); `order` sorts the sequences, None if they are."""

    upcasts = False

    def forward(self, x: Any, *, steps: Any, order: Any) -> Any:
        """Return the rows that belong to a sequence."""
        self.steps, self.order, self.length = steps, order, x.shape[0]
        module = array_module(x)
        out = module.empty((steps.total, *x.shape[2:]), dtype=x.dtype)
        if order is not None:
            order = module.asarray(order)
        for t, begin, end in steps.order(False):
            count = end - begin
            chosen = slice(count) if order is None else order[:count]
            out[begin:end] = x[t][chosen]
        return out

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
        shape = (length, steps.batch, *x.shape[1:])
        dense = steps.dense and length == steps.offsets.size - 1
        out = module.empty(shape, dtype=x.dtype)
        if not dense:
            out[...] = value
        if order is not None:
            order = module.asarray(order)
        for t, begin, end in steps.order(False):
            count = end - begin
            chosen = slice(count) if order is None else order[:count]
            out[t][chosen] = x[begin:end]
        return out

    def backward(self, grad: Any) -> Any:
        """Take the gradients of the rows."""
        return Pack.apply(grad, steps=self.steps, order=self.order)
