"""Random numbers drawn into a tensor's own memory, in place."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnlib.autograd.inplace import run_direct
from nnlib.autograd.places import on_its_device
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module, device_of
from nnlib.backend.dtypes import FLOATING, float32, float64
from nnlib.backend.errors import ArgumentError, DTypeError
from nnlib.backend.random import Generator
from nnlib.ops.filling import Overwrite
from nnlib.ops.random_tensors import draw_integers, draw_normal, draw_uniform
from nnlib.ops.sampling import events

__all__: list[str] = []


def _kind(array: Any) -> Any:
    return float64 if array.dtype == float64 else float32


def _uniform(op: str, input: Tensor, generator: Generator | None) -> Any:
    """Return numbers of (0, 1), without both ends."""
    array = input._array
    kind = _kind(array)
    drawn = draw_uniform(op, array.shape, kind, device_of(array), generator, 0.0, 1.0)
    return array_module(array).maximum(drawn, np.finfo(kind).eps / 2)


def _redraw(op: str, input: Tensor, drawn: Any) -> Tensor:
    return run_direct(op, Overwrite, input, drawn.astype(input.dtype, copy=False))


def _check_number(op: str, argument: str, value: Any, most: float) -> None:
    """Raise unless `value` is a number above 0 and below `most`."""
    try:
        fits = 0 < value < most
    except TypeError:
        raise DTypeError(
            f"{op}: {argument}: expected a number, got {value!r}"
        ) from None
    if not fits:
        told = "a positive number" if most == math.inf else f"between 0 and {most}"
        raise ArgumentError(f"{op}: {argument}: expected {told}, got {value}")


def _check_floating(op: str, input: Tensor) -> None:
    if input.dtype not in FLOATING:
        raise DTypeError(f"{op}: expected a floating dtype, got {input.dtype}")


@public(direct=True)
@on_its_device
def uniform_(
    input: Tensor,
    from_: float = 0.0,
    to: float = 1.0,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Fill with numbers drawn uniformly from ``[from_, to)``, in place.

    Examples
    --------
    >>> import nnlib
    >>> bool((nnlib.empty(3).uniform_(2, 3) >= 2).all())
    True
    """
    if to < from_:
        raise ArgumentError(f"uniform_: the range from {from_} to {to} is empty")
    shape, dtype, place = input._array.shape, input.dtype, device_of(input._array)
    drawn = draw_uniform("uniform_", shape, dtype, place, generator, from_, to)
    return _redraw("uniform_", input, drawn)


@public(direct=True)
@on_its_device
def normal_(
    input: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Fill with normal numbers, in place."""
    if std < 0:
        raise ArgumentError(f"normal_: std: expected a number of at least 0, got {std}")
    shape, dtype, place = input._array.shape, input.dtype, device_of(input._array)
    drawn = draw_normal("normal_", shape, dtype, place, generator, mean, std)
    return _redraw("normal_", input, drawn)


@public()
@on_its_device
def random_(
    input: Tensor,
    from_: int = 0,
    to: int | None = None,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Fill with integers drawn uniformly from ``[from_, to)``, in place.

    With one number the range starts at zero; with none it is all that the dtype can
    count without a gap.
    """
    dtype = input.dtype
    if to is None:
        from_, to = 0, from_
    if not to:
        digits = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53, "bool": 1}
        bits = digits.get(dtype.name) or dtype.itemsize * 8 - (dtype.kind == "i")
        to = 1 << bits
    shape, place = input._array.shape, device_of(input._array)
    drawn = draw_integers("random_", shape, dtype, place, generator, from_, to)
    return _redraw("random_", input, drawn)


@public()
@on_its_device
def bernoulli_(
    input: Tensor, p: Any = 0.5, *, generator: Generator | None = None
) -> Tensor:
    """Fill with 1 (probability `p`, a number or Tensor) or 0, in place."""
    array = input._array
    module = array_module(array)
    if isinstance(p, Tensor):
        chances = module.broadcast_to(p._array, array.shape)
    else:
        chances = module.full(array.shape, p, float64)
    return _redraw("bernoulli_", input, events("bernoulli_", chances, generator))


@public()
@on_its_device
def exponential_(
    input: Tensor, lambd: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Fill with exponential numbers of the rate `lambd`, all above 0, in place."""
    _check_number("exponential_", "lambd", lambd, math.inf)
    unit = _uniform("exponential_", input, generator)
    # Where the uniform number is 0: an exponential number has a logarithm.
    drawn = -array_module(unit).log1p(-unit)
    return _redraw("exponential_", input, drawn / lambd)


@public()
@on_its_device
def geometric_(
    input: Tensor, p: float, *, generator: Generator | None = None
) -> Tensor:
    """Fill with the number of trials until one of probability `p` succeeds, in place.

    Examples
    --------
    >>> import nnlib
    >>> bool((nnlib.empty(5).geometric_(0.5) >= 1).all())
    True
    """
    _check_number("geometric_", "p", p, 1)
    unit = _uniform("geometric_", input, generator)
    module = array_module(unit)
    return _redraw("geometric_", input, module.ceil(module.log(unit) / math.log1p(-p)))


@public()
@on_its_device
def cauchy_(
    input: Tensor,
    median: float = 0.0,
    sigma: float = 1.0,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Fill with Cauchy numbers ``median + sigma tan(pi (u - 1/2))``, in place.

    Examples
    --------
    >>> import nnlib
    >>> tuple(nnlib.empty(2, 3).cauchy_().shape)
    (2, 3)
    """
    _check_floating("cauchy_", input)
    _check_number("cauchy_", "sigma", sigma, math.inf)
    unit = _uniform("cauchy_", input, generator)
    tangent = array_module(unit).tan(math.pi * (unit - 0.5))
    return _redraw("cauchy_", input, median + sigma * tangent)


@public()
@on_its_device
def log_normal_(
    input: Tensor,
    mean: float = 1.0,
    std: float = 2.0,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Fill with numbers whose logarithm is normal with this mean and std, in place.

    Examples
    --------
    >>> import nnlib
    >>> bool((nnlib.empty(5).log_normal_() > 0).all())
    True
    """
    _check_floating("log_normal_", input)
    _check_number("log_normal_", "std", std, math.inf)
    array = input._array
    place, kind = device_of(array), _kind(array)
    drawn = draw_normal("log_normal_", array.shape, kind, place, generator, mean, std)
    return _redraw("log_normal_", input, array_module(drawn).exp(drawn))
