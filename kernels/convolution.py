"""Convolution in one, two or three dimensions, and its two gradients, on arrays.

Shapes are (N, C, *spatial); memory is channels-last: results are views of contiguous
(N, *spatial, C) arrays, and inputs that lie so are taken as they are (others are copied
once). Which way is taken depends on the shape alone:

* on the CPU a filter per channel: `nnlib.kernels.depthwise`;
* 3x3 of stride 1 with enough channels: `nnlib.kernels.winograd`;
* 3x3 of stride 2 forward with enough of channels and outputs: `nnlib.kernels.strided`;
* all others: tiles of outputs in registers (`nnlib.kernels.direct`);
* on CUDA: `nnlib.kernels.convolution_cuda`.

Everything is computed by one thread per output, in one order: same bits from run to
run for one number of threads. Padding is told as `before`, the zeros before the first
element of each dimension; those behind the last follow from the size of the output.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnlib.backend.errors import DTypeError
from nnlib.kernels import (
    convolution_cuda,
    depthwise,
    direct,
    direct_grad,
    strided,
    winograd,
    winograd_grad,
)
from nnlib.kernels.channels import (
    check_out,
    contiguous,
    give_back,
    result_images,
    tensor_of,
    view_of,
)
from nnlib.kernels.convolution_plan import forward_plan, input_grad_plans, to_three
from nnlib.kernels.machinery import array_module, on_cuda

__all__ = ["convolve", "input_grad", "weight_grad"]

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def _check(op: str, **arrays: Any) -> Any:
    """Return the dtype to compute in; 16-bit floats on CUDA go through float32."""
    kinds = [x.dtype for x in arrays.values() if x is not None]
    first = kinds[0]
    if kinds.count(first) < len(kinds):
        given = {name: x for name, x in arrays.items() if x is not None}
        told = ", ".join(f"{name} is {x.dtype}" for name, x in given.items())
        raise DTypeError(f"{op}: expected one dtype, {told}")
    if first in _FLOATS:
        return first
    if first.name in ("float16", "bfloat16"):
        return _FLOATS[0]
    raise DTypeError(f"{op}: expected a floating dtype, got {first}")


class _Weights:
    """The weights of a call."""

    def __init__(self, weight: Any, groups: int, dtype: Any, *, transposed: bool):
        k, cg = weight.shape[:2]
        taps = math.prod(weight.shape[2:])
        # (K, C/G, *kernel) -> (G, K/G, C/G, T)
        split = weight.astype(dtype, copy=False).reshape(groups, k // groups, cg, taps)
        # -> (G, in, out, T)
        self.split = split if transposed else split.swapaxes(1, 2)
        self.transposed = transposed
        # Filters of each channel, where these have filters of their own.
        self.own = k // groups if cg == 1 < groups else 0

    def run(self, plans: tuple[Any, ...], x: Any, bias: Any, y: Any) -> None:
        """Write the outputs of plans, which share their stride."""
        if self.own:
            self._run_depthwise(plans, x, bias, y)
            return
        if self.split.shape[0] == 1 and x.size:
            for way in (winograd, strided):
                if way.fits(plans[0], x, y.shape[4]):
                    way.correlate(plans[0], contiguous(x), self.split[0], bias, y)
                    return
        direct.correlate(plans, x, self.split, bias, y)

    def _run_depthwise(self, plans: tuple[Any, ...], x: Any, bias: Any, y: Any) -> None:
        w = self.split.reshape(-1, self.split.shape[3])
        if not self.transposed:
            depthwise.correlate(plans, x, w, bias, y, self.own)
        elif self.own == 1:
            depthwise.correlate(plans, x, w, bias, y, 1)
        else:
            each = np.empty((*y.shape[:4], w.shape[0]), y.dtype)
            depthwise.correlate(plans, x, w, bias[:0], each, 1)
            # The gradients by the copies of a channel: (N, D, H, W, K) -> (..., C)
            np.add(each[..., :: self.own], each[..., 1 :: self.own], out=y)
            for copy in range(2, self.own):
                y += each[..., copy :: self.own]
            if bias.size:
                y += bias


def _row(bias: Any, like: Any, dtype: Any) -> Any:
    """Return a bias as a contiguous row, or an empty one."""
    if bias is None and on_cuda(like):
        return convolution_cuda.no_bias(like, dtype)
    module = array_module(like)
    if bias is None:
        return module.empty(0, dtype)
    return module.ascontiguousarray(bias.astype(dtype, copy=False))


def _target(
    op: str, like: Any, out: Any, shape: Any, dtype: Any, kept: Any, rank: int
) -> Any:
    """Return where to compute a result of `kept` dtype in `dtype`."""
    if out is not None and kept != dtype:
        check_out(op, out, (shape[0], shape[4], *shape[4 - rank : 4]), kept)
        out = None
    return result_images(op, like, out, shape, dtype, rank)


def _result(images: Any, out: Any, kept: Any, rank: int) -> Any:
    """Return what was computed as (N, C, *spatial), in `out` if it is given."""
    if images.dtype == kept:
        return give_back(images, out, rank)
    result = tensor_of(images, rank).astype(kept)
    if out is None:
        return result
    out[...] = result
    return out


def convolve(
    x: Any,
    weight: Any,
    bias: Any,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    before: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    *,
    out: Any = None,
) -> Any:
    """Return the convolution (cross-correlation) of `x` with `weight`, plus `bias`.

    Parameters
    ----------
    x : array, shape (N, C, *spatial), one to three spatial dimensions
    weight : array, shape (K, C / groups, *kernel)
    bias : array, shape (K,), or None
    size : tuple of int
        Spatial shape of the result.
    stride, before, dilation : tuple of int
        One value per spatial dimension.
    groups : int
        Channels of input and output are cut into so many groups.
    out : array, shape (N, K, *size), dtype of `x`, optional
        Where to write the result; written in one pass if it lies channels-last. It
        must not overlap the inputs.

    Returns
    -------
    array, shape (N, K, *size), channels-last in memory; `out` if it is given

    Raises
    ------
    ShapeError
        If `out` has another shape or dtype.

    Examples
    --------
    >>> x = np.array([[[1.0, 2.0, 4.0]]])
    >>> convolve(x, np.array([[[1.0, -1.0]]]), None, (2,), (1,), (0,), (1,), 1)
    array([[[-1., -2.]]])
    """
    kept = x.dtype
    dtype = _check("convolve", x=x, weight=weight, bias=bias)
    rank = len(size)
    geometry = size, weight.shape[2:], stride, before, dilation
    plan = forward_plan(*geometry)
    x = view_of(x.astype(dtype, copy=False))
    shape = (x.shape[0], *to_three(size, 1), weight.shape[0])
    y = _target("convolve", x, out, shape, dtype, kept, rank)
    row = _row(bias, x, dtype)
    if on_cuda(x):
        weight = weight.astype(dtype, copy=False)
        convolution_cuda.correlate(
            (plan,), geometry, x, weight, row, y, groups, transposed=False
        )
    else:
        weights = _Weights(weight, groups, dtype, transposed=False)
        weights.run((plan,), x, row, y)
    return _result(y, out, kept, rank)


def input_grad(
    g: Any,
    weight: Any,
    bias: Any,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    before: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    *,
    out: Any = None,
) -> Any:
    """Return the gradient of `convolve` by its input: a transposed convolution.

    Parameters
    ----------
    g : array, shape (N, K, *spatial)
        The gradient by the result.
    weight : array, shape (K, C / groups, *kernel)
    bias : array, shape (C,), or None
        Added to each channel (for a transposed convolution).
    size : tuple of int
        Spatial shape of the result.
    stride, before, dilation, groups, out
        As in `convolve`.

    Returns
    -------
    array, shape (N, C, *size), channels-last in memory; `out` if it is given

    Examples
    --------
    >>> g = np.array([[[1.0, 2.0]]])
    >>> input_grad(g, np.array([[[1.0, -1.0]]]), None, (3,), (1,), (0,), (1,), 1)
    array([[[ 1.,  1., -2.]]])
    """
    kept = g.dtype
    dtype = _check("input_grad", g=g, weight=weight, bias=bias)
    rank = len(size)
    geometry = size, weight.shape[2:], stride, before, dilation
    plans = input_grad_plans(*geometry)
    g = view_of(g.astype(dtype, copy=False))
    shape = (g.shape[0], *to_three(size, 1), weight.shape[1] * groups)
    dx = _target("input_grad", g, out, shape, dtype, kept, rank)
    row = _row(bias, g, dtype)
    if on_cuda(g):
        weight = weight.astype(dtype, copy=False)
        convolution_cuda.correlate(
            plans, geometry, g, weight, row, dx, groups, transposed=True
        )
    else:
        weights = _Weights(weight, groups, dtype, transposed=True)
        weights.run(plans, g, row, dx)
    return _result(dx, out, kept, rank)


def weight_grad(
    x: Any,
    g: Any,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    before: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    *,
    out: Any = None,
) -> Any:
    """Return the gradient of `convolve` by its weight.

    Parameters
    ----------
    x : array, shape (N, C, *spatial)
    g : array, shape (N, K, *spatial)
        The gradient by the result.
    kernel : tuple of int
        Spatial shape of the weight.
    stride, before, dilation, groups
        As in `convolve`.
    out : array, shape (K, C / groups, *kernel), dtype of `x`, optional
        Where to write the result.

    Returns
    -------
    array, shape (K, C / groups, *kernel), C-contiguous; `out` if it is given

    Examples
    --------
    >>> x, g = np.array([[[1.0, 2.0, 4.0]]]), np.array([[[1.0, 0.0]]])
    >>> weight_grad(x, g, (2,), (1,), (0,), (1,), 1)
    array([[[1., 2.]]])
    """
    kept = x.dtype
    dtype = _check("weight_grad", x=x, g=g)
    k, c = g.shape[1], x.shape[1]
    geometry = g.shape[2:], kernel, stride, before, dilation
    plan = forward_plan(*geometry)
    x = view_of(x.astype(dtype, copy=False))
    g = view_of(g.astype(dtype, copy=False))
    dw = array_module(x).empty(
        (groups, k // groups, c // groups, math.prod(kernel)), dtype
    )
    if on_cuda(x):
        convolution_cuda.weight_grad(plan, geometry, x, g, dw, groups)
    elif c == groups > 1:
        depthwise.weight_grad(plan, x, contiguous(g), dw.reshape(k, -1))
    elif groups == 1 and g.size and winograd.fits(plan, x, k):
        winograd_grad.weight_grad(plan, contiguous(x), contiguous(g), dw)
    else:
        direct_grad.weight_grad(plan, x, contiguous(g), dw)
    result = dw.reshape(k, c // groups, *kernel).astype(kept, copy=False)
    if out is None:
        return result
    check_out("weight_grad", out, result.shape, kept)
    out[...] = result
    return out
