"""Changes of dtype and device, and copies."""

from __future__ import annotations

from typing import Any

from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import Device, device_of, resolve_device, to_device
from nnlib.backend.dtypes import resolve_dtype
from nnlib.backend.errors import DTypeError

__all__ = ["clone", "to"]


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

    def forward(self, x: Any) -> Any:
        """Return a copy of `x`."""
        return x.copy()

    def backward(self, grad: Any) -> Any:
        """Pass the gradient on."""
        return grad


def cast(x: Any, dtype: Any) -> Any:
    """Return a Tensor or array as `dtype`; as it is, if it has it."""
    return x if x.dtype == dtype else Cast.apply(x, dtype=dtype)


@public()
def clone(input: Tensor) -> Tensor:
    """Return a copy with its own memory; gradients pass through."""
    return Clone.apply(input)  # type: ignore[no-any-return]


@public()
def to(
    input: Tensor,
    *args: Any,
    device: Any = None,
    dtype: Any = None,
    non_blocking: bool = False,
    copy: bool = False,
) -> Tensor:
    """Move and cast: ``to(device)``, ``to(dtype)``, ``to(device, dtype)``, ``to(other)``.

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

    Raises
    ------
    DeviceError
        If the device is unknown or absent.
    DTypeError
        If an argument is neither a device, a dtype nor a tensor.
    """
    for argument in args:
        if isinstance(argument, Tensor):
            device, dtype = argument.device, argument.dtype
        elif isinstance(argument, Device | int) and not isinstance(argument, bool):
            device = argument
        elif isinstance(argument, str) and argument.partition(":")[0] in (
            "cpu",
            "cuda",
            "auto",
        ):
            device = argument
        elif isinstance(argument, bool):
            raise DTypeError("to: expected a device, dtype or tensor, got a bool")
        elif argument is not None:
            dtype = argument
    result = input
    if dtype is not None:
        result = cast(result, resolve_dtype(dtype))
    if device is not None:
        place = resolve_device(device)
        if place != result.device:
            result = Transfer.apply(result, device=place, non_blocking=non_blocking)
    return clone(input) if copy and result is input else result
