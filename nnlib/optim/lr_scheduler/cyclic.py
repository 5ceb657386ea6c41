"""Cyclic schedules, which move momentum against the rate.

L. N. Smith: Cyclical learning rates for training neural networks, WACV 2017; L. N.
Smith, N. Topin: Super-convergence, 2018.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from nnlib.backend.errors import ArgumentError, Error
from nnlib.optim.lr_scheduler.base import (
    LRScheduler,
    check_count,
    check_optimizer,
    per_group,
)
from nnlib.optim.optimizer import Optimizer

__all__ = ["CyclicLR", "OneCycleLR"]


class _WithMomentum(LRScheduler):
    """A schedule that also sets momentum (or the first of Adam's betas)."""

    cycle_momentum: bool

    def _prepare_momentum(
        self, optimizer: Optimizer, base: Any, top: Any, begin: bool
    ) -> None:
        name = type(self).__name__
        if not {"momentum", "betas"} & set(optimizer.defaults):
            raise Error(
                f"{name}: cycle_momentum: {type(optimizer).__name__} has neither "
                "momentum nor betas; pass cycle_momentum=False"
            )
        self.use_beta1 = "betas" in optimizer.defaults
        self.base_momentums = per_group(name, "base_momentum", optimizer, base)
        self.max_momentums = per_group(name, "max_momentum", optimizer, top)
        if begin:
            for index, group in enumerate(optimizer.param_groups):
                group["base_momentum"] = self.base_momentums[index]
                group["max_momentum"] = self.max_momentums[index]
                self._set_momentum(group, self.max_momentums[index])

    def _set_momentum(self, group: dict[str, Any], value: float) -> None:
        if self.use_beta1:
            group["betas"] = (value, *group["betas"][1:])
        else:
            group["momentum"] = value


class CyclicLR(_WithMomentum):
    """Go between `base_lr` and `max_lr`, in triangles.

    Parameters
    ----------
    base_lr, max_lr : float or list of float
        The bounds, for all groups or for each.
    step_size_up : int, default 2000
        Steps from the lower bound to the upper one.
    step_size_down : int, optional
        Steps back; default as many.
    mode : {"triangular", "triangular2", "exp_range"}
        Full height always; half of it each time; times ``gamma ** step``.
    gamma : float, default 1.0
    scale_fn : callable, optional
        The height by the number of the cycle (from 1) or of the step, instead of
        `mode`.
    scale_mode : {"cycle", "iterations"}
        What `scale_fn` is given.
    cycle_momentum : bool, default True
        Move momentum from `max_momentum` to `base_momentum` and back.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | list[float],
        max_lr: float | list[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.8,
        max_momentum: float | list[float] = 0.9,
        last_epoch: int = -1,
    ) -> None:
        check_optimizer("CyclicLR", optimizer)
        modes = ("triangular", "triangular2", "exp_range")
        if scale_fn is None and mode not in modes:
            raise ArgumentError(
                f"CyclicLR: mode: expected one of {', '.join(modes)}, got {mode!r}"
            )
        low = per_group("CyclicLR", "base_lr", optimizer, base_lr)
        if last_epoch == -1:
            for lr, group in zip(low, optimizer.param_groups, strict=True):
                group["lr"] = lr
        self.max_lrs = per_group("CyclicLR", "max_lr", optimizer, max_lr)
        down = step_size_up if step_size_down is None else step_size_down
        self.total_size = float(step_size_up + down)
        self.step_ratio = step_size_up / self.total_size
        self.mode = mode
        self.gamma = gamma
        self.scale_fn = scale_fn
        self.scale_mode = scale_mode
        self.cycle_momentum = cycle_momentum
        self._lows = low
        if cycle_momentum:
            self._prepare_momentum(
                optimizer, base_momentum, max_momentum, last_epoch == -1
            )
        super().__init__(optimizer, last_epoch)
        self.base_lrs = low

    def _height(self, cycle: int) -> float:
        if self.scale_fn is not None:
            by_cycle = self.scale_mode == "cycle"
            return float(self.scale_fn(cycle if by_cycle else self.last_epoch))
        if self.mode == "triangular":
            return 1.0
        if self.mode == "triangular2":
            return 1.0 / 2.0 ** (cycle - 1)
        return float(self.gamma**self.last_epoch)

    def get_lr(self) -> list[float]:
        """Return the rate of each group, and set its momentum."""
        cycle = math.floor(1 + self.last_epoch / self.total_size)
        x = 1.0 + self.last_epoch / self.total_size - cycle
        if x <= self.step_ratio:
            part = x / self.step_ratio
        else:
            part = (x - 1) / (self.step_ratio - 1)
        part *= self._height(cycle)
        if self.cycle_momentum:
            for group, low, top in zip(
                self.optimizer.param_groups,
                self.base_momentums,
                self.max_momentums,
                strict=True,
            ):
                self._set_momentum(group, top - (top - low) * part)
        return [
            low + (top - low) * part
            for low, top in zip(self._lows, self.max_lrs, strict=True)
        ]


class OneCycleLR(_WithMomentum):
    """Up to `max_lr` and down to almost nothing, once.

    Parameters
    ----------
    max_lr : float or list of float
        The top, for all groups or for each.
    total_steps : int, optional
        Steps in all; or give `epochs` and `steps_per_epoch`.
    pct_start : float, default 0.3
        The share of the steps that go up.
    anneal_strategy : {"cos", "linear"}
    cycle_momentum : bool, default True
        Move momentum from `max_momentum` to `base_momentum` and back.
    div_factor : float, default 25.0
        It begins at ``max_lr / div_factor``,
    final_div_factor : float, default 1e4
        and ends at that over `final_div_factor`.
    three_phase : bool, default False
        Come down to the beginning's rate first, symmetrically.

    Raises
    ------
    Error
        If the number of steps is missing or exceeded, or an argument is out of range.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        check_optimizer("OneCycleLR", optimizer)
        self.total_steps = _total_steps(total_steps, epochs, steps_per_epoch)
        if not 0 <= pct_start <= 1:
            raise ArgumentError(
                f"OneCycleLR: pct_start: expected 0 to 1, got {pct_start}"
            )
        if anneal_strategy not in ("cos", "linear"):
            raise ArgumentError(
                "OneCycleLR: anneal_strategy: expected 'cos' or 'linear', got "
                f"{anneal_strategy!r}"
            )
        self.anneal_strategy = anneal_strategy
        self._phases = _phases(self.total_steps, pct_start, three_phase)
        top = per_group("OneCycleLR", "max_lr", optimizer, max_lr)
        if last_epoch == -1:
            for lr, group in zip(top, optimizer.param_groups, strict=True):
                group["initial_lr"] = lr / div_factor
                group["max_lr"] = lr
                group["min_lr"] = lr / div_factor / final_div_factor
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            self._prepare_momentum(
                optimizer, base_momentum, max_momentum, last_epoch == -1
            )
        super().__init__(optimizer, last_epoch)

    def _between(self, start: float, end: float, part: float) -> float:
        if self.anneal_strategy == "cos":
            return end + (start - end) / 2.0 * (1 + math.cos(math.pi * part))
        return start + (end - start) * part

    def get_lr(self) -> list[float]:
        """Return the rate of each group, and set its momentum."""
        step = self.last_epoch
        if step > self.total_steps:
            raise Error(
                f"OneCycleLR: step {step} is beyond the {self.total_steps} steps in "
                "all; a longer cycle needs more total_steps"
            )
        turn = next(
            (i for i, phase in enumerate(self._phases) if step <= phase[0]),
            len(self._phases) - 1,
        )
        end, rates, momenta = self._phases[turn]
        begin = self._phases[turn - 1][0] if turn > 0 else 0.0
        part = (step - begin) / (end - begin)
        groups = self.optimizer.param_groups
        if self.cycle_momentum:
            for group in groups:
                start, stop = (group[name] for name in momenta)
                self._set_momentum(group, self._between(start, stop, part))
        return [
            self._between(group[rates[0]], group[rates[1]], part) for group in groups
        ]


def _total_steps(
    total_steps: int | None, epochs: int | None, steps_per_epoch: int | None
) -> int:
    if total_steps is not None:
        check_count("OneCycleLR", "total_steps", total_steps)
        return total_steps
    if epochs is None or steps_per_epoch is None:
        raise ArgumentError(
            "OneCycleLR: expected total_steps, or both epochs and steps_per_epoch"
        )
    check_count("OneCycleLR", "epochs", epochs)
    check_count("OneCycleLR", "steps_per_epoch", steps_per_epoch)
    return epochs * steps_per_epoch


def _phases(total: int, share: float, three: bool) -> list[Any]:
    """Return (last step, names of two rates, names of two momenta) of each phase."""
    down, up = ("max_momentum", "base_momentum"), ("base_momentum", "max_momentum")
    rise = (share * total - 1, ("initial_lr", "max_lr"), down)
    if not three:
        return [rise, (total - 1, ("max_lr", "min_lr"), up)]
    return [
        rise,
        (2 * share * total - 2, ("max_lr", "initial_lr"), up),
        (total - 1, ("initial_lr", "min_lr"), ("max_momentum", "max_momentum")),
    ]
