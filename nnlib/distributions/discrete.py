"""Distributions of classes and counts: Bernoulli, categorical, multinomial."""

from __future__ import annotations

import math
from typing import Any

from nnlib import ops
from nnlib.autograd.tensor import Size, Tensor
from nnlib.backend.dtypes import float64, int64
from nnlib.backend.errors import ArgumentError, ShapeError
from nnlib.backend.random import Generator
from nnlib.distributions.distribution import Distribution, parameters
from nnlib.nn.functional import binary_cross_entropy_with_logits, one_hot

__all__ = ["Bernoulli", "Categorical", "Multinomial", "OneHotCategorical"]


def one_of(op: str, probs: Any, logits: Any) -> tuple[str, Tensor]:
    """Return which of the two was given, and it."""
    if (probs is None) == (logits is None):
        raise ArgumentError(
            f"{op}: expected either probs or logits, got "
            f"{'both' if logits is not None else 'neither'}"
        )
    name = "logits" if probs is None else "probs"
    (value,) = parameters(op, **{name: logits if probs is None else probs})
    return name, value


def clamped(probs: Tensor) -> Tensor:
    """Keep probabilities off 0 and 1 by a rounding step, so that logarithms exist."""
    step = 2.0**-52 if probs.dtype == float64 else 2.0**-23
    return probs.clamp(step, 1 - step)


