"""Memory of the stand-in for CuPy: blocks, pools, and what is spoilt when freed."""

from __future__ import annotations

import ctypes
import types
import weakref
from typing import Any

import numpy as np

# Buffers stay, so that a stale address is a wrong number and no crash.
_buffers: list[Any] = []
# The graph that is being recorded, if any.
recording: list[Any] = []


class Memory:
    """A block of the device's memory."""

    device_id = 0

    def __init__(self, size: int) -> None:
        self.size = size
        buffer = np.full(size + 512, 0xAB, np.uint8)
        _buffers.append(buffer)
        self.ptr = buffer.ctypes.data + -buffer.ctypes.data % 512


class UnownedMemory:
    """A block of somebody else's."""

    def __init__(self, ptr: int, size: int, owner: Any, device_id: int) -> None:
        self.ptr, self.size, self._owner = ptr, size, owner
        self.device_id = device_id


class MemoryPointer:
    """A place in a block, which it keeps."""

    device_id = 0

    def __init__(self, mem: Any, offset: int) -> None:
        self.mem, self.ptr = mem, mem.ptr + offset


class _Pooled:
    """A block of a pool, which has it back at the end."""

    device_id = 0

    def __init__(self, block: Any, free: Any) -> None:
        self.ptr, self.size = block.ptr, block.size
        weakref.finalize(self, _give_back, block, free)


def _give_back(block: Any, free: Any) -> None:
    if not recording:
        # What a recording frees is still written by what it has recorded.
        ctypes.memset(block.ptr, 0xCD, block.size)
    free.setdefault(block.size, []).append(block)


class MemoryPool:
    """A pool of blocks."""

    def __init__(self, allocator: Any = None) -> None:
        self._allocator = allocator or (lambda size: MemoryPointer(Memory(size), 0))
        self._free: dict[int, list[Any]] = {}

    def malloc(self, size: int) -> Any:
        if not size:
            return MemoryPointer(types.SimpleNamespace(ptr=0, size=0), 0)
        size = -(-size // 512) * 512
        free = self._free.get(size)
        block = free.pop() if free else self._allocator(size).mem
        return MemoryPointer(_Pooled(block, self._free), 0)

    def free_all_blocks(self) -> None:
        self._free.clear()

    def used_bytes(self) -> int:
        return 0

    total_bytes = used_bytes
