"""Schedules along a cosine.

I. Loshchilov, F. Hutter: SGDR: Stochastic gradient descent with warm restarts,
ICLR 2017, eq. 5.
"""

from __future__ import annotations

import math

from nnlib.backend.errors import ArgumentError
from nnlib.optim.lr_scheduler.base import LRScheduler, check_count
from nnlib.optim.optimizer import Optimizer

__all__ = ["CosineAnnealingLR", "CosineAnnealingWarmRestarts"]


class CosineAnnealingLR(LRScheduler):
    """Go to `eta_min` in `T_max` steps along half a cosine (and back after that).

    ``lr_t = eta_min + (lr_0 - eta_min) (1 + cos(pi t / T_max)) / 2``, written as a
    recursion so that a rate changed by hand is kept.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        T_max: int,  # PyTorch's name
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        check_count("CosineAnnealingLR", "T_max", T_max)
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def _next(self, index: int, lr: float) -> float:
        angle = math.pi / self.T_max
        if (self.last_epoch - 1 - self.T_max) % (2 * self.T_max) == 0:
            # The step before was the minimum: there is nothing to multiply.
            span = self.base_lrs[index] - self.eta_min
            return lr + span * (1 - math.cos(angle)) / 2
        ratio = (1 + math.cos(angle * self.last_epoch)) / (
            1 + math.cos(angle * (self.last_epoch - 1))
        )
        return ratio * (lr - self.eta_min) + self.eta_min


class CosineAnnealingWarmRestarts(LRScheduler):
    """Half a cosine down to `eta_min`, then again from the top.

    Parameters
    ----------
    T_0 : int
        Steps of the first round.
    T_mult : int, default 1
        Each round is this many times as long as the one before.
    eta_min : float, default 0.0
    """

    def __init__(
        self,
        optimizer: Optimizer,
        T_0: int,
        T_mult: int = 1,
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        check_count("CosineAnnealingWarmRestarts", "T_0", T_0)
        check_count("CosineAnnealingWarmRestarts", "T_mult", T_mult)
        self.T_0 = T_0
        self.T_i = T_0
        self.T_mult = T_mult
        self.eta_min = eta_min
        self.T_cur: float = last_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Return the rate of each group at ``T_cur`` of ``T_i`` steps of a round."""
        height = (1 + math.cos(math.pi * self.T_cur / self.T_i)) / 2
        return [self.eta_min + (lr - self.eta_min) * height for lr in self.base_lrs]

    def step(self, epoch: float | None = None) -> None:
        """Go to the next step, or to `epoch`, which may be a fraction.

        Raises
        ------
        Error
            If `epoch` is negative.
        """
        if epoch is None and self.last_epoch < 0:
            epoch = 0
        if epoch is None:
            epoch = self.last_epoch + 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur -= self.T_i
                self.T_i *= self.T_mult
        else:
            self._go_to(epoch)
        self.last_epoch = math.floor(epoch)
        self._set(self.get_lr())

    def _go_to(self, epoch: float) -> None:
        if epoch < 0:
            raise ArgumentError(
                f"CosineAnnealingWarmRestarts.step: epoch: expected at least 0, got "
                f"{epoch}"
            )
        begin, length = 0, self.T_0
        if self.T_mult == 1:
            begin = int(epoch // length) * length
        else:
            while epoch >= begin + length:
                begin, length = begin + length, length * self.T_mult
        self.T_i, self.T_cur = length, epoch - begin

    def rewind(self) -> None:
        """Go back to step 0."""
        self.step(0)
