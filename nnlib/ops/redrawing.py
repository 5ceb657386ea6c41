"""Further random numbers in place: geometric, Cauchy, log-normal."""

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
from nnlib.ops.random_tensors import draw_normal, draw_uniform

__all__: list[str] = []


def _kind(array: Any) -> Any:
    return float64 if array.dtype == float64 else float32


def _uniform(op: str, input: Tensor, generator: Generator | None) -> Any:
    """Return numbers of (0, 1), without both ends."""
    array = input._array
    kind = _kind(array)
    drawn = draw_uniform(op, array.shape, kind, device_of(array), generator, 0.0, 1.0)
    return array_module(array).maximum(drawn, np.finfo(kind).eps / 2)


def _write(op: str, input: Tensor, drawn: Any) -> Tensor:
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
    return _write("geometric_", input, module.ceil(module.log(unit) / math.log1p(-p)))


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
    return _write("cauchy_", input, median + sigma * tangent)


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
    return _write("log_normal_", input, array_module(drawn).exp(drawn))
