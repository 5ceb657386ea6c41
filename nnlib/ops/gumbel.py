"""Samples of classes through which gradients flow."""

from __future__ import annotations

from typing import Any

from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ArgumentError
from nnlib.backend.random import Generator
from nnlib.ops.creation import empty_like, zeros_like
from nnlib.ops.loss import check_float
from nnlib.ops.redrawing import exponential_
from nnlib.ops.softmax import softmax

__all__ = ["gumbel_softmax"]


@public(method=False)
def gumbel_softmax(
    logits: Any,
    tau: float = 1,
    hard: bool = False,
    eps: float = 1e-10,
    dim: int = -1,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Return a random class as (nearly) one-hot numbers, with gradients.

    ``softmax((logits + g) / tau)``, g drawn from the Gumbel distribution: the largest
    entry is class k with the probability ``softmax(logits)[k]``.

    Parameters
    ----------
    logits : Tensor
        Logarithms of probabilities, up to a constant.
    tau : float, default 1
        The temperature: the smaller, the nearer to one-hot.
    hard : bool, default False
        Return exact one-hot numbers; gradients are those of the soft ones.
    eps : float
        Kept for PyTorch's signature, where it is not used either.
    dim : int, default -1
        The dimension of the classes.
    generator : Generator, optional

    Raises
    ------
    Error
        If `tau` is not positive.
    DTypeError
        If `logits` is not floating.

    Notes
    -----
    Jang et al., "Categorical Reparameterization with Gumbel-Softmax", 2017; Maddison
    et al., "The Concrete Distribution", 2017.

    Examples
    --------
    >>> import nnlib
    >>> gumbel_softmax(nnlib.zeros(5, 3), hard=True).sum().item()
    5.0
    """
    check_float("gumbel_softmax", "logits", logits)
    if not tau > 0:
        raise ArgumentError(
            f"gumbel_softmax: tau: expected a positive number, got {tau}"
        )
    # The logarithm of an exponential number is a Gumbel number with the other sign.
    noise = exponential_(empty_like(logits).detach(), generator=generator).log()
    soft = softmax((logits - noise) / tau, dim)
    if not hard:
        return soft
    index = soft.detach().argmax(dim, keepdim=True)
    chosen = zeros_like(soft).detach().scatter_(dim, index, 1.0)
    return chosen - soft.detach() + soft
