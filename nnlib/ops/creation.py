"""New tensors full of one number."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from nnlib.autograd.construct import from_class, tensor
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import (
    CPU,
    device_context,
    device_of,
    module_of,
    resolve_device,
)
from nnlib.backend.dtypes import bool_, get_default_dtype, int64, resolve_dtype
from nnlib.backend.errors import DTypeError, ShapeError
from nnlib.backend.layouts import arrange_like, preserve_format
from nnlib.ops.dims import number_as, raw

__all__ = [
    "empty",
    "empty_like",
    "full",
    "full_like",
    "ones",
    "ones_like",
    "zeros",
    "zeros_like",
]


def shape_of(op: str, size: tuple[Any, ...]) -> tuple[int, ...]:
    """Read a shape given as integers or as one sequence of them.

    Raises
    ------
    DTypeError
        If a length is no integer.
    ShapeError
        If a length is negative.
    """
    if len(size) == 1 and not hasattr(size[0], "__index__"):
        size = size[0]
    if type(size) is tuple:
        for length in size:
            if type(length) is not int or length < 0:
                break
        else:
            return size
    try:
        shape = tuple([length.__index__() for length in size])
    except (AttributeError, TypeError):
        raise DTypeError(f"{op}: size: expected integers, got {size!r}") from None
    for length in shape:
        if length < 0:
            raise ShapeError(f"{op}: size: negative length in {shape}")
    return shape


def finish(array: Any, requires_grad: bool) -> Tensor:
    """Wrap a new array; ask for gradients if wanted."""
    result = Tensor._from_array(array)
    return result.requires_grad_() if requires_grad else result


def filled(
    name: str, shape: Any, dtype: Any, device: Any, requires_grad: bool
) -> Tensor:
    """Make zeros, ones or empty memory of `shape`."""
    kind = get_default_dtype() if dtype is None else resolve_dtype(dtype)
    if device is None:
        return finish(getattr(np, name)(shape, kind), requires_grad)
    place = resolve_device(device)
    with device_context(place):
        return finish(getattr(module_of(place), name)(shape, kind), requires_grad)


def like(
    name: str,
    input: Any,
    dtype: Any,
    device: Any,
    requires_grad: bool,
    memory_format: Any,
    *value: Any,
) -> Any:
    """Make zeros, ones, ... with the shape of `input`, on its device."""
    array = input._array if isinstance(input, Tensor) else input
    kind = array.dtype if dtype is None else resolve_dtype(dtype)
    if device is None and type(array) is np.ndarray:
        made = getattr(np, name)(array.shape, *value, dtype=kind)
    else:
        place = device_of(array) if device is None else resolve_device(device)
        with device_context(place):
            made = getattr(module_of(place), name)(array.shape, *value, dtype=kind)
    if memory_format is not preserve_format or not array.flags.c_contiguous:
        made = arrange_like(f"{name}_like", made, memory_format, array)
    return made if array is input else finish(made, requires_grad)


@public(method=False, direct=True)
def zeros(
    *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Return a tensor of zeros.

    Parameters
    ----------
    *size : int or one sequence of int
        The shape.
    dtype : numpy.dtype or str, optional
        Default: the default dtype.
    device : str or Device, optional
        Default: the CPU.
    requires_grad : bool, default False

    Raises
    ------
    DTypeError, ShapeError
        If a length is no integer, or negative.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.zeros(2)
    tensor([0., 0.])
    """
    return filled("zeros", shape_of("zeros", size), dtype, device, requires_grad)


