"""Losses of predicted numbers: squared, absolute, Huber; Poisson and Gaussian."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnlib import kernels
from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import ARRAYS, array_module
from nnlib.backend.errors import ArgumentError, ShapeError
from nnlib.ops.activation import SMALL, gate
from nnlib.ops.dims import raw
from nnlib.ops.exponential import exp, log
from nnlib.ops.loss import (
    PointLoss,
    check_float,
    check_reduction,
    check_same_shape,
    check_values,
    reduce,
    reduced,
    weighted,
)

__all__ = [
    "gaussian_nll_loss",
    "huber_loss",
    "l1_loss",
    "mse_loss",
    "poisson_nll_loss",
    "smooth_l1_loss",
]


def _difference(x: Any, y: Any) -> Any:
    """Return ``x - y``: on CUDA by the kernel, which is launched faster."""
    if type(x) is not np.ndarray and type(x) in ARRAYS:
        return kernels.arithmetic.subtract(x, y)
    return x - y


class MseLoss(PointLoss):
    """``(x - y)^2``."""

    def forward(self, x: Any, y: Any, *, reduction: str, **params: Any) -> Any:
        """Return the reduced squared error."""
        d = _difference(x, y)
        self.scale = 1 / d.size if reduction == "mean" else 1
        self.save_for_backward(x, y)
        plain = (
            type(d) is np.ndarray or type(d) not in ARRAYS or d.dtype.char not in "fd"
        )
        if not plain and reduction != "none" and d.size:
            squares = kernels.reduction.SQUARES
            return kernels.reduction.reduce_all(d, squares, scale=self.scale)
        if reduction == "none" or d.size <= SMALL or type(d) is not np.ndarray:
            d *= d
            return reduced(d, reduction)
        squares = kernels.reduction.reduce_all(d, kernels.reduction.SQUARES)
        return squares / d.size if reduction == "mean" else squares

    def slopes(self, grad: Any, x: Any, y: Any) -> tuple[Any, Any]:
        """Return ``2 (x - y)`` and its negative."""
        slope = _difference(x, y) * (grad * 2)
        return slope, -slope if self.needs(1) else None


class L1Loss(PointLoss):
    """``|x - y|``."""

    def value(self, x: Any, y: Any) -> Any:
        """Return the absolute error."""
        return abs(x - y)

    def slopes(self, grad: Any, x: Any, y: Any) -> tuple[Any, Any]:
        """Return the sign of ``x - y`` and its negative."""
        d = raw(x) - raw(y)
        slope = grad * array_module(d).sign(d)
        return slope, -slope if self.needs(1) else None


class HuberSlope(Function):
    """``x - y`` bounded by +-delta."""

    promotes = "float"

    def forward(self, x: Any, y: Any, *, delta: float) -> Any:
        """Return the bounded difference."""
        self.delta = delta
        self.save_for_backward(x, y)
        return kernels.loss.huber_slope(x, y, parameter=delta)

    def backward(self, grad: Any) -> Any:
        """Pass the gradient where the difference is within the bounds."""
        x, y = self.saved
        passed = gate(grad, ~(abs(raw(x) - raw(y)) >= self.delta))
        return passed, -passed if self.needs(1) else None


class HuberLoss(PointLoss):
    """``c (d - c / 2)`` with d = x - y and c = d bounded by +-delta, times a factor."""

    def value(self, x: Any, y: Any) -> Any:
        """Return the squared error in the middle, the absolute error outside."""
        loss = kernels.loss.huber(x, y, parameter=self.params["delta"])
        if self.params["factor"] != 1:
            loss *= self.params["factor"]
        return loss

    def slopes(self, grad: Any, x: Any, y: Any) -> tuple[Any, Any]:
        """Return the bounded difference and its negative."""
        bounded = HuberSlope.apply(x, y, delta=self.params["delta"])
        slope = bounded * (grad * self.params["factor"])
        return slope, -slope if self.needs(1) else None


@public(method=False, direct=True)
def mse_loss(
    input: Any, target: Any, reduction: str = "mean", weight: Any = None
) -> Tensor:
    """Return the squared error ``(input - target)^2``, reduced.

    Parameters
    ----------
    input, target : Tensor, one shape
        PyTorch broadcasts a target of another shape, with a warning; here it is an
        error.
    reduction : {"mean", "sum", "none"}
    weight : Tensor, shape of `input`, optional
        Weights of the elements; the mean divides by their sum.

    Raises
    ------
    ShapeError
        If the shapes differ, the reduction is unknown, or the mean is asked for over
        nothing.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.nn.functional.mse_loss(nnlib.tensor([1.0, 4.0]), nnlib.tensor([1.0, 2.0]))
    tensor(2.)
    """
    check_same_shape("mse_loss", input=input, target=target)
    check_reduction("mse_loss", reduction, input.shape)
    if weight is not None:
        values = MseLoss.apply(input, target, reduction="none")
        return weighted("mse_loss", values, weight, reduction)
    return MseLoss.apply(input, target, reduction=reduction)  # type: ignore[no-any-return]


@public(method=False, direct=True)
def l1_loss(
    input: Any, target: Any, reduction: str = "mean", weight: Any = None
) -> Tensor:
    """Return the absolute error ``|input - target|``, reduced.

    The derivative at 0 is taken as 0.

    Parameters
    ----------
    input, target : Tensor, one shape
    reduction : {"mean", "sum", "none"}
    weight : Tensor, shape of `input`, optional
        Weights of the elements; the mean divides by their sum.

    Raises
    ------
    ShapeError
        As for `mse_loss`.
    """
    check_same_shape("l1_loss", input=input, target=target)
    check_reduction("l1_loss", reduction, input.shape)
    if weight is not None:
        values = L1Loss.apply(input, target, reduction="none")
        return weighted("l1_loss", values, weight, reduction)
    return L1Loss.apply(input, target, reduction=reduction)  # type: ignore[no-any-return]


@public(method=False, direct=True)
def smooth_l1_loss(
    input: Any, target: Any, reduction: str = "mean", beta: float = 1.0
) -> Tensor:
    """Return ``d^2 / (2 beta)`` where ``|d| < beta``, else ``|d| - beta / 2``, reduced.

    Source: Girshick, "Fast R-CNN", 2015, equation 3.

    Parameters
    ----------
    input, target : Tensor, one shape
        ``d = input - target``.
    reduction : {"mean", "sum", "none"}
    beta : float, default 1
        Where the parabola meets the lines; 0 gives `l1_loss`.

    Raises
    ------
    ShapeError
        As for `mse_loss`.
    ArgumentError
        If `beta` is negative.
    """
    if beta == 0:
        return l1_loss(input, target, reduction)
    if not beta > 0:
        raise ArgumentError(f"smooth_l1_loss: beta: expected at least 0, got {beta}")
    check_same_shape("smooth_l1_loss", input=input, target=target)
    check_reduction("smooth_l1_loss", reduction, input.shape)
    return HuberLoss.apply(  # type: ignore[no-any-return]
        input, target, reduction=reduction, delta=beta, factor=1 / beta
    )


@public(method=False, direct=True)
def huber_loss(
    input: Any,
    target: Any,
    reduction: str = "mean",
    delta: float = 1.0,
    weight: Any = None,
) -> Tensor:
    """Return ``d^2 / 2`` where ``|d| <= delta``, else ``delta (|d| - delta / 2)``.

    Source: Huber, "Robust estimation of a location parameter", 1964.

    Parameters
    ----------
    input, target : Tensor, one shape
        ``d = input - target``.
    reduction : {"mean", "sum", "none"}
    delta : float, default 1
        Where the parabola meets the lines.
    weight : Tensor, shape of `input`, optional
        Weights of the elements; the mean divides by the number of elements (as in
        PyTorch, unlike `mse_loss`).

    Raises
    ------
    ShapeError
        As for `mse_loss`.
    ArgumentError
        If `delta` is not positive.

    Examples
    --------
    >>> import nnlib
    >>> huber_loss(nnlib.tensor([0.5, 3.0]), nnlib.tensor([0.0, 0.0]), "none")
    tensor([0.125, 2.5  ])
    """
    if not delta > 0:
        raise ArgumentError(f"huber_loss: delta: expected more than 0, got {delta}")
    check_same_shape("huber_loss", input=input, target=target)
    check_reduction("huber_loss", reduction, input.shape)
    own = reduction if weight is None else "none"
    values = HuberLoss.apply(input, target, reduction=own, delta=delta, factor=1)
    if weight is None:
        return values  # type: ignore[no-any-return]
    check_same_shape("huber_loss", input=input, weight=weight)
    return reduce(values * weight, reduction)  # type: ignore[no-any-return]


@public(method=False, reads=True)
def poisson_nll_loss(
    input: Any,
    target: Any,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: str = "mean",
) -> Tensor:
    """Return the negative log-likelihood of counts under a Poisson distribution.

    ``exp(input) - target * input``, or with ``log_input=False``
    ``input - target * log(input + eps)``.

    Parameters
    ----------
    input : Tensor, any shape
        The logarithm of the rate, or the rate.
    target : Tensor, shape of `input`
        The counts.
    log_input : bool, default True
    full : bool, default False
        Add Stirling's approximation of ``log(target!)`` where ``target > 1``.
    eps : float, default 1e-8
    reduction : {"mean", "sum", "none"}

    Raises
    ------
    ShapeError
        If the shapes differ, or the reduction is unknown.
    """
    check_same_shape("poisson_nll_loss", input=input, target=target)
    check_reduction("poisson_nll_loss", reduction, input.shape)
    if log_input:
        loss = exp(input) - target * input
    else:
        loss = input - target * log(input + eps)
    if full:
        large = raw(target) > 1
        # Outside, 1 stands in: its logarithm is 0, and no NaN reaches the gradient.
        count = gate(target, large) + ~large
        stirling = count * log(count) - count + 0.5 * log(count * (2 * math.pi))
        loss = loss + gate(stirling, large)
    return reduce(loss, reduction)  # type: ignore[no-any-return]


@public(method=False, reads=True)
def gaussian_nll_loss(
    input: Any,
    target: Any,
    var: Any,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """Return the negative log-likelihood under a normal distribution.

    ``(log(var) + (input - target)^2 / var) / 2``

    Source: Nix and Weigend, "Estimating the mean and variance of the target
    probability distribution", 1994.

    Parameters
    ----------
    input, target : Tensor, one shape
        Mean of the distribution, and the observation.
    var : Tensor or float
        The variance: of the shape of `input`, or with its last dimension 1 or
        missing (one variance for all of it).
    full : bool, default False
        Add the constant ``log(2 pi) / 2``.
    eps : float, default 1e-6
        Lower bound of the variance; its gradient passes as if there were none.
    reduction : {"mean", "sum", "none"}

    Raises
    ------
    ShapeError
        If shapes do not fit.
    ArgumentError
        If a variance is negative, or `eps` is not positive.
    """
    name = "gaussian_nll_loss"
    check_float(name, "input", input)
    check_same_shape(name, input=input, target=target)
    check_reduction(name, reduction, input.shape)
    if not eps > 0:
        raise ArgumentError(f"{name}: eps: expected more than 0, got {eps}")
    shape = tuple(input.shape)
    if not hasattr(var, "shape"):
        if not var >= 0:
            raise ArgumentError(f"{name}: var is {var}, expected at least 0")
        xp = array_module(raw(input))
        bounded = Tensor._from_array(xp.full((), max(var, eps), raw(input).dtype))
    else:
        given = tuple(var.shape)
        if given != shape and given == shape[:-1]:
            var = var.reshape((*given, 1))  # (...) -> (..., 1)
        elif given != shape and given != (*shape[:-1], 1):
            raise ShapeError(
                f"{name}: var has shape {given}, input {shape}: expected the same, or "
                "the last dimension 1 or missing"
            )
        check_values(name, "var", var, lambda x: x >= 0, "at least 0")
        array = raw(var)
        # Straight through: the bound shifts the value and not its derivative.
        bound = array_module(array).maximum(array, array.dtype.type(eps))
        bounded = var + (bound - array)
    d = input - target
    loss = (log(bounded) + d * d / bounded) * 0.5
    if full:
        loss = loss + 0.5 * math.log(2 * math.pi)
    return reduce(loss, reduction)  # type: ignore[no-any-return]
