"""Adam and AdamW.

D. P. Kingma, J. Ba: Adam: a method for stochastic optimization, ICLR 2015; S. J. Reddi
et al.: On the convergence of Adam and beyond, ICLR 2018 (amsgrad); I. Loshchilov,
F. Hutter: Decoupled weight decay regularization, ICLR 2019 (AdamW).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnlib import kernels
from nnlib.optim.batch import Batch
from nnlib.optim.optimizer import Optimizer

__all__ = ["Adam", "AdamW", "Moments"]


class Moments(Optimizer):
    """What Adam and its kin share: the checks of their options, and what is kept."""

    def check(self, group: dict[str, Any]) -> None:
        """Check the options of a group."""
        names = ("lr", "eps", "weight_decay", "momentum_decay", "l1")
        self._check_least(group, *(name for name in names if name in group))
        self._check_betas(group)

    def slots(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names of the kept arrays."""
        return "exp_avg", "exp_avg_sq"


class Adam(Moments):
    """Adam: steps scaled by running means of the gradient and of its square.

    At step ``t``, with ``g`` the gradient and its penalties::

        m <- beta1 m + (1 - beta1) g
        v <- beta2 v + (1 - beta2) g^2
        p <- p - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

    Parameters
    ----------
    params : iterable of Tensor or of dict
        What to optimise, or groups ``{"params": ..., "lr": ...}``.
    lr : float, default 1e-3
    betas : tuple of float, default (0.9, 0.999)
    eps : float, default 1e-8
    weight_decay : float, default 0
        L2 penalty: added to the gradient times the parameter.
    amsgrad : bool, default False
        Divide by the largest ``v`` so far.
    maximize : bool, default False
        Ascend instead.
    decoupled_weight_decay : bool, default False
        Take ``lr weight_decay p`` off the parameter itself (AdamW).
    bias_correction : bool, default True
        False: without the two divisors ``1 - beta^t``, as in some textbooks.
    l1 : float, default 0
        L1 penalty: added to the gradient times the parameter's sign.

    Raises
    ------
    Error
        If an option is out of range.

    Notes
    -----
    16-bit parameters are updated in float32 and rounded back at each step: there are no
    master weights, as in PyTorch, so that changes below their precision are lost. The
    moments are kept in float32.

    Examples
    --------
    >>> import nnlib
    >>> x = nnlib.tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = Adam([x], lr=0.1)
    >>> (x * x).sum().backward()
    >>> optimizer.step()
    >>> x.detach()
    tensor([ 0.9, -1.9])
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
        bias_correction: bool = True,
        l1: float = 0,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "maximize": maximize,
                "decoupled_weight_decay": decoupled_weight_decay,
                "bias_correction": bias_correction,
                "l1": l1,
            },
        )

    def slots(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names of the kept arrays."""
        if group["amsgrad"]:
            return "exp_avg", "exp_avg_sq", "max_exp_avg_sq"
        return super().slots(group)

    def update(self, batch: Batch, group: dict[str, Any]) -> None:
        """Update the parameters of a batch."""
        kernels.optimizer.adam(
            batch.table,
            batch.step,
            lr=group["lr"],
            betas=group["betas"],
            eps=group["eps"],
            weight_decay=group["weight_decay"],
            l1=group["l1"],
            maximize=group["maximize"],
            decoupled=group["decoupled_weight_decay"],
            bias_correction=group["bias_correction"],
        )


class AdamW(Adam):
    """Adam whose weight decay acts on the parameters, not on the gradient.

    ``p <- p - lr weight_decay p`` before Adam's step; see `Adam`.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        bias_correction: bool = True,
        l1: float = 0,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            maximize=maximize,
            decoupled_weight_decay=True,
            bias_correction=bias_correction,
            l1=l1,
        )
