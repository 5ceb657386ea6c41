"""Samples from distributions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnlib.autograd.places import on_its_device
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module, device_of
from nnlib.backend.dtypes import (
    FLOATING,
    float32,
    float64,
    get_default_dtype,
    resolve_dtype,
)
from nnlib.backend.errors import ArgumentError, DTypeError, Error, ShapeError
from nnlib.backend.random import Generator
from nnlib.ops.creation import finish, shape_of
from nnlib.ops.random_tensors import draw_normal, draw_uniform

__all__ = ["bernoulli", "multinomial", "normal"]


@public(method=False, reads=True)
@on_its_device
def normal(
    mean: Any = 0.0,
    std: Any = 1.0,
    size: Any = None,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return normal numbers with a mean and a standard deviation each.

    Parameters
    ----------
    mean, std : number or Tensor, shapes that broadcast
    size : int or sequence of int, optional
        The shape where both are numbers.
    generator : Generator, optional
    dtype, device, requires_grad
        As for `zeros`; only where both are numbers.

    Raises
    ------
    ShapeError
        If both are numbers and `size` is missing.
    Error
        If `std` is negative.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.normal(nnlib.tensor([1.0, 2.0]), 0.0)
    tensor([1., 2.])
    """
    given = [x for x in (mean, std) if isinstance(x, Tensor)]
    if not isinstance(std, Tensor) and std < 0:
        raise ArgumentError(f"normal: std: expected a number of at least 0, got {std}")
    if not given:
        if size is None:
            raise ShapeError("normal: size: needed where mean and std are numbers")
        kind = get_default_dtype() if dtype is None else resolve_dtype(dtype)
        shape = shape_of("normal", (size,))
        made = draw_normal("normal", shape, kind, device, generator, mean, std)
        return finish(made, requires_grad)
    means, stds = (x._array if isinstance(x, Tensor) else x for x in (mean, std))
    try:
        shape = np.broadcast_shapes(np.shape(means), np.shape(stds))
    except ValueError:
        raise ShapeError(
            f"normal: shapes {np.shape(means)} and {np.shape(stds)} do not broadcast"
        ) from None
    first = given[0]._array
    kind = first.dtype if first.dtype in FLOATING else get_default_dtype()
    drawn = draw_normal("normal", shape, kind, device_of(first), generator, 0.0, 1.0)
    return Tensor._from_array((drawn * stds + means).astype(kind, copy=False))


def events(op: str, p: Any, generator: Any) -> Any:
    """Return an array of bools, each true with its own probability."""
    # Comparisons are false for NaN too, which both searches find first.
    if type(p) is np.ndarray and p.size:
        good = p.item(p.argmin()) >= 0 and p.item(p.argmax()) <= 1
    else:
        good = bool(((p >= 0) & (p <= 1)).all())
    if not good:
        raise ArgumentError(f"{op}: expected probabilities from 0 to 1")
    kind = float64 if p.dtype is float64 else float32
    place = device_of(p)
    events = draw_uniform(op, p.shape, kind, place, generator, 0.0, 1.0) < p
    # Of arrays without dimensions NumPy makes a number.
    return events if events.shape else array_module(p).asarray(events)


@public(reads=True)
@on_its_device
def bernoulli(
    input: Tensor, p: float | None = None, *, generator: Generator | None = None
) -> Tensor:
    """Return 1 with the probability that each element says, else 0.

    Parameters
    ----------
    input : Tensor, floating
        Probabilities; only shape, dtype and device count if `p` is given.
    p : float, optional
        One probability for all.
    generator : Generator, optional

    Raises
    ------
    Error
        If a probability is not from 0 to 1.
    DTypeError
        If `input` is not floating.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.bernoulli(nnlib.tensor([0.0, 1.0]))
    tensor([0., 1.])
    """
    array = input._array
    if p is None:
        if array.dtype not in FLOATING:
            raise DTypeError(f"bernoulli: expected floats, got {array.dtype}")
        chances = array
    else:
        chances = array_module(array).full(array.shape, p, float64)
    drawn = events("bernoulli", chances, generator)
    return Tensor._from_array(drawn.astype(array.dtype))


@public(reads=True)
def multinomial(
    input: Tensor,
    num_samples: int,
    replacement: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Return indices drawn with the probabilities of each row.

    Parameters
    ----------
    input : Tensor, shape (C,) or (N, C), floating
        Weights of at least 0; they need not sum to 1.
    num_samples : int
        How many indices to draw from each row.
    replacement : bool, default False
        Whether an index can come more than once.
    generator : Generator, optional

    Returns
    -------
    Tensor of int64, shape (num_samples,) or (N, num_samples)

    Raises
    ------
    Error
        If a weight is negative or not finite, or a row has too few positive ones.
    ShapeError
        If `input` has no dimension or more than two.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.multinomial(nnlib.tensor([0.0, 3.0]), 2, replacement=True)
    tensor([1, 1])
    """
    array = input._array
    if array.dtype not in FLOATING:
        raise DTypeError(f"multinomial: input: expected floats, got {array.dtype}")
    if array.ndim not in (1, 2) or num_samples < 1:
        raise ShapeError(
            "multinomial: expected weights of shape (C,) or (N, C) and at least one "
            f"sample, got shape {tuple(array.shape)} and {num_samples}"
        )
    weights = array.reshape(-1, array.shape[-1]).astype(float64)
    module = array_module(weights)
    if not bool(((weights >= 0) & (weights < math.inf)).all()):
        raise ArgumentError("multinomial: expected finite weights of at least 0")
    needed = 1 if replacement else num_samples
    if bool(((weights > 0).sum(axis=1) < needed).any()):
        raise Error(
            f"multinomial: a row has fewer than {needed} positive weights to draw from"
        )
    if replacement:
        found = _with_replacement(module, weights, num_samples, generator)
    else:
        # An exponential number over its weight is smallest with that weight's
        # probability (the race of Efraimidis and Spirakis 2006).
        unit = _unit(weights.shape, weights, generator)
        with np.errstate(divide="ignore"):
            finish_times = -module.log1p(-unit) / weights
        found = module.argsort(finish_times, axis=1, kind="stable")[:, :num_samples]
    return Tensor._from_array(found.reshape(*array.shape[:-1], num_samples))


def _unit(shape: Any, like: Any, generator: Any) -> Any:
    place = device_of(like)
    return draw_uniform("multinomial", shape, float64, place, generator, 0.0, 1.0)


def _with_replacement(module: Any, weights: Any, count: int, generator: Any) -> Any:
    """Draw by the inverse of the cumulative sums, all rows in one search."""
    rows, categories = weights.shape
    sums = module.cumsum(weights, axis=1)
    sums /= sums[:, -1:]
    row = module.arange(rows, dtype=float64)[:, None]
    draws = _unit((rows, count), weights, generator) + row
    found = module.searchsorted((sums + row).ravel(), draws.ravel(), side="right")
    found = found.reshape(rows, count) - row.astype(np.int64) * categories
    # Rounding must not lead past the last category that has a weight.
    last = categories - 1 - module.argmax(weights[:, ::-1] > 0, axis=1)
    return module.minimum(found, last[:, None]).astype(np.int64, copy=False)
