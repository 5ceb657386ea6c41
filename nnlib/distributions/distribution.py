"""`Distribution`: what all distributions share, and `Independent`."""

from __future__ import annotations

import copy
import math
from typing import Any, Self

import numpy as np

from nnlib import ops
from nnlib.autograd.construct import tensor
from nnlib.autograd.mode import no_grad
from nnlib.autograd.tensor import Size, Tensor
from nnlib.backend.device import context_of
from nnlib.backend.dtypes import get_default_dtype
from nnlib.backend.errors import ArgumentError, DTypeError, ShapeError
from nnlib.backend.random import Generator

__all__ = ["Distribution", "Independent"]


class Distribution:
    """A family of random tensors with given parameters.

    A sample has the shape ``sample_shape + batch_shape + event_shape``: independent
    draws, one for each entry of the parameters, each of the shape of one event (``()``
    for a number, ``(K,)`` for a vector of counts).

    Parameters
    ----------
    batch_shape, event_shape : tuple of int
    validate_args : bool, default True
        Check parameters and the values handed to `log_prob`. On CUDA each check waits
        for the device.

    Attributes
    ----------
    has_rsample : bool
        Whether samples can carry gradients to the parameters (`rsample`).
    has_enumerate_support : bool
        Whether `enumerate_support` can list all values.
    """

    has_rsample = False
    has_enumerate_support = False
    # Attributes of the batch's shape, and how many dimensions of an event follow it.
    _batched: tuple[tuple[str, int], ...] = ()
    # Attributes that repr tells.
    _shown: tuple[str, ...] = ()

    def __init__(
        self,
        batch_shape: Any = (),
        event_shape: Any = (),
        validate_args: bool | None = None,
    ) -> None:
        self._batch_shape = Size(batch_shape)
        self._event_shape = Size(event_shape)
        self._validate = True if validate_args is None else validate_args

    # -- shapes and moments --------------------------------------------------------

    @property
    def batch_shape(self) -> Size:
        """The shape of the parameters: how many distributions there are."""
        return self._batch_shape

    @property
    def event_shape(self) -> Size:
        """The shape of one draw of one distribution."""
        return self._event_shape

    @property
    def mean(self) -> Tensor:
        """The expectation, shape ``batch_shape + event_shape``."""
        raise self._missing("mean")

    @property
    def variance(self) -> Tensor:
        """The variance of each entry, shape ``batch_shape + event_shape``."""
        raise self._missing("variance")

    @property
    def stddev(self) -> Tensor:
        """The square root of the variance."""
        return self.variance.sqrt()

    @property
    def mode(self) -> Tensor:
        """The likeliest value, shape ``batch_shape + event_shape``."""
        raise self._missing("mode")

    def expand(self, batch_shape: Any) -> Self:
        """Return the same distribution for a larger batch, without copies.

        Parameters
        ----------
        batch_shape : tuple of int
            The own one broadcasts to it.

        Raises
        ------
        ShapeError
            If it does not.

        Examples
        --------
        >>> from nnlib.distributions import Normal
        >>> tuple(Normal(0.0, 1.0).expand((5, 3)).sample().shape)
        (5, 3)
        """
        if not self._batched:
            raise self._missing("expand")
        new = copy.copy(self)
        new._batch_shape = Size(batch_shape)
        for name, event in self._batched:
            value = getattr(self, name)
            shape = (*new._batch_shape, *value.shape[value.ndim - event :])
            setattr(new, name, ops.broadcast_to(value, shape))
        return new

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """Return all values that can come, along a new first dimension.

        Parameters
        ----------
        expand : bool, default True
            Repeat them for the batch: shape ``(count,) + batch_shape + event_shape``;
            else with ones in place of the batch's sizes.

        Raises
        ------
        ArgumentError
            If there is no list of them (`has_enumerate_support` is False).
        """
        if not self.has_enumerate_support:
            raise self._missing("enumerate_support")
        values = self._values()
        ones = (1,) * len(self._batch_shape)
        values = values.reshape(values.shape[0], *ones, *self._event_shape)
        if not expand:
            return values
        wide = (values.shape[0], *self._batch_shape, *self._event_shape)
        result: Tensor = ops.broadcast_to(values, wide)
        return result

    def _values(self) -> Tensor:
        """Return all values of one distribution."""
        raise self._missing("enumerate_support")

    # -- draws ---------------------------------------------------------------------

    def sample(
        self, sample_shape: Any = (), *, generator: Generator | None = None
    ) -> Tensor:
        """Draw, without gradients.

        Parameters
        ----------
        sample_shape : int or tuple of int, default ()
            How many draws of the whole batch.
        generator : Generator, optional

        Returns
        -------
        Tensor, shape ``sample_shape + batch_shape + event_shape``
        """
        with no_grad():
            return self._draw(self._extended(sample_shape), generator).detach()

    def rsample(
        self, sample_shape: Any = (), *, generator: Generator | None = None
    ) -> Tensor:
        """Draw as a differentiable function of the parameters and of noise.

        D. P. Kingma and M. Welling: Auto-Encoding Variational Bayes, 2014
        ("reparameterisation").

        Raises
        ------
        ArgumentError
            If the distribution has no such form (`has_rsample` is False).
        """
        if not self.has_rsample:
            raise self._missing("rsample (its samples have no gradient)")
        return self._draw(self._extended(sample_shape), generator)

    def _draw(self, shape: Size, generator: Generator | None) -> Tensor:
        raise self._missing("sample")

    def _extended(self, sample_shape: Any) -> Size:
        """Return the shape of draws."""
        if isinstance(sample_shape, int):
            sample_shape = (sample_shape,)
        return Size((*sample_shape, *self._batch_shape, *self._event_shape))

    # -- densities -----------------------------------------------------------------

    def log_prob(self, value: Any) -> Tensor:
        """Return the logarithm of the density, or of the probability, at `value`.

        Parameters
        ----------
        value : Tensor
            Broadcasts against ``batch_shape + event_shape``.

        Returns
        -------
        Tensor
            One number per event.
        """
        raise self._missing("log_prob")

    def entropy(self) -> Tensor:
        """Return the entropy in nats, shape `batch_shape`."""
        raise self._missing("entropy")

    def perplexity(self) -> Tensor:
        """Return ``exp(entropy())``."""
        return self.entropy().exp()

    def cdf(self, value: Any) -> Tensor:
        """Return the probability of at most `value`."""
        raise self._missing("cdf")

    def icdf(self, value: Any) -> Tensor:
        """Return the quantile: the inverse of `cdf`."""
        raise self._missing("icdf")

    # -- checks --------------------------------------------------------------------

    def _missing(self, what: str) -> ArgumentError:
        return ArgumentError(f"{type(self).__name__}: it has no {what}")

    def _require(self, argument: str, value: Tensor, good: Tensor, what: str) -> None:
        """Raise unless all entries of `good` are true, naming the first that is not."""
        if not self._validate:
            return
        with context_of(good._array):
            if bool(good._array.all()):
                return
        at = tuple(int(i) for i in np.argwhere(np.asarray(good.cpu()._array) == 0)[0])
        wide = ops.broadcast_to(value.detach(), good.shape)
        found = wide[at].item() if at else wide.item()
        place = f" at {at}" if at else ""
        raise ArgumentError(
            f"{type(self).__name__}: {argument}: expected {what}, got {found}{place}"
        )

    def _value(self, value: Any) -> Tensor:
        """Return a value of `log_prob` as a Tensor whose shape fits."""
        if not isinstance(value, Tensor):
            raise DTypeError(
                f"{type(self).__name__}: value: expected a Tensor, got "
                f"{type(value).__name__}"
            )
        wanted = (*self._batch_shape, *self._event_shape)
        event = len(self._event_shape)
        fits = not event or tuple(value.shape[-event:]) == tuple(self._event_shape)
        try:
            np.broadcast_shapes(tuple(value.shape), wanted)
        except ValueError:
            fits = False
        if not fits:
            raise ShapeError(
                f"{type(self).__name__}: value: expected a shape that broadcasts "
                f"against {wanted}, got {tuple(value.shape)}"
            )
        return value

    def __repr__(self) -> str:
        parts = []
        for name in self._shown:
            value = getattr(self, name)
            if isinstance(value, Tensor):
                small = value.numel() == 1
                value = value.item() if small else f"Tensor{tuple(value.shape)}"
            parts.append(f"{name}={value}")
        return f"{type(self).__name__}({', '.join(parts)})"


