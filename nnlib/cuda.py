"""CUDA devices, streams and memory, with PyTorch's names.

What needs a device raises a `DeviceError` that gives the reason and its mend where
there is none.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from nnlib import kernels
from nnlib.backend import device as _device
from nnlib.backend import memory as _memory
from nnlib.backend.device import Device, device_context, is_available
from nnlib.backend.errors import DeviceError
from nnlib.backend.graphs import CUDAGraph, Pool, graph
from nnlib.backend.random import default_generator
from nnlib.backend.recording import current, refuse
from nnlib.func.graphed import make_graphed_callables

__all__ = [
    "CUDAGraph",
    "Event",
    "Stream",
    "current_device",
    "current_stream",
    "device",
    "device_count",
    "empty_cache",
    "get_device_capability",
    "get_device_name",
    "graph",
    "graph_pool_handle",
    "is_available",
    "is_current_stream_capturing",
    "make_graphed_callables",
    "manual_seed",
    "manual_seed_all",
    "max_memory_allocated",
    "mem_get_info",
    "memory_allocated",
    "memory_reserved",
    "persistent_recurrent",
    "set_device",
    "stream",
    "synchronize",
]

AnyDevice = int | str | Device | None


def _resolve(device: AnyDevice) -> Device:
    resolved = _device.resolve_device("cuda" if device is None else device)
    if resolved.type != "cuda":
        raise DeviceError(f"cuda: expected a CUDA device, got {resolved}")
    return resolved


def device_count() -> int:
    """Return how many CUDA devices can be used: 0 where there are none."""
    if not is_available():
        return 0
    return int(_device.cupy().cuda.runtime.getDeviceCount())


def current_device() -> int:
    """Return the number of the current CUDA device."""
    return int(_device.cupy().cuda.Device().id)


def set_device(device: AnyDevice) -> None:
    """Make a CUDA device the current one of this thread."""
    _device.cupy().cuda.Device(_resolve(device).index).use()


def device(device: AnyDevice) -> AbstractContextManager[Any]:
    """Return a context in which a CUDA device is the current one."""
    return device_context(_resolve(device))


def get_device_name(device: AnyDevice = None) -> str:
    """Return the device's name, as the driver gives it."""
    index = _resolve(device).index
    properties = _device.cupy().cuda.runtime.getDeviceProperties(index)
    return str(properties["name"].decode())


def get_device_capability(device: AnyDevice = None) -> tuple[int, int]:
    """Return the compute capability, as (major, minor)."""
    text = _device.cupy().cuda.Device(_resolve(device).index).compute_capability
    return int(text[:-1]), int(text[-1])


def synchronize(device: AnyDevice = None) -> None:
    """Wait until all work that was given to a device is done, on all its streams.

    Raises
    ------
    BoundsError
        If a kernel has met an index out of bounds.
    """
    refuse("synchronize")
    with device_context(_resolve(device)):
        _device.cupy().cuda.runtime.deviceSynchronize()
    _device.run_checks()


def memory_allocated(device: AnyDevice = None) -> int:
    """Return the bytes that live arrays take."""
    return _memory.memory_stats(_resolve(device)).used


def memory_reserved(device: AnyDevice = None) -> int:
    """Return the bytes that the memory pool holds, live arrays included."""
    return _memory.memory_stats(_resolve(device)).held


def max_memory_allocated(device: AnyDevice = None) -> int:
    """Return the most bytes that the memory pool has held since it was last emptied.

    An upper bound of what live arrays have taken: CuPy's pool keeps no finer record.
    """
    return _memory.memory_stats(_resolve(device)).peak


def mem_get_info(device: AnyDevice = None) -> tuple[int, int]:
    """Return the free and the total bytes of a device."""
    with device_context(_resolve(device)):
        free, total = _device.cupy().cuda.runtime.memGetInfo()
        return int(free), int(total)


def empty_cache() -> None:
    """Give memory that is held but not used back; without CUDA it does nothing."""
    if is_available():
        _memory.empty_cache("cuda")


def persistent_recurrent(enabled: bool = True) -> bool:
    """Let recurrent layers in float32 run all steps in one launch; return what was.

    Off at first: these kernels have been run in a simulator, and not yet on a GPU
    (`python -m nnlib.bench.cuda_check` compares them with the others there).

    Examples
    --------
    >>> persistent_recurrent(True)
    False
    >>> persistent_recurrent(False)
    True
    """
    return bool(kernels.persistent.enable(enabled))


def manual_seed(seed: int) -> None:
    """Seed the default generator: one for the CPU and all devices, unlike PyTorch's.

    Examples
    --------
    >>> manual_seed(3)
    """
    default_generator.manual_seed(seed)


manual_seed_all = manual_seed


def Stream(*, non_blocking: bool = True) -> Any:  # noqa: N802 - PyTorch's name
    """Return a new stream (a `cupy.cuda.Stream`)."""
    return _device.cupy().cuda.Stream(non_blocking=non_blocking)


def Event(*, enable_timing: bool = False) -> Any:  # noqa: N802 - PyTorch's name
    """Return a new event (a `cupy.cuda.Event`)."""
    return _device.cupy().cuda.Event(disable_timing=not enable_timing)


def current_stream() -> Any:
    """Return the stream that work of this thread goes to."""
    return _device.cupy().cuda.get_current_stream()


def stream(stream: Any) -> AbstractContextManager[Any]:
    """Return a context in which work goes to a stream (a `cupy.cuda.Stream` is one)."""
    return stream  # type: ignore[no-any-return]


def is_current_stream_capturing() -> bool:
    """Tell whether this thread records a CUDA graph.

    Examples
    --------
    >>> is_current_stream_capturing()
    False
    """
    return current() is not None


def graph_pool_handle() -> Pool:
    """Return memory that several graphs may share; see `CUDAGraph.capture_begin`."""
    return Pool()
