"""The threads of a simulated block, which take turns in a known order.

Numba's simulator starts a thread of the system for each thread of a block, and asks all
of them again and again whether they have come to a barrier: most of its time is that.
Here one thread of the system runs the block's threads one after the other, and only one
that waits at a barrier keeps it, and lets another go on. The turns go up after one
barrier and down after the next, so that a barrier which is missing shows both ways.
"""

from __future__ import annotations

import collections
import importlib
import sys
import threading
from typing import Any

import numpy as np

# Threads of the system without work, of all blocks.
_idle: list[Worker] = []


class Worker(threading.Thread):
    """A thread of the system; the simulator asks it which CUDA thread it runs."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.turn = threading.Semaphore(0)
        self.block: Block
        self.start()

    def run(self) -> None:
        while True:
            self.turn.acquire()
            block = self.block
            block.go_on(self)
            _idle.append(self)
            block.pass_on()

    def take(self, block: Block, point: tuple[int, int, int]) -> None:
        """Be the thread at `point` of `block`."""
        self.block, self.blockIdx = block, block.place
        self.threadIdx = block.triple(*point)
        self.number = point

    def syncthreads(self) -> None:
        """Wait until all threads of the block are here or at their end."""
        self.block.waiting.append(self)
        self.block.pass_on()
        self.turn.acquire()
        if self.block.error is not None:
            raise RuntimeError("another thread of the block has failed")


class Block:
    """One block of a launch, in place of the simulator's `BlockManager`."""

    def __init__(self, function: Any, grid_dim: Any, block_dim: Any, debug: Any):
        self._function = function
        self.shape = block_dim
        self.triple = importlib.import_module("numba.cuda.simulator.kernelapi").Dim3

    def run(self, grid_point: Any, *args: Any) -> None:
        """Run all threads of the block at `grid_point` of the grid."""
        self.place = self.triple(*grid_point)
        self.args = args
        self.points = collections.deque(np.ndindex(*self.shape))
        self.waiting: list[Worker] = []
        self.ready: list[Worker] = []
        self.rounds = 0
        self.error: Exception | None = None
        self.done = threading.Semaphore(0)
        self.pass_on()
        self.done.acquire()
        if self.error is not None:
            raise self.error

    def go_on(self, worker: Worker) -> None:
        """Run threads that have not begun, as long as there are any."""
        while self.points:
            worker.take(self, self.points.popleft())
            try:
                self._function(*self.args)
            except Exception as error:
                self._fail(worker, error)

    def _fail(self, worker: Worker, error: Exception) -> None:
        self.points.clear()
        if self.error is None:
            error.add_note(f"in thread {worker.threadIdx} of block {self.place}")
            self.error = error

    def pass_on(self) -> None:
        """Give the turn to the next thread; after the last, back to the launch."""
        if self.points:
            worker = _idle.pop() if _idle else Worker()
            worker.block = self
            worker.turn.release()
            return
        if not self.ready:
            self.ready, self.waiting = self.waiting, []
            self.rounds += 1
            # Taken from the end.
            self.ready.sort(
                key=lambda worker: worker.number, reverse=self.rounds % 2 == 0
            )
        if self.ready:
            self.ready.pop().turn.release()
        else:
            self.done.release()


def shared_array(self: Any, shape: Any, dtype: Any, alignment: Any = None) -> Any:
    """Return the block's shared array of the line that asks, at first full of NaN."""
    thread: Any = threading.current_thread()
    frame = sys._getframe(1)
    key = thread.block, frame.f_code, frame.f_lineno
    if key not in self._allocations:
        self._allocations[key] = np.full(shape, np.nan, dtype)
    return self._allocations[key]
