"""New tensors of random numbers.

Element i of a call is the number at position ``offset + i`` of the generator's Philox
stream, so the numbers are equal on every device and for every number of threads. Each
call takes as many positions as it has elements.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnlib import kernels
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import (
    CPU,
    device_context,
    device_of,
    module_of,
    resolve_device,
)
from nnlib.backend.dtypes import (
    FLOATING,
    bfloat16,
    float16,
    float32,
    float64,
    get_default_dtype,
    int64,
    resolve_dtype,
)
from nnlib.backend.errors import DTypeError, ShapeError
from nnlib.backend.layouts import arrange_like, preserve_format
from nnlib.backend.random import Generator, default_generator
from nnlib.ops.creation import finish, shape_of
from nnlib.ops.look_ahead import FEW, Ahead

__all__ = [
    "rand",
    "rand_like",
    "randint",
    "randint_like",
    "randn",
    "randn_like",
    "randperm",
]

# Random bits of a uniform number: no more than fit, or rounding would give 1 itself.
_BITS = {float16: 11, bfloat16: 8}

_UINT64 = np.dtype(np.uint64)
_uniforms = Ahead(lambda *args: kernels.philox.uniform(*args))
_normals = Ahead(lambda *args: kernels.normal.normal(*args))
_integers = Ahead(lambda *args: kernels.philox.randint(*args))
_bits = Ahead(lambda *args: kernels.philox.random_bits(*args))


def reserve(op: str, generator: Any, count: int) -> tuple[int, int]:
    """Take `count` positions of a generator (default: the global one)."""
    if generator is None:
        generator = default_generator
    if not isinstance(generator, Generator):
        raise DTypeError(
            f"{op}: generator: expected a Generator, got {type(generator).__name__}"
        )
    return generator.reserve(count)


def draw_uniform(
    op: str,
    shape: Any,
    dtype: Any,
    device: Any,
    generator: Any,
    low: float,
    high: float,
) -> Any:
    """Return an array of uniform numbers from [low, high)."""
    if dtype not in FLOATING:
        raise DTypeError(f"{op}: dtype: expected a floating dtype, got {dtype}")
    count = math.prod(shape)
    seed, offset = reserve(op, generator, count)
    place = resolve_device(device)
    kind = float64 if dtype is float64 else float32
    if place is CPU and dtype is kind and count <= FEW:
        return _uniforms.take(shape, count, kind, seed, offset, low, high)
    module = module_of(place)
    with device_context(place):
        out = module.empty(shape, kind)
        if dtype == kind:
            return kernels.philox.uniform(out, seed, offset, low, high)
        steps = 2.0 ** _BITS[dtype]
        unit = kernels.philox.uniform(out, seed, offset)
        unit = module.floor(unit * steps) / steps
        return (low + (high - low) * unit).astype(dtype)


def draw_normal(
    op: str,
    shape: Any,
    dtype: Any,
    device: Any,
    generator: Any,
    mean: float,
    std: float,
) -> Any:
    """Return an array of normal numbers."""
    if dtype not in FLOATING:
        raise DTypeError(f"{op}: dtype: expected a floating dtype, got {dtype}")
    count = math.prod(shape)
    seed, offset = reserve(op, generator, count)
    place = resolve_device(device)
    kind = float64 if dtype is float64 else float32
    if place is CPU and dtype is kind and count <= FEW:
        return _normals.take(shape, count, kind, seed, offset, mean, std)
    with device_context(place):
        out = module_of(place).empty(shape, kind)
        out = kernels.normal.normal(out, seed, offset, mean, std)
        return out.astype(dtype, copy=False)


def draw_integers(
    op: str, shape: Any, dtype: Any, device: Any, generator: Any, low: int, high: int
) -> Any:
    """Return an array of integers from [low, high)."""
    if high <= low:
        raise ShapeError(f"{op}: the range from {low} to {high} is empty")
    if dtype is not int64 and dtype not in FLOATING:
        limits = (0, 1) if dtype.kind == "b" else _limits(dtype)
        if low < limits[0] or high - 1 > limits[1]:
            raise DTypeError(
                f"{op}: numbers from {low} to {high - 1} do not fit into {dtype}"
            )
    count = math.prod(shape)
    seed, offset = reserve(op, generator, count)
    place = resolve_device(device)
    if place is CPU and dtype is int64 and count <= FEW:
        return _integers.take(shape, count, int64, seed, offset, low, high)
    with device_context(place):
        out = module_of(place).empty(shape, int64)
        out = kernels.philox.randint(out, seed, offset, low, high)
        return out.astype(dtype, copy=False)


def _limits(dtype: Any) -> tuple[int, int]:
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


def _kind(dtype: Any) -> Any:
    return get_default_dtype() if dtype is None else resolve_dtype(dtype)


def _alike(input: Tensor, dtype: Any, device: Any) -> tuple[Any, Any, Any]:
    """Return shape, dtype and device for a tensor like `input`."""
    array = input._array
    kind = array.dtype if dtype is None else resolve_dtype(dtype)
    return array.shape, kind, device_of(array) if device is None else device


@public(method=False, direct=True)
def rand(
    *size: Any,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return numbers drawn uniformly from [0, 1).

    Parameters
    ----------
    *size : int or one sequence of int
        The shape.
    generator : Generator, optional
        Where to draw from; default the one that `manual_seed` seeds.
    dtype, device, requires_grad
        As for `zeros`.

    Raises
    ------
    DTypeError
        If `dtype` is not floating.

    Examples
    --------
    >>> import nnlib
    >>> g = nnlib.Generator().manual_seed(0)
    >>> nnlib.rand(2, generator=g)
    tensor([0.399 , 0.9722])
    """
    shape = shape_of("rand", size)
    made = draw_uniform("rand", shape, _kind(dtype), device, generator, 0.0, 1.0)
    return finish(made, requires_grad)


