"""A batch normalisation folded into the layer before it, for evaluation."""

from __future__ import annotations

import copy
from typing import Any

from nnlib.autograd.mode import no_grad
from nnlib.autograd.tensor import Parameter, Tensor
from nnlib.backend.errors import ArgumentError
from nnlib.nn.module import Module

__all__ = [
    "fuse_conv_bn_eval",
    "fuse_conv_bn_weights",
    "fuse_linear_bn_eval",
    "fuse_linear_bn_weights",
]


def _fused(
    weight: Tensor,
    bias: Tensor | None,
    mean: Tensor,
    var: Tensor,
    eps: float,
    scale: Tensor | None,
    shift: Tensor | None,
    transpose: bool,
) -> tuple[Parameter, Parameter]:
    """Return ``w s`` and ``(b - mean) s + shift``, ``s = scale / sqrt(var + eps)``."""
    with no_grad():
        factor = (var + eps).rsqrt()
        factor = factor if scale is None else factor * scale
        rows = factor.unsqueeze(1)  # (K, 1)
        if transpose:
            # (K,) -> (C, K / groups): the weight goes through the groups by C.
            groups = factor.numel() // weight.shape[1]
            each = weight.shape[0] // groups
            rows = factor.reshape(groups, -1).repeat_interleave(each, 0)
        shape = (*rows.shape, *(1,) * (weight.ndim - 2))
        fused_weight = weight * rows.reshape(shape).to(weight.dtype)
        offset = (-mean if bias is None else bias - mean) * factor
        offset = offset if shift is None else offset + shift
        wanted = weight.requires_grad if bias is None else bias.requires_grad
        return (
            Parameter(fused_weight, weight.requires_grad),
            Parameter(offset.to(weight.dtype), wanted),
        )


def fuse_conv_bn_weights(
    conv_w: Any,
    conv_b: Any,
    bn_rm: Any,
    bn_rv: Any,
    bn_eps: float,
    bn_w: Any,
    bn_b: Any,
    transpose: bool = False,
) -> tuple[Parameter, Parameter]:
    """Return weight and bias of a convolution that also normalises.

    Parameters
    ----------
    conv_w : Tensor, shape (K, C / groups, ...)
        Or (C, K / groups, ...) of a transposed convolution.
    conv_b : Tensor, shape (K,), or None
    bn_rm, bn_rv : Tensor, shape (K,)
        Running mean and variance.
    bn_eps : float
    bn_w, bn_b : Tensor, shape (K,), or None
        Scale and shift of the normalisation.
    transpose : bool, default False

    Returns
    -------
    tuple of Parameter
    """
    return _fused(conv_w, conv_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, transpose)


def fuse_linear_bn_weights(
    linear_w: Any,
    linear_b: Any,
    bn_rm: Any,
    bn_rv: Any,
    bn_eps: float,
    bn_w: Any,
    bn_b: Any,
) -> tuple[Parameter, Parameter]:
    """Return weight and bias of a fully connected layer that also normalises.

    The arguments are those of `fuse_conv_bn_weights`.
    """
    return _fused(linear_w, linear_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, False)


def _check_fusion(op: str, layer: Any, bn: Any) -> None:
    if layer.training or bn.training:
        raise ArgumentError(
            f"{op}: both layers must be in evaluation mode: call eval()"
        )
    if bn.running_mean is None or bn.running_var is None:
        raise ArgumentError(f"{op}: bn has no running statistics")


def fuse_conv_bn_eval(conv: Any, bn: Any, transpose: bool = False) -> Module:
    """Return one convolution that does what `conv` and then `bn` do in evaluation.

    Parameters
    ----------
    conv : Module
        A convolution, in evaluation mode; it is copied.
    bn : Module
        The batch normalisation behind it, with running statistics.
    transpose : bool, default False
        Whether `conv` is a transposed convolution.

    Raises
    ------
    ArgumentError
        In training mode, without running statistics, if `bn` has not as many features
        as `conv` gives channels, or if `transpose` does not fit `conv`.

    Examples
    --------
    >>> import nnlib
    >>> conv, bn = nnlib.nn.Conv2d(3, 4, 3).eval(), nnlib.nn.BatchNorm2d(4).eval()
    >>> fused, x = fuse_conv_bn_eval(conv, bn), nnlib.ones(1, 3, 5, 5)
    >>> bool(nnlib.allclose(fused(x), bn(conv(x)), atol=1e-6))
    True
    """
    op = "fuse_conv_bn_eval"
    _check_fusion(op, conv, bn)
    if bool(transpose) != conv.transposed:
        raise ArgumentError(
            f"{op}: transpose: expected {conv.transposed} for a "
            f"{type(conv).__name__}, got {transpose}"
        )
    if bn.num_features != conv.out_channels:
        raise ArgumentError(
            f"{op}: conv gives {conv.out_channels} channels, bn takes {bn.num_features}"
        )
    fused = copy.deepcopy(conv)
    fused.weight, fused.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight,
        bn.bias, transpose,
    )  # fmt: skip
    return fused  # type: ignore[no-any-return]


def fuse_linear_bn_eval(linear: Any, bn: Any) -> Module:
    """Return one layer that does what `linear` and then `bn` do in evaluation.

    Parameters
    ----------
    linear : Module
        A `Linear` in evaluation mode; it is copied.
    bn : Module
        The batch normalisation behind it, with running statistics.

    Raises
    ------
    ArgumentError
        In training mode, without running statistics, or if `bn` has neither as many
        features as `linear` gives, nor one.
    """
    _check_fusion("fuse_linear_bn_eval", linear, bn)
    if bn.num_features not in (1, linear.out_features):
        raise ArgumentError(
            f"fuse_linear_bn_eval: linear gives {linear.out_features} features, bn "
            f"takes {bn.num_features}"
        )
    fused = copy.deepcopy(linear)
    fused.weight, fused.bias = fuse_linear_bn_weights(
        linear.weight, linear.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight,
        bn.bias,
    )  # fmt: skip
    return fused  # type: ignore[no-any-return]
