"""Smooth stand-ins for discrete samples, through which gradients flow."""

from __future__ import annotations

import math
from typing import Any

from nnlib import ops
from nnlib.autograd.tensor import Size, Tensor
from nnlib.backend.dtypes import float32, float64
from nnlib.backend.random import Generator
from nnlib.distributions.discrete import Bernoulli, _Classes
from nnlib.distributions.distribution import parameters
from nnlib.nn.functional import softplus

__all__ = ["RelaxedBernoulli", "RelaxedOneHotCategorical"]


def _unit(like: Tensor, shape: Size, generator: Generator | None) -> Tensor:
    """Return uniform numbers off 0 and 1."""
    # 16 bits are too coarse near the ends: the logarithms would see it.
    dtype = float64 if like.dtype == float64 else float32
    step = 2.0**-52 if dtype == float64 else 2.0**-24
    unit = ops.rand(*shape, dtype=dtype, device=like.device, generator=generator)
    return unit.clamp(step, 1 - step)


class RelaxedOneHotCategorical(_Classes):
    """The concrete (Gumbel-softmax) distribution: nearly one-hot vectors.

    A sample is ``softmax((logits + g) / temperature)`` with Gumbel noise g; as the
    temperature falls to zero it becomes a sample of `OneHotCategorical`. C. Maddison,
    A. Mnih, Y. W. Teh: The Concrete Distribution, 2017; E. Jang, S. Gu, B. Poole:
    Categorical Reparameterization with Gumbel-Softmax, 2017.

    Parameters
    ----------
    temperature : Tensor or float
        Positive.
    probs, logits : Tensor, shape (..., K)
        As of `Categorical`.
    validate_args : bool, default True

    Examples
    --------
    >>> import nnlib
    >>> nearly = RelaxedOneHotCategorical(0.5, logits=nnlib.zeros(3))
    >>> round(nearly.rsample().sum().item(), 4)
    1.0
    """

    has_rsample = True
    _shown: tuple[str, ...] = ("temperature", "probs")

    def __init__(
        self,
        temperature: Any,
        probs: Any = None,
        logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(probs, logits, True, validate_args)
        (self.temperature,) = parameters(
            "RelaxedOneHotCategorical", temperature=temperature
        )
        good = self.temperature > 0
        self._require("temperature", self.temperature, good, "a positive number")

    def _draw(self, shape: Size, generator: Generator | None) -> Tensor:
        noise = -(-_unit(self._parameter, shape, generator).log()).log()
        logits = self.logits
        return ((logits + noise.to(logits.dtype)) / self.temperature).softmax(-1)

    def entropy(self) -> Tensor:
        """Raise: it has no closed form."""
        raise self._missing("entropy")

    def log_prob(self, value: Any) -> Tensor:
        """Return the log density of vectors inside the simplex."""
        value = self._value(value)
        if self._validate:
            inside = (value > 0).all(-1) & ((value.sum(-1) - 1).abs() < 1e-3)
            self._require(
                "value", value.sum(-1), inside, "positive numbers with the sum 1"
            )
        logs = value.log()
        k, t = self._classes, self.temperature
        score = self.logits - t * logs
        result: Tensor = (
            math.lgamma(k) + (k - 1) * t.log()
            + (score - logs).sum(-1) - k * score.logsumexp(-1)
        )  # fmt: skip
        return result


class RelaxedBernoulli(Bernoulli):
    """Numbers between 0 and 1 that gather at the ends as the temperature falls.

    A sample is ``sigmoid((logits + log(u) - log(1 - u)) / temperature)`` with u
    uniform: `RelaxedOneHotCategorical` for two classes.

    Parameters
    ----------
    temperature : Tensor or float
        Positive.
    probs, logits : Tensor or float
        As of `Bernoulli`.
    validate_args : bool, default True
    """

    has_rsample = True
    has_enumerate_support = False
    _shown: tuple[str, ...] = ("temperature", "probs")

    def __init__(
        self,
        temperature: Any,
        probs: Any = None,
        logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(probs, logits, validate_args)
        (self.temperature,) = parameters("RelaxedBernoulli", temperature=temperature)
        good = self.temperature > 0
        self._require("temperature", self.temperature, good, "a positive number")

    @property
    def mean(self) -> Tensor:
        """It has no closed form."""
        raise self._missing("mean")

    @property
    def mode(self) -> Tensor:
        """It has no closed form."""
        raise self._missing("mode")

    @property
    def variance(self) -> Tensor:
        """It has no closed form."""
        raise self._missing("variance")

    def _draw(self, shape: Size, generator: Generator | None) -> Tensor:
        unit = _unit(self._parameter, shape, generator)
        noise = unit.log() - (-unit).log1p()
        logits = self.logits
        return ((logits + noise.to(logits.dtype)) / self.temperature).sigmoid()

    def log_prob(self, value: Any) -> Tensor:
        """Return the log density of numbers between 0 and 1."""
        value = self._value(value)
        inside = (value > 0) & (value < 1)
        self._require("value", value, inside, "a number between 0 and 1")
        logit = value.log() - (-value).log1p()
        difference = self.logits - logit * self.temperature
        density = self.temperature.log() + difference - 2 * softplus(difference)
        # From the density of the logit to that of its sigmoid.
        result: Tensor = density - value.log() - (-value).log1p()
        return result

    def entropy(self) -> Tensor:
        """Raise: it has no closed form."""
        raise self._missing("entropy")
