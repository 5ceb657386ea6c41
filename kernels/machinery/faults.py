"""Bad indices found by CUDA kernels, told at the next synchronisation.

A kernel that meets an index out of bounds must not read there, and must not stop the
GPU or wait for it either. It leaves the lowest position of a bad index in a slot, skips
the element and goes on; whoever next waits for the device (`nnlib.backend.device`) has
the slots read, and the error is raised there::

    slots, slot = faults.open_slot(labels, lambda position, value: Error(...))
    loss_cuda(logits, labels, out, slots, slot, items=labels.size)

    # in the kernel
    if label < 0 or label >= classes:
        cuda.atomic.min(slots, slot, i)

An integer minimum does not depend on the order of the threads.

A CUDA graph that is recorded has slots of its own: each replay fills them again.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from nnlib.backend import device as backend
from nnlib.backend import driver
from nnlib.backend.recording import Recording, current, refuse, state
from nnlib.kernels.machinery.arrays import DeviceArray, there, upload

__all__ = ["check", "open_slot"]

# Launches between two synchronisations; with more, one is forced.
_SLOTS = 1024
_NOTHING = np.iinfo(np.int64).max

Describe = Callable[[int, int], Exception]


class _Board:
    """The slots of one device, and what each one in use is about."""

    def __init__(self, like: Any) -> None:
        nothing = np.full(_SLOTS, _NOTHING, np.int64)
        self.slots = upload(nothing, like, "check of indices")
        self.pending: list[tuple[Any, Describe]] = []
        # The streams whose launches use them.
        self.streams: set[int] = set()

    def read(self) -> None:
        if not self.pending:
            return
        pending, self.pending = self.pending, []
        streams, self.streams = self.streams, set()
        if streams - {_stream(self.slots)}:
            # Those that read the slots wait for the current stream alone.
            backend.cupy().cuda.runtime.deviceSynchronize()
        used = self.slots[: len(pending)]
        found = used.get() if hasattr(used, "get") else np.array(used)
        if (found == _NOTHING).all():
            return
        used.fill(_NOTHING)
        for position, (indices, describe) in zip(found, pending, strict=True):
            if position != _NOTHING:
                value = indices.reshape(-1)[int(position)].item()
                raise describe(int(position), value)


_boards: dict[Any, _Board] = {}


class _RecordedBoard(_Board):
    """The slots of a CUDA graph, which stay as its launches have them."""

    def __init__(self, like: Any, recording: Recording) -> None:
        self.slots = recording.lasting(like, (_SLOTS,), np.int64)
        self.pending = []
        self.streams = set()
        self._replayed = False
        recording.after.append(lambda: self.slots.fill(_NOTHING))
        # The graph holds the board, and this list does not.
        recording.before.append(self._mark)
        _recorded.add(self)

    def _mark(self) -> None:
        self._replayed = True
        self.streams.add(_stream(self.slots))

    def read(self) -> None:
        if not self._replayed:
            return
        self._replayed = False
        pending = self.pending
        try:
            super().read()
        except Exception as error:
            error.add_note("in a replayed CUDA graph; the value is the last replay's")
            raise
        finally:
            self.pending = pending


_recorded: weakref.WeakSet[_RecordedBoard] = weakref.WeakSet()


def _stream(like: Any) -> int:
    """Return the address of the current stream; 0 where there are none."""
    if type(like) is DeviceArray:
        return 0
    return int(driver.bindings()[1]().ptr)


def open_slot(indices: Any, describe: Describe, more: int = 0) -> tuple[Any, int]:
    """Return the slots of the device of `indices`, and the number of a free one.

    Parameters
    ----------
    indices : array
        What the kernel checks; positions are those of its flattened elements. Kept
        until the next synchronisation, to look the bad value up.
    describe : callable
        ``describe(position, value)`` makes the exception.
    more : int
        How many slots the same launch will open after this one.

    Returns
    -------
    slots : int64 array
        For the kernel: it holds the lowest bad position of each launch.
    slot : int
        The element that is this launch's.
    """
    key = getattr(getattr(indices, "device", None), "id", None)
    found = None if state.recording is None else current()
    board = (_boards if found is None else found.kept).get(key)
    if board is None:
        if found is None:
            board = _boards[key] = _Board(indices)
        else:
            board = found.kept[key] = _RecordedBoard(indices, found)
    if len(board.pending) + more >= _SLOTS:
        refuse(f"more than {_SLOTS} checks of indices")
        board.read()
    board.pending.append((indices, describe))
    board.streams.add(_stream(indices))
    return board.slots, len(board.pending) - 1


def check() -> None:
    """Raise the first error that kernels have left; waits for their devices.

    Raises
    ------
    Exception
        What ``describe`` of the launch made.
    """
    for key, board in _boards.items():
        if not board.pending:
            continue
        if isinstance(key, int):
            with backend.cupy().cuda.Device(key):
                board.read()
        else:
            board.read()
    for board in list(_recorded):
        with there(board.slots):
            board.read()


backend.on_synchronize(check)
