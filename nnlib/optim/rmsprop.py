"""RMSprop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnlib import kernels
from nnlib.optim.batch import Batch
from nnlib.optim.optimizer import Optimizer

__all__ = ["RMSprop"]


class RMSprop(Optimizer):
    """Steps divided by the root of a running mean of squared gradients.

    T. Tieleman, G. Hinton: lecture 6.5 of Neural networks for machine learning, 2012;
    centred by A. Graves: Generating sequences with recurrent neural networks, 2013,
    eq. 38-45::

        v <- alpha v + (1 - alpha) g^2
        b <- momentum b + g / (sqrt(v) + eps)         centred: sqrt(v - mean(g)^2)
        p <- p - lr b

    Parameters
    ----------
    params : iterable of Tensor or of dict
        What to optimise, or groups ``{"params": ..., "lr": ...}``.
    lr : float, default 1e-2
    alpha : float, default 0.99
    eps : float, default 1e-8
    weight_decay : float, default 0
        L2 penalty: added to the gradient times the parameter.
    momentum : float, default 0
    centered : bool, default False
        Divide by the standard deviation.
    maximize : bool, default False
        Ascend instead.
    l1 : float, default 0
        L1 penalty: added to the gradient times the parameter's sign.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        *,
        maximize: bool = False,
        l1: float = 0,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "alpha": alpha,
                "eps": eps,
                "centered": centered,
                "weight_decay": weight_decay,
                "maximize": maximize,
                "l1": l1,
            },
        )

    def check(self, group: dict[str, Any]) -> None:
        """Check the options of a group."""
        self._check_least(group, "lr", "alpha", "eps", "weight_decay", "momentum", "l1")

    def slots(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names of the kept arrays, in the kernel's order."""
        names: tuple[str, ...] = ("square_avg",)
        if group["centered"]:
            names += ("grad_avg",)
        if group["momentum"]:
            names += ("momentum_buffer",)
        return names

    def update(self, batch: Batch, group: dict[str, Any]) -> None:
        """Update the parameters of a batch."""
        kernels.optimizer.rmsprop(
            batch.table,
            lr=group["lr"],
            alpha=group["alpha"],
            eps=group["eps"],
            momentum=group["momentum"],
            centered=group["centered"],
            weight_decay=group["weight_decay"],
            l1=group["l1"],
            maximize=group["maximize"],
        )
