"""Adagrad."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnlib import kernels
from nnlib.autograd.tensor import Tensor
from nnlib.optim.batch import Batch
from nnlib.optim.optimizer import Optimizer, refuse_penalties

__all__ = ["Adagrad"]


class Adagrad(Optimizer):
    """Steps divided by the root of the sum of all squared gradients.

    J. Duchi, E. Hazan, Y. Singer: Adaptive subgradient methods, JMLR 2011::

        s <- s + g^2
        p <- p - lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps)

    Parameters
    ----------
    params : iterable of Tensor or of dict
        What to optimise, or groups ``{"params": ..., "lr": ...}``.
    lr : float, default 1e-2
    lr_decay : float, default 0
    weight_decay : float, default 0
        L2 penalty: added to the gradient times the parameter.
    initial_accumulator_value : float, default 0
        What ``s`` begins with.
    eps : float, default 1e-10
    maximize : bool, default False
        Ascend instead.
    l1 : float, default 0
        L1 penalty: added to the gradient times the parameter's sign.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
        l1: float = 0,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "lr_decay": lr_decay,
                "eps": eps,
                "weight_decay": weight_decay,
                "initial_accumulator_value": initial_accumulator_value,
                "maximize": maximize,
                "l1": l1,
            },
        )

    def check(self, group: dict[str, Any]) -> None:
        """Check the options of a group."""
        self._check_least(group, "lr", "lr_decay", "eps", "weight_decay", "l1")
        self._check_least(group, "initial_accumulator_value")

    def slots(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names of the kept arrays."""
        return ("sum",)

    def first(self, slot: str, group: Mapping[str, Any]) -> float:
        """Return the initial value of the sum."""
        return float(group["initial_accumulator_value"])

    def update_rows(
        self, p: Tensor, rows: Any, values: Any, group: dict[str, Any]
    ) -> None:
        """Update the rows of one parameter."""
        refuse_penalties(self, group)
        state = self.state[p]
        state["step"] = step = state.get("step", 0) + 1
        (total,) = self.kept_arrays(p, group)
        lr = group["lr"] / (1.0 + (step - 1) * group["lr_decay"])
        kernels.sparse_rows.adagrad(
            p._array, total, rows, values, lr=lr, eps=group["eps"]
        )

    def update(self, batch: Batch, group: dict[str, Any]) -> None:
        """Update the parameters of a batch."""
        kernels.optimizer.adagrad(
            batch.table,
            batch.step,
            lr=group["lr"],
            lr_decay=group["lr_decay"],
            eps=group["eps"],
            weight_decay=group["weight_decay"],
            l1=group["l1"],
            maximize=group["maximize"],
        )
