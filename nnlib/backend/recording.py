"""The CUDA graph that is being recorded, for those who must know of it.

Launches that are recorded do not run, and a replay runs no Python. So whoever waits for
a result asks `refuse` first; whoever hands the device a number that a later replay
changes (the step of an optimiser, the position in a random stream) lets the kernel read
it from memory and says in `Recording.before` how it is renewed; and what kernels read
must live as long as the graph: `Recording.hold`.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from nnlib.backend.errors import DeviceError

__all__ = ["Recording", "State", "current", "refuse", "state"]


class Recording:
    """What belongs to one graph beside its launches.

    Attributes
    ----------
    thread : int
        That records.
    device : int
        The number of its device.
    pool : object
        Its memory (`nnlib.backend.graphs.Pool`).
    before : list of callable
        Called before each replay, on its stream.
    after : list of callable
        Called once, when the recording has ended well.
    kept : dict
        What others want to find again during the recording.
    products : dict
        What multiplies matrices, by the character of their dtype.
    """

    def __init__(self, device: int, pool: Any) -> None:
        self.thread = threading.get_ident()
        self.device = device
        self.pool = pool
        self.before: list[Callable[[], None]] = []
        self.after: list[Callable[[], None]] = []
        self.kept: dict[Any, Any] = {}
        self.products: dict[str, Any] = {}
        self.held: dict[int, Any] = {}

    def lasting(self, like: Any, shape: tuple[int, ...], dtype: Any) -> Any:
        """Return memory for what the host writes before a replay.

        None of the pool's: the graph's launches use that again, and those that come
        before the one which reads would write to it.

        Parameters
        ----------
        like : array
            Of the type that is wanted.
        shape : tuple of int
        dtype : dtype
        """
        kind = np.dtype(dtype)
        memory = self.pool.fresh(math.prod(shape) * kind.itemsize)
        made = type(like)(shape, kind, memory)
        self.keep(made)
        return made

    def keep(self, thing: Any) -> None:
        """Keep anything for as long as the graph."""
        self.held[id(thing)] = thing

    def hold(self, array: Any) -> None:
        """Keep an array that a launch reads or writes, if it is not of the pool.

        The pool's memory stays anyway, and may be used again in the graph.
        """
        if array.data.device_id != self.device:
            raise DeviceError(
                f"graph: an array is on cuda:{array.data.device_id}, the CUDA graph is "
                f"recorded on cuda:{self.device}; a graph is of one device"
            )
        address = array.data.ptr
        if address and not self.pool.owns(address):
            self.keep(array)


class State:
    """Where the recording under way is found: an attribute is read at little cost."""

    recording: Recording | None = None


state = State()


def current() -> Recording | None:
    """Return the recording that this thread makes, if any.

    Examples
    --------
    >>> current() is None
    True
    """
    found = state.recording
    return found if found is None or found.thread == threading.get_ident() else None


def refuse(what: str) -> None:
    """Raise if a graph is being recorded, of which `what` cannot be a part.

    Raises
    ------
    DeviceError
        During a recording, in its thread.
    """
    if state.recording is not None and current() is not None:
        raise DeviceError(
            f"{what}: not while a CUDA graph is being recorded, whose launches do not "
            "run yet; do this before the recording or after a replay"
        )
