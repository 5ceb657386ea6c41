"""Counter-based random state: a seed and a position in its Philox stream.

A `Generator` holds no bits. It hands out stretches of counters; the Philox kernel
turns counter ``offset + i`` into element ``i``, so that the numbers are the same
on the CPU and on CUDA and do not depend on the number of threads.
"""

from __future__ import annotations

import secrets
import threading
from typing import Any

from nnlib.backend.device import CPU, Device, resolve_device
from nnlib.backend.errors import DTypeError, ShapeError

__all__ = ["Generator", "default_generator", "initial_seed", "manual_seed", "seed"]

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
        with self._lock:
            self._seed, self._offset = state[0] & _MASK, state[1] & _MASK

    def reserve(self, count: int) -> tuple[int, int]:
        """Hand out `count` counters: return ``(seed, offset)`` and step past them."""
        with self._lock:
            offset = self._offset
            self._offset = (offset + count) & _MASK
            return self._seed, offset


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
