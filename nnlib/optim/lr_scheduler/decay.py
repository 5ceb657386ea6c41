"""Schedules that multiply the rate: by steps, exponentially, along a line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from nnlib.backend.errors import ArgumentError, DTypeError
from nnlib.optim.lr_scheduler.base import LRScheduler, check_count, per_group
from nnlib.optim.optimizer import Optimizer

__all__ = [
    "ConstantLR",
    "ExponentialLR",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "PolynomialLR",
    "StepLR",
]


class StepLR(LRScheduler):
    """Multiply the rate by `gamma` every `step_size` steps.

    Examples
    --------
    >>> import nnlib
    >>> x = nnlib.tensor([1.0], requires_grad=True)
    >>> optimizer = nnlib.optim.SGD([x], lr=1.0)
    >>> schedule = StepLR(optimizer, step_size=2, gamma=0.5)
    >>> rates = []
    >>> for _ in range(5):
    ...     rates.append(optimizer.param_groups[0]["lr"])
    ...     schedule.step()
    >>> rates
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        step_size: int,
        gamma: float = 0.1,
        last_epoch: int = -1,
    ) -> None:
        check_count("StepLR", "step_size", step_size)
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def _next(self, index: int, lr: float) -> float:
        return lr if self.last_epoch % self.step_size else lr * self.gamma


class MultiStepLR(LRScheduler):
    """Multiply the rate by `gamma` at each of the `milestones`.

    Parameters
    ----------
    milestones : iterable of int
        Steps; one that is named twice counts twice.
    gamma : float, default 0.1
    """

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Iterable[int],
        gamma: float = 0.1,
        last_epoch: int = -1,
    ) -> None:
        self.milestones = Counter(milestones)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def _next(self, index: int, lr: float) -> float:
        times = self.milestones[self.last_epoch]
        return lr * self.gamma**times if times else lr

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the state that `state_dict` returned, also by way of JSON."""
        super().load_state_dict(state_dict)
        self.milestones = Counter({int(k): n for k, n in self.milestones.items()})


class ConstantLR(LRScheduler):
    """Multiply the rate by `factor` for the first `total_iters` steps."""

    def __init__(
        self,
        optimizer: Optimizer,
        factor: float = 1.0 / 3,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        if not 0 <= factor <= 1:
            raise ArgumentError(f"ConstantLR: factor: expected 0 to 1, got {factor}")
        self.factor = factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def _start(self, index: int, lr: float) -> float:
        return lr * self.factor

    def _next(self, index: int, lr: float) -> float:
        return lr if self.last_epoch != self.total_iters else lr * (1.0 / self.factor)


class LinearLR(LRScheduler):
    """Go from ``start_factor`` to ``end_factor`` of the rate in `total_iters` steps.

    With the defaults it is a warm-up; chain it before another schedule with
    `SequentialLR`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        if not 0 < start_factor <= 1:
            raise ArgumentError(
                "LinearLR: start_factor: expected more than 0 and at most 1, got "
                f"{start_factor}"
            )
        if not 0 <= end_factor <= 1:
            raise ArgumentError(
                f"LinearLR: end_factor: expected 0 to 1, got {end_factor}"
            )
        check_count("LinearLR", "total_iters", total_iters)
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def _start(self, index: int, lr: float) -> float:
        return lr * self.start_factor

    def _next(self, index: int, lr: float) -> float:
        if self.last_epoch > self.total_iters:
            return lr
        rise = self.end_factor - self.start_factor
        before = self.total_iters * self.start_factor + (self.last_epoch - 1) * rise
        return lr * (1.0 + rise / before)


class ExponentialLR(LRScheduler):
    """Multiply the rate by `gamma` at every step."""

    def __init__(
        self, optimizer: Optimizer, gamma: float, last_epoch: int = -1
    ) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def _next(self, index: int, lr: float) -> float:
        return lr * self.gamma


class PolynomialLR(LRScheduler):
    """Go to 0 as ``(1 - t / total_iters) ** power``."""

    def __init__(
        self,
        optimizer: Optimizer,
        total_iters: int = 5,
        power: float = 1.0,
        last_epoch: int = -1,
    ) -> None:
        check_count("PolynomialLR", "total_iters", total_iters)
        self.total_iters = total_iters
        self.power = power
        super().__init__(optimizer, last_epoch)

    def _next(self, index: int, lr: float) -> float:
        if self.last_epoch > self.total_iters:
            return lr
        now = 1.0 - self.last_epoch / self.total_iters
        before = 1.0 - (self.last_epoch - 1) / self.total_iters
        return lr * float((now / before) ** self.power)


class _Functions(LRScheduler):
    """A schedule by a function of the step, one for all groups or one for each."""

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | list[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        name = type(self).__name__
        self.lr_lambdas = per_group(name, "lr_lambda", optimizer, lr_lambda)
        for function in self.lr_lambdas:
            if not callable(function):
                raise DTypeError(
                    f"{name}: lr_lambda: expected a function of the step, got "
                    f"{function!r}"
                )
        super().__init__(optimizer, last_epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return the state; of the functions, what callable objects hold."""
        state = super().state_dict()
        state["lr_lambdas"] = [
            function.__dict__.copy() if not hasattr(function, "__code__") else None
            for function in self.lr_lambdas
        ]
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the state that `state_dict` returned; functions stay."""
        rest = dict(state_dict)
        held = rest.pop("lr_lambdas", [])
        super().load_state_dict(rest)
        for function, values in zip(self.lr_lambdas, held, strict=False):
            if values is not None:
                function.__dict__.update(values)


class LambdaLR(_Functions):
    """Set the rate to the initial one times ``lr_lambda(step)``."""

    def _start(self, index: int, lr: float) -> float:
        return self._next(index, lr)

    def _next(self, index: int, lr: float) -> float:
        return self.base_lrs[index] * float(self.lr_lambdas[index](self.last_epoch))


class MultiplicativeLR(_Functions):
    """Multiply the rate by ``lr_lambda(step)`` at every step but the first."""

    def _next(self, index: int, lr: float) -> float:
        return lr * float(self.lr_lambdas[index](self.last_epoch))