def parameters(op: str, **given: Any) -> tuple[Tensor, ...]:
    """Return numbers and tensors as floating tensors of one shape."""
    like = [value for value in given.values() if isinstance(value, Tensor)]
    found = []
    for name, value in given.items():
        if isinstance(value, Tensor):
            if not value.is_floating_point():
                raise DTypeError(
                    f"{op}: {name}: expected a floating dtype, got {value.dtype}"
                )
        elif isinstance(value, (int, float, np.number)):
            dtype, device = (like[0].dtype, like[0].device) if like else (None, None)
            value = tensor(
                float(value), dtype=dtype or get_default_dtype(), device=device
            )
        else:
            raise DTypeError(
                f"{op}: {name}: expected a Tensor or a number, got "
                f"{type(value).__name__}"
            )
        found.append(value)
    try:
        return tuple(ops.broadcast_tensors(*found))
    except ShapeError as error:
        shapes = ", ".join(
            f"{name} {tuple(value.shape)}"
            for name, value in zip(given, found, strict=True)
        )
        raise ShapeError(
            f"{op}: parameters: expected shapes that broadcast, got {shapes}"
        ) from error


class Independent(Distribution):
    """Takes the last dimensions of a batch as one event.

    The log density is then the sum over them: a vector of independent numbers instead
    of many numbers.

    Parameters
    ----------
    base_distribution : Distribution
    reinterpreted_batch_ndims : int
        How many of the last batch dimensions make up an event.

    Examples
    --------
    >>> import nnlib
    >>> from nnlib.distributions import Independent, Normal
    >>> prior = Independent(Normal(nnlib.zeros(5, 3), 1.0), 1)
    >>> tuple(prior.log_prob(prior.sample()).shape)
    (5,)
    """

    _shown = ("base_dist", "reinterpreted_batch_ndims")

    def __init__(
        self,
        base_distribution: Distribution,
        reinterpreted_batch_ndims: int,
        validate_args: bool | None = None,
    ) -> None:
        batch = base_distribution.batch_shape
        if not 0 <= reinterpreted_batch_ndims <= len(batch):
            raise ShapeError(
                "Independent: reinterpreted_batch_ndims: expected 0 to "
                f"{len(batch)}, the dimensions of the batch, got "
                f"{reinterpreted_batch_ndims}"
            )
        keep = len(batch) - reinterpreted_batch_ndims
        self.base_dist = base_distribution
        self.reinterpreted_batch_ndims = reinterpreted_batch_ndims
        self.has_rsample = base_distribution.has_rsample
        super().__init__(
            batch[:keep], (*batch[keep:], *base_distribution.event_shape), validate_args
        )

    @property
    def mean(self) -> Tensor:
        """The expectation."""
        return self.base_dist.mean

    @property
    def mode(self) -> Tensor:
        """The likeliest event."""
        return self.base_dist.mode

    @property
    def variance(self) -> Tensor:
        """The variance of each entry."""
        return self.base_dist.variance

    def expand(self, batch_shape: Any) -> Self:
        """Return the same distribution for a larger batch."""
        new = copy.copy(self)
        new._batch_shape = Size(batch_shape)
        count = self.reinterpreted_batch_ndims
        new.base_dist = self.base_dist.expand(
            (*batch_shape, *self._event_shape[:count])
        )
        return new

    def _draw(self, shape: Size, generator: Generator | None) -> Tensor:
        return self.base_dist._draw(shape, generator)

    def log_prob(self, value: Any) -> Tensor:
        """Return the log density of whole events."""
        return self._sum(self.base_dist.log_prob(value))

    def entropy(self) -> Tensor:
        """Return the entropy of whole events."""
        return self._sum(self.base_dist.entropy())

    def _sum(self, values: Tensor) -> Tensor:
        count = self.reinterpreted_batch_ndims
        return values.sum(tuple(range(-count, 0))) if count else values


HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)
