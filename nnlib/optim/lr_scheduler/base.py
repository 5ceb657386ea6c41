"""`LRScheduler`: what every schedule of the learning rate stands on."""

from __future__ import annotations

import numbers
from typing import Any

from nnlib.backend.errors import ArgumentError, DTypeError, Error, ShapeError
from nnlib.optim.optimizer import Optimizer

__all__ = ["LRScheduler", "per_group"]


def check_optimizer(name: str, optimizer: Any) -> None:
    """Refuse what is no Optimizer."""
    if not isinstance(optimizer, Optimizer):
        raise DTypeError(
            f"{name}: optimizer: expected an Optimizer, got {type(optimizer).__name__}"
        )


def check_count(name: str, argument: str, value: Any, least: int = 1) -> None:
    """Refuse a number of steps that is no integer or is too small."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not float(value).is_integer() or value < least:
        raise ArgumentError(
            f"{name}: {argument}: expected an integer of at least {least}, got "
            f"{value!r}"
        )


def per_group(name: str, argument: str, optimizer: Optimizer, value: Any) -> list[Any]:
    """Return one value for each parameter group, given one or a list of them."""
    count = len(optimizer.param_groups)
    if isinstance(value, list | tuple):
        if len(value) != count:
            raise ShapeError(
                f"{name}: {argument}: expected one value for each of the {count} "
                f"parameter groups, got {len(value)}"
            )
        return list(value)
    return [value] * count


class LRScheduler:
    """Base of the schedules: sets ``group["lr"]`` at each `step`.

    Call ``scheduler.step()`` after ``optimizer.step()``. A schedule of one's own
    overrides `get_lr`, which returns one rate per group for ``self.last_epoch``.

    Most schedules multiply the present rate, so that several can be in force at once
    and a rate that is changed by hand is kept.

    Parameters
    ----------
    optimizer : Optimizer
    last_epoch : int, default -1
        The number of the last step, to go on from there; -1 begins anew.

    Attributes
    ----------
    base_lrs : list of float
        The initial rate of each group.
    last_epoch : int
        How many steps were made.
    """

    optimizer: Optimizer
    base_lrs: list[float]
    _is_initial: bool = False

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        check_optimizer(type(self).__name__, optimizer)
        self.optimizer = optimizer
        for index, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise Error(
                    f"{type(self).__name__}: last_epoch: to go on from step "
                    f"{last_epoch}, parameter group {index} needs an 'initial_lr'"
                )
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._begin()

    def _begin(self) -> None:
        """Make the step that sets the first rate."""
        self._is_initial = True
        try:
            self.step()
        finally:
            del self._is_initial

    # -- what a schedule defines -------------------------------------------------

    def _start(self, index: int, lr: float) -> float:
        """Return the rate of step 0 of a group, given its present rate."""
        return lr

    def _next(self, index: int, lr: float) -> float:
        """Return the rate of step ``last_epoch``, given that of the step before."""
        return lr

    def get_lr(self) -> list[float]:
        """Return the rate of each group at step ``last_epoch``."""
        rates = [group["lr"] for group in self.optimizer.param_groups]
        if self._is_initial and self.last_epoch > 0:
            return rates
        rule = self._start if self.last_epoch == 0 else self._next
        return [rule(index, lr) for index, lr in enumerate(rates)]

    # -- what a user calls -------------------------------------------------------

    def step(self) -> None:
        """Go to the next step and set the rates."""
        self.last_epoch += 1
        self._set(self.get_lr())

    def _set(self, rates: list[float]) -> None:
        for group, lr in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = lr
        self._note()

    def _note(self) -> None:
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def restart(self) -> None:
        """Go back to step 0, with the initial rates."""
        for group, lr in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = lr
        self.rewind()

    def rewind(self) -> None:
        """Go back to step 0, beginning at the present rates."""
        self.last_epoch = 0
        self._set(self.get_lr())

    def get_last_lr(self) -> list[float]:
        """Return the rates that were set last."""
        return self._last_lr

    def state_dict(self) -> dict[str, Any]:
        """Return all there is to know but the optimizer and plain functions."""
        return {
            key: value
            for key, value in self.__dict__.items()
            if key != "optimizer" and not callable(value)
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the state that `state_dict` returned."""
        self.__dict__.update(state_dict)
