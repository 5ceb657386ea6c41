"""Adafactor: second moments of matrices kept as one row and one column."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.errors import ArgumentError
from nnlib.optim.batch import Batch
from nnlib.optim.optimizer import Optimizer

__all__ = ["Adafactor"]


class Adafactor(Optimizer):
    """Adam's scaling at the price of one row and one column for each matrix.

    N. Shazeer, M. Stern: Adafactor: adaptive learning rates with sublinear memory cost,
    ICML 2018. With ``b = t^beta2_decay`` and means over the last dimension (rows) and
    the last but one (columns)::

        r <- (1 - b) r + b mean_rows(g^2),  c <- (1 - b) c + b mean_columns(g^2)
        u  = g / sqrt(r c / mean(r))        (of vectors: g / sqrt(v), v as r)
        p <- p (1 - lr weight_decay) - alpha u / max(1, rms(u) / d)
        alpha = max(eps2, rms(p)) min(lr, 1 / sqrt(t))

    Parameters
    ----------
    params : iterable of Tensor or of dict
        What to optimise, or groups ``{"params": ..., "lr": ...}``.
    lr : float, default 1e-2
        The largest step, relative to the parameter's root mean square.
    beta2_decay : float, default -0.8
    eps : (float or None, float), default (None, 1e-3)
        The least root of a second moment (None: the dtype's epsilon), and the least
        root mean square of a parameter.
    d : float, default 1.0
        Updates of a larger root mean square are scaled down to it.
    weight_decay : float, default 0
        Decoupled.
    maximize : bool, default False
        Ascend instead.

    Examples
    --------
    >>> import nnlib
    >>> x = nnlib.ones(2, 3, requires_grad=True)
    >>> optimizer = nnlib.optim.Adafactor([x])
    >>> x.sum().backward()
    >>> optimizer.step()
    >>> x[0].tolist() == [nnlib.tensor(0.99).item()] * 3
    True
    >>> sorted(optimizer.state[x])
    ['col_var', 'row_var', 'step']
    """

    recordable = False

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "beta2_decay": beta2_decay,
                "eps": eps,
                "d": d,
                "weight_decay": weight_decay,
                "maximize": maximize,
            },
        )

    def check(self, group: dict[str, Any]) -> None:
        """Check the options of a group."""
        self._check_least(group, "lr", "weight_decay")
        if not group["beta2_decay"] <= 0:
            raise ArgumentError(
                "Adafactor: beta2_decay: expected at most 0, got "
                f"{group['beta2_decay']}"
            )
        if not group["d"] >= 1:
            raise ArgumentError(f"Adafactor: d: expected at least 1, got {group['d']}")
        given = group["eps"]
        if not isinstance(given, tuple | list) or len(given) != 2:
            raise ArgumentError(f"Adafactor: eps: expected two numbers, got {given!r}")
        least, other = given
        if not other >= 0 or not (least is None or least >= 0):
            raise ArgumentError(
                f"Adafactor: eps: expected numbers of at least 0, got {given}"
            )

    def slots(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        """Return no names: what is kept has not the parameters' shapes."""
        return ()

    def update(self, batch: Batch, group: dict[str, Any]) -> None:
        """Update the parameters of a batch."""
        step, lr = batch.step, group["lr"]
        share = step ** group["beta2_decay"]
        for p, array, state in zip(
            batch.params, batch.arrays, batch.states, strict=True
        ):
            if p._grad is None or not array.size:
                continue
            grad = p._grad._array.astype(array.dtype, copy=False)
            if group["maximize"]:
                grad = -grad
            least = group["eps"][0]
            least = float(np.finfo(array.dtype).eps) if least is None else least
            size = max(group["eps"][1], _rms(array)) * min(lr, 1 / math.sqrt(step))
            array *= 1 - lr * group["weight_decay"]
            moments = _moments(grad * grad, state, share, least)
            module = array_module(array)
            change = grad / module.sqrt(module.maximum(moments, least * least))
            array -= size / max(1.0, _rms(change) / group["d"]) * change


def _rms(array: Any) -> float:
    """Return the root mean square."""
    return math.sqrt(float((array * array).mean()))


def _kept(state: dict[str, Any], name: str, mean: Any, share: float) -> Any:
    """Move a kept mean by a share towards a new one; return it."""
    if name not in state:
        state[name] = Tensor._from_array(array_module(mean).zeros_like(mean))
    kept = state[name]._array
    kept += share * (mean - kept)
    return kept


def _moments(squares: Any, state: dict[str, Any], share: float, least: float) -> Any:
    """Return the estimate of the second moments."""
    if squares.ndim < 2:
        return _kept(state, "variance", squares, share)
    row = _kept(state, "row_var", squares.mean(-1, keepdims=True), share)
    column = _kept(state, "col_var", squares.mean(-2, keepdims=True), share)
    module = array_module(squares)
    return row * column / module.maximum(row.mean(-2, keepdims=True), least)