class Bernoulli(Distribution):
    """One with the probability p, else zero.

    Parameters
    ----------
    probs : Tensor or float, optional
        The probability of one.
    logits : Tensor or float, optional
        ``log(p / (1 - p))``; give one of the two.
    validate_args : bool, default True

    Raises
    ------
    ArgumentError
        If both or neither is given, or a probability is not in [0, 1].

    Examples
    --------
    >>> import nnlib
    >>> Bernoulli(logits=nnlib.tensor(0.0)).log_prob(nnlib.tensor(1.0))
    tensor(-0.6931)
    """

    has_enumerate_support = True
    _shown: tuple[str, ...] = ("probs",)
    _batched: tuple[tuple[str, int], ...] = (("_parameter", 0),)

    def __init__(
        self,
        probs: Any = None,
        logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:
        self._given, self._parameter = one_of("Bernoulli", probs, logits)
        super().__init__(self._parameter.shape, (), validate_args)
        value = self._parameter
        if self._given == "probs":
            good = (value >= 0) & (value <= 1)
            self._require("probs", value, good, "a probability, 0 to 1")
        else:
            self._require("logits", value, value == value, "a number")

    @property
    def probs(self) -> Tensor:
        """The probability of one."""
        if self._given == "probs":
            return self._parameter
        return self._parameter.sigmoid()

    @property
    def logits(self) -> Tensor:
        """``log(p / (1 - p))``."""
        if self._given == "logits":
            return self._parameter
        probs = clamped(self._parameter)
        return probs.log() - (-probs).log1p()

    @property
    def mean(self) -> Tensor:
        """The expectation, p."""
        return self.probs

    @property
    def variance(self) -> Tensor:
        """The variance, ``p (1 - p)``."""
        return self.probs * (1 - self.probs)

    @property
    def mode(self) -> Tensor:
        """The likelier value; NaN where p is one half."""
        probs = self.probs.detach()
        result: Tensor = ops.where(
            probs == 0.5, math.nan, (probs > 0.5).to(self._dtype)
        )
        return result

    def _values(self) -> Tensor:
        return ops.arange(2, dtype=self._dtype, device=self._parameter.device)

    def _draw(self, shape: Size, generator: Generator | None) -> Tensor:
        chances = ops.broadcast_to(self.probs.detach(), shape)
        return ops.bernoulli(chances, generator=generator)

    def log_prob(self, value: Any) -> Tensor:
        """Return ``log(p)`` for one and ``log(1 - p)`` for zero."""
        value = self._value(value)
        self._require("value", value, (value == 0) | (value == 1), "0 or 1")
        logits, value = ops.broadcast_tensors(self.logits, value.to(self._dtype))
        return -binary_cross_entropy_with_logits(logits, value, reduction="none")

    @property
    def _dtype(self) -> Any:
        return self._parameter.dtype

    def entropy(self) -> Tensor:
        """Return ``-p log(p) - (1 - p) log(1 - p)``."""
        return binary_cross_entropy_with_logits(
            self.logits, self.probs, reduction="none"
        )


class _Classes(Distribution):
    """Probabilities of the classes along the last dimension."""

    _shown: tuple[str, ...] = ("probs",)
    _batched: tuple[tuple[str, int], ...] = (("_parameter", 1),)

    def __init__(
        self, probs: Any, logits: Any, event: bool, validate_args: bool | None
    ) -> None:
        name = type(self).__name__
        self._given, value = one_of(name, probs, logits)
        if not value.ndim or not value.shape[-1]:
            raise ShapeError(
                f"{name}: {self._given}: expected shape (..., K) with at least one "
                f"class, got {tuple(value.shape)}"
            )
        self._parameter = value
        self._classes = value.shape[-1]
        super().__init__(
            value.shape[:-1], value.shape[-1:] if event else (), validate_args
        )
        if self._given == "probs":
            self._require("probs", value, value >= 0, "weights of at least 0")
            total = value.sum(-1)
            self._require("probs", total, total > 0, "weights with a positive sum")
        else:
            self._require("logits", value, value == value, "numbers")

    @property
    def probs(self) -> Tensor:
        """The probabilities: their sums are one."""
        if self._given == "logits":
            return self._parameter.softmax(-1)
        return self._parameter / self._parameter.sum(-1, keepdim=True)

    @property
    def logits(self) -> Tensor:
        """The logarithms of the probabilities."""
        if self._given == "logits":
            return self._parameter.log_softmax(-1)
        return clamped(self.probs).log()

    def _indices(self, count: Size, generator: Generator | None) -> Tensor:
        """Draw classes, shape ``count + batch_shape``."""
        total = 1
        for size in count:
            total *= size
        shape = (*count, *self._batch_shape)
        device = self._parameter.device
        if not total or 0 in self._batch_shape:
            return ops.zeros(*shape, dtype=int64, device=device)
        rows = self.probs.detach().reshape(-1, self._classes)
        found = ops.multinomial(rows, total, True, generator=generator)
        return found.t().reshape(*shape)

    def entropy(self) -> Tensor:
        """Return ``-sum p log(p)``; a class that cannot come adds nothing."""
        logits, probs = self.logits, self.probs
        terms = ops.where(probs > 0, logits * probs, ops.zeros_like(probs))
        result: Tensor = -terms.sum(-1)
        return result


class Categorical(_Classes):
    """The index of a class.

    Parameters
    ----------
    probs : Tensor, shape (..., K), optional
        Weights of at least 0; they are divided by their sum.
    logits : Tensor, shape (..., K), optional
        Logarithms of the probabilities, up to a constant; give one of the two.
    validate_args : bool, default True

    Examples
    --------
    >>> import nnlib
    >>> choice = Categorical(probs=nnlib.tensor([1.0, 3.0]))
    >>> choice.probs
    tensor([0.25, 0.75])
    >>> tuple(choice.sample((2, 5)).shape)
    (2, 5)
    """

    has_enumerate_support = True

    def __init__(
        self,
        probs: Any = None,
        logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(probs, logits, False, validate_args)

    def _values(self) -> Tensor:
        return ops.arange(self._classes, device=self._parameter.device)

    @property
    def mode(self) -> Tensor:
        """The likeliest class."""
        return self._parameter.argmax(-1)

    def _draw(self, shape: Size, generator: Generator | None) -> Tensor:
        return self._indices(
            Size(shape[: len(shape) - len(self.batch_shape)]), generator
        )

    def log_prob(self, value: Any) -> Tensor:
        """Return the log probability of classes, integers below K."""
        value = self._value(value)
        good = (value >= 0) & (value < self._classes) & (value == value.to(int64))
        self._require("value", value, good, f"a class from 0 to {self._classes - 1}")
        index = value.to(int64).unsqueeze(-1)
        logits = self.logits
        shape = ops.broadcast_shapes(tuple(index.shape[:-1]), logits.shape[:-1])
        logits = ops.broadcast_to(logits, (*shape, self._classes))
        return logits.gather(-1, ops.broadcast_to(index, (*shape, 1))).squeeze(-1)


class OneHotCategorical(_Classes):
    """A class as a vector with a one at its place.

    Parameters
    ----------
    probs, logits : Tensor, shape (..., K)
        As of `Categorical`.
    validate_args : bool, default True
    """

    has_enumerate_support = True

    def __init__(
        self,
        probs: Any = None,
        logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(probs, logits, True, validate_args)

    @property
    def mean(self) -> Tensor:
        """The probabilities."""
        return self.probs

    @property
    def variance(self) -> Tensor:
        """The variance of each entry."""
        return self.probs * (1 - self.probs)

    @property
    def mode(self) -> Tensor:
        """The likeliest class."""
        found = one_hot(self._parameter.argmax(-1), self._classes)
        return found.to(self._parameter.dtype)

    def _values(self) -> Tensor:
        like = self._parameter
        return ops.eye(self._classes, dtype=like.dtype, device=like.device)

    def _draw(self, shape: Size, generator: Generator | None) -> Tensor:
        count = Size(shape[: len(shape) - len(self.batch_shape) - 1])
        found = one_hot(self._indices(count, generator), self._classes)
        return found.to(self._parameter.dtype)

    def log_prob(self, value: Any) -> Tensor:
        """Return the log probability of one-hot vectors."""
        value = self._value(value)
        if self._validate:
            good = ((value == 0) | (value == 1)).all(-1) & (value.sum(-1) == 1)
            self._require("value", value.sum(-1), good, "a one and zeros")
        logits, value = ops.broadcast_tensors(self.logits, value)
        # The others' logits may be minus infinity: nothing, not 0 * infinity.
        terms = ops.where(value == 0, ops.zeros_like(logits), logits * value)
        result: Tensor = terms.sum(-1)
        return result


class Multinomial(_Classes):
    """How often each class came in `total_count` draws.

    Parameters
    ----------
    total_count : int, default 1
        The number of draws.
    probs, logits : Tensor, shape (..., K)
        As of `Categorical`.
    validate_args : bool, default True

    Raises
    ------
    ArgumentError
        If `total_count` is negative.

    Examples
    --------
    >>> import nnlib
    >>> counts = Multinomial(10, probs=nnlib.ones(4)).sample()
    >>> counts.sum()
    tensor(10.)
    """

    _shown: tuple[str, ...] = ("total_count", "probs")

    def __init__(
        self,
        total_count: int = 1,
        probs: Any = None,
        logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:
        if not isinstance(total_count, int) or total_count < 0:
            raise ArgumentError(
                "Multinomial: total_count: expected an int of at least 0, got "
                f"{total_count!r}"
            )
        super().__init__(probs, logits, True, validate_args)
        self.total_count = total_count

    @property
    def mean(self) -> Tensor:
        """The expected counts."""
        return self.total_count * self.probs

    @property
    def variance(self) -> Tensor:
        """The variance of each count."""
        return self.total_count * self.probs * (1 - self.probs)

    def _draw(self, shape: Size, generator: Generator | None) -> Tensor:
        count = Size(shape[: len(shape) - len(self.batch_shape) - 1])
        draws = self._indices(Size((self.total_count, *count)), generator)
        draws = draws.movedim(0, -1)
        like = self._parameter
        ones = ops.ones(*draws.shape, dtype=int64, device=like.device)
        found = ops.zeros(
            *draws.shape[:-1], self._classes, dtype=int64, device=like.device
        )
        return found.scatter_add(-1, draws, ones).to(like.dtype)

    def log_prob(self, value: Any) -> Tensor:
        """Return the log probability of counts that sum to `total_count`."""
        value = self._value(value)
        if self._validate:
            good = (value >= 0).all(-1) & (value.sum(-1) == self.total_count)
            what = f"counts of at least 0 with the sum {self.total_count}"
            self._require("value", value.sum(-1), good, what)
        logits, value = ops.broadcast_tensors(self.logits, value.to(self._dtype))
        # Zero counts of a class that cannot come: nothing, not 0 * infinity.
        terms = ops.where(value == 0, ops.zeros_like(logits), logits * value)
        table = self._log_factorials()
        whole = value.to(int64)
        ways = table[self.total_count] - table[whole].sum(-1)
        result: Tensor = ways + terms.sum(-1)
        return result

    @property
    def _dtype(self) -> Any:
        return self._parameter.dtype

    def _log_factorials(self) -> Tensor:
        """Return ``log(n!)`` for n up to `total_count`."""
        steps = ops.arange(self.total_count + 1, dtype=float64)
        table = steps.clamp(min=1).log().cumsum(0)
        return table.to(self._dtype).to(self._parameter.device)

    def entropy(self) -> Tensor:
        """Return the entropy: a sum over all counts of each class.

        ``n H(p) - log(n!) + sum over k, c of P(c of n are k) log(c!)``.
        """
        n = self.total_count
        table = self._log_factorials()
        counts = ops.arange(n + 1, dtype=self._dtype, device=self._parameter.device)
        probs = clamped(self.probs).unsqueeze(-1)
        chances = (
            table[n] - table - table.flip(0)
            + counts * probs.log() + (n - counts) * (-probs).log1p()
        ).exp()  # fmt: skip
        return n * super().entropy() - table[n] + (chances * table).sum((-2, -1))
