"""The schedule that watches a metric."""

from __future__ import annotations

import math
from typing import Any

from nnlib.backend.errors import ArgumentError
from nnlib.optim.lr_scheduler.base import LRScheduler, check_optimizer, per_group
from nnlib.optim.optimizer import Optimizer

__all__ = ["ReduceLROnPlateau"]


class ReduceLROnPlateau(LRScheduler):
    """Multiply the rate by `factor` when a metric no longer improves.

    Parameters
    ----------
    mode : {"min", "max"}
        Whether the metric should fall or rise.
    factor : float, default 0.1
        Less than 1.
    patience : int, default 10
        Steps without improvement that are borne.
    threshold : float, default 1e-4
        By how much the metric must improve to count: as a share of the best
        (`threshold_mode` "rel") or as a difference ("abs").
    cooldown : int, default 0
        Steps after a reduction in which nothing is counted.
    min_lr : float or list of float, default 0
    eps : float, default 1e-8
        A smaller change of the rate is left out.

    Examples
    --------
    >>> import nnlib
    >>> x = nnlib.tensor([1.0], requires_grad=True)
    >>> optimizer = nnlib.optim.SGD([x], lr=1.0)
    >>> schedule = ReduceLROnPlateau(optimizer, patience=1)
    >>> for loss in (3.0, 2.0, 2.0, 2.0):
    ...     schedule.step(loss)
    >>> optimizer.param_groups[0]["lr"]
    0.1
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | list[float] = 0,
        eps: float = 1e-8,
    ) -> None:
        name = "ReduceLROnPlateau"
        check_optimizer(name, optimizer)
        if not 0 <= factor < 1:
            raise ArgumentError(
                f"{name}: factor: expected at least 0 and below 1, got {factor}"
            )
        if mode not in ("min", "max"):
            raise ArgumentError(f"{name}: mode: expected 'min' or 'max', got {mode!r}")
        if threshold_mode not in ("rel", "abs"):
            raise ArgumentError(
                f"{name}: threshold_mode: expected 'rel' or 'abs', got "
                f"{threshold_mode!r}"
            )
        self.optimizer = optimizer
        self.mode = mode
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self.cooldown = cooldown
        self.min_lrs = per_group(name, "min_lr", optimizer, min_lr)
        self.eps = eps
        self.last_epoch = 0
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = 0
        self.cooldown_counter = 0
        self._note()

    def _is_better(self, value: float) -> bool:
        sign = 1 if self.mode == "max" else -1
        if self.threshold_mode == "rel":
            limit = self.best * (1.0 + sign * self.threshold)
        else:
            limit = self.best + sign * self.threshold
        return value > limit if self.mode == "max" else value < limit

    def step(self, metrics: Any) -> None:  # type: ignore[override]
        """Take note of the metric (a number or a tensor of one element)."""
        value = float(metrics)
        self.last_epoch += 1
        if self._is_better(value):
            self.best = value
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
        self._note()

    def _reduce(self) -> None:
        groups = self.optimizer.param_groups
        # Groups that were added later have the last one's lower bound.
        bounds = self.min_lrs + self.min_lrs[-1:] * (len(groups) - len(self.min_lrs))
        for group, bound in zip(groups, bounds, strict=True):
            lr = max(group["lr"] * self.factor, bound)
            if group["lr"] - lr > self.eps:
                group["lr"] = lr
