"""Padding: constant, reflected, replicated and circular."""

from __future__ import annotations

import functools
import operator
from typing import Any

from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module, context_of
from nnlib.backend.errors import ArgumentError, DTypeError, ShapeError
from nnlib.ops.dims import constant, number_as, raw
from nnlib.ops.gathering import IndexSelect

__all__ = ["pad"]

_MODES = ("constant", "reflect", "replicate", "circular")


class PadConstant(Function):
    """Put a border of one value round the elements, or cut a border off."""

    upcasts = False

    def forward(self, x: Any, *, widths: Any, value: float) -> Any:
        """Return the padded copy."""
        self.widths = widths
        shape, inner, outer = _regions(x.shape, widths)
        module = array_module(x)
        if value:
            out = module.full(shape, number_as("pad", "value", value, x.dtype), x.dtype)
        else:
            out = module.zeros(shape, x.dtype)
        out[outer] = x[inner]
        return out

    def backward(self, grad: Any) -> Any:
        """Cut the border off the gradient (and put zeros where one was cut off)."""
        back = tuple((-before, -after) for before, after in self.widths)
        return PadConstant.apply(grad, widths=back, value=0.0)


@functools.lru_cache(maxsize=256)
def _regions(old: tuple[int, ...], widths: Any) -> tuple[Any, Any, Any]:
    """Return the padded shape, the part that is kept, and where it comes."""
    shape, inner, outer = [], [], []
    for length, (before, after) in zip(old, widths, strict=True):
        shape.append(length + before + after)
        inner.append(slice(max(-before, 0), length - max(-after, 0)))
        outer.append(slice(max(before, 0), length + before + min(after, 0)))
    return tuple(shape), tuple(inner), tuple(outer)


def _source(mode: str, module: Any, length: int, before: int, after: int) -> Any:
    """Return which entry of a dimension each entry of the padded one copies."""
    places = module.arange(-before, length + after)
    if mode == "replicate":
        return places.clip(0, max(length - 1, 0))
    if mode == "circular":
        # What is cut off is gone before the rest is continued.
        first, kept = max(-before, 0), length + min(before, 0) + min(after, 0)
        return first + (places - first) % max(kept, 1)
    # Mirrored at the first and the last entry, which are not doubled.
    places = abs(places)
    return module.where(places >= length, 2 * (length - 1) - places, places)


@functools.lru_cache(maxsize=256)
def _widths(
    pad: tuple[int, ...], shape: tuple[int, ...], mode: str
) -> tuple[tuple[int, int], ...]:
    """Return the checked widths before and after each dimension, from the first."""
    widths = _read_widths(pad, len(shape))
    _check_widths(mode, shape, widths)
    return tuple(widths)


def _read_widths(given: tuple[int, ...], ndim: int) -> list[tuple[int, int]]:
    if len(given) % 2 or len(given) > 2 * ndim:
        raise ShapeError(
            f"pad: expected a pair of widths for at most {ndim} dimensions, last "
            f"dimension first, got {given}"
        )
    pairs = list(zip(given[::2], given[1::2], strict=True))
    return [(0, 0)] * (ndim - len(pairs)) + pairs[::-1]


def _check_widths(
    mode: str, shape: tuple[int, ...], widths: list[tuple[int, int]]
) -> None:
    for dim, (before, after) in enumerate(widths):
        length = shape[dim]
        if length + min(before, 0) + min(after, 0) < 0:
            raise ShapeError(
                f"pad: widths {before} and {after} cut more than the length {length} "
                f"of dimension {dim}"
            )
        limit = {"reflect": length - 1, "circular": length}.get(mode)
        if limit is not None and max(before, after, 0) > max(limit, 0):
            raise ShapeError(
                f"pad: mode {mode} copies at most {max(limit, 0)} entries of dimension "
                f"{dim} of length {length}, got widths {before} and {after}"
            )
        if mode == "replicate" and not length and max(before, after) > 0:
            raise ShapeError(f"pad: dimension {dim} is empty: nothing to replicate")


@public(method=False)
def pad(
    input: Any, pad: Any, mode: str = "constant", value: float | None = None
) -> Tensor:
    """Put a border round the elements.

    Parameters
    ----------
    input : Tensor, shape (..., D2, D1)
    pad : sequence of int
        Widths before and after the last dimension, then the last but one, ...;
        negative ones cut off (which mode "circular" does before it continues).
    mode : {"constant", "reflect", "replicate", "circular"}
        A constant; the elements mirrored at the edge; the edge itself; the elements
        of the other end.
    value : float, default 0
        The constant.

    Raises
    ------
    ShapeError
        If there are too many widths, or one is too large for the mode.
    ArgumentError
        If the mode is unknown, or takes no `value`.
    DTypeError
        If a width is no int.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.nn.functional.pad(nnlib.tensor([1, 2, 3]), (1, 0))
    tensor([0, 1, 2, 3])
    """
    if mode not in _MODES:
        raise ArgumentError(f"pad: mode: expected one of {_MODES}, got {mode!r}")
    try:
        given = tuple(map(operator.index, pad))
    except TypeError:
        raise DTypeError(f"pad: pad: expected a tuple of ints, got {pad!r}") from None
    if not hasattr(input, "shape"):
        raise DTypeError(f"pad: input: expected a Tensor, got {type(input).__name__}")
    widths = _widths(given, raw(input).shape, mode)
    if mode == "constant":
        return PadConstant.apply(  # type: ignore[no-any-return]
            input, widths=widths, value=value or 0.0
        )
    if value:
        raise ArgumentError(f"pad: value: not used by the mode {mode!r}, got {value}")
    out = input
    module = array_module(raw(input))
    for dim, (before, after) in enumerate(widths):
        if before or after:
            with context_of(raw(input)):
                places = _source(mode, module, input.shape[dim], before, after)
            out = IndexSelect.apply(out, constant(places, input), dim=dim)
    if out is input:
        from nnlib.ops.casting import clone

        return clone(input)
    return out  # type: ignore[no-any-return]
