"""Distributions of real numbers: normal, uniform, Laplace, Gumbel."""

from __future__ import annotations

import math
from typing import Any

from nnlib import ops
from nnlib.autograd.tensor import Size, Tensor
from nnlib.backend.dtypes import float32, float64
from nnlib.backend.random import Generator
from nnlib.distributions.distribution import (
    HALF_LOG_TWO_PI,
    Distribution,
    parameters,
)
from nnlib.distributions.quantile import normal_quantile

__all__ = ["Gumbel", "Laplace", "Normal", "Uniform"]

_EULER = 0.5772156649015329


class _LocationScale(Distribution):
    """``loc + scale * noise``."""

    has_rsample = True
    _shown = ("loc", "scale")
    _batched = (("loc", 0), ("scale", 0))

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        name = type(self).__name__
        self.loc, self.scale = parameters(name, loc=loc, scale=scale)
        super().__init__(self.loc.shape, (), validate_args)
        self._require("loc", self.loc, self.loc == self.loc, "a number")
        self._require("scale", self.scale, self.scale > 0, "a positive number")

    @property
    def mean(self) -> Tensor:
        """The expectation."""
        return self.loc

    @property
    def mode(self) -> Tensor:
        """The point of the highest density."""
        return self.loc

    def _standard(self, value: Any) -> Tensor:
        return (self._value(value) - self.loc) / self.scale

    def _noise(self, shape: Size, generator: Generator | None) -> Tensor:
        """Return standard noise."""
        raise self._missing("sample")

    def _draw(self, shape: Size, generator: Generator | None) -> Tensor:
        noise = self._noise(shape, generator)
        return self.loc + self.scale * noise.to(self.loc.dtype)

    def _uniform(self, shape: Size, generator: Generator | None) -> Tensor:
        """Return numbers of the open interval (0, 1)."""
        # 16 bits are too coarse near 0: the logarithm would see it.
        dtype = float64 if self.loc.dtype == float64 else float32
        unit = ops.rand(
            *shape, dtype=dtype, device=self.loc.device, generator=generator
        )
        # rand gives 0 as well, whose logarithm is infinite.
        return unit.clamp(min=2.0**-53 if dtype == float64 else 2.0**-25)


class Normal(_LocationScale):
    """The normal distribution.

    Density ``exp(-(x - loc)^2 / (2 scale^2)) / (scale sqrt(2 pi))``.

    Parameters
    ----------
    loc : Tensor or float
        The mean.
    scale : Tensor or float
        The standard deviation, positive.
    validate_args : bool, default True

    Raises
    ------
    ArgumentError
        If a scale is not positive, or a parameter is NaN.

    Examples
    --------
    >>> import nnlib
    >>> Normal(0.0, 1.0).log_prob(nnlib.tensor(0.0))
    tensor(-0.9189)
    """

    @property
    def variance(self) -> Tensor:
        """The variance."""
        return self.scale.square()

    def _noise(self, shape: Size, generator: Generator | None) -> Tensor:
        loc = self.loc
        return ops.randn(
            *shape, dtype=loc.dtype, device=loc.device, generator=generator
        )

    def log_prob(self, value: Any) -> Tensor:
        """Return the log density."""
        return -0.5 * self._standard(value).square() - (
            self.scale.log() + HALF_LOG_TWO_PI
        )

    def entropy(self) -> Tensor:
        """Return ``1/2 + log(2 pi) / 2 + log(scale)``."""
        return self.scale.log() + (0.5 + HALF_LOG_TWO_PI)

    def cdf(self, value: Any) -> Tensor:
        """Return the probability of at most `value`."""
        return 0.5 * (1 + (self._standard(value) * math.sqrt(0.5)).erf())

    def icdf(self, value: Any) -> Tensor:
        """Return the quantile of a probability."""
        return self.loc + self.scale * normal_quantile(self._value(value))


