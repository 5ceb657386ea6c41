"""Dropout of elements and of whole channels.

The mask is made from counters of a `Generator`: the backward pass makes it again
instead of keeping it.
"""

from __future__ import annotations

import math
from typing import Any

from nnlib import kernels
from nnlib.autograd.function import Function
from nnlib.autograd.inplace import run_inplace
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module, context_of
from nnlib.backend.dtypes import float32
from nnlib.backend.errors import ArgumentError, DTypeError, ShapeError
from nnlib.backend.random import Generator, default_generator
from nnlib.ops.casting import cast
from nnlib.ops.dims import raw
from nnlib.ops.loss import check_float

__all__ = [
    "alpha_dropout",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "feature_alpha_dropout",
]

# What selu saturates at, negated: scale * alpha (Klambauer et al. 2017).
SATURATION = 1.7580993408473766


class DropoutElements(Function):
    """A random part of the elements set to 0, the rest divided by ``1 - p``."""

    def forward(self, x: Any, *, p: float, seed: int, offset: int) -> Any:
        """Return the thinned array."""
        self.counter = {"p": p, "seed": seed, "offset": offset}
        if x.dtype.itemsize < 4:
            wide = kernels.dropout.forward(x.astype(float32), **self.counter)
            return wide.astype(x.dtype)
        return kernels.dropout.forward(x, **self.counter)

    def backward(self, grad: Any) -> Any:
        """Thin the gradient by the same mask, made again."""
        return DropoutElements.apply(grad, **self.counter)


class Blend(Function):
    """``scale * x + shift`` where a mask holds, a constant elsewhere."""

    def forward(
        self, x: Any, mask: Any, *, scale: float, shift: float, other: float
    ) -> Any:
        """Return the blend; `mask` is 1 or 0 and broadcasts to `x`."""
        self.scale = scale
        self.save_for_backward(mask)
        return x * (mask * scale) + (mask * (shift - other) + other)

    def backward(self, grad: Any) -> Any:
        """Scale the gradient where the mask holds."""
        (mask,) = self.saved
        return grad * (mask * self.scale), None


def check_probability(op: str, p: float, name: str = "p") -> None:
    """Raise unless `p` is a probability."""
    try:
        fits = 0 <= p <= 1
    except TypeError:
        raise DTypeError(f"{op}: {name}: expected a number, got {p!r}") from None
    if not fits:
        raise ArgumentError(f"{op}: {name}: expected a probability, 0 to 1, got {p}")


def noise(input: Any, shape: tuple[int, ...], p: float, generator: Any) -> Any:
    """Return an array of random 0 and ``1 / (1 - p)``, beside `input`."""
    array = raw(input)
    wide = float32 if array.dtype.itemsize < 4 else array.dtype
    with context_of(array):
        ones = array_module(array).ones(shape, wide)
        seed, offset = (generator or default_generator).reserve(ones.size)
        return cast(kernels.dropout.forward(ones, p, seed, offset), array.dtype)


