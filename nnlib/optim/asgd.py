"""ASGD: averaged stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnlib import kernels
from nnlib.optim.batch import Batch
from nnlib.optim.optimizer import Optimizer

__all__ = ["ASGD"]


class ASGD(Optimizer):
    """Gradient descent that also keeps the average of the parameters.

    B. T. Polyak and A. B. Juditsky: Acceleration of stochastic approximation by
    averaging, 1992; steps as in L. Bottou's SGD::

        eta_t = lr / (1 + lambd lr t)^alpha,  mu_t = 1 / max(1, t - t0)
        p  <- p (1 - lambd eta) - eta g
        ax <- ax + mu (p - ax)

    The average is ``optimizer.state[p]["ax"]``; the parameters themselves are used
    unless it is put in their place.

    Parameters
    ----------
    params : iterable of Tensor or of dict
        What to optimise, or groups ``{"params": ..., "lr": ...}``.
    lr : float, default 1e-2
    lambd : float, default 1e-4
        How fast the parameters decay, and the step with them.
    alpha : float, default 0.75
        The power by which the step falls.
    t0 : float, default 1e6
        The step at which averaging begins.
    weight_decay : float, default 0
        L2 penalty: added to the gradient times the parameter.
    maximize : bool, default False
        Ascend instead.
    l1 : float, default 0
        L1 penalty: added to the gradient times the parameter's sign.

    Examples
    --------
    >>> import nnlib
    >>> x = nnlib.tensor([3.0], requires_grad=True)
    >>> optimizer = nnlib.optim.ASGD([x], lr=0.5, lambd=0)
    >>> x.square().sum().backward()
    >>> optimizer.step()
    >>> x.detach(), optimizer.state[x]["ax"]
    (tensor([0.]), tensor([0.]))
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0,
        *,
        maximize: bool = False,
        l1: float = 0,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "lambd": lambd,
                "alpha": alpha,
                "t0": t0,
                "weight_decay": weight_decay,
                "maximize": maximize,
                "l1": l1,
            },
        )

    def check(self, group: dict[str, Any]) -> None:
        """Check the options of a group."""
        self._check_least(group, "lr", "weight_decay", "l1")

    def slots(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names of the kept arrays."""
        return ("ax",)

    def shared(self, state: Mapping[str, Any]) -> Any:
        """Return the step's length, which with a schedule its number does not give."""
        return state.get("eta")

    def update(self, batch: Batch, group: dict[str, Any]) -> None:
        """Update the parameters of a batch."""
        state = batch.states[0]
        eta, mu = kernels.optimizer.asgd(
            batch.table,
            batch.step,
            lr=group["lr"],
            eta=state.get("eta", group["lr"]),
            mu=state.get("mu", 1.0),
            lambd=group["lambd"],
            alpha=group["alpha"],
            t0=group["t0"],
            weight_decay=group["weight_decay"],
            l1=group["l1"],
            maximize=group["maximize"],
        )
        for state in batch.states:
            state["eta"], state["mu"] = eta, mu
