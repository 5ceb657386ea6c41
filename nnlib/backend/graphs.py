"""CUDA graphs: launches that are recorded once and replayed by one call.

A graph remembers addresses. So while it is recorded, memory comes from a pool of its
own, of which nothing is given back while the graph or an array in it lives; and what
the host would do anew at each step is done by `Recording.before`.
"""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from nnlib.backend import cublas_recorded, device, driver, memory
from nnlib.backend.errors import DeviceError
from nnlib.backend.recording import Recording, refuse, state

__all__ = ["CUDAGraph", "Pool", "graph"]

# Held by the one recording under way.
_under_way = threading.Lock()


class Pool:
    """Memory of graphs, which goes back to the system with its last user.

    Blocks are used again within the pool, in the order of the stream that records.

    Attributes
    ----------
    fresh : callable
        ``fresh(size)`` returns memory that is used for nothing else.
    """

    def __init__(self) -> None:
        cuda = device.cupy().cuda
        # CuPy's pool would give blocks back when memory runs short, although a graph
        # reads and writes them: they are held here.
        self._blocks: list[Any] = []
        blocks = self._blocks

        def grow(size: int) -> Any:
            block = cuda.Memory(size)
            blocks.append(block)
            return cuda.MemoryPointer(block, 0)

        self.fresh = grow
        self._pool = cuda.MemoryPool(grow)
        self._cuda = cuda

    def malloc(self, size: int) -> Any:
        """Return memory that keeps the pool alive (an allocator for CuPy)."""
        pointer = self._pool.malloc(size)
        if not pointer.ptr:
            return pointer
        cuda = self._cuda
        owner = pointer, self
        whole = cuda.UnownedMemory(pointer.ptr, size, owner, pointer.device_id)
        return cuda.MemoryPointer(whole, 0)

    def owns(self, address: int) -> bool:
        """Tell whether an address lies in the pool's memory."""
        return any(b.ptr <= address < b.ptr + b.size for b in self._blocks)

    def nbytes(self) -> int:
        """Return how much memory the pool holds."""
        return sum(block.size for block in self._blocks)


class CUDAGraph:
    """A graph of CUDA work, recorded within `graph` and run by `replay`.

    A replay launches what was recorded, on the same memory: write new input into the
    tensors that were the input (``x.copy_(batch)``), and read the results from those
    that were the results.

    What the host decides is decided once, by the recording: sizes, branches, numbers
    handed to operations. Renewed before each replay are the random numbers, and of
    nnlib's optimisers the number of the step and the options of ``param_groups`` (a
    learning rate that a schedule has changed).
    """

    def __init__(self) -> None:
        self._cupy = device.cupy()
        self._captured: Any = None
        self._recording: Recording | None = None
        self._stack: contextlib.ExitStack | None = None
        self._stream: Any = None

    def capture_begin(self, pool: Pool | None = None, stream: Any = None) -> None:
        """Begin to record this thread's work; `graph` does so, and ends it.

        Parameters
        ----------
        pool : Pool, optional
            Another graph's ``pool()``, if both are replayed in the order in which they
            were recorded, never at once.
        stream : cupy.cuda.Stream, optional
            Where to record, not the default one.

        Raises
        ------
        DeviceError
            If a graph is being recorded already.
        """
        if not _under_way.acquire(blocking=False):
            raise DeviceError("graph: another CUDA graph is being recorded already")
        try:
            self._begin(pool, stream)
        except BaseException:
            _under_way.release()
            raise

    def _begin(self, pool: Pool | None, stream: Any) -> None:
        self.reset()
        cuda = self._cupy.cuda
        cuda.runtime.deviceSynchronize()
        device.run_checks()
        # What nobody uses goes back now, for the pool takes new memory.
        gc.collect()
        memory.empty_cache("cuda")
        number = int(driver.bindings()[0]())
        recording = Recording(number, Pool() if pool is None else pool)
        self._stream = cuda.Stream(non_blocking=True) if stream is None else stream
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._stream)
            cublas_recorded.prepare(recording, self._stream)
            stack.enter_context(cuda.using_allocator(recording.pool.malloc))
            stack.enter_context(_uploads_refused(cuda, recording))
            self._stream.begin_capture()
            self._recording = state.recording = recording
            self._stack = stack.pop_all()

    def capture_end(self, failed: bool = False) -> None:
        """End the recording.

        Parameters
        ----------
        failed : bool
            Whether the work to record has raised: then nothing is kept.

        Raises
        ------
        DeviceError
            If CUDA cannot make a graph of what was recorded.
        """
        recording, stack = self._recording, self._stack
        if recording is None or stack is None:
            raise DeviceError("graph: the recording has not begun")
        self._stack, state.recording = None, None
        problem: Exception | None = None
        try:
            with stack:
                try:
                    captured = self._stream.end_capture()
                except Exception as error:  # noqa: BLE001 - told below
                    problem = error
        finally:
            _under_way.release()
        if failed or problem is not None:
            self.reset()
            # They know the recording, which would wait for the collector.
            recording.after.clear()
            recording.kept.clear()
            if failed:
                return
            raise DeviceError(
                f"graph: CUDA cannot make a graph of what was recorded: {problem}; "
                "something in it has waited for the GPU, or for another stream"
            ) from problem
        with self._stream:
            for finish in recording.after:
                finish()
        self._stream.synchronize()
        recording.after.clear()
        recording.kept.clear()
        self._captured = captured

    def replay(self) -> None:
        """Run what was recorded, on the current stream; returns at once.

        Raises
        ------
        DeviceError
            If nothing has been recorded, if another device than the recording's is the
            current one, or if an optimiser's parameters or state have been replaced.
        """
        recording = self._recording
        if self._captured is None or recording is None:
            raise DeviceError("replay: nothing has been recorded")
        found = int(driver.bindings()[0]())
        if found != recording.device:
            raise driver.elsewhere("replay", recording.device, found)
        for prepare in recording.before:
            prepare()
        self._captured.launch()

    def reset(self) -> None:
        """Forget what was recorded."""
        self._captured = self._recording = None

    def pool(self) -> Pool:
        """Return the graph's memory, which another one may share."""
        if self._recording is None:
            raise DeviceError("pool: nothing has been recorded")
        pool: Pool = self._recording.pool
        return pool


