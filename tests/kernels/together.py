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

import numpy as np


@contextlib.contextmanager
def blocks_together() -> Iterator[list[int]]:
    """Run the blocks of each launch in threads; yields how many each launch had."""
    runner = importlib.import_module("numba.cuda.simulator.kernel")
    api = importlib.import_module("numba.cuda.simulator.kernelapi")
    manager, shared = runner.BlockManager, api.FakeCUDAShared.array
    counts: list[int] = []
    workers: list[threading.Thread] = []
    errors: list[BaseException] = []

    class Together(manager):  # type: ignore[misc, valid-type]
        def run(self, grid_point: Any, *args: Any) -> None:
            def block() -> None:
                try:
                    super(Together, self).run(grid_point, *args)
                except BaseException as error:
                    errors.append(error)

            workers.append(threading.Thread(target=block))
            if len(workers) < np.prod(self._grid_dim):
                return
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            counts.append(len(workers))
            workers.clear()
            if errors:
                raise errors[0]

    lock = threading.Lock()

    def array(self: Any, shape: Any, dtype: Any, alignment: Any = None) -> Any:
        thread: Any = threading.current_thread()
        frame = sys._getframe(1)
        key = thread.blockIdx.x, frame.f_code, frame.f_lineno
        with lock:
            if key not in self._allocations:
                self._allocations[key] = np.full(shape, np.nan, dtype)
            return self._allocations[key]

    interval = sys.getswitchinterval()
    runner.BlockManager, api.FakeCUDAShared.array = Together, array
    sys.setswitchinterval(1e-5)
    try:
        yield counts
    finally:
        runner.BlockManager, api.FakeCUDAShared.array = manager, shared
        sys.setswitchinterval(interval)
