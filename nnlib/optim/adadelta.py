"""Adadelta."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnlib import kernels
from nnlib.backend.errors import ArgumentError
from nnlib.optim.batch import Batch
from nnlib.optim.optimizer import Optimizer

__all__ = ["Adadelta"]


class Adadelta(Optimizer):
    """Steps as long as the steps before, in the units of the parameter.

    M. D. Zeiler: ADADELTA: an adaptive learning rate method, 2012, algorithm 1::

        v <- rho v + (1 - rho) g^2
        d  = sqrt(u + eps) / sqrt(v + eps) g
        u <- rho u + (1 - rho) d^2
        p <- p - lr d

    Parameters
    ----------
    params : iterable of Tensor or of dict
        What to optimise, or groups ``{"params": ..., "lr": ...}``.
    lr : float, default 1.0
    rho : float, default 0.9
    eps : float, default 1e-6
    weight_decay : float, default 0
        L2 penalty: added to the gradient times the parameter.
    maximize : bool, default False
        Ascend instead.
    l1 : float, default 0
        L1 penalty: added to the gradient times the parameter's sign.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        *,
        maximize: bool = False,
        l1: float = 0,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "rho": rho,
                "eps": eps,
                "weight_decay": weight_decay,
                "maximize": maximize,
                "l1": l1,
            },
        )

    def check(self, group: dict[str, Any]) -> None:
        """Check the options of a group."""
        self._check_least(group, "lr", "eps", "weight_decay", "l1")
        if not 0 <= group["rho"] <= 1:
            raise ArgumentError(f"Adadelta: rho: expected 0 to 1, got {group['rho']!r}")

    def slots(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names of the kept arrays."""
        return "square_avg", "acc_delta"

    def update(self, batch: Batch, group: dict[str, Any]) -> None:
        """Update the parameters of a batch."""
        kernels.optimizer.adadelta(
            batch.table,
            lr=group["lr"],
            rho=group["rho"],
            eps=group["eps"],
            weight_decay=group["weight_decay"],
            l1=group["l1"],
            maximize=group["maximize"],
        )
