"""The sizes of the processor's caches, by which kernels choose their ways.

Level 2 decides on the size of blocks, the last level on how results are written.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from pathlib import Path

__all__ = ["level2_bytes", "outgrows_caches", "parse_size"]

# What is taken where the system does not tell, and the bounds of what is believed.
_USUAL, _LEAST, _MOST = 1 << 20, 1 << 18, 1 << 22
_USUAL_LAST, _LEAST_LAST = 1 << 25, 1 << 23
_FOLDER = Path("/sys/devices/system/cpu/cpu0/cache")


def parse_size(text: str) -> int:
    """Return the bytes of a size as Linux writes it.

    Examples
    --------
    >>> parse_size("512K"), parse_size("2M"), parse_size("64")
    (524288, 2097152, 64)
    """
    text = text.strip()
    unit = {"K": 1 << 10, "M": 1 << 20}.get(text[-1:].upper(), 1)
    return int(text.rstrip("kKmM")) * unit


def _linux(level: str = "2") -> int:
    for place in sorted(_FOLDER.glob("index*")):
        if (place / "level").read_text().strip() == level:
            return parse_size((place / "size").read_text())
    return 0


def _macos() -> int:
    library = ctypes.CDLL(None)
    value, size = ctypes.c_uint64(0), ctypes.c_size_t(8)
    failed = library.sysctlbyname(
        b"hw.l2cachesize", ctypes.byref(value), ctypes.byref(size), None, 0
    )
    return 0 if failed else value.value


@functools.cache
def level2_bytes() -> int:
    """Return the bytes of one core's level-2 cache; 1 MB where nothing tells.

    Examples
    --------
    >>> 2**18 <= level2_bytes() <= 2**22
    True
    """
    try:
        found = {"linux": _linux, "darwin": _macos}.get(sys.platform, int)()
    except (OSError, ValueError, AttributeError):
        found = 0
    return min(max(found, _LEAST), _MOST) if found else _USUAL


@functools.cache
def _last_bytes() -> int:
    """Return the bytes of the level-3 cache; 32 MB where nothing tells."""
    try:
        found = _linux("3") if sys.platform == "linux" else 0
    except (OSError, ValueError):
        found = 0
    return max(found, _LEAST_LAST) if found else _USUAL_LAST


def outgrows_caches(count: int) -> bool:
    """Tell whether so many bytes have left the caches before they are read again.

    Examples
    --------
    >>> outgrows_caches(2**20), outgrows_caches(2**40)
    (False, True)
    """
    return count > _last_bytes()
