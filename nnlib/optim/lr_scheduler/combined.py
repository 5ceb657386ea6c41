"""Schedules made of schedules, and the warm-up."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from nnlib.backend.errors import ArgumentError, Error
from nnlib.optim.lr_scheduler.base import LRScheduler, check_count
from nnlib.optim.lr_scheduler.plateau import ReduceLROnPlateau
from nnlib.optim.optimizer import Optimizer

__all__ = ["ChainedScheduler", "SequentialLR", "WarmupLR"]


class _Several(LRScheduler):
    """Holds other schedules of the same optimizer."""

    _schedulers: list[LRScheduler]

    def _take(
        self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None
    ) -> None:
        name = type(self).__name__
        self._schedulers = list(schedulers)
        if not self._schedulers:
            raise ArgumentError(f"{name}: schedulers: expected at least one")
        self.optimizer = optimizer or self._schedulers[0].optimizer
        for index, scheduler in enumerate(self._schedulers):
            if isinstance(scheduler, ReduceLROnPlateau):
                raise Error(
                    f"{name}: schedulers: number {index} is a ReduceLROnPlateau, whose "
                    "step needs a metric"
                )
            if scheduler.optimizer is not self.optimizer:
                raise Error(
                    f"{name}: schedulers: number {index} belongs to another optimizer"
                )

    def state_dict(self) -> dict[str, Any]:
        """Return the state, that of the inner schedules included."""
        state = super().state_dict()
        state["_schedulers"] = [inner.state_dict() for inner in self._schedulers]
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the state that `state_dict` returned."""
        rest = dict(state_dict)
        inner = rest.pop("_schedulers")
        super().load_state_dict(rest)
        for scheduler, state in zip(self._schedulers, inner, strict=True):
            scheduler.load_state_dict(state)


class ChainedScheduler(_Several):
    """Several schedules in force at once: each multiplies what the others leave.

    Parameters
    ----------
    schedulers : sequence of LRScheduler
    optimizer : Optimizer, optional
        That of the schedules.
    """

    def __init__(
        self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None
    ) -> None:
        self._take(schedulers, optimizer)
        self.base_lrs = self._schedulers[0].base_lrs
        self._note()

    def step(self) -> None:
        """Let every schedule make a step."""
        for scheduler in self._schedulers:
            scheduler.step()
        self._note()

    def rewind(self) -> None:
        """Go back to step 0 with all schedules."""
        for scheduler in self._schedulers:
            scheduler.rewind()
        self._note()


class SequentialLR(_Several):
    """One schedule after the other; each begins at its own step 0.

    Parameters
    ----------
    optimizer : Optimizer
    schedulers : sequence of LRScheduler
    milestones : sequence of int
        The steps at which the second, third, ... schedule begins.

    Raises
    ------
    Error
        If there is not one milestone fewer than schedules.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: Sequence[LRScheduler],
        milestones: Sequence[int],
        last_epoch: int = -1,
    ) -> None:
        self._take(schedulers, optimizer)
        if len(milestones) != len(self._schedulers) - 1:
            raise ArgumentError(
                f"SequentialLR: milestones: expected {len(self._schedulers) - 1} for "
                f"{len(self._schedulers)} schedulers, got {len(milestones)}"
            )
        if list(milestones) != sorted(milestones):
            raise ArgumentError(
                f"SequentialLR: milestones: expected rising steps, got "
                f"{list(milestones)}"
            )
        self._milestones = list(milestones)
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch + 1
        self._schedulers[bisect_right(self._milestones, 0)].restart()
        self._note()

    def step(self) -> None:
        """Let the schedule whose turn it is make a step."""
        self.last_epoch += 1
        turn = bisect_right(self._milestones, self.last_epoch)
        if turn > 0 and self._milestones[turn - 1] == self.last_epoch:
            self._schedulers[turn].restart()
        else:
            self._schedulers[turn].step()
        self._note()

    def rewind(self) -> None:
        """Go back to step 0."""
        self.last_epoch = 0
        self._schedulers[bisect_right(self._milestones, 0)].rewind()
        self._note()


class WarmupLR(LRScheduler):
    """Rise linearly for some steps, then hold or decay.

    Step ``t`` (from 0) of the warm-up has the rate ``lr (t + 1) / warmup_steps``; the
    decay begins when it is over.

    Parameters
    ----------
    optimizer : Optimizer
    warmup_steps : int
    total_steps : int, optional
        Where "linear" and "cosine" reach 0; they need it.
    decay : {"constant", "linear", "cosine", "inverse_sqrt"}
        "inverse_sqrt" is ``sqrt(warmup_steps / (t + 1))``, as for the first
        transformers (A. Vaswani et al., 2017, eq. 3).

    Raises
    ------
    Error
        If an argument is out of range.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        warmup_steps: int,
        total_steps: int | None = None,
        decay: str = "constant",
        last_epoch: int = -1,
    ) -> None:
        check_count("WarmupLR", "warmup_steps", warmup_steps)
        known = ("constant", "linear", "cosine", "inverse_sqrt")
        if decay not in known:
            raise ArgumentError(
                f"WarmupLR: decay: expected one of {', '.join(known)}, got {decay!r}"
            )
        if decay in ("linear", "cosine"):
            check_count("WarmupLR", "total_steps", total_steps, warmup_steps + 1)
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps
        self.decay = decay
        super().__init__(optimizer, last_epoch)

    def _factor(self) -> float:
        done = self.last_epoch + 1
        if done <= self.warmup_steps:
            return done / self.warmup_steps
        if self.decay == "inverse_sqrt":
            return math.sqrt(self.warmup_steps / done)
        if self.total_steps is None or self.decay == "constant":
            return 1.0
        span = self.total_steps - self.warmup_steps
        part = min(1.0, (done - self.warmup_steps) / span)
        if self.decay == "linear":
            return 1.0 - part
        return (1 + math.cos(math.pi * part)) / 2

    def get_lr(self) -> list[float]:
        """Return the rate of each group."""
        factor = self._factor()
        return [lr * factor for lr in self.base_lrs]
