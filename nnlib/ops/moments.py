"""Variance, standard deviation and norms."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.dtypes import FLOATING, resolve_dtype
from nnlib.backend.errors import DTypeError, ShapeError
from nnlib.ops.arrays import (
    add_up,
    constants,
    euclidean,
    line_moments,
    moments,
)
from nnlib.ops.casting import cast
from nnlib.ops.dims import constant, many_dims, raw
from nnlib.ops.reduction import Mean, spread

__all__ = ["norm", "std", "std_mean", "var", "var_mean"]


class _Spread(Function):
    """What variances and standard deviations have in common."""

    # Whether the root of the variance is taken.
    root: ClassVar[bool] = False
    materialize_grads = False

    def measure(
        self, x: Any, dims: Any, keepdim: bool, correction: float
    ) -> tuple[Any, Any]:
        """Return the variance (or its root), and the mean."""
        self.dims = dims
        if len(dims) == 1:
            count = x.shape[dims[0]]
        else:
            count = math.prod([x.shape[dim] for dim in dims])
        free = count - correction if count > correction else 0
        self.count, self.free = count, free
        found = None
        if not keepdim:
            if len(dims) == x.ndim:
                found = moments(x, free, self.root)
            elif free and len(dims) == 1:
                found = line_moments(x, dims[0], free, self.root)
        return self.sums(x, keepdim) if found is None else found

    def sums(self, x: Any, keepdim: bool) -> tuple[Any, Any]:
        """Return the variance (or its root), and the mean, by reductions."""
        dims = self.dims
        number, free = constants(x, self.count or math.nan, self.free)
        middle = add_up(x, dims, True)
        middle /= number
        distance = x - middle
        distance *= distance
        out = add_up(distance, dims, keepdim)
        if self.free:
            out /= free
        else:
            # Nothing is left to estimate from: 0 / 0 is NaN, and anything else inf.
            out /= array_module(x).zeros((), x.dtype)
        if self.root:
            # On CuPy arrays NumPy calls CuPy's function.
            out = np.sqrt(out, out if type(out) is np.ndarray else None)
        return out, middle.reshape(out.shape)

    def pull_back(self, grad: Any, x: Any, out: Any, middle: Any) -> Any:
        """Return ``grad * 2 (x - mean) / (n - correction)`` (or that of the root).

        `out` is what was returned, where that is the root; `middle` the mean, in a
        shape that broadcasts with `x`.
        """
        if self.root:
            flat = raw(out) == 0
            # Where all elements are equal the slope is taken as 0, not as NaN.
            padded = out + constant(flat.astype(raw(out).dtype), out)
            grad = grad * constant((~flat).astype(raw(out).dtype), grad) / (2 * padded)
        shape = tuple(x.shape)
        factor = 2 / self.free if self.free else math.nan
        return spread(grad * factor, shape, self.dims) * (x - middle)


class Var(_Spread):
    """The mean squared distance from the mean."""

    def forward(
        self, x: Any, *, dims: Any, keepdim: bool = False, correction: float = 1
    ) -> Any:
        """Return ``sum((x - mean)^2) / (n - correction)`` (or its root)."""
        out = self.measure(x, dims, keepdim, correction)[0]
        if self.root:
            self.save_for_backward(x, out)
        else:
            self.save_for_backward(x)
        return out

    def backward(self, grad: Any) -> Any:
        """Return the gradient of the variance."""
        x, *roots = self.saved
        middle = Mean.apply(x, dims=self.dims, keepdim=True)
        return self.pull_back(grad, x, roots[0] if roots else None, middle)


class Std(Var):
    """The root of the variance."""

    root = True


class VarMean(_Spread):
    """The mean squared distance from the mean; and the mean."""

    def forward(
        self, x: Any, *, dims: Any, keepdim: bool = False, correction: float = 1
    ) -> Any:
        """Return both: the mean is on the way to the variance (or its root)."""
        out, middle = self.measure(x, dims, keepdim, correction)
        if not middle.flags.c_contiguous:
            middle = middle.copy()
        if self.root:
            self.save_for_backward(x, middle, out)
        else:
            self.save_for_backward(x, middle)
        return out, middle

    def backward(self, grad: Any, grad_mean: Any) -> Any:
        """Return the gradient of the variance and that of the mean, added."""
        x, middle, *roots = self.saved
        shape, share = tuple(x.shape), None
        if grad_mean is not None:
            share = spread(grad_mean / (self.count or 1), shape, self.dims)
        if grad is None:
            return share
        wide = spread(middle, shape, self.dims)
        found = self.pull_back(grad, x, roots[0] if roots else None, wide)
        return found if share is None else found + share


class StdMean(VarMean):
    """The root of the variance; and the mean."""

    root = True


def _moment(
    cls: type[Function],
    op: str,
    input: Any,
    dim: Any,
    unbiased: bool | None,
    correction: Any,
    keepdim: bool,
) -> Any:
    if dim is True or dim is False:
        # PyTorch's var(input, unbiased).
        dim, unbiased = None, dim
    array = raw(input)
    if array.dtype not in FLOATING:
        raise DTypeError(f"{op}: input: expected a floating dtype, got {array.dtype}")
    if correction is None:
        correction = 1 if unbiased is None or unbiased else 0
    dims = many_dims(op, dim, array.ndim)
    if correction == 1 and not keepdim:
        # As most calls are: every parameter takes its time.
        return cls.apply(input, dims=dims)
    return cls.apply(input, dims=dims, keepdim=keepdim, correction=correction)


@public(axis=True)
def var(
    input: Any,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """Return the variance over `dim`: ``sum((x - mean)^2) / (n - correction)``.

    Parameters
    ----------
    input : Tensor, floating
    dim : int or tuple of int, optional
        Default: all dimensions.
    unbiased : bool, optional
        False means ``correction=0``.
    keepdim : bool, default False
    correction : number, default 1
        Bessel's correction: 1 for a sample, 0 for a whole population.

    Raises
    ------
    DTypeError
        If `input` is not floating.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.var(nnlib.tensor([1.0, 2.0, 3.0]))
    tensor(1.)
    """
    return _moment(Var, "var", input, dim, unbiased, correction, keepdim)  # type: ignore[no-any-return]


@public(axis=True)
def std(
    input: Any,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """Return the standard deviation over `dim`: the root of `var`."""
    return _moment(Std, "std", input, dim, unbiased, correction, keepdim)  # type: ignore[no-any-return]


@public(method=False, axis=True)
def var_mean(
    input: Any,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Return ``(var, mean)`` over `dim`."""
    return _moment(  # type: ignore[no-any-return]
        VarMean, "var_mean", input, dim, unbiased, correction, keepdim
    )


