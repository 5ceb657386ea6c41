"""The memory of the PTX interpreter: live arrays at their own addresses, checked.

Every access is looked up in a table of intervals, so that one outside of every array,
or off its natural alignment, is an error and not a crash.
"""

from __future__ import annotations

import gc
from typing import Any

import numpy as np

from nnlib.kernels.machinery.arrays import DeviceArray

GLOBAL, SHARED, LOCAL = 1, 2, 4
SPACES = {"": GLOBAL | SHARED | LOCAL, "global": GLOBAL, "shared": SHARED}
SPACES["local"] = LOCAL

# Views of all addresses begin here: no array lies lower.
_FIRST = 1 << 12


class Fault(Exception):
    """What a kernel did that a GPU would not do, or not reliably."""


class _Everything:
    """All of the process's memory, for NumPy to make a view of."""

    def __init__(self, dtype: str) -> None:
        size = np.dtype(dtype).itemsize
        self.__array_interface__ = {
            "data": (_FIRST, False),
            "shape": ((1 << 47) // size - _FIRST // size,),
            "typestr": np.dtype(dtype).str,
            "version": 3,
        }


_views: dict[str, Any] = {}


def view(dtype: str) -> tuple[Any, int]:
    """Return memory as elements of a type, and the bits to shift an address by."""
    if dtype not in _views:
        size = np.dtype(dtype).itemsize
        _views[dtype] = np.asarray(_Everything(dtype)), size.bit_length() - 1
    return _views[dtype]


def extent(array: Any) -> tuple[int, int]:
    """Return the addresses of an array's first byte and past its last."""
    low, high = np.lib.array_utils.byte_bounds(array)
    return int(low), int(high)


class Memory:
    """What a launch may touch."""

    def __init__(self) -> None:
        self._kept: list[Any] = []
        self._parts: list[tuple[int, int, int]] = [(0, 0, 0)]
        self._searched = False
        self._order()

    def add(self, array: Any, space: int = GLOBAL) -> None:
        """Allow accesses to an array."""
        self._kept.append(array)
        if array.size:
            self._parts.append((*extent(array), space))
            self._order()

    def allocate(
        self, wanted: list[tuple[int, int]], count: int, space: int
    ) -> list[Any]:
        """Make `count` areas for each size and alignment; return their addresses.

        They are aligned as declared and no more, with gaps between them. Values that no
        kernel has written are not numbers.
        """
        offsets, end = [], 0
        for size, align in wanted:
            offsets.append(end + -end % (2 * align) + align)
            end = offsets[-1] + size
        pitch = end + 64 - end % 64
        whole = np.full(pitch * count + 64, 0xFF, np.uint8)
        start = extent(whole)[0] + -extent(whole)[0] % 64
        self._kept.append(whole)
        result = []
        for (size, _), offset in zip(wanted, offsets, strict=True):
            places = start + offset + pitch * np.arange(count)
            self._parts += [(int(p), int(p) + size, space) for p in places]
            result.append(places.astype(np.uint64))
        self._order()
        return result

    def constants(self, values: list[int]) -> int:
        """Make a table in global memory; return its address."""
        table = np.array(values, np.uint64).astype(np.uint8)
        whole = np.concatenate([table, np.zeros(32, np.uint8)])
        shift = -extent(whole)[0] % 16
        whole[shift : shift + len(table)] = table
        self.add(whole[shift : shift + len(table)])
        return extent(whole)[0] + shift

    def _order(self) -> None:
        merged: list[list[int]] = []
        for low, high, space in sorted(self._parts):
            if merged and low < merged[-1][1] and space == merged[-1][2]:
                merged[-1][1] = max(high, merged[-1][1])
            else:
                merged.append([low, high, space])
        table = np.array(merged, np.uint64)
        self._lows, self._highs, self._spaces = table.T.copy()
        sizes = (self._highs - self._lows).astype(np.int64)
        # The number of the first byte of each interval, all counted through.
        self._numbers = np.concatenate([[0], np.cumsum(sizes)])

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return int(self._numbers[-1])

    def numbers(self, addresses: Any) -> Any:
        """Return the numbers of bytes, counted through all arrays."""
        place = np.searchsorted(self._lows, addresses, "right") - 1
        return (addresses - self._lows[place]).astype(np.int64) + self._numbers[place]

    def _search(self) -> None:
        """Add the arrays of the fake device that no argument lies in."""
        self._searched = True
        mine = [extent(a) for a in self._kept if a.size]
        for found in gc.get_objects():
            if type(found) is DeviceArray and found.size:
                low, high = extent(found)
                if not any(low <= a and b <= high for a, b in mine):
                    self._parts.append((low, high, GLOBAL))
        self._order()

    def check(self, addresses: Any, size: int, bytes_: int, space: int) -> str:
        """Return what is wrong with accesses to `bytes_` bytes, or nothing.

        `size` is that of an element, a power of two.
        """
        if (addresses & np.uint64(bytes_ - 1)).any():
            lane = int((addresses & np.uint64(bytes_ - 1)).argmax())
            return f"access {lane} is not aligned to {bytes_} bytes"
        outside = self._outside(addresses, bytes_, space)
        if outside.any() and not self._searched:
            self._search()
            outside = self._outside(addresses, bytes_, space)
        if outside.any():
            lane = int(outside.argmax())
            at = int(addresses[lane])
            low = int(np.searchsorted(self._lows, addresses[lane], "right")) - 1
            past = at + bytes_ - int(self._highs[low])
            return f"access {lane} is outside of every array ({past} bytes past one)"
        return ""

    def _outside(self, addresses: Any, bytes_: int, space: int) -> Any:
        place = np.searchsorted(self._lows, addresses, "right") - 1
        wrong = addresses + np.uint64(bytes_) > self._highs[place]
        return wrong | (self._spaces[place] & np.uint64(space) == 0)
