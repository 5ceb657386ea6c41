"""Accesses to memory whose order nothing decides: a missing barrier, found.

The interpreter runs threads together, and so would never see one run ahead. Here each
element knows who read and who wrote it: two threads of a block may do so, one of them
writing, with a barrier in between alone; two blocks may not at all, unless the kernel
has atomic operations, by which blocks wait for one another.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ptx_memory import Fault

__all__ = ["Order"]

_NOBODY, _MANY_BLOCKS = -1, -(1 << 40)


class Order:
    """Who read and wrote the elements of a launch's memory, and when.

    Attributes
    ----------
    now : numpy.ndarray
        How many barriers each block has passed.
    reads : bool
        Whether what is read counts; if not, only two writers are refused.
    """

    def __init__(self, machine: Any) -> None:
        self._machine = machine
        self.now = np.zeros(machine.blocks, np.int64)
        self.reads = True
        self._size = -1
        self._blocks_meet = any(
            made.name.startswith("atom.")
            for block in machine.program.blocks
            for made in block
        )

    def _begin(self) -> None:
        """Forget all: there is more memory now than before."""
        self._size = self._machine.memory.size
        # A reader is a thread, or -2 - block for several threads of one block.
        self._writer = np.full(self._size, _NOBODY)
        self._reader = np.full(self._size, _NOBODY)
        self._written = np.zeros(self._size, np.int64)
        self._seen = np.zeros(self._size, np.int64)

    def _block_of(self, who: Any) -> Any:
        many = np.where(who == _MANY_BLOCKS, -1, -2 - who)
        return np.where(who >= 0, self._machine.block[np.maximum(who, 0)], many)

    def _meets(self, who: Any, when: Any, lanes: Any, now: Any) -> Any:
        """Tell where an earlier access is another thread's and not ordered."""
        other = (who != _NOBODY) & (who != lanes)
        same = self._block_of(who) == self._machine.block[lanes]
        apart = not self._blocks_meet
        return other & np.where(same, when == now, apart)

    def note(
        self, addresses: Any, size: int, count: int, mask: Any, writes: bool
    ) -> None:
        """Take down accesses to `count` elements each; refuse those in no order."""
        if self._size != self._machine.memory.size:
            self._begin()
        if not (self.reads or writes):
            return
        lanes = self._machine.lane if mask is True else self._machine.lane[mask]
        now = self.now[self._machine.block[lanes]]
        first = self._machine.memory.numbers(addresses)
        for at in (first + n * size for n in range(count)):
            wrong = self._meets(self._writer[at], self._written[at], lanes, now)
            if writes:
                wrong |= self._meets(self._reader[at], self._seen[at], lanes, now)
                self._writer[at], self._written[at] = lanes, now
                wrong |= self._writer[at] != lanes
            else:
                self._read(at, lanes, now)
            if wrong.any():
                where = self._machine.where(mask, int(wrong.argmax()))
                raise Fault(f"{where}: no barrier orders this and another's access")

    def _read(self, at: Any, lanes: Any, now: Any) -> None:
        before, block = self._reader[at], self._machine.block[lanes]
        same = self._block_of(before) == block
        fresh = (before == _NOBODY) | (before == lanes) | same & (self._seen[at] < now)
        several = np.where(same, -2 - block, _MANY_BLOCKS)
        mine = np.where(fresh, lanes, several)
        self._reader[at], self._seen[at] = mine, now
        # Several threads of this very access: the last one's mark has stayed.
        last = self._reader[at]
        shared = last != mine
        if shared.any():
            one = self._block_of(last[shared]) == block[shared]
            self._reader[at[shared]] = np.where(one, -2 - block[shared], _MANY_BLOCKS)