@public(method=False, direct=True)
def dropout(
    input: Any,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Set each element to 0 with probability `p`; divide the others by ``1 - p``.

    Source: Srivastava et al., "Dropout: a simple way to prevent neural networks from
    overfitting", 2014.

    Parameters
    ----------
    input : Tensor, any shape, floating
    p : float, default 0.5
        The probability of 0.
    training : bool, default True
        If False, `input` itself is returned.
    inplace : bool, default False
        Write the result into `input`.
    generator : Generator, optional
        Where the random numbers come from; default: the one that `manual_seed` seeds.
        They are equal on CPU and CUDA.

    Raises
    ------
    ArgumentError
        If `p` is no probability.
    DTypeError
        If `input` is not floating.

    Examples
    --------
    >>> import nnlib
    >>> _ = nnlib.manual_seed(0)
    >>> y = dropout(nnlib.ones(1000), 0.25)
    >>> sorted(set(y.tolist()))
    [0.0, 1.3333333730697632]
    """
    check_probability("dropout", p)
    check_float("dropout", "input", input)
    if not training or p == 0:
        return input  # type: ignore[no-any-return]
    if inplace:
        options = {"generator": generator}
        return run_inplace("dropout_", dropout, input, (p,), options)  # type: ignore[no-any-return]
    seed, offset = (generator or default_generator).reserve(math.prod(input.shape))
    return DropoutElements.apply(input, p=p, seed=seed, offset=offset)  # type: ignore[no-any-return]


def _channels(
    op: str,
    input: Any,
    p: float,
    training: bool,
    inplace: bool,
    generator: Generator | None,
    batched: tuple[int, ...],
    single: tuple[int, ...],
) -> Tensor:
    """Drop whole channels of input with batch, or of a single one."""
    check_probability(op, p)
    check_float(op, "input", input)
    shape = tuple(input.shape)
    if len(shape) not in batched + single:
        expected = " or ".join(str(count) for count in sorted(batched + single))
        raise ShapeError(
            f"{op}: input: expected {expected} dimensions, got shape {shape}"
        )
    if not training or p == 0:
        return input  # type: ignore[no-any-return]
    lead = 2 if len(shape) in batched else 1
    mask = noise(input, shape[:lead] + (1,) * (len(shape) - lead), p, generator)
    if inplace:
        return input.mul_(mask)  # type: ignore[no-any-return]
    return input * mask  # type: ignore[no-any-return]


@public(method=False)
def dropout1d(
    input: Any,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Set whole channels to 0 with probability `p`; divide the others by ``1 - p``.

    Source: Tompson et al., "Efficient object localization using convolutional
    networks", 2015.

    Parameters
    ----------
    input : Tensor, shape (N, C, L) or (C, L)
    p, training, inplace, generator
        As for `dropout`.

    Raises
    ------
    ShapeError
        If `input` has another number of dimensions.
    """
    return _channels("dropout1d", input, p, training, inplace, generator, (3,), (2,))


@public(method=False)
def dropout2d(
    input: Any,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Set whole channels to 0; see `dropout1d`.

    Parameters
    ----------
    input : Tensor, shape (N, C, H, W), or (N, C, L) as in PyTorch
    p, training, inplace, generator
        As for `dropout`.
    """
    return _channels("dropout2d", input, p, training, inplace, generator, (3, 4), ())


@public(method=False)
def dropout3d(
    input: Any,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Set whole channels to 0; see `dropout1d`.

    Parameters
    ----------
    input : Tensor, shape (N, C, D, H, W) or (C, D, H, W)
    p, training, inplace, generator
        As for `dropout`.
    """
    return _channels("dropout3d", input, p, training, inplace, generator, (5,), (4,))


def _saturate(
    input: Any,
    p: float,
    shape: tuple[int, ...],
    generator: Generator | None,
) -> Tensor:
    """Set elements to selu's saturation, and restore mean 0 and variance 1."""
    with context_of(raw(input)):
        mask = cast(noise(input, shape, p, generator) != 0, raw(input).dtype)
    scale = 0.0 if p == 1 else ((SATURATION**2 * p + 1) * (1 - p)) ** -0.5
    shift = SATURATION * scale * p
    return Blend.apply(  # type: ignore[no-any-return]
        input, mask, scale=scale, shift=shift, other=shift - SATURATION * scale
    )


@public(method=False)
def alpha_dropout(
    input: Any,
    p: float = 0.5,
    training: bool = False,
    inplace: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Drop elements to what selu saturates at; keep mean and variance as they are.

    Source: Klambauer et al., "Self-normalizing neural networks", 2017, section 3.

    Parameters
    ----------
    input : Tensor, any shape, floating
    p, inplace, generator
        As for `dropout`.
    training : bool, default False
        If False, `input` itself is returned.

    Raises
    ------
    ArgumentError
        If `p` is no probability.
    """
    check_probability("alpha_dropout", p)
    check_float("alpha_dropout", "input", input)
    if not training or p == 0:
        return input  # type: ignore[no-any-return]
    if inplace:
        options = {"training": True, "generator": generator}
        return run_inplace("alpha_dropout_", alpha_dropout, input, (p,), options)  # type: ignore[no-any-return]
    return _saturate(input, p, tuple(input.shape), generator)


@public(method=False)
def feature_alpha_dropout(
    input: Any,
    p: float = 0.5,
    training: bool = False,
    inplace: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Do `alpha_dropout` to whole channels.

    Parameters
    ----------
    input : Tensor, shape (N, C, ...)
    p, training, inplace, generator
        As for `alpha_dropout`.

    Raises
    ------
    ShapeError
        If `input` has fewer than two dimensions.
    """
    name = "feature_alpha_dropout"
    check_probability(name, p)
    check_float(name, "input", input)
    shape = tuple(input.shape)
    if len(shape) < 2:
        raise ShapeError(f"{name}: input: expected shape (N, C, ...), got {shape}")
    if not training or p == 0:
        return input  # type: ignore[no-any-return]
    if inplace:
        options = {"training": True, "generator": generator}
        return run_inplace(f"{name}_", feature_alpha_dropout, input, (p,), options)  # type: ignore[no-any-return]
    return _saturate(input, p, shape[:2] + (1,) * (len(shape) - 2), generator)
