"""Kin of Adam: Adamax, NAdam, RAdam."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnlib import kernels
from nnlib.optim.adam import Moments
from nnlib.optim.batch import Batch

__all__ = ["Adamax", "NAdam", "RAdam"]


class Adamax(Moments):
    """Adam by the largest gradient instead of the mean square.

    D. P. Kingma, J. Ba: Adam, ICLR 2015, algorithm 2::

        m <- beta1 m + (1 - beta1) g
        u <- max(beta2 u, |g| + eps)
        p <- p - lr / (1 - beta1^t) m / u

    Parameters
    ----------
    params : iterable of Tensor or of dict
    lr : float, default 2e-3
    betas, eps, weight_decay, maximize, l1
        As in `Adam`.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        *,
        maximize: bool = False,
        l1: float = 0,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "maximize": maximize,
                "l1": l1,
            },
        )

    def slots(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names of the kept arrays."""
        return "exp_avg", "exp_inf"

    def update(self, batch: Batch, group: dict[str, Any]) -> None:
        """Update the parameters of a batch."""
        kernels.optimizer.adamax(
            batch.table,
            batch.step,
            lr=group["lr"],
            betas=group["betas"],
            eps=group["eps"],
            weight_decay=group["weight_decay"],
            l1=group["l1"],
            maximize=group["maximize"],
        )


class NAdam(Moments):
    """Adam with Nesterov's momentum.

    T. Dozat: Incorporating Nesterov momentum into Adam, ICLR workshop 2016. The
    momentum of step ``t`` is ``mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2)``.

    Parameters
    ----------
    params : iterable of Tensor or of dict
    lr : float, default 2e-3
    momentum_decay : float, default 4e-3
    betas, eps, weight_decay, decoupled_weight_decay, maximize, l1
        As in `Adam`.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
        l1: float = 0,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "momentum_decay": momentum_decay,
                "decoupled_weight_decay": decoupled_weight_decay,
                "maximize": maximize,
                "l1": l1,
            },
        )

    def update(self, batch: Batch, group: dict[str, Any]) -> None:
        """Update the parameters of a batch."""
        product = kernels.optimizer.nadam(
            batch.table,
            batch.step,
            lr=group["lr"],
            betas=group["betas"],
            eps=group["eps"],
            momentum_decay=group["momentum_decay"],
            mu_product=batch.states[0].get("mu_product", 1.0),
            weight_decay=group["weight_decay"],
            l1=group["l1"],
            maximize=group["maximize"],
            decoupled=group["decoupled_weight_decay"],
        )
        for state in batch.states:
            state["mu_product"] = product


class RAdam(Moments):
    """Adam that waits with its scaling until the variance is known.

    L. Liu et al.: On the variance of the adaptive learning rate and beyond, ICLR 2020,
    algorithm 2.

    Parameters
    ----------
    params : iterable of Tensor or of dict
    lr, betas, eps, weight_decay, decoupled_weight_decay, maximize, l1
        As in `Adam`.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
        l1: float = 0,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "decoupled_weight_decay": decoupled_weight_decay,
                "maximize": maximize,
                "l1": l1,
            },
        )

    def update(self, batch: Batch, group: dict[str, Any]) -> None:
        """Update the parameters of a batch."""
        kernels.optimizer.radam(
            batch.table,
            batch.step,
            lr=group["lr"],
            betas=group["betas"],
            eps=group["eps"],
            weight_decay=group["weight_decay"],
            l1=group["l1"],
            maximize=group["maximize"],
            decoupled=group["decoupled_weight_decay"],
        )
