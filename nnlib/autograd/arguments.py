"""Arguments of the door that do not fit: on other devices, or no tensors at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nnlib.autograd.registry import op_call, op_name
from nnlib.autograd.tensor import TENSOR_TYPES, Tensor
from nnlib.backend.device import CPU, device_of
from nnlib.backend.errors import DeviceError, DTypeError, Error

if TYPE_CHECKING:
    from nnlib.autograd.function import Function

__all__ = ["no_tensor", "to_one_device"]


def no_tensor(
    default: str, args: Sequence[Any], error: AttributeError | TypeError
) -> DTypeError | None:
    """Return what to raise where `error` came of arguments without any tensor.

    Nobody asks before whether there is one. None where an argument is an array, or the
    error tells enough. `default` is the operation's name if no public one is under way.
    """
    if isinstance(error, Error) or any(hasattr(x, "dtype") for x in args):
        return None
    for position, value in enumerate(args):
        if isinstance(error, AttributeError):
            blamed = value is error.obj
        else:
            blamed = not isinstance(value, int | float)
        if blamed:
            op, given = op_call(default)
            known = [name for name, x in given.items() if x is value]
            name = known[0] if known else f"argument {position}"
            kind = type(value).__name__
            return DTypeError(f"{op}: {name}: expected a Tensor, got {kind}")
    return None


def to_one_device(cls: type[Function], args: Sequence[Any]) -> list[Any] | None:
    """Raise unless all tensors are on one device.

    Returns
    -------
    list or None
        The arguments, with tensors without dimensions moved there from the CPU, where
        the operation takes them for numbers; None if there were none.
    """
    only = None
    for x in args:
        if type(x) in TENSOR_TYPES:
            device = device_of(x._array)
            if only is None:
                only = device
            elif device is not only and device != only:
                break
    else:
        return None
    devices = {
        position: device_of(x._array)
        for position, x in enumerate(args)
        if isinstance(x, Tensor)
    }
    numbers = [
        position
        for position, device in devices.items()
        if device == CPU and args[position]._array.ndim == 0
    ]
    takes = cls.takes_numbers
    if not (cls.promotes is not None if takes is None else takes):
        numbers = []
    rest = {x: device for x, device in devices.items() if x not in numbers}
    (_, first), *others = rest.items()
    for position, device in others:
        if device != first:
            raise DeviceError(
                f"{op_name(cls.__name__)}: argument {position} is on {device}, the "
                f"ones before it on {first}; move it with .to('{first}')"
            )
    return [x.to(first) if i in numbers else x for i, x in enumerate(args)]
