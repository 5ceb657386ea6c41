"""Kullback-Leibler divergences in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from nnlib import ops
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ArgumentError, ShapeError
from nnlib.distributions.continuous import Gumbel, Laplace, Normal, Uniform
from nnlib.distributions.discrete import (
    Bernoulli,
    Categorical,
    OneHotCategorical,
)
from nnlib.distributions.distribution import Distribution, Independent
from nnlib.distributions.relaxed import RelaxedBernoulli
from nnlib.nn.functional import binary_cross_entropy_with_logits

__all__ = ["kl_divergence", "register_kl"]

_Formula = Callable[[Any, Any], Tensor]
_FORMULAS: dict[tuple[type, type], _Formula] = {}
_EULER = 0.5772156649015329


def register_kl(p: type, q: type) -> Callable[[_Formula], _Formula]:
    """Register the divergence of class `p` from class `q`: a decorator.

    Parameters
    ----------
    p, q : type
        Sub-classes of `Distribution`; the formula is used for theirs too.

    Examples
    --------
    >>> @register_kl(Uniform, Categorical)  # doctest: +SKIP
    ... def _(p, q):
    ...     return ...
    """

    def register(formula: _Formula) -> _Formula:
        _FORMULAS[p, q] = formula
        return formula

    return register


def kl_divergence(p: Distribution, q: Distribution) -> Tensor:
    """Return ``KL(p || q)``, the expectation under p of ``log p(x) - log q(x)``.

    Parameters
    ----------
    p, q : Distribution

    Returns
    -------
    Tensor of nats, shape of the broadcast batches

    Raises
    ------
    ArgumentError
        If there is no closed form for the two classes here.

    Examples
    --------
    >>> kl_divergence(Normal(1.0, 1.0), Normal(0.0, 1.0))
    tensor(0.5)
    """
    if isinstance(p, RelaxedBernoulli) or isinstance(q, RelaxedBernoulli):
        # They are numbers between 0 and 1, whatever they share with `Bernoulli`.
        kinds = type(p), type(q)
        formula = _FORMULAS.get(kinds)
        if formula is None:
            raise _unknown(p, q)
        return formula(p, q)
    for a in type(p).__mro__:
        for b in type(q).__mro__:
            formula = _FORMULAS.get((a, b))
            if formula is not None:
                return formula(p, q)
    raise _unknown(p, q)


def _unknown(p: Distribution, q: Distribution) -> ArgumentError:
    return ArgumentError(
        f"kl_divergence: there is no closed form of {type(p).__name__} from "
        f"{type(q).__name__}; register_kl adds one"
    )


@register_kl(Normal, Normal)
def _normal_normal(p: Normal, q: Normal) -> Tensor:
    ratio = (p.scale / q.scale).square()
    shift = ((p.loc - q.loc) / q.scale).square()
    return 0.5 * (ratio + shift - 1 - ratio.log())


@register_kl(Laplace, Laplace)
def _laplace_laplace(p: Laplace, q: Laplace) -> Tensor:
    ratio = p.scale / q.scale
    apart = (p.loc - q.loc).abs()
    return -ratio.log() + apart / q.scale + ratio * (-apart / p.scale).exp() - 1


@register_kl(Laplace, Normal)
def _laplace_normal(p: Laplace, q: Normal) -> Tensor:
    ratio = (p.scale / q.scale).square()
    shift = ((p.loc - q.loc) / q.scale).square()
    return 0.5 * shift + ratio - 0.5 * ratio.log() + 0.5 * math.log(math.pi / 2) - 1


@register_kl(Gumbel, Gumbel)
def _gumbel_gumbel(p: Gumbel, q: Gumbel) -> Tensor:
    ratio = p.scale / q.scale
    apart = (p.loc - q.loc) / q.scale
    # E[exp(-(x - q.loc) / q.scale)] is exp(-apart) times the gamma function.
    power = (-apart + _lgamma(1 + ratio)).exp()
    return -ratio.log() + _EULER * (ratio - 1) + apart + power - 1


def _lgamma(x: Tensor) -> Tensor:
    """Return log(gamma(x)) for x of at least 1, by Stirling's series behind x + 8."""
    shift = 8
    product = x
    for i in range(1, shift):
        product = product * (x + i)
    y = x + shift
    squared = y.square().reciprocal()
    series = (1 / 12 - squared * (1 / 360 - squared * (1 / 1260 - squared / 1680))) / y
    whole = (y - 0.5) * y.log() - y + 0.5 * math.log(2 * math.pi) + series
    return whole - product.log()