@public(method=False, direct=True)
def randn(
    *size: Any,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return numbers drawn from the normal distribution; arguments as for `rand`.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.randn(2, 3).shape
    Size([2, 3])
    """
    shape = shape_of("randn", size)
    made = draw_normal("randn", shape, _kind(dtype), device, generator, 0.0, 1.0)
    return finish(made, requires_grad)


@public(method=False)
def randint(
    low: int,
    high: Any = None,
    size: Any = None,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return integers drawn uniformly from ``[low, high)``.

    Parameters
    ----------
    low : int, default 0
        ``randint(high, size)`` draws from zero.
    high : int
    size : int or sequence of int
    generator : Generator, optional
    dtype : numpy.dtype or str, optional
        Default int64.
    device, requires_grad
        As for `zeros`.

    Raises
    ------
    ShapeError
        If the range is empty.
    DTypeError
        If `dtype` cannot hold the numbers, or `size` is missing.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.randint(3, 4, (2,))
    tensor([3, 3])
    """
    if size is None:
        low, high, size = 0, low, high
    if size is None:
        raise DTypeError("randint: expected randint(high, size) or (low, high, size)")
    kind = int64 if dtype is None else resolve_dtype(dtype)
    shape = shape_of("randint", (size,))
    made = draw_integers("randint", shape, kind, device, generator, int(low), int(high))
    return finish(made, requires_grad)


@public(method=False)
def randperm(
    n: int,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return the integers from 0 to below `n` in random order.

    Examples
    --------
    >>> import nnlib
    >>> sorted(nnlib.randperm(4).tolist())
    [0, 1, 2, 3]
    """
    shape = shape_of("randperm", (n,))
    (count,) = shape
    seed, offset = reserve("randperm", generator, count)
    place = resolve_device(device)
    kind = int64 if dtype is None else resolve_dtype(dtype)
    # 64 bits do not tie, so that any method of sorting gives this order.
    if place is CPU and count <= FEW:
        made = _bits.take(shape, count, _UINT64, seed, offset).argsort()
        return finish(made.astype(kind, copy=False), requires_grad)
    module = module_of(place)
    with device_context(place):
        keys = module.empty(count, np.uint64)
        made = module.argsort(kernels.philox.random_bits(keys, seed, offset))
        return finish(made.astype(kind, copy=False), requires_grad)


@public(method=False)
def rand_like(
    input: Tensor,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = preserve_format,
) -> Tensor:
    """Return `rand` with the shape, dtype and device of `input`."""
    shape, kind, place = _alike(input, dtype, device)
    made = draw_uniform("rand_like", shape, kind, place, generator, 0.0, 1.0)
    made = arrange_like("rand_like", made, memory_format, input._array)
    return finish(made, requires_grad)


@public(method=False)
def randn_like(
    input: Tensor,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = preserve_format,
) -> Tensor:
    """Return `randn` with the shape, dtype and device of `input`."""
    shape, kind, place = _alike(input, dtype, device)
    made = draw_normal("randn_like", shape, kind, place, generator, 0.0, 1.0)
    made = arrange_like("randn_like", made, memory_format, input._array)
    return finish(made, requires_grad)


@public(method=False)
def randint_like(
    input: Tensor,
    low: int,
    high: int | None = None,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = preserve_format,
) -> Tensor:
    """Return `randint` with the shape, dtype and device of `input`."""
    if high is None:
        low, high = 0, low
    shape, kind, place = _alike(input, dtype, device)
    made = draw_integers("randint_like", shape, kind, place, generator, low, high)
    made = arrange_like("randint_like", made, memory_format, input._array)
    return finish(made, requires_grad)
