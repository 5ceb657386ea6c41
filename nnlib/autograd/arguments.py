"""Arguments of the door that do not fit: on other devices, or no tensors at all."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np

from nnlib.autograd.guarding import NoTensorError, is_strange, no_tensor
from nnlib.autograd.registry import op_call, op_name
from nnlib.autograd.tensor import TENSOR_TYPES, Tensor
from nnlib.backend.device import ARRAYS, CPU, away, device_of
from nnlib.backend.errors import DeviceError, DTypeError, Error, ShapeError

if TYPE_CHECKING:
    from nnlib.autograd.function import Function

__all__ = ["away_from", "refuse_misfit", "to_one_device"]


def refuse_misfit(
    cls: type[Function], args: Sequence[Any], error: Exception | None = None
) -> None:
    """Raise where an argument of the door is neither tensor, array nor number.

    Return where all are, where `error` has come up and tells enough, or where the
    operation is none of nnlib's own.
    """
    if not cls.__module__.startswith("nnlib.") or isinstance(error, NoTensorError):
        return
    if isinstance(error, Error) and not isinstance(error, DTypeError | ShapeError):
        return
    if error is None and not any(map(is_strange, args)):
        return
    # A number may stand beside a tensor, in operations that promote.
    several = cls.promotes is not None and len(args) > 1
    wanted = "a Tensor or a number" if several else "a Tensor"
    wrong = no_tensor(*op_call(cls.__name__), args, error, wanted)
    if wrong is not None:
        raise wrong from None


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


def away_from(arrays: Sequence[Any]) -> AbstractContextManager[Any] | None:
    """Return a context in which the device of the arrays is the current one.

    They are on one device; numbers may be among them. None if it is already.
    """
    for x in arrays:
        if type(x) is not np.ndarray and type(x) in ARRAYS:
            return away(x)
    return None