@register_kl(Uniform, Uniform)
def _uniform_uniform(p: Uniform, q: Uniform) -> Tensor:
    inside = (q.low <= p.low) & (p.high <= q.high)
    value = ((q.high - q.low) / (p.high - p.low)).log()
    result: Tensor = ops.where(inside, value, math.inf)
    return result


@register_kl(Uniform, Normal)
def _uniform_normal(p: Uniform, q: Normal) -> Tensor:
    width = p.high - p.low
    middle = (p.high + p.low - 2 * q.loc) / 2
    spread = (width.square() / 12 + middle.square()) / (2 * q.scale.square())
    return 0.5 * math.log(2 * math.pi) + q.scale.log() - width.log() + spread


@register_kl(Normal, Laplace)
def _normal_laplace(p: Normal, q: Laplace) -> Tensor:
    apart = p.loc - q.loc
    ratio = apart / (math.sqrt(2) * p.scale)
    near = math.sqrt(2 / math.pi) * p.scale * (-ratio.square()).exp()
    distance = near + apart * ratio.erf()  # of x from q.loc, expected
    return (2 * q.scale).log() + distance / q.scale - p.entropy()


@register_kl(Normal, Gumbel)
def _normal_gumbel(p: Normal, q: Gumbel) -> Tensor:
    apart = (p.loc - q.loc) / q.scale
    power = (0.5 * (p.scale / q.scale).square() - apart).exp()
    return q.scale.log() + apart + power - p.entropy()


@register_kl(Gumbel, Normal)
def _gumbel_normal(p: Gumbel, q: Normal) -> Tensor:
    spread = p.variance + (p.mean - q.loc).square()
    return (
        0.5 * math.log(2 * math.pi) + q.scale.log()
        + spread / (2 * q.scale.square()) - p.entropy()
    )  # fmt: skip


@register_kl(Uniform, Gumbel)
def _uniform_gumbel(p: Uniform, q: Gumbel) -> Tensor:
    width = p.high - p.low
    apart = (p.mean - q.loc) / q.scale
    low, high = ((q.loc - end) / q.scale for end in (p.low, p.high))
    power = q.scale / width * (low.exp() - high.exp())
    return q.scale.log() + apart + power - width.log()


@register_kl(Normal, Uniform)
@register_kl(Laplace, Uniform)
@register_kl(Gumbel, Uniform)
def _never_inside(p: Any, q: Uniform) -> Tensor:
    """Return infinity: p gives numbers outside of any interval."""
    shape = ops.broadcast_shapes(p.batch_shape, q.batch_shape)
    return ops.full(tuple(shape), math.inf, dtype=p.loc.dtype, device=p.loc.device)


@register_kl(Bernoulli, Bernoulli)
def _bernoulli_bernoulli(p: Bernoulli, q: Bernoulli) -> Tensor:
    logits, probs, others = ops.broadcast_tensors(q.logits, p.probs, q.probs)
    cross = binary_cross_entropy_with_logits(logits, probs, reduction="none")
    # What p can give, q cannot.
    never = ((others == 0) & (probs > 0)) | ((others == 1) & (probs < 1))
    same = (others == probs) & ((probs == 0) | (probs == 1))
    value = ops.where(never, math.inf, cross - p.entropy())
    result: Tensor = ops.where(same, ops.zeros_like(value), value)
    return result


@register_kl(Categorical, Categorical)
@register_kl(OneHotCategorical, OneHotCategorical)
def _classes(p: Any, q: Any) -> Tensor:
    if p._classes != q._classes:
        raise ShapeError(
            f"kl_divergence: p has {p._classes} classes, q has {q._classes}"
        )
    probs = p.probs
    terms = probs * (p.logits - q.logits)
    terms = ops.where(q.probs == 0, math.inf, terms)
    result: Tensor = ops.where(probs > 0, terms, ops.zeros_like(terms)).sum(-1)
    return result


@register_kl(Independent, Independent)
def _independent(p: Independent, q: Independent) -> Tensor:
    if p.reinterpreted_batch_ndims != q.reinterpreted_batch_ndims:
        raise ShapeError(
            "kl_divergence: expected the same reinterpreted_batch_ndims, got "
            f"{p.reinterpreted_batch_ndims} and {q.reinterpreted_batch_ndims}"
        )
    return p._sum(kl_divergence(p.base_dist, q.base_dist))
