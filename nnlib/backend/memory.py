"""Memory: reuse between steps, figures, and giving back what is held.

A step of training allocates and frees the same large arrays again and again. The C
library gives large blocks back to the system at once, and the next step takes page
faults for them anew, which cost five times the work of an element-wise operation. On
Linux with glibc, `keep_freed_memory` has all blocks taken from the heap, which keeps up
to 2 GB of freed memory at its end, and what lies between living blocks; `empty_cache`
gives both back. On CUDA, CuPy's pool does the same by itself.

Environment
-----------
NNLIB_KEEP_MEMORY
    ``0`` leaves the C library's settings alone.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

from nnlib.backend.device import Device, cupy, device_context, resolve_device

__all__ = [
    "MemoryStats",
    "empty_cache",
    "keep_freed_memory",
    "memory_stats",
    "reset_peak",
]

# The parameters of glibc's mallopt.
_TRIM_THRESHOLD = -1
_TOP_PAD = -2
_MMAP_MAX = -4
# How many blocks may come from the system one by one, and be given back so. (The size
# from which they do, M_MMAP_THRESHOLD, cannot be raised above 32 MB, and outputs of
# layers can be larger.)
_ALONE = 0
# Freed memory at the end of the heap goes back to the system above this size.
_HELD = 2**31 - 1
# Grow the heap in steps of this size.
_STEP = 16 * 1024 * 1024

_asked = False
_kept = False


class MemoryStats(NamedTuple):
    """Memory of one device, in bytes.

    Attributes
    ----------
    used : int
        CPU: the process's resident memory. CUDA: live arrays.
    held : int
        CPU: as `used`. CUDA: what CuPy's pool holds, live arrays included.
    peak : int
        CPU: the largest resident memory so far (since `reset_peak` on Linux). CUDA: the
        most the pool has held since it was last emptied. 0 where unknown.
    total : int
        CUDA: the device's memory. CPU: the machine's. 0 where unknown.
    """

    used: int
    held: int
    peak: int
    total: int


def _libc() -> Any:
    """Return the C library if it is glibc, else None."""
    if sys.platform != "linux":
        return None
    try:
        library = ctypes.CDLL(None)
        return library if hasattr(library, "gnu_get_libc_version") else None
    except OSError:
        return None


def keep_freed_memory() -> bool:
    """Let the process keep freed memory for the next step; done once.

    Returns
    -------
    bool
        Whether it is so: False on other systems than Linux with glibc, where
        ``NNLIB_KEEP_MEMORY=0``, or where the user has set ``MALLOC_*_`` or
        ``GLIBC_TUNABLES`` for this.
    """
    global _asked, _kept
    if _asked:
        return _kept
    _asked = True
    if os.environ.get("NNLIB_KEEP_MEMORY") == "0" or _user_decided():
        return False
    libc = _libc()
    if libc is None:
        return False
    settings = (
        (_MMAP_MAX, _ALONE),
        (_TRIM_THRESHOLD, _HELD),
        (_TOP_PAD, _STEP),
    )
    _kept = all([libc.mallopt(name, value) == 1 for name, value in settings])
    return _kept


def _user_decided() -> bool:
    names = tuple(
        f"MALLOC_{name}_"
        for name in ("MMAP_MAX", "MMAP_THRESHOLD", "TRIM_THRESHOLD", "TOP_PAD")
    )
    return any(name in os.environ for name in names) or "glibc.malloc" in (
        os.environ.get("GLIBC_TUNABLES", "")
    )


def empty_cache(device: str | Device | None = None) -> None:
    """Give memory that is held but not used back to the system.

    Parameters
    ----------
    device : device, optional
        The CPU by default.

    Examples
    --------
    >>> empty_cache("cpu")
    """
    target = resolve_device(device)
    if target.type == "cuda":
        with device_context(target):
            cupy().get_default_memory_pool().free_all_blocks()
            cupy().get_default_pinned_memory_pool().free_all_blocks()
        return
    libc = _libc()
    if libc is not None:
        libc.malloc_trim(0)


def memory_stats(device: str | Device | None = None) -> MemoryStats:
    """Return how much memory is used on `device` (the CPU by default).

    Examples
    --------
    >>> memory_stats("cpu").used >= 0
    True
    """
    target = resolve_device(device)
    if target.type == "cuda":
        with device_context(target):
            pool = cupy().get_default_memory_pool()
            held = int(pool.total_bytes())
            total = int(cupy().cuda.runtime.memGetInfo()[1])
            # The pool returns nothing on its own, so what it holds is its peak.
            return MemoryStats(int(pool.used_bytes()), held, held, total)
    used, peak = _resident()
    return MemoryStats(used, used, peak, _machine_memory())


def reset_peak() -> bool:
    """Start the CPU's peak anew from the present; False where the system cannot."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _resident() -> tuple[int, int]:
    """Return resident memory and its peak, in bytes."""
    try:
        fields = dict(
            line.split(":", 1)
            for line in Path("/proc/self/status").read_text().splitlines()
            if line.startswith(("VmRSS", "VmHWM"))
        )
        used, peak = (int(fields[k].split()[0]) * 1024 for k in ("VmRSS", "VmHWM"))
        return used, peak
    except (OSError, KeyError, ValueError):
        pass
    if sys.platform == "win32":
        return _resident_on_windows()
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    peak = int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit
    return peak, peak


def _resident_on_windows() -> tuple[int, int]:
    class Counters(ctypes.Structure):
        _fields_ = [
            ("cb", ctypes.c_uint32),
            ("faults", ctypes.c_uint32),
            ("peak", ctypes.c_size_t),
            ("used", ctypes.c_size_t),
            ("rest", ctypes.c_size_t * 6),
        ]

    counters = Counters()
    counters.cb = ctypes.sizeof(counters)
    library: Any = ctypes.WinDLL("psapi")  # type: ignore[attr-defined, unused-ignore]
    kernel: Any = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined, unused-ignore]
    kernel.GetCurrentProcess.restype = ctypes.c_void_p
    process = ctypes.c_void_p(kernel.GetCurrentProcess())
    if not library.GetProcessMemoryInfo(process, ctypes.byref(counters), counters.cb):
        return 0, 0
    return int(counters.used), int(counters.peak)


def _machine_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0
