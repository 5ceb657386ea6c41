"""Rprop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnlib import kernels
from nnlib.backend.errors import ArgumentError, DTypeError
from nnlib.optim.batch import Batch
from nnlib.optim.optimizer import Optimizer

__all__ = ["Rprop"]


class Rprop(Optimizer):
    """Steps by the sign of the gradient alone, for batches of all data.

    M. Riedmiller and H. Braun: A direct adaptive method for faster backpropagation
    learning: the RPROP algorithm, 1993, without weight backtracking (as in PyTorch).
    An element's step grows while its gradient keeps its sign; where the sign has
    changed it shrinks, and the element rests.

    Parameters
    ----------
    params : iterable of Tensor or of dict
        What to optimise, or groups ``{"params": ..., "etas": ...}``.
    lr : float, default 1e-2
        The first step; afterwards it has no effect.
    etas : pair of float, default (0.5, 1.2)
        By what a step shrinks and grows.
    step_sizes : pair of float, default (1e-6, 50)
        The smallest and the largest step.
    maximize : bool, default False
        Ascend instead.
    l1 : float, default 0
        L1 penalty: added to the gradient times the parameter's sign.

    Examples
    --------
    >>> import nnlib
    >>> x = nnlib.tensor([3.0], requires_grad=True)
    >>> optimizer = nnlib.optim.Rprop([x], lr=0.5)
    >>> x.square().sum().backward()
    >>> optimizer.step()
    >>> x.detach()
    tensor([2.5])
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        maximize: bool = False,
        l1: float = 0,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "etas": etas,
                "step_sizes": step_sizes,
                "maximize": maximize,
                "l1": l1,
            },
        )

    def check(self, group: dict[str, Any]) -> None:
        """Check the options of a group."""
        self._check_least(group, "lr", "l1")
        for option in ("etas", "step_sizes"):
            value = group[option]
            if not isinstance(value, tuple | list) or len(value) != 2:
                raise DTypeError(
                    f"Rprop: {option}: expected a pair of numbers, got {value!r}"
                )
        minus, plus = group["etas"]
        if not 0 < minus < 1 < plus:
            raise ArgumentError(
                f"Rprop: etas: expected 0 < minus < 1 < plus, got {group['etas']!r}"
            )
        least, most = group["step_sizes"]
        if not 0 <= least <= most:
            raise ArgumentError(
                "Rprop: step_sizes: expected 0 <= smallest <= largest, got "
                f"{group['step_sizes']!r}"
            )

    def slots(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names of the kept arrays."""
        return "prev", "step_size"

    def first(self, slot: str, group: Mapping[str, Any]) -> float:
        """Return the initial value of a slot's elements."""
        return float(group["lr"]) if slot == "step_size" else 0.0

    def update(self, batch: Batch, group: dict[str, Any]) -> None:
        """Update the parameters of a batch."""
        kernels.optimizer.rprop(
            batch.table,
            etas=group["etas"],
            step_sizes=group["step_sizes"],
            l1=group["l1"],
            maximize=group["maximize"],
        )