@public(method=False, direct=True)
def ones(
    *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Return a tensor of ones; arguments as for `zeros`.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.ones(2, dtype="int64")
    tensor([1, 1])
    """
    return filled("ones", shape_of("ones", size), dtype, device, requires_grad)


@public(method=False, direct=True)
def empty(
    *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Return a tensor whose memory is not initialised; arguments as for `zeros`.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.empty(2, 3).shape
    Size([2, 3])
    """
    return filled("empty", shape_of("empty", size), dtype, device, requires_grad)


@public(method=False, direct=True)
def full(
    size: Any,
    fill_value: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return a tensor filled with one number.

    Parameters
    ----------
    size : int or sequence of int
    fill_value : number
    dtype : numpy.dtype or str, optional
        Default: bool, int64 or the default dtype, as `fill_value` is.
    device : str or Device, optional
    requires_grad : bool, default False

    Examples
    --------
    >>> import nnlib
    >>> nnlib.full((2,), 7)
    tensor([7, 7])
    """
    kind = _dtype_of(fill_value) if dtype is None else resolve_dtype(dtype)
    shape = shape_of("full", (size,))
    place = resolve_device(device)
    with device_context(place):
        try:
            if place is CPU and not hasattr(fill_value, "dtype"):
                # What NumPy's `full` does, in two thirds of its time.
                made = np.empty(shape, kind)
                made.fill(fill_value)
            else:
                made = module_of(place).full(shape, fill_value, dtype=kind)
        except (OverflowError, ValueError):
            raise DTypeError(
                f"full: fill_value: {fill_value} is out of the range of {kind}"
            ) from None
    return finish(made, requires_grad)


def _dtype_of(value: Any) -> Any:
    if isinstance(value, builtins.bool | np.bool_):
        return bool_
    if hasattr(value, "dtype") and not isinstance(value, np.generic):
        return value.dtype
    return int64 if isinstance(value, int | np.integer) else get_default_dtype()


@public(method=False)
def zeros_like(
    input: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = preserve_format,
) -> Tensor:
    """Return zeros with the shape, dtype and device of `input`.

    Parameters
    ----------
    memory_format : MemoryFormat, default nnlib.preserve_format
        The order of the elements in memory, by default that of `input`.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.zeros_like(nnlib.tensor([3, 4]))
    tensor([0, 0])
    """
    return like("zeros", input, dtype, device, requires_grad, memory_format)  # type: ignore[no-any-return]


@public(method=False)
def ones_like(
    input: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = preserve_format,
) -> Tensor:
    """Return ones with the shape, dtype and device of `input`.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.ones_like(nnlib.tensor([3, 4]))
    tensor([1, 1])
    """
    return like("ones", input, dtype, device, requires_grad, memory_format)  # type: ignore[no-any-return]


@public(method=False)
def empty_like(
    input: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = preserve_format,
) -> Tensor:
    """Return uninitialised memory with the shape, dtype and device of `input`.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.empty_like(nnlib.tensor([3, 4])).shape
    Size([2])
    """
    return like("empty", input, dtype, device, requires_grad, memory_format)  # type: ignore[no-any-return]


@public(method=False)
def full_like(
    input: Any,
    fill_value: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = preserve_format,
) -> Tensor:
    """Return one number with the shape, dtype and device of `input`.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.full_like(nnlib.tensor([3.0, 4.0]), 7)
    tensor([7., 7.])
    """
    kind = raw(input).dtype if dtype is None else resolve_dtype(dtype)
    fill_value = number_as("full_like", "fill_value", fill_value, kind)
    return like(  # type: ignore[no-any-return]
        "full", input, dtype, device, requires_grad, memory_format, fill_value
    )


def _new(name: str) -> Any:
    def method(
        self: Tensor,
        *size: Any,
        dtype: Any = None,
        device: Any = None,
        requires_grad: bool = False,
    ) -> Tensor:
        shape = shape_of(f"new_{name}", size)
        return filled(
            name,
            shape,
            self.dtype if dtype is None else dtype,
            self.device if device is None else device,
            requires_grad,
        )

    method.__name__ = f"new_{name}"
    method.__doc__ = f"Return `{name}` of this tensor's dtype and device."
    return method


new_zeros = public()(_new("zeros"))
new_ones = public()(_new("ones"))
new_empty = public()(_new("empty"))


@public()
def new(input: Tensor, *data: Any, device: Any = None) -> Tensor:
    """Return values, or zeros of a shape, in this tensor's dtype.

    The name of PyTorch's older programs for `new_tensor` and `new_zeros`.
    """
    place = input.device if device is None else device
    return from_class(data, dtype=input.dtype, device=place)


@public()
def new_full(
    input: Tensor,
    size: Any,
    fill_value: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return `full` of this tensor's dtype and device."""
    return full(
        size,
        fill_value,
        dtype=input.dtype if dtype is None else dtype,
        device=input.device if device is None else device,
        requires_grad=requires_grad,
    )


@public()
def new_tensor(
    input: Tensor,
    data: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return `data` as a new tensor of this tensor's dtype and device."""
    return tensor(
        data,
        dtype=input.dtype if dtype is None else dtype,
        device=input.device if device is None else device,
        requires_grad=requires_grad,
    )
