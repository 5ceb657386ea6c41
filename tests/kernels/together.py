"""Numba's simulator with all blocks of a launch at once, as on a GPU.

The simulator runs one block after the other, where blocks that wait for one another
would wait for ever.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

import block_threads
import numpy as np


@contextlib.contextmanager
def blocks_together() -> Iterator[list[int]]:
    """Run the blocks of each launch in threads; yields how many each launch had."""
    runner = importlib.import_module("numba.cuda.simulator.kernel")
    manager = runner.BlockManager
    counts: list[int] = []
    workers: list[threading.Thread] = []
    errors: list[BaseException] = []

    class Together(block_threads.Block):
        def __init__(self, function: Any, grid: Any, threads: Any, debug: Any):
            super().__init__(function, grid, threads, debug)
            self.count = np.prod(grid)

        def run(self, grid_point: Any, *args: Any) -> None:
            def block() -> None:
                try:
                    super(Together, self).run(grid_point, *args)
                except BaseException as error:
                    errors.append(error)

            workers.append(threading.Thread(target=block))
            if len(workers) < self.count:
                return
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            counts.append(len(workers))
            workers.clear()
            if errors:
                raise errors[0]

    interval = sys.getswitchinterval()
    runner.BlockManager = Together
    sys.setswitchinterval(1e-5)
    try:
        yield counts
    finally:
        runner.BlockManager = manager
        sys.setswitchinterval(interval)