@public(method=False, axis=True)
def std_mean(
    input: Any,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Return ``(std, mean)`` over `dim`."""
    return _moment(  # type: ignore[no-any-return]
        StdMean, "std_mean", input, dim, unbiased, correction, keepdim
    )


class VectorNorm(Function):
    """The p-norm of the elements over some dimensions."""

    def forward(self, x: Any, *, p: float, dims: Any, keepdim: bool) -> Any:
        """Return ``sum(|x|^p)^(1/p)``, and its limits for p = 0 and infinity."""
        self.p, self.dims, self.shape = p, dims, x.shape
        if p == 2:
            out = euclidean(x, dims, keepdim)
        elif p == math.inf:
            out = abs(x).max(axis=dims, keepdims=keepdim)
        elif p == -math.inf:
            out = abs(x).min(axis=dims, keepdims=keepdim)
        elif p == 0:
            return add_up((x != 0).astype(x.dtype), dims, keepdim)
        elif p == 1:
            out = add_up(abs(x), dims, keepdim)
        else:
            out = add_up(abs(x) ** p, dims, keepdim) ** (1 / p)
        if type(out) is not type(x):
            out = array_module(x).asarray(out)
        self.save_for_backward(x, out)
        return out

    def backward(self, grad: Any) -> Any:
        """Return ``grad * sign(x) (|x| / out)^(p - 1)``, and 0 where that is 0 / 0."""
        from nnlib.ops.power import pow
        from nnlib.ops.rounding import abs

        if self.p == 0:
            return spread(grad * 0, self.shape, self.dims)
        x, out = self.saved
        shape, p = tuple(x.shape), self.p
        values, norm_values = raw(x), raw(out)
        module = array_module(values)
        sign = module.sign(values)
        if math.isinf(p):
            won = module.abs(values) == spread(norm_values, shape, self.dims)
            count = won.sum(axis=self.dims, keepdims=True)
            share = (sign * won / count).astype(values.dtype)
            return spread(grad, shape, self.dims) * constant(share, grad)
        if p == 1:
            return spread(grad, shape, self.dims) * constant(sign, grad)
        # A norm of 0 has slope 0 here; 1 stands for it in the quotients.
        zero = (norm_values == 0).astype(norm_values.dtype)
        safe = out + constant(zero, out)
        if p == 2:
            return x * spread(grad / safe, shape, self.dims)
        still = (values == 0).astype(values.dtype)
        size = abs(x) + constant(still, x)
        steep = constant(sign * (1 - still), x) * pow(size, p - 1)
        return steep * spread(grad * pow(safe, 1 - p), shape, self.dims)


@public(axis=True)
def norm(
    input: Any,
    p: Any = "fro",
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
) -> Tensor:
    """Return the p-norm of the elements over `dim`: ``sum(|x|^p)^(1/p)``.

    Parameters
    ----------
    input : Tensor, floating
    p : number, "fro" or "nuc", default "fro"
        "fro" is 2; "nuc" is the sum of singular values of the matrices in `dim`.
        Infinity gives the largest absolute value, 0 the number of nonzeros.
    dim : int or tuple of int, optional
        Default: all dimensions, as one vector.

    Raises
    ------
    DTypeError
        If `input` is not floating.
    ShapeError
        If the limit for an infinite `p` of no elements is asked for.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.norm(nnlib.tensor([3.0, 4.0]))
    tensor(5.)
    """
    if dtype is not None:
        input = cast(input, resolve_dtype(dtype))
    array = raw(input)
    if array.dtype not in FLOATING:
        raise DTypeError(f"norm: input: expected a floating dtype, got {array.dtype}")
    if p == "nuc":
        from nnlib.ops.matrix_norms import linalg_matrix_norm

        return linalg_matrix_norm(
            input, "nuc", dim=(-2, -1) if dim is None else dim, keepdim=keepdim
        )
    power = 2.0 if p is None or p == "fro" else float(p)
    dims = many_dims("norm", dim, array.ndim)
    if math.isinf(power) and 0 in [input.shape[each] for each in dims]:
        raise ShapeError(f"norm: p={p} of no elements (shape {tuple(input.shape)})")
    return VectorNorm.apply(  # type: ignore[no-any-return]
        input, p=power, dims=dims, keepdim=keepdim
    )