class graph:  # noqa: N801 - PyTorch's name
    """Record the work of a ``with`` block into a `CUDAGraph`; nothing of it runs.

    The same work must have run before, two times or more: kernels are compiled, tables
    copied to the device and an optimiser's state made then. Within the block nothing
    may wait for a result (``item()``), nor be copied from the CPU.

    Parameters
    ----------
    cuda_graph : CUDAGraph
        What it recorded before is forgotten.
    pool : Pool, optional
        Another graph's ``pool()``; see `CUDAGraph.capture_begin`.
    stream : cupy.cuda.Stream, optional
        Where to record; one of its own by default.

    Raises
    ------
    DeviceError
        If the block does what cannot be recorded.
    """

    def __init__(
        self, cuda_graph: CUDAGraph, pool: Pool | None = None, stream: Any = None
    ) -> None:
        self._graph, self._options = cuda_graph, (pool, stream)

    def __enter__(self) -> None:
        """Begin."""
        self._graph.capture_begin(*self._options)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End; say what CUDA's own errors mean here."""
        self._graph.capture_end(failed=error is not None)
        if error is not None and _is_cuda(error):
            raise DeviceError(
                f"graph: this cannot be recorded: {type(error).__name__}: {error}"
            ) from error


def _is_cuda(error: BaseException) -> bool:
    """Tell whether CUDA or CuPy has refused something (nnlib's errors explain)."""
    return isinstance(error, RuntimeError) and (
        "captur" in str(error).lower() or "cuda" in type(error).__name__.lower()
    )


@contextlib.contextmanager
def _uploads_refused(cuda: Any, recording: Recording) -> Iterator[None]:
    """Refuse CuPy's copies from the CPU in the thread that records.

    They go through page-locked memory, which is another's by the time of a replay.
    """
    usual = device.cupy().get_default_pinned_memory_pool().malloc

    def malloc(size: int) -> Any:
        if state.recording is recording:
            refuse("a copy from the CPU")
        return usual(size)

    cuda.set_pinned_memory_allocator(malloc)
    try:
        yield
    finally:
        cuda.set_pinned_memory_allocator(usual)
