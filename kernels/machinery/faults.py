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
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nnlib.backend import device as backend
from nnlib.kernels.machinery.arrays import array_module

__all__ = ["check", "open_slot"]

# Launches between two synchronisations; with more, one is forced.
_SLOTS = 1024
_NOTHING = np.iinfo(np.int64).max

Describe = Callable[[int, int], Exception]


class _Board:
    """The slots of one device, and what each one in use is about."""

    def __init__(self, module: Any) -> None:
        self.slots = module.full(_SLOTS, _NOTHING, dtype=np.int64)
        self.pending: list[tuple[Any, Describe]] = []

    def read(self) -> None:
        if not self.pending:
            return
        pending, self.pending = self.pending, []
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


def open_slot(indices: Any, describe: Describe) -> tuple[Any, int]:
    """Return the slots of the device of `indices`, and the number of a free one.

    Parameters
    ----------
    indices : array
        What the kernel checks; positions are those of its flattened elements. Kept
        until the next synchronisation, to look the bad value up.
    describe : callable
        ``describe(position, value)`` makes the exception.

    Returns
    -------
    slots : int64 array
        For the kernel: it holds the lowest bad position of each launch.
    slot : int
        The element that is this launch's.
    """
    module = array_module(indices)
    key = getattr(getattr(indices, "device", None), "id", None)
    board = _boards.get(key)
    if board is None:
        board = _boards[key] = _Board(module)
    if len(board.pending) == _SLOTS:
        board.read()
    board.pending.append((indices, describe))
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


backend.on_synchronize(check)
