"""The step of an optimiser in a CUDA graph.

What changes from step to step (its number, a learning rate that a schedule sets, what
follows from them) the host works out before each replay, as for any step, and writes it
where the recorded launch reads it.
"""

from __future__ import annotations

from operator import is_
from typing import TYPE_CHECKING, Any

from nnlib.backend.errors import DeviceError
from nnlib.backend.recording import Recording, refuse
from nnlib.optim.batch import Batch

if TYPE_CHECKING:
    from nnlib.optim.optimizer import Optimizer

__all__ = ["record"]


class RecordedBatch:
    """The update of a batch of parameters in a graph."""

    def __init__(
        self,
        recording: Recording,
        optimizer: Optimizer,
        batch: Batch,
        group: dict[str, Any],
    ) -> None:
        self.optimizer, self.batch, self.group = optimizer, batch, group
        self.settings = batch.table.lasting_settings(recording)
        self.arrays = self._arrays()
        # An eager step may have others next: these are the graph's.
        self.gradients = batch.table.gradients

    def _arrays(self) -> list[Any]:
        """Return the arrays of the parameters and of what is kept for them."""
        batch = self.batch
        found = [p._array for p in batch.params]
        for p in batch.params:
            state = self.optimizer.state.get(p, {})
            found += [getattr(state.get(name), "_array", None) for name in batch.names]
        return found

    def _run(self, launches: bool) -> None:
        """Run the optimiser's update, its numbers in memory."""
        table = self.batch.table
        table.settings, table.launches = self.settings, launches
        try:
            self.optimizer.update(self.batch, self.group)
        finally:
            table.settings, table.launches = None, True

    def record(self, recording: Recording) -> None:
        """Record the launch; the step does not count, for it does not run."""
        batch = self.batch
        step, states = batch.step, [dict(state) for state in batch.states]
        copies = len(recording.after)
        try:
            batch.advance()
            self._run(launches=True)
            batch.finish()
        finally:
            batch.step = step
            for state, before in zip(batch.states, states, strict=True):
                state.clear()
                state.update(before)
        if len(recording.after) == copies:
            # No table was asked for. `renew` would make such an update once more.
            raise DeviceError(
                f"{type(self.optimizer).__name__}.step: its update is not one kernel "
                "over a table of parameters, and cannot be part of a CUDA graph; make "
                "the step after the replay"
            )

    def renew(self) -> None:
        """Count the step that a replay is about to make, and write its numbers."""
        if not all(map(is_, self._arrays(), self.arrays)):
            raise DeviceError(
                f"replay: parameters of {type(self.optimizer).__name__} or what it "
                "keeps for them are other arrays than at the recording; record anew"
            )
        batch = self.batch
        batch.step = batch.states[0].get("step", batch.step)
        batch.advance()
        self._run(launches=False)
        for p in batch.params:
            p._bump()


def record(
    recording: Recording, optimizer: Optimizer, batch: Batch, group: dict[str, Any]
) -> None:
    """Record the update of a batch of parameters, in place of running it.

    Raises
    ------
    DeviceError
        If the optimiser's update is more than the launch of a kernel.
    """
    if not optimizer.recordable:
        refuse(f"{type(optimizer).__name__}.step")
    update = RecordedBatch(recording, optimizer, batch, group)
    update.record(recording)
    recording.before.append(update.renew)
