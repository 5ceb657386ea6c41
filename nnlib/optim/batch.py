"""Which parameters one kernel call updates, and the arrays that it is given.

The parameters of a group that have a gradient are sorted by device, dtype, number of
steps and whether there is kept state: usually into one batch. A batch is used again for
as long as the same parameters have gradients and their memory stays where it is, which
is checked at every step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module, device_context, device_of
from nnlib.backend.dtypes import HALF, float32
from nnlib.backend.errors import DeviceError, Error, ShapeError

if TYPE_CHECKING:
    from nnlib.optim.optimizer import Optimizer

__all__ = ["Batch", "gather"]


class Batch:
    """Parameters that are updated together.

    Attributes
    ----------
    params : list of Tensor
    arrays : list of array
        What the kernel updates: the parameters' memory, or float32 copies of 16-bit
        parameters, which `finish` rounds back.
    grads : list of array
    slots : list of list of array
        The kept arrays, by slot and parameter.
    states : list of dict
        ``optimizer.state`` of each parameter.
    step : int
        The number of the step under way, from 1.
    fresh : bool
        Whether kept arrays were made for this step.
    """

    def __init__(self, params: list[Tensor], idle: list[Tensor]) -> None:
        self.params = params
        self.idle = idle
        self.memory = [p._array for p in params]
        self.half = params[0].dtype in HALF
        self.arrays = self.memory
        if self.half:
            self.arrays = [array.astype(float32) for array in self.memory]
        self.grads: list[Any] = []
        self.slots: list[list[Any]] = []
        self.states: list[dict[str, Any]] = []
        self.names: tuple[str, ...] = ()
        self.step = 0
        self.fresh = False
        self.counts = True

    def attach(self, optimizer: Optimizer, group: dict[str, Any]) -> None:
        """Find the kept arrays of the parameters, or make them."""
        self.names = optimizer.slots(group)
        self.counts = optimizer.counts
        self.states = [optimizer.state.setdefault(p, {}) for p in self.params]
        for name in self.names:
            start = optimizer.first(name, group)
            column = []
            for array, state in zip(self.arrays, self.states, strict=True):
                if state.get(name) is None:
                    self.fresh = True
                    with device_context(device_of(array)):
                        made = array_module(array).full_like(array, start)
                    state[name] = Tensor._from_array(made)
                column.append(state[name]._array)
            self.slots.append(column)
        self.step = self.states[0].get("step", 0)

    def collect(self, optimizer: Optimizer, group: dict[str, Any]) -> bool:
        """Take the gradients; tell whether this batch is still right."""
        grads = []
        for p, array in zip(self.params, self.memory, strict=True):
            grad = p._grad
            if grad is None or p._array is not array:
                return False
            grads.append(grad._array)
        for p in self.idle:
            if p._grad is not None:
                return False
        if self.names != optimizer.slots(group):
            return False
        self.grads = grads
        if self.half:
            self.grads = [grad.astype(float32) for grad in grads]
            for work, array in zip(self.arrays, self.memory, strict=True):
                work[...] = array
        return True

    def advance(self) -> None:
        """Count the step."""
        self.step = step = self.step + 1
        if self.counts:
            for state in self.states:
                state["step"] = step

    def finish(self) -> None:
        """Round 16-bit parameters back, and note that the parameters have changed."""
        if self.half:
            for work, array in zip(self.arrays, self.memory, strict=True):
                array[...] = work.astype(array.dtype)
        for p in self.params:
            p._bump()
        self.fresh = False


def gather(optimizer: Optimizer, index: int, group: dict[str, Any]) -> list[Batch]:
    """Sort the parameters that have a gradient into batches with their gradients."""
    active = [p for p in group["params"] if p._grad is not None]
    idle = [p for p in group["params"] if p._grad is None]
    sorted_: dict[Any, list[Tensor]] = {}
    for p in active:
        _check_gradient(optimizer, index, group, p)
        state = optimizer.state.get(p, {})
        fresh = any(state.get(name) is None for name in optimizer.slots(group))
        key = (device_of(p._array), p._array.dtype, state.get("step", 0), fresh)
        sorted_.setdefault(key, []).append(p)
    batches = []
    for params in sorted_.values():
        batch = Batch(params, idle)
        batch.attach(optimizer, group)
        batch.collect(optimizer, group)
        batches.append(batch)
    return batches


def _check_gradient(
    optimizer: Optimizer, index: int, group: dict[str, Any], p: Tensor
) -> None:
    """Refuse a gradient that does not fit its parameter."""
    where = f"{type(optimizer).__name__}.step: group {index}"
    grad = p._grad
    if grad is None:
        return
    position = next(i for i, other in enumerate(group["params"]) if other is p)
    if grad._array.shape != p._array.shape:
        raise ShapeError(
            f"{where}, parameter {position}: expected a gradient of shape "
            f"{p._array.shape}, got {grad._array.shape}"
        )
    if device_of(grad._array) != device_of(p._array):
        raise DeviceError(
            f"{where}, parameter {position}: it is on {device_of(p._array)}, its "
            f"gradient on {device_of(grad._array)}"
        )
    if grad._array.dtype != p._array.dtype:
        raise Error(
            f"{where}, parameter {position}: expected a gradient of dtype "
            f"{p._array.dtype}, got {grad._array.dtype}"
        )