class Laplace(_LocationScale):
    """The Laplace distribution: density ``exp(-|x - loc| / scale) / (2 scale)``.

    Parameters
    ----------
    loc : Tensor or float
    scale : Tensor or float
        Positive.
    validate_args : bool, default True

    Examples
    --------
    >>> Laplace(0.0, 1.0).entropy()
    tensor(1.6931)
    """

    @property
    def variance(self) -> Tensor:
        """The variance, ``2 scale^2``."""
        return 2 * self.scale.square()

    def _noise(self, shape: Size, generator: Generator | None) -> Tensor:
        # The difference of two exponential numbers.
        one, two = (self._uniform(shape, generator).log() for _ in range(2))
        return two - one

    def log_prob(self, value: Any) -> Tensor:
        """Return the log density."""
        return -self._standard(value).abs() - (2 * self.scale).log()

    def entropy(self) -> Tensor:
        """Return ``1 + log(2 scale)``."""
        return 1 + (2 * self.scale).log()

    def cdf(self, value: Any) -> Tensor:
        """Return the probability of at most `value`."""
        z = self._standard(value)
        return 0.5 - 0.5 * z.sign() * (-z.abs()).expm1()

    def icdf(self, value: Any) -> Tensor:
        """Return the quantile of a probability."""
        side = self._value(value) - 0.5
        return self.loc - self.scale * side.sign() * (-2 * side.abs()).log1p()


class Gumbel(_LocationScale):
    """The Gumbel distribution, of the largest of many numbers.

    Density ``exp(-(z + exp(-z))) / scale`` with ``z = (x - loc) / scale``.

    Parameters
    ----------
    loc : Tensor or float
        The mode.
    scale : Tensor or float
        Positive.
    validate_args : bool, default True

    Examples
    --------
    >>> Gumbel(0.0, 1.0).mean
    tensor(0.5772)
    """

    @property
    def mean(self) -> Tensor:
        """The expectation, ``loc + 0.5772 scale``."""
        return self.loc + _EULER * self.scale

    @property
    def variance(self) -> Tensor:
        """The variance, ``(pi scale)^2 / 6``."""
        return (math.pi**2 / 6) * self.scale.square()

    def _noise(self, shape: Size, generator: Generator | None) -> Tensor:
        return -(-self._uniform(shape, generator).log()).log()

    def log_prob(self, value: Any) -> Tensor:
        """Return the log density."""
        z = self._standard(value)
        return -(z + (-z).exp()) - self.scale.log()

    def entropy(self) -> Tensor:
        """Return ``log(scale) + 1.5772``."""
        return self.scale.log() + (1 + _EULER)

    def cdf(self, value: Any) -> Tensor:
        """Return the probability of at most `value`."""
        return (-(-self._standard(value)).exp()).exp()

    def icdf(self, value: Any) -> Tensor:
        """Return the quantile of a probability."""
        return self.loc - self.scale * (-self._value(value).log()).log()


class Uniform(Distribution):
    """The uniform distribution on ``[low, high)``.

    Parameters
    ----------
    low, high : Tensor or float
        ``low < high``.
    validate_args : bool, default True

    Raises
    ------
    ArgumentError
        If an interval is empty.

    Examples
    --------
    >>> Uniform(0.0, 4.0).mean
    tensor(2.)
    """

    has_rsample = True
    _shown = ("low", "high")
    _batched = (("low", 0), ("high", 0))

    def __init__(self, low: Any, high: Any, validate_args: bool | None = None) -> None:
        self.low, self.high = parameters("Uniform", low=low, high=high)
        super().__init__(self.low.shape, (), validate_args)
        self._require("high", self.high, self.low < self.high, "a number above low")

    @property
    def mean(self) -> Tensor:
        """The expectation."""
        return (self.low + self.high) / 2

    @property
    def variance(self) -> Tensor:
        """The variance, ``(high - low)^2 / 12``."""
        return (self.high - self.low).square() / 12

    def _draw(self, shape: Size, generator: Generator | None) -> Tensor:
        low = self.low
        unit = ops.rand(*shape, dtype=low.dtype, device=low.device, generator=generator)
        return low + (self.high - low) * unit

    def log_prob(self, value: Any) -> Tensor:
        """Return the log density: minus infinity outside of the interval."""
        value = self._value(value)
        inside = (value >= self.low) & (value < self.high)
        result: Tensor = ops.where(inside, -(self.high - self.low).log(), -math.inf)
        return result

    def entropy(self) -> Tensor:
        """Return ``log(high - low)``."""
        return (self.high - self.low).log()

    def cdf(self, value: Any) -> Tensor:
        """Return the probability of at most `value`."""
        return ((self._value(value) - self.low) / (self.high - self.low)).clamp(0, 1)

    def icdf(self, value: Any) -> Tensor:
        """Return the quantile of a probability."""
        return self.low + self._value(value) * (self.high - self.low)
