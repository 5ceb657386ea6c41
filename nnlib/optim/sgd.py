"""Gradient descent, with momentum if asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnlib import kernels
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ArgumentError
from nnlib.optim.batch import Batch
from nnlib.optim.optimizer import Optimizer, refuse_penalties

__all__ = ["SGD"]


class SGD(Optimizer):
    """Stochastic gradient descent.

    With ``g`` the gradient and its penalties, ``b`` the momentum buffer (at the first
    step ``b = g``)::

        b <- momentum b + (1 - dampening) g
        p <- p - lr b                        or, Nesterov, p - lr (g + momentum b)

    I. Sutskever et al.: On the importance of initialization and momentum in deep
    learning, ICML 2013.

    Parameters
    ----------
    params : iterable of Tensor or of dict
        What to optimise, or groups ``{"params": ..., "lr": ...}``.
    lr : float, default 1e-3
    momentum, dampening : float, default 0
    weight_decay : float, default 0
        L2 penalty: added to the gradient times the parameter.
    nesterov : bool, default False
        Needs momentum and no dampening.
    maximize : bool, default False
        Ascend instead.
    l1 : float, default 0
        L1 penalty: added to the gradient times the parameter's sign.

    Raises
    ------
    ArgumentError
        If an option is out of range.

    Examples
    --------
    >>> import nnlib
    >>> x = nnlib.tensor([1.0], requires_grad=True)
    >>> optimizer = SGD([x], lr=0.1)
    >>> (x * x).sum().backward()
    >>> optimizer.step()
    >>> x.detach()
    tensor([0.8])
    """

    counts = False

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        l1: float = 0,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "maximize": maximize,
                "l1": l1,
            },
        )

    def check(self, group: dict[str, Any]) -> None:
        """Check the options of a group."""
        self._check_least(group, "lr", "momentum", "weight_decay", "l1")
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ArgumentError(
                "SGD: nesterov: needs a momentum above 0 and no dampening"
            )

    def slots(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names of the kept arrays."""
        return ("momentum_buffer",) if group["momentum"] else ()

    def densifies(self, group: Mapping[str, Any]) -> bool:
        """Tell whether all rows move at each step: with momentum they do."""
        return bool(group["momentum"])

    def update_rows(
        self, p: Tensor, rows: Any, values: Any, group: dict[str, Any]
    ) -> None:
        """Update the rows of one parameter."""
        refuse_penalties(self, group)
        kernels.sparse_rows.sgd(p._array, rows, values, lr=group["lr"])

    def update(self, batch: Batch, group: dict[str, Any]) -> None:
        """Update the parameters of a batch."""
        kernels.optimizer.sgd(
            batch.table,
            lr=group["lr"],
            momentum=group["momentum"],
            dampening=group["dampening"],
            nesterov=group["nesterov"],
            first=batch.fresh,
            weight_decay=group["weight_decay"],
            l1=group["l1"],
            maximize=group["maximize"],
        )
