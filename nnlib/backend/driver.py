"""The CUDA driver's launch of a kernel, called with arguments prepared beforehand.

CuPy makes an object for each field of each argument; an array alone has seven. Here the
arguments lie in memory of our own, where a launch changes the addresses and the numbers
alone. `nnlib.kernels.machinery.launch_check` tries it before it is used.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import struct
from collections.abc import Callable, Sequence
from typing import Any

from nnlib.backend import device
from nnlib.backend.errors import DeviceError

__all__ = [
    "Arguments",
    "bindings",
    "capturing",
    "elsewhere",
    "handle",
    "retry",
    "stream_handle",
]

# What the driver says where a thread has not used its device yet, or used another one.
_NO_CONTEXT = frozenset({3, 201, 400})


@functools.cache
def bindings() -> tuple[Callable[[], int], Callable[[], Any], Any]:
    """Return what a launch calls.

    Returns
    -------
    device : callable
        The number of the current device.
    stream : callable
        CuPy's current stream.
    launch : callable or None
        The driver's ``cuLaunchKernel``, if it is found. Its arguments carry no types:
        plain ints go through as 32 bits, and pointers are made once.
    """
    cupy = device.cupy()
    launch = None
    names = ("nvcuda.dll",) if os.name == "nt" else ("libcuda.so.1", "libcuda.so")
    for name in names:
        with contextlib.suppress(OSError, AttributeError):
            launch = ctypes.CDLL(name).cuLaunchKernel
            break
    return cupy.cuda.runtime.getDevice, cupy.cuda.get_current_stream, launch


class Arguments:
    """The arguments of a kernel in memory, as the driver reads them.

    Parameters
    ----------
    fields : sequence of (format, value)
        One for each parameter of the kernel, the format as in `struct`. A value of None
        is set anew for each launch; the others stay.

    Examples
    --------
    >>> arguments = Arguments([("q", 5), ("f", None), ("Q", None)])
    >>> arguments.set(0.5, 4096)
    >>> arguments.values()
    [5, 0.5, 4096]
    """

    __slots__ = ("_fields", "_memory", "_moving", "pointers", "set")

    def __init__(self, fields: Sequence[tuple[str, Any]]) -> None:
        # What moves comes first, in the order of the fields: one call sets it all.
        moving = "=" + "".join(_padded(kind) for kind, value in fields if value is None)
        fixed = "=" + "".join(
            _padded(kind) for kind, value in fields if value is not None
        )
        start = struct.calcsize(moving)
        self._memory = ctypes.create_string_buffer(start + struct.calcsize(fixed) + 8)
        self._moving = struct.Struct(moving)
        numbers = [value for _, value in fields if value is not None]
        struct.pack_into(fixed, self._memory, start, *numbers)
        address = ctypes.addressof(self._memory)
        places, offsets = [], [0, start]
        for _, value in fields:
            which = value is not None
            places.append(address + offsets[which])
            offsets[which] += 8
        self._fields = [
            (kind, place) for (kind, _), place in zip(fields, places, strict=True)
        ]
        self.pointers = (ctypes.c_void_p * max(1, len(places)))(*places)
        self.set = functools.partial(self._moving.pack_into, self._memory, 0)

    def values(self) -> list[Any]:
        """Read all arguments back (for tests)."""
        result: list[Any] = []
        for kind, place in self._fields:
            size = struct.calcsize(kind)
            result += struct.unpack(kind, ctypes.string_at(place, size))
        return result


def _padded(kind: str) -> str:
    """Return the format of a field that takes eight bytes."""
    return f"{kind}{8 - struct.calcsize('=' + kind)}x"


def handle(function: Any) -> Any:
    """Return CuPy's function as the driver takes it."""
    return ctypes.c_void_p(function.ptr)


def stream_handle(address: int) -> Any:
    """Return a stream as the driver takes it; the default one is null."""
    return ctypes.c_void_p(address) if address else None


def capturing() -> bool:
    """Tell whether the current stream records a graph instead of running."""
    try:
        return bool(device.cupy().cuda.get_current_stream().is_capturing())
    except RuntimeError:
        # The default stream refuses the question while another one records.
        return True


def elsewhere(name: str, found: int, current: int) -> DeviceError:
    """Return the error of an array that is not on the current device.

    Examples
    --------
    >>> print(elsewhere("matmul", 1, 0))
    matmul: an array is on cuda:1, the current device is cuda:0; compute there within \
`with nnlib.cuda.device(1):`
    """
    return DeviceError(
        f"{name}: an array is on cuda:{found}, the current device is cuda:{current}; "
        f"compute there within `with nnlib.cuda.device({found}):`"
    )


def retry(status: int, call: tuple[Any, ...]) -> None:
    """Launch again if the thread had no context yet; raise any other failure.

    Parameters
    ----------
    status : int
        What the driver returned, not 0.
    call : tuple
        The arguments of ``cuLaunchKernel``.

    Raises
    ------
    CUDADriverError
        If the driver refuses, or an earlier kernel has failed.
    """
    cupy = device.cupy()
    if status in _NO_CONTEXT:
        # A thread's first use of the device: the runtime makes its context current.
        cupy.cuda.Device().use()
        cupy.cuda.runtime.free(0)
        status = bindings()[2](*call)
    if status:
        raise cupy.cuda.driver.CUDADriverError(status)
