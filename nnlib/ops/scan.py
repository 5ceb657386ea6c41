"""Running results along a dimension: cumsum, cumprod, cummax, cummin, diff."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.dtypes import FLOATING, int64, resolve_dtype
from nnlib.backend.errors import ArgumentError
from nnlib.ops.arranging import flip
from nnlib.ops.casting import cast
from nnlib.ops.dimensions import Narrow, Place
from nnlib.ops.dims import one_dim, raw
from nnlib.ops.gathering import PutAlong
from nnlib.ops.joining import cat
from nnlib.ops.return_types import ValuesIndices

# Below so many elements positions fit into int8, and are kept for the next call.
SHORT = 128

__all__ = ["cummax", "cummin", "cumprod", "cumsum", "diff", "logcumsumexp"]


def accumulate(name: str, x: Any, dim: int) -> Any:
    """Return running results of a ufunc along `dim` of an array.

    CuPy has them for sums and products only: there the stretch that is combined
    doubles in each step.
    """
    if isinstance(x, np.ndarray):
        return getattr(np, name).accumulate(x, dim)
    ufunc = getattr(array_module(x), name)
    out, step = x.copy(), 1
    lead = (slice(None),) * dim
    while step < x.shape[dim]:
        tail = (*lead, slice(step, None))
        out[tail] = ufunc(out[tail], out[(*lead, slice(None, -step))])
        step *= 2
    return out


def _backwards(x: Any, dim: int) -> Any:
    """Return an array with `dim` reversed, as a view."""
    return x[(slice(None),) * dim + (slice(None, None, -1),)]


class CumSum(Function):
    """Running sums from the front, or (`reverse`) from the end."""

    def forward(self, x: Any, *, dim: int, reverse: bool) -> Any:
        """Return the sums."""
        self.dim, self.reverse = dim, reverse
        if not x.ndim:
            return x.copy()
        module = array_module(x)
        if not reverse:
            if type(x) is np.ndarray:
                # What cumsum calls, without its detours.
                return np.add.accumulate(x, dim, x.dtype)
            return module.cumsum(x, axis=dim, dtype=x.dtype)
        sums = module.cumsum(_backwards(x, dim), axis=dim, dtype=x.dtype)
        return module.ascontiguousarray(_backwards(sums, dim))

    def backward(self, grad: Any) -> Any:
        """Sum the gradient from the other end."""
        return CumSum.apply(grad, dim=self.dim, reverse=not self.reverse)


def _turned(x: Any, dim: int) -> Any:
    """Return a Tensor or array with `dim` reversed; of an array, a view."""
    return flip(x, dim) if isinstance(x, Tensor) else _backwards(x, dim)


def _shifted(x: Any, dim: int, step: int, neutral: int) -> Any:
    """Return ``y[i] = x[i - step]`` along `dim`, with `neutral` before the start."""
    length = x.shape[dim]
    if type(x) is np.ndarray:
        out = np.ones(x.shape, x.dtype) if neutral else np.zeros(x.shape, x.dtype)
        lead = (slice(None),) * dim
        out[(*lead, slice(step, None))] = x[(*lead, slice(0, length - step))]
        return out
    head = list(x.shape)
    head[dim] = step
    module = array_module(raw(x))
    border = module.full(head, neutral, raw(x).dtype)
    if isinstance(x, Tensor):
        border = Tensor._from_array(border)
    kept = Narrow.apply(x, dim=dim, start=0, length=length - step)
    return cat([border, kept], dim)


def exclusive_product(x: Any, dim: int, *, reverse: bool = False) -> Any:
    """Return the product of all entries before each (after each, for `reverse`).

    No division: right with zeros. Of a Tensor it is made of differentiable steps; the
    values are the same, bit by bit.
    """
    if not x.ndim:
        return x * 0 + 1
    if type(x) is np.ndarray:
        # Nothing to differentiate: a running product, moved on by one entry.
        out = np.ones_like(x)
        source, target = x, out
        if reverse:
            source, target = _backwards(x, dim), _backwards(out, dim)
        lead = (slice(None),) * dim
        source, target = source[(*lead, slice(-1))], target[(*lead, slice(1, None))]
        np.multiply.accumulate(source, dim, x.dtype, target)
        return out
    if reverse:
        x = flip(x, dim)
    if not x.shape[dim]:
        return x
    out = _shifted(CumProd.apply(x, dim=dim), dim, 1, 1)
    return flip(out, dim) if reverse else out


def recurrence(a: Any, b: Any, dim: int) -> Any:
    """Solve ``s[i] = a[i] * s[i - 1] + b[i]`` along `dim`, from ``s[-1] = 0``.

    Made of differentiable steps, each of which doubles the stretch it spans.
    """
    step, length = 1, a.shape[dim]
    if not isinstance(a, Tensor):
        # Nothing to differentiate: the same steps in place.
        a, b = a.copy(), b.copy()
        lead = (slice(None),) * dim
        while step < length:
            tail, head = (*lead, slice(step, None)), (*lead, slice(-step))
            b[tail] += a[tail] * b[head]
            a[tail] *= a[head].copy()
            step *= 2
        return b
    while step < length:
        b = b + a * _shifted(b, dim, step, 0)
        a = a * _shifted(a, dim, step, 1)
        step *= 2
    return b


class CumProd(Function):
    """Running products."""

    def forward(self, x: Any, *, dim: int) -> Any:
        """Return the products."""
        self.dim = dim
        self.save_for_backward(x)
        if not x.ndim:
            return x.copy()
        if type(x) is np.ndarray:
            return np.multiply.accumulate(x, dim, x.dtype)
        return array_module(x).cumprod(x, axis=dim, dtype=x.dtype)

    def backward(self, grad: Any) -> Any:
        """Return the product before each entry times the sum of what follows it.

        ``s[k] = grad[k] + x[k + 1] s[k + 1]`` is the sum of the gradients from k on,
        each times the entries between: no division, right with zeros.
        """
        (x,) = self.saved
        if not x.ndim:
            return grad
        dim = self.dim
        following = _shifted(_turned(x, dim), dim, 1, 0)
        total = _turned(recurrence(following, _turned(grad, dim), dim), dim)
        return total * exclusive_product(x, dim)


class LogCumSumExp(Function):
    """Logarithms of running sums of exponentials."""

    promotes = "float"

    def forward(self, x: Any, *, dim: int) -> Any:
        """Return the logarithms, without overflow."""
        self.dim = dim
        if not x.ndim:
            out = x.copy()
        else:
            out = accumulate("logaddexp", x, dim)
        self.save_for_backward(x, out)
        return out

    def backward(self, grad: Any) -> Any:
        """Return ``sum over i >= k of grad[i] exp(x[k] - out[i])``.

        The sum is a recurrence whose factors ``exp(out[k] - out[k + 1])`` are at
        most 1, so nothing overflows.
        """
        from nnlib.ops.exponential import exp

        x, out = self.saved
        if not x.ndim:
            return grad
        dim, length = self.dim, x.shape[self.dim]
        if not length:
            return grad
        ahead = flip(out, dim)
        steps = exp(
            Narrow.apply(ahead, dim=dim, start=1, length=length - 1)
            - Narrow.apply(ahead, dim=dim, start=0, length=length - 1)
        )
        first = Narrow.apply(ahead, dim=dim, start=0, length=1)
        factors = cat([first * 0, steps], dim)
        total = _turned(recurrence(factors, _turned(grad, dim), dim), dim)
        return total * exp(x - out)


@functools.lru_cache(maxsize=64)
def _kept_places(shape: tuple[int, ...], dim: int) -> Any:
    """Return the position of each element along `dim`, below 128, in int8."""
    return np.indices(shape, np.int8)[dim]


class CumExtreme(Function):
    """Running maxima or minima, and where they are."""

    def forward(self, x: Any, *, dim: int, largest: bool) -> Any:
        """Return values and indices; of equals the last, and a NaN stays."""
        module = array_module(x)
        self.shape, self.dim = x.shape, dim
        if not x.ndim:
            return x.copy(), module.zeros((), int64)
        values = accumulate("maximum" if largest else "minimum", x, dim)
        new = x == values
        if x.dtype.kind not in "iub":
            new |= x != x
        if type(x) is np.ndarray and x.size < SHORT:
            # The product with 0 or 1 is what `where` gives, in a third of its time.
            marked = _kept_places(x.shape, dim) * new.view(np.int8)
            where = np.maximum.accumulate(marked, dim).astype(int64)
        else:
            places = module.arange(x.shape[dim]).reshape(
                [-1 if place == dim else 1 for place in range(x.ndim)]
            )
            where = accumulate("maximum", module.where(new, places, 0), dim)
        self.save_for_backward(where)
        return values, where

    def backward(self, grad: Any, _: Any) -> Any:
        """Add the gradients up at the entries that were the extreme."""
        if not self.shape:
            return grad
        (where,) = self.saved
        return PutAlong.apply(grad, where, shape=self.shape, dim=self.dim, unique=False)


class Diff(Function):
    """Differences of neighbours along a dimension of two or more entries."""

    def forward(self, x: Any, *, dim: int) -> Any:
        """Return ``x[i + 1] - x[i]``."""
        self.shape, self.dim = x.shape, dim
        lead = (slice(None),) * dim
        return x[(*lead, slice(1, None))] - x[(*lead, slice(-1))]

    def backward(self, grad: Any) -> Any:
        """Return the gradient moved on by one, less itself."""
        dim, length = self.dim, self.shape[self.dim] - 1
        place = {"shape": self.shape, "dim": dim, "length": length}
        return Place.apply(grad, start=1, **place) - Place.apply(grad, start=0, **place)


def _integer_sum(input: Any, dtype: Any) -> Any:
    if dtype is not None:
        return cast(input, resolve_dtype(dtype))
    return input if input.dtype in FLOATING else cast(input, int64)


@public(inplace=True, axis=True)
def cumsum(input: Any, dim: int, *, dtype: Any = None) -> Tensor:
    """Return the running sums along `dim`; integers and bool in int64.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.cumsum(nnlib.tensor([1, 2, 3]), 0)
    tensor([1, 3, 6])
    """
    return CumSum.apply(  # type: ignore[no-any-return]
        _integer_sum(input, dtype),
        dim=one_dim("cumsum", dim, input.ndim),
        reverse=False,
    )


@public(inplace=True, axis=True)
def cumprod(input: Any, dim: int, *, dtype: Any = None) -> Tensor:
    """Return the running products along `dim`; integers and bool in int64.

    Its gradient is right with zeros among the entries.
    """
    return CumProd.apply(  # type: ignore[no-any-return]
        _integer_sum(input, dtype), dim=one_dim("cumprod", dim, input.ndim)
    )


@public()
def logcumsumexp(input: Any, dim: int) -> Tensor:
    """Return ``log(cumsum(exp(input)))`` along `dim` without overflow."""
    return LogCumSumExp.apply(  # type: ignore[no-any-return]
        input, dim=one_dim("logcumsumexp", dim, input.ndim)
    )


@public()
def cummax(input: Any, dim: int) -> ValuesIndices:
    """Return the running maxima along `dim` and their positions.

    Of equal entries the last is named; a NaN stays from where it stands.
    """
    return ValuesIndices(
        *CumExtreme.apply(
            input, dim=one_dim("cummax", dim, raw(input).ndim), largest=True
        )
    )


@public()
def cummin(input: Any, dim: int) -> ValuesIndices:
    """Return the running minima along `dim` and their positions, as `cummax`."""
    return ValuesIndices(
        *CumExtreme.apply(
            input, dim=one_dim("cummin", dim, raw(input).ndim), largest=False
        )
    )


@public(axis=True)
def diff(
    input: Any, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None
) -> Tensor:
    """Return the `n`-th differences of neighbours along `dim`.

    Parameters
    ----------
    prepend, append : Tensor, optional
        Put before and after `input` first.

    Raises
    ------
    Error
        If `n` is negative or `input` has no dimensions.
    """
    if n < 0 or not input.ndim:
        raise ArgumentError(
            f"diff: expected n of 0 or more and a tensor with dimensions, got n={n} "
            f"and shape {tuple(input.shape)}"
        )
    dim = one_dim("diff", dim, input.ndim)
    parts = [x for x in (prepend, input, append) if x is not None]
    out = cat(parts, dim) if len(parts) > 1 and n else input
    for _ in range(min(n, out.shape[dim])):
        length = max(raw(out).shape[dim] - 1, 0)
        if length and raw(out).dtype.kind != "b":
            out = Diff.apply(out, dim=dim)
            continue
        after = Narrow.apply(out, dim=dim, start=1 if length else 0, length=length)
        before = Narrow.apply(out, dim=dim, start=0, length=length)
        if raw(out).dtype.kind == "b":
            out = after != before
        else:
            out = after - before
    return out
