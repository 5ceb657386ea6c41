"""Which parameters one kernel call updates, and the arrays that it is given.

The parameters of a group that have a gradient are sorted by device, dtype, number of
steps and whether there is kept state: usually into one batch. A batch is used again for
as long as the same parameters have gradients and their memory stays where it is, which
is checked at every step.
"""

from __future__ import annotations

from operator import is_
from typing import TYPE_CHECKING, Any

from nnlib import kernels
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import (
    array_module,
    context_of,
    device_context,
    device_of,
    to_device,
)
from nnlib.backend.dtypes import HALF, float32
from nnlib.backend.errors import DeviceError, DTypeError, ShapeError
from nnlib.backend.recording import refuse

if TYPE_CHECKING:
    from nnlib.optim.optimizer import Optimizer

__all__ = ["Batch", "gather"]


class Batch:
    """Parameters that are updated together.

    Attributes
    ----------
    params : list of Tensor
    table : ParameterTable
        What the kernel is given: the parameters' memory (or copies in float32 of 16-bit
        parameters, and gapless ones of views with gaps, which `finish` writes back),
        their gradients and kept arrays.
    states : list of dict
        ``optimizer.state`` of each parameter.
    step : int
        The number of the step under way, from 1.
    fresh : bool
        Whether kept arrays were made for this step.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        group: dict[str, Any],
        params: list[Tensor],
        idle: list[Tensor],
    ) -> None:
        self.params = params
        self.idle = idle
        self.group = list(group["params"])
        self.memory = [p._array for p in params]
        self.half = params[0].dtype in HALF
        self.arrays = [_workspace(array) for array in self.memory]
        self.copied = [
            (work, array)
            for work, array in zip(self.arrays, self.memory, strict=True)
            if work is not array
        ]
        self.counts = optimizer.counts
        self.fresh = False
        self.states = [optimizer.state.setdefault(p, {}) for p in params]
        self.names = optimizer.slots(group)
        slots = [self._slot(name, optimizer.first(name, group)) for name in self.names]
        self.step: int = self.states[0].get("step", 0)
        self.table = kernels.optimizer.ParameterTable(self.arrays, slots)

    def _slot(self, name: str, start: float) -> list[Any]:
        """Return a kept array for each parameter; make those that are not there."""
        column = []
        for array, state in zip(self.arrays, self.states, strict=True):
            kept = state.get(name)
            if kept is None:
                self.fresh = True
            if kept is None or not _alike(kept._array, array):
                # A replay would begin it anew each time.
                refuse("an optimiser's first step, which makes what it keeps")
                place = device_of(array)
                with device_context(place):
                    made = array_module(array).full_like(array, start)
                    if kept is not None:
                        # The parameter has moved, or the state was loaded in another
                        # memory order.
                        made[...] = to_device(kept._array, place)
                state[name] = kept = Tensor._from_array(made)
            column.append(kept._array)
        return column

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
        given = group["params"]
        if len(given) != len(self.group) or not all(map(is_, given, self.group)):
            return False
        if self.copied:
            with context_of(self.memory[0]):
                for work, array in self.copied:
                    work[...] = array
                if self.half:
                    grads = [grad.astype(float32) for grad in grads]
        self.table.set_gradients(grads)
        return True

    def advance(self) -> None:
        """Count the step."""
        self.step = step = self.step + 1
        if self.counts:
            for state in self.states:
                state["step"] = step

    def finish(self) -> None:
        """Write copies back, and note that the parameters have changed."""
        if self.copied:
            with context_of(self.memory[0]):
                for work, array in self.copied:
                    array[...] = work.astype(array.dtype)
        for p in self.params:
            p._bump()
        self.fresh = False


def _alike(kept: Any, array: Any) -> bool:
    """Tell whether a kept array has the dtype, layout and device of its parameter."""
    return bool(
        kept.dtype == array.dtype
        and kept.strides == array.strides
        and device_of(kept) == device_of(array)
    )


def _workspace(array: Any) -> Any:
    """Return the array itself if a kernel can update it, else one for a copy."""
    dtype = float32 if array.dtype in HALF else array.dtype
    with device_context(device_of(array)):
        other = array_module(array).empty_like(array, dtype=dtype)
    # The copy has the layout of the array, but without gaps.
    same = dtype == array.dtype and other.strides == array.strides
    return array if same else other


def gather(optimizer: Optimizer, index: int, group: dict[str, Any]) -> list[Batch]:
    """Sort the parameters that have a gradient into batches with their gradients."""
    names = optimizer.slots(group)
    idle = [p for p in group["params"] if p._grad is None]
    found: dict[Any, list[Tensor]] = {}
    for position, p in enumerate(group["params"]):
        if p._grad is None:
            continue
        where = f"{type(optimizer).__name__}.step: group {index}, parameter {position}"
        _check_gradient(where, p)
        state = optimizer.state.get(p, {})
        fresh = any(state.get(name) is None for name in names)
        place, number = device_of(p._array), state.get("step", 0)
        key = (place, p._array.dtype, number, fresh, optimizer.shared(state))
        found.setdefault(key, []).append(p)
    batches = [Batch(optimizer, group, params, idle) for params in found.values()]
    for batch in batches:
        batch.collect(optimizer, group)
    return batches


def _check_gradient(where: str, p: Tensor) -> None:
    """Refuse a gradient that does not fit its parameter."""
    mine, grad = p._array, p._grad._array if p._grad is not None else None
    if grad is None:
        return
    if device_of(grad) != device_of(mine):
        raise DeviceError(
            f"{where}: it is on {device_of(mine)}, its gradient on {device_of(grad)}"
        )
    if grad.shape != mine.shape:
        raise ShapeError(
            f"{where}: expected a gradient of shape {mine.shape}, got {grad.shape}"
        )
    if grad.dtype != mine.dtype:
        raise DTypeError(
            f"{where}: expected a gradient of dtype {mine.dtype}, got {grad.dtype}"
        )
