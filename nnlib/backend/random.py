"""Counter-based random state: a seed and a position in its Philox stream.

A `Generator` holds no bits. It hands out stretches of counters; the Philox kernel
turns counter ``offset + i`` into element ``i``, so that the numbers are the same
on the CPU and on CUDA and do not depend on the number of threads.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from nnlib.backend.device import CPU, Device, resolve_device
from nnlib.backend.errors import DTypeError, ShapeError
from nnlib.backend.recording import Recording, current, refuse, state

__all__ = [
    "Generator",
    "RecordedSeed",
    "default_generator",
    "initial_seed",
    "manual_seed",
    "seed",
]

_MASK = (1 << 64) - 1


class Generator:
    """A seeded source of random numbers (Philox4x32-10).

    Parameters
    ----------
    device : str or Device, default "cpu"
        Kept for PyTorch's signature: the numbers are equal on every device.

    Examples
    --------
    >>> Generator().manual_seed(7).initial_seed()
    7
    """

    def __init__(self, device: str | Device | None = None) -> None:
        self.device = CPU if device is None else resolve_device(device)
        self._lock = threading.Lock()
        self._seed = 0x9E3779B97F4A7C15
        self._offset = 0

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle as a generator in the same state: locks cannot be."""
        return _restored, (self.device, self.get_state())

    def manual_seed(self, seed: int) -> Generator:
        """Set the seed (taken modulo 2**64) and go back to the stream's start."""
        if isinstance(seed, bool) or not hasattr(seed, "__index__"):
            raise DTypeError(
                f"manual_seed: seed: expected an integer, got {type(seed).__name__}"
            )
        refuse("manual_seed")
        with self._lock:
            self._seed, self._offset = int(seed) & _MASK, 0
        return self

    def seed(self) -> int:
        """Set a seed from the operating system's entropy and return it."""
        value = secrets.randbits(64)
        self.manual_seed(value)
        return value

    def initial_seed(self) -> int:
        """Return the seed that was set last."""
        return self._seed

    def get_state(self) -> tuple[int, int]:
        """Return ``(seed, offset)``: all there is to know."""
        return self._seed, self._offset

    def set_state(self, state: tuple[int, int]) -> None:
        """Go to a state that `get_state` returned."""
        if len(state) != 2 or not all(isinstance(part, int) for part in state):
            raise ShapeError(
                f"Generator.set_state: expected (seed, offset), got {state!r}"
            )
        if state[0] & _MASK != self._seed:
            refuse("Generator.set_state of another seed")
        with self._lock:
            self._seed, self._offset = state[0] & _MASK, state[1] & _MASK

    def reserve(self, count: int) -> tuple[int, int]:
        """Hand out `count` counters: return ``(seed, offset)`` and step past them."""
        with self._lock:
            offset = self._offset
            self._offset = (offset + count) & _MASK
            seed = self._seed
        if state.recording is None:
            return seed, offset
        return _recorded_seed(self, seed, offset, count), offset


class RecordedSeed(int):
    """A seed that was drawn from while a CUDA graph was recorded.

    To the CPU it is a number like others. CUDA kernels read the seed, and the position
    at which the graph's numbers begin, from memory, where each replay writes what the
    generator hands out then (`nnlib.kernels.philox`).

    Attributes
    ----------
    recording : Recording
    start : int
        The generator's position when the recording first drew from it.
    drawn : int
        How many numbers the recording has drawn.
    memory : array or None
        The seed and the position, uint64, for kernels.
    write : callable or None
        ``write(memory, seed, position)``.
    """

    recording: Recording
    start: int
    drawn: int = 0
    memory: Any = None
    write: Callable[[Any, int, int], None] | None = None


def _recorded_seed(generator: Generator, seed: int, offset: int, count: int) -> int:
    """Return what stands for a generator's seed during this thread's recording."""
    recording = current()
    if recording is None:
        return seed
    found = recording.kept.get(generator)
    if found is None:
        found = recording.kept[generator] = RecordedSeed(seed)
        found.recording, found.start = recording, offset
        recording.after.append(partial(_arrange, recording, generator, found))
    found.drawn += count
    return found


def _arrange(recording: Recording, generator: Generator, seed: RecordedSeed) -> None:
    """Give the counters back, for nothing was drawn yet; take them at each replay."""
    # Not the seed itself, which knows the recording.
    memory, write = seed.memory, seed.write
    if write is None:
        # The CPU alone has drawn, and what it has drawn is used.
        return
    _, end = generator.get_state()
    count = (end - seed.start) & _MASK
    if count <= seed.drawn:
        generator.set_state((int(seed), seed.start))
    # Else another thread has drawn meanwhile: these numbers are skipped.

    def renew() -> None:
        write(memory, *generator.reserve(count))

    recording.before.append(renew)


def _restored(device: Device, state: tuple[int, int]) -> Generator:
    generator = Generator(device)
    generator.set_state(state)
    return generator


default_generator = Generator()


def manual_seed(seed: int) -> Generator:
    """Seed the default generator, from which layers and random functions draw."""
    return default_generator.manual_seed(seed)


def seed() -> int:
    """Seed the default generator from the system's entropy; return the seed."""
    return default_generator.seed()


def initial_seed() -> int:
    """Return the default generator's seed."""
    return default_generator.initial_seed()
