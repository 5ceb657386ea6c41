"""Devices: where an array lives, and why CUDA is or is not used.

This room alone imports CuPy; every other asks `array_module` or `cupy`.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from nnlib.backend.dtypes import resolve_dtype
from nnlib.backend.errors import DeviceError, DTypeError
from nnlib.backend.recording import refuse

__all__ = [
    "ARRAYS",
    "CPU",
    "CudaStatus",
    "Device",
    "array_module",
    "away",
    "context_of",
    "cuda_status",
    "cupy",
    "current_device",
    "device_context",
    "device_of",
    "is_available",
    "keeping_device",
    "names_device",
    "on_synchronize",
    "resolve_device",
    "synchronize",
    "to_device",
    "use_device_of",
]

_PATTERN = re.compile(r"(cpu|cuda|auto)(?::(\d+))?")


class Device:
    """A place that holds arrays: ``cpu``, ``cuda`` (current), ``cuda:N``, ``auto``.

    Parameters
    ----------
    name : str or Device
        ``auto`` is the first CUDA device where one can be used, else the CPU.
    index : int, optional
        The number of the CUDA device, where `name` does not carry it.

    Raises
    ------
    DeviceError
        If the name is unknown, or CUDA is asked for where it cannot be used.

    Examples
    --------
    >>> Device("cpu").type
    'cpu'
    """

    __slots__ = ("index", "type")

    type: str
    index: int | None

    def __init__(self, name: str | Device, index: int | None = None) -> None:
        if isinstance(name, Device):
            self.type, self.index = name.type, name.index
            return
        match = _PATTERN.fullmatch(name) if isinstance(name, str) else None
        if match is None or (match[1] != "cuda" and match[2] not in (None, "0")):
            raise DeviceError(
                f"device: expected 'cpu', 'cuda', 'cuda:N' or 'auto', got {name!r}"
            )
        kind = match[1]
        if kind == "auto":
            kind = "cuda" if is_available() else "cpu"
        self.type, self.index = kind, None
        if kind == "cuda":
            self.index = _cuda_index(int(match[2]) if match[2] else index)

    def __eq__(self, other: object) -> bool:
        """Devices are equal when type and number are; a string is read first."""
        if isinstance(other, str):
            match = _PATTERN.fullmatch(other)
            if match is None:
                return False
            if match[1] != self.type:
                return False
            return match[2] is None or self.index in (None, int(match[2]))
        if not isinstance(other, Device):
            return NotImplemented
        return self.type == other.type and self.index == other.index

    def __hash__(self) -> int:
        """Hash by type and number."""
        return hash((self.type, self.index))

    def __str__(self) -> str:
        """Return the name that `Device` accepts."""
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        """Return ``device(type='cpu')``, as PyTorch does."""
        index = "" if self.index is None else f", index={self.index}"
        return f"device(type={self.type!r}{index})"


class CudaStatus(NamedTuple):
    """Whether CUDA can be used; if not, why not and what mends it."""

    ok: bool
    reason: str
    mend: str


@functools.cache
def cuda_status() -> CudaStatus:
    """Say whether CUDA can be used here, and if not, the reason and its mend."""
    if os.environ.get("NNLIB_DISABLE_CUDA"):
        return CudaStatus(
            False, "NNLIB_DISABLE_CUDA is set", "unset NNLIB_DISABLE_CUDA"
        )
    if importlib.util.find_spec("cupy") is None:
        return CudaStatus(
            False,
            "CuPy is not installed",
            'pip install "nnlib-dl[cuda13]" (or [cuda12] for a CUDA 12 driver)',
        )
    try:
        import cupy as module
    except Exception as error:  # noqa: BLE001 - any failure means a broken install
        return CudaStatus(
            False,
            f"CuPy is installed but broken: {type(error).__name__}: {error}",
            "reinstall one CuPy wheel for your CUDA version (cupy-cuda13x or "
            "cupy-cuda12x, not both)",
        )
    try:
        driver = module.cuda.runtime.driverGetVersion()
    except Exception as error:  # noqa: BLE001 - CuPy's own error class is lazy
        driver, failure = 0, str(error)
    else:
        failure = "no CUDA driver"
    if driver == 0:
        return CudaStatus(
            False, f"no GPU: {failure}", "run on a machine with an NVIDIA GPU"
        )
    try:
        count = module.cuda.runtime.getDeviceCount()
    except Exception as error:  # noqa: BLE001 - as above
        if "insufficient" in str(error).lower():
            runtime = module.cuda.runtime.runtimeGetVersion()
            return CudaStatus(
                False,
                f"the driver is too old for this CuPy: it knows CUDA {driver}, "
                f"CuPy was built for {runtime}",
                "update the NVIDIA driver, or install the CuPy of its CUDA version",
            )
        return CudaStatus(
            False, f"no GPU: {error}", "run on a machine with an NVIDIA GPU"
        )
    if count == 0:
        return CudaStatus(
            False,
            "no GPU: the driver sees no device",
            "check nvidia-smi and CUDA_VISIBLE_DEVICES",
        )
    return CudaStatus(True, f"{count} CUDA device(s)", "")


def is_available() -> bool:
    """Tell whether CUDA can be used (see `cuda_status` for the reason if not)."""
    return cuda_status().ok


def cupy() -> ModuleType:
    """Return the CuPy module.

    Raises
    ------
    DeviceError
        If CUDA cannot be used, with the reason and its mend.
    """
    status = cuda_status()
    if not status.ok:
        raise DeviceError(f"device 'cuda': {status.reason}; to mend it: {status.mend}")
    return _imported()


@functools.cache
def _imported() -> ModuleType:
    import cupy as module

    ARRAYS[module.ndarray] = module
    return module  # type: ignore[no-any-return]


def _cuda_index(index: int | None) -> int:
    runtime = cupy().cuda
    count = runtime.runtime.getDeviceCount()
    if index is None:
        return int(runtime.Device().id)
    if index >= count:
        raise DeviceError(
            f"device 'cuda:{index}': this machine has {count} CUDA device(s), "
            f"numbered from 0"
        )
    return index


CPU = Device("cpu")


def resolve_device(device: str | int | Device | None) -> Device:
    """Turn a name, a CUDA number or None (the CPU) into a `Device`."""
    if device is None:
        return CPU
    if isinstance(device, int):
        return Device("cuda", device)
    return device if isinstance(device, Device) else Device(device)


def names_device(op: str, argument: Any) -> bool:
    """Tell whether an argument of `to` is a device, rather than a dtype.

    Raises
    ------
    DeviceError
        If it is a string that names neither.
    DTypeError
        If it is a bool, which would be taken for a number.
    """
    if isinstance(argument, bool):
        raise DTypeError(f"{op}: expected a device, dtype or tensor, got a bool")
    if isinstance(argument, Device | int):
        return True
    if not isinstance(argument, str):
        return False
    if argument.partition(":")[0] in ("cpu", "cuda", "auto"):
        return True
    try:
        resolve_dtype(argument)
    except DTypeError:
        raise DeviceError(
            f"{op}: expected a device ('cpu', 'cuda', 'cuda:N', 'auto') or a dtype, "
            f"got {argument!r}"
        ) from None
    return False


# The types of plain arrays, with the modules they belong to. CuPy's is among them as
# soon as CuPy is used.
ARRAYS: dict[type[Any], ModuleType] = {np.ndarray: np}
# The CUDA devices by their numbers.
_cuda_devices: dict[int, Device] = {}


def array_module(array: Any) -> ModuleType:
    """Return the module whose functions work on `array`: numpy or cupy."""
    kind = type(array)
    found = ARRAYS.get(kind)
    if found is not None:
        return found
    if isinstance(array, np.ndarray | np.generic):
        return np
    if kind.__module__.startswith("cupy"):
        ARRAYS[kind] = module = cupy()
        return module
    return np


def device_of(array: Any) -> Device:
    """Return the device that holds `array`."""
    if isinstance(array, np.ndarray):
        return CPU
    number = int(array.data.device_id)
    found = _cuda_devices.get(number)
    if found is None:
        found = _cuda_devices[number] = Device("cuda", number)
    return found


def module_of(device: Device) -> ModuleType:
    """Return the array module of `device`: numpy or cupy."""
    return np if device.type == "cpu" else cupy()


_NO_CONTEXT = nullcontext()


def device_context(device: Device) -> AbstractContextManager[Any]:
    """Return a context in which new CuPy arrays are made on `device`."""
    if device.type == "cpu":
        return _NO_CONTEXT
    return cupy().cuda.Device(device.index)  # type: ignore[no-any-return]


@functools.cache
def _several() -> bool:
    """Tell whether there is more than one CUDA device."""
    return is_available() and int(cupy().cuda.runtime.getDeviceCount()) > 1


def keeping_device() -> AbstractContextManager[Any] | None:
    """Return a context that ends on the current CUDA device, whatever is used in it.

    None where there are not several devices in use.
    """
    if len(ARRAYS) == 1 or not _several():
        return None
    return cupy().cuda.Device()  # type: ignore[no-any-return]


def use_device_of(array: Any) -> None:
    """Make the device of a CUDA array the current one."""
    module = cupy().cuda
    number = array.data.device_id
    if number != module.runtime.getDevice():
        module.Device(number).use()


def away(array: Any) -> AbstractContextManager[Any] | None:
    """Return a context in which the device of `array` is the current one.

    None if it is already, or the array is on the CPU. What CuPy makes lies on the
    current device, whatever it is made of: operations on arrays of another one run in
    this context.

    Examples
    --------
    >>> away(np.zeros(2)) is None
    True
    """
    if isinstance(array, np.ndarray | np.generic) or not _several():
        return None
    module = cupy().cuda
    number = array.data.device_id
    if number == module.runtime.getDevice():
        return None
    return module.Device(number)  # type: ignore[no-any-return]


def context_of(array: Any) -> AbstractContextManager[Any]:
    """Return a context in which the device of `array` is the current one.

    Examples
    --------
    >>> with context_of(np.zeros(2)):
    ...     np.ones(2)
    array([1., 1.])
    """
    return away(array) or _NO_CONTEXT


def current_device() -> Device:
    """Return the current CUDA device, or the CPU where there is none."""
    return Device("auto")


_checks: list[Callable[[], None]] = []


def on_synchronize(check: Callable[[], None]) -> None:
    """Have `check` called whenever a CUDA device has been waited for or read from."""
    _checks.append(check)


def run_checks() -> None:
    """Raise what CUDA kernels have found wrong; call where a CUDA array is read."""
    for check in _checks:
        check()


def to_device(array: Any, device: Device, *, non_blocking: bool = False) -> Any:
    """Copy `array` to `device`; an array that is there already is returned as is."""
    if device_of(array) == device:
        return array
    refuse("a copy to another device")
    if device.type == "cpu":
        # On the stream of its own device, where it is made.
        with context_of(array):
            copy = cupy().asnumpy(array, blocking=not non_blocking)
        if not non_blocking:
            run_checks()
        return copy
    source = device_of(array)
    if source.type == "cuda":
        return _between(array, source, device)
    with device_context(device):
        return cupy().asarray(array, blocking=not non_blocking)


def _between(array: Any, source: Device, target: Device) -> Any:
    """Copy from one CUDA device to another, in the order of the work on both.

    CuPy copies on the current stream of the target, which knows nothing of what is
    queued on the source; it refuses arrays with gaps.
    """
    module = cupy()
    axes = sorted(range(array.ndim), key=lambda axis: -array.strides[axis])
    with device_context(source):
        dense = module.ascontiguousarray(array.transpose(axes))
        sending = module.cuda.get_current_stream()
        made = sending.record()
    with device_context(target):
        receiving = module.cuda.get_current_stream()
        receiving.wait_event(made)
        copy = module.asarray(dense)
        taken = receiving.record()
    with device_context(source):
        # The memory may be handed out again when the copy has been made.
        sending.wait_event(taken)
    inverse = sorted(range(array.ndim), key=axes.__getitem__)
    return copy.reshape([array.shape[axis] for axis in axes]).transpose(inverse)


def synchronize(device: str | Device | None = None) -> None:
    """Wait until all work queued on `device` is done (nothing to do on the CPU)."""
    target = resolve_device("auto" if device is None else device)
    if target.type == "cuda":
        refuse("synchronize")
        with device_context(target):
            cupy().cuda.get_current_stream().synchronize()
        run_checks()
