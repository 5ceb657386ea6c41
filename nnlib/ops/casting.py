"""Changes of dtype and device, and copies."""

from __future__ import annotations

from typing import Any

from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import (
    Device,
    device_of,
    names_device,
    resolve_device,
    to_device,
)
from nnlib.backend.dtypes import (
    bfloat16,
    bool_,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    resolve_dtype,
    uint8,
)
from nnlib.backend.layouts import (
    MemoryFormat,
    arrange,
    check_format,
    contiguous_format,
    lies_in,
    preserve_format,
)

__all__ = ["clone"]


class Cast(Function):
    """Change the dtype."""

    upcasts = False

    def forward(self, x: Any, *, dtype: Any) -> Any:
        """Return `x` as `dtype`."""
        self.dtype = x.dtype
        return x.astype(dtype)

    def backward(self, grad: Any) -> Any:
        """Cast the gradient back."""
        return cast(grad, self.dtype)


class Transfer(Function):
    """Copy to another device."""

    upcasts = False

    def forward(self, x: Any, *, device: Device, non_blocking: bool) -> Any:
        """Return `x` on `device`."""
        self.device = device_of(x)
        return to_device(x, device, non_blocking=non_blocking)

    def backward(self, grad: Any) -> Any:
        """Copy the gradient back."""
        return Transfer.apply(grad, device=self.device, non_blocking=False)


class Clone(Function):
    """Copy the memory."""

    upcasts = False
    arithmetic = False

    def forward(self, x: Any) -> Any:
        """Return a copy of `x`."""
        return x.copy(order="K")

    def backward(self, grad: Any) -> Any:
        """Pass the gradient on."""
        return grad


class Contiguous(Function):
    """Copy into C order, or with the channels last."""

    upcasts = False
    arithmetic = False

    def forward(self, x: Any, *, order: MemoryFormat = contiguous_format) -> Any:
        """Return a copy without gaps."""
        return arrange(x, order)

    def backward(self, grad: Any) -> Any:
        """Pass the gradient on."""
        return grad


def cast(x: Any, dtype: Any) -> Any:
    """Return a Tensor or array as `dtype`; as it is, if it has it."""
    return x if x.dtype == dtype else Cast.apply(x, dtype=dtype)


@public(direct=True)
def clone(input: Tensor, *, memory_format: Any = preserve_format) -> Tensor:
    """Return a copy with its own memory; gradients pass through.

    Parameters
    ----------
    input : Tensor
    memory_format : MemoryFormat, default nnlib.preserve_format
        The order of the copy's elements; by default that of `input`.

    Examples
    --------
    >>> import nnlib
    >>> x = nnlib.tensor([1.0])
    >>> y = x.clone().zero_()
    >>> x
    tensor([1.])
    """
    if memory_format is not preserve_format:
        arranged = contiguous(input, memory_format)
        if arranged is not input:
            return arranged
    return Clone.apply(input)  # type: ignore[no-any-return]


@public()
def to(
    input: Tensor,
    *args: Any,
    device: Any = None,
    dtype: Any = None,
    non_blocking: bool = False,
    copy: bool = False,
    memory_format: Any = preserve_format,
) -> Tensor:
    """Move and cast: ``to(device)``, ``to(dtype)``, both, or ``to(other)``.

    Parameters
    ----------
    device : str, int or Device, optional
    dtype : numpy.dtype or str, optional
    other : Tensor, optional
        Take device and dtype from it.
    non_blocking : bool, default False
        Do not wait for a copy between host and CUDA.
    copy : bool, default False
        Copy even where nothing changes.
    memory_format : MemoryFormat, default nnlib.preserve_format
        The order of the elements, as for `contiguous`.

    Raises
    ------
    DeviceError
        If the device is unknown or absent, or a string names neither device nor dtype.
    DTypeError
        If an argument is neither a device, a dtype nor a tensor.
    """
    for argument in args:
        if isinstance(argument, Tensor):
            device, dtype = argument.device, argument.dtype
        elif names_device("to", argument):
            device = argument
        elif argument is not None:
            dtype = argument
    result = input
    if dtype is not None:
        result = cast(result, resolve_dtype(dtype))
    if device is not None:
        place = resolve_device(device)
        if place != result.device:
            result = Transfer.apply(result, device=place, non_blocking=non_blocking)
    if memory_format is not preserve_format:
        result = contiguous(result, memory_format)
    return clone(input) if copy and result is input else result


# -- Tensor methods only: at the top level their names are the dtypes' -------------


@public(method="type_as")
def type_as(input: Tensor, other: Tensor) -> Tensor:
    """Return this tensor in the dtype and on the device of `other`."""
    return to(input, other)


@public(method="type")
def to_type(input: Tensor, dtype: Any = None) -> Any:
    """Return this tensor as `dtype`; without one, the name of its dtype.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.tensor([1.0]).type("int64")
    tensor([1])
    """
    return input.dtype.name if dtype is None else cast(input, resolve_dtype(dtype))


def _conversion(method: str, dtype: Any) -> Any:
    def convert(input: Tensor) -> Tensor:
        return cast(input, dtype)  # type: ignore[no-any-return]

    convert.__name__ = f"to_{method}"
    convert.__doc__ = f"Return this tensor as {dtype.name}."
    return public(method=method)(convert)


to_float = _conversion("float", float32)
to_double = _conversion("double", float64)
to_half = _conversion("half", float16)
to_bfloat16 = _conversion("bfloat16", bfloat16)
to_long = _conversion("long", int64)
to_int = _conversion("int", int32)
to_short = _conversion("short", int16)
to_char = _conversion("char", int8)
to_byte = _conversion("byte", uint8)
to_bool = _conversion("bool", bool_)


@public(method="cpu")
def to_cpu(input: Tensor) -> Tensor:
    """Return this tensor in the CPU's memory."""
    return to(input, "cpu")


@public(method="cuda")
def to_cuda(input: Tensor, device: Any = None, non_blocking: bool = False) -> Tensor:
    """Return this tensor on a CUDA device, by default the current one.

    Raises
    ------
    DeviceError
        If CUDA cannot be used here; the message says why.
    """
    place = "cuda" if device is None else device
    return to(input, device=place, non_blocking=non_blocking)


@public(method="contiguous")
def contiguous(input: Tensor, memory_format: Any = contiguous_format) -> Tensor:
    """Return this tensor with its elements in C order without gaps.

    A tensor that has them already is returned as it is.

    Parameters
    ----------
    input : Tensor
    memory_format : MemoryFormat, default nnlib.contiguous_format
        ``nnlib.channels_last`` (of four dimensions) and ``nnlib.channels_last_3d`` (of
        five) put the channels of a pixel together.

    Raises
    ------
    DTypeError
        If `memory_format` is none.
    ShapeError
        If it is for tensors of another rank.

    Examples
    --------
    >>> import nnlib
    >>> x = nnlib.zeros(1, 3, 4, 5).contiguous(memory_format=nnlib.channels_last)
    >>> x.stride()
    (60, 1, 15, 3)
    """
    if memory_format is not contiguous_format:
        check_format("contiguous", memory_format, input._array.ndim)
        if memory_format is preserve_format or lies_in(input._array, memory_format):
            return input
        return Contiguous.apply(input, order=memory_format)  # type: ignore[no-any-return]
    if input._array.flags.c_contiguous:
        return input
    return Contiguous.apply(input)  # type: ignore[no-any-return]
