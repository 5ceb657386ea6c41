"""Muon: steps along matrices made orthogonal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from nnlib.backend.device import array_module
from nnlib.backend.errors import ArgumentError, ShapeError
from nnlib.optim.batch import Batch
from nnlib.optim.optimizer import Optimizer

__all__ = ["Muon"]


class Muon(Optimizer):
    """Momentum whose matrix is made nearly orthogonal before the step.

    K. Jordan et al.: Muon: an optimizer for hidden layers in neural networks, 2024::

        m <- momentum m + (1 - momentum) g
        u <- momentum m + (1 - momentum) g if nesterov, else m
        p <- p (1 - lr weight_decay) - lr factor orthogonal(u)

    ``orthogonal(u)`` has u's singular vectors and singular values near 1. It takes
    `ns_steps` steps of Newton and Schulz's iteration,
    ``x <- a x + (b x x' + c (x x')^2) x``, begun with u divided by its norm.
    All that is left of a gradient is its directions, each of them as long.

    It is for the weights of hidden layers, which are matrices; biases, normalisations,
    embeddings and the last layer go to an `AdamW` of their own.

    Parameters
    ----------
    params : iterable of Tensor or of dict
        Matrices, or groups of them ``{"params": ..., "lr": ...}``.
    lr : float, default 1e-3
    weight_decay : float, default 0.1
        Decoupled: how fast parameters shrink, as a share of `lr`.
    momentum : float, default 0.95
    nesterov : bool, default True
    ns_coefficients : (float, float, float), default (3.4445, -4.775, 2.0315)
        a, b and c: chosen to bring small singular values up fast; then they stay
        between about 0.7 and 1.2.
    eps : float, default 1e-7
        The least number that u is divided by.
    ns_steps : int, default 5
    adjust_lr_fn : {None, "original", "match_rms_adamw"}
        The factor for a matrix of m rows and n columns: ``sqrt(max(1, m / n))``, or
        ``0.2 sqrt(max(m, n))``, with which lr and weight decay of AdamW will do.

    Raises
    ------
    ShapeError
        If a parameter is no matrix.

    Examples
    --------
    >>> import nnlib
    >>> x = nnlib.eye(2).requires_grad_()
    >>> optimizer = nnlib.optim.Muon([x], lr=0.1, weight_decay=0)
    >>> (5 * x[0, 0] + 3 * x[1, 1]).backward()
    >>> optimizer.step()
    >>> x.diagonal().round(decimals=1)
    tensor([0.9, 0.9], grad_fn=<RoundBackward>)
    """

    counts = False
    recordable = False

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "weight_decay": weight_decay,
                "momentum": momentum,
                "nesterov": nesterov,
                "ns_coefficients": ns_coefficients,
                "eps": eps,
                "ns_steps": ns_steps,
                "adjust_lr_fn": adjust_lr_fn,
            },
        )

    def check(self, group: dict[str, Any]) -> None:
        """Check the options of a group, and that its parameters are matrices."""
        self._check_least(group, "lr", "weight_decay", "momentum", "eps")
        given = group["ns_coefficients"]
        if not isinstance(given, tuple | list) or len(given) != 3:
            raise ArgumentError(
                f"Muon: ns_coefficients: expected three numbers, got {given!r}"
            )
        steps = group["ns_steps"]
        if not hasattr(steps, "__index__") or not 0 <= steps < 100:
            raise ArgumentError(
                f"Muon: ns_steps: expected an integer from 0 to 99, got {steps!r}"
            )
        if group["adjust_lr_fn"] not in (None, "original", "match_rms_adamw"):
            raise ArgumentError(
                "Muon: adjust_lr_fn: expected None, 'original' or 'match_rms_adamw', "
                f"got {group['adjust_lr_fn']!r}"
            )
        for index, p in enumerate(group["params"]):
            if p.ndim != 2:
                raise ShapeError(
                    f"Muon: params: parameter {index} has shape {tuple(p.shape)}: "
                    "expected a matrix; give others to AdamW"
                )

    def slots(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names of the kept arrays."""
        return ("momentum_buffer",)

    def update(self, batch: Batch, group: dict[str, Any]) -> None:
        """Update the parameters of a batch."""
        share, lr = 1 - group["momentum"], group["lr"]
        for p, array, state in zip(
            batch.params, batch.arrays, batch.states, strict=True
        ):
            if p._grad is None or not array.size:
                continue
            grad = p._grad._array.astype(array.dtype, copy=False)
            kept = state["momentum_buffer"]._array
            kept += share * (grad - kept)
            step = grad + group["momentum"] * (kept - grad)
            step = _orthogonal(step if group["nesterov"] else kept, group)
            array *= 1 - lr * group["weight_decay"]
            array -= lr * _factor(group["adjust_lr_fn"], *array.shape) * step


def _factor(kind: str | None, rows: int, columns: int) -> float:
    if kind == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(max(1, rows / columns))


def _orthogonal(x: Any, group: Mapping[str, Any]) -> Any:
    """Return nearly the nearest orthogonal matrix."""
    a, b, c = group["ns_coefficients"]
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    module = array_module(x)
    norm = module.sqrt((x * x).sum())
    x = x / module.maximum(norm, group["eps"])
    for _ in range(group["ns_steps"]):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.T if tall else x
