"""Resizing, and moving channels: pixel_shuffle and its kin, channel_shuffle."""

from __future__ import annotations

import math
from typing import Any

from nnlib import kernels
from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ArgumentError, DTypeError, Error, ShapeError
from nnlib.ops.antialias import FILTERS, antialiased
from nnlib.ops.convolution_arguments import per_dim
from nnlib.ops.loss import check_float

__all__ = [
    "Resample",
    "channel_shuffle",
    "interpolate",
    "pixel_shuffle",
    "pixel_unshuffle",
]

# The mode of each number of spatial dimensions that weighs neighbours linearly.
LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


class Resample(Function):
    """Weighted sums over windows: a linear map that acts on each axis on its own."""

    def forward(self, x: Any, *, plan: Any) -> Any:
        """Return (N, C, *plan.outputs)."""
        self.plan = plan
        return kernels.resize.resample(x, plan)

    def backward(self, grad: Any) -> Any:
        """Apply the transposed map."""
        return Resample.apply(grad, plan=self.plan.turned)


def _sizes(input: Any, size: Any, factor: Any, rank: int) -> tuple[Any, Any]:
    """Return the output's size and, where a factor was given, the scale per axis."""
    op = "interpolate"
    shape = tuple(input.shape)[2:]
    if (size is None) == (factor is None):
        raise ArgumentError(
            f"{op}: expected either size or scale_factor, got both or neither"
        )
    if size is not None:
        return per_dim(op, "size", size, rank, 1), (None,) * rank
    given = factor if isinstance(factor, tuple | list) else (factor,) * rank
    if len(given) != rank:
        raise ShapeError(
            f"{op}: scale_factor: expected one value or {rank}, got {tuple(given)}"
        )
    if any(isinstance(f, bool) or not isinstance(f, int | float) for f in given):
        raise DTypeError(f"{op}: scale_factor: expected numbers, got {factor!r}")
    factors = tuple(map(float, given))
    out = tuple(math.floor(n * f) for n, f in zip(shape, factors, strict=True))
    if min(out) < 1:
        raise ShapeError(
            f"{op}: scale_factor: {factor} makes {shape} to {out}, expected at least 1"
        )
    return out, factors


@public(method=False)
def interpolate(
    input: Any,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """Resize signals, images or volumes.

    Output o lies at ``(o + 1/2) / scale - 1/2`` among the inputs; with `align_corners`
    at ``o (inputs - 1) / (outputs - 1)``, so that first and last elements meet.

    Parameters
    ----------
    input : Tensor, shape (N, C, L), (N, C, H, W) or (N, C, D, H, W)
    size : int or tuple of int, optional
        The spatial size of the result; give this or `scale_factor`.
    scale_factor : float or tuple of float, optional
    mode : str
        "nearest" (of input ``floor(o / scale)``), "nearest-exact" (the nearest of the
        positions above), "linear", "bilinear" or "trilinear" (by the number of
        dimensions), "bicubic" (images alone; Keys 1981, a = -0.75) or "area" (means of
        the windows of `adaptive_avg_pool2d`).
    align_corners : bool, optional
        For the linear modes and "bicubic".
    recompute_scale_factor : bool, optional
        Use the quotient of the sizes in place of `scale_factor`.
    antialias : bool, default False
        For images, in the modes "bilinear", "bicubic" and "lanczos" (which needs it):
        an output is a mean of all the inputs that fall to it, as PIL's are, where the
        image shrinks.

    Returns
    -------
    Tensor, shape (N, C, *size)

    Raises
    ------
    ShapeError
        If the rank is wrong, or the result would be empty.
    Error
        If mode and arguments do not fit.

    Examples
    --------
    >>> import nnlib
    >>> import nnlib.nn.functional as F
    >>> x = nnlib.tensor([[[1.0, 2.0]]])
    >>> F.interpolate(x, scale_factor=2, mode="linear")
    tensor([[[1.  , 1.25, 1.75, 2.  ]]])
    """
    op = "interpolate"
    shape = tuple(input.shape)
    rank = len(shape) - 2
    if rank not in LINEAR:
        raise ShapeError(f"{op}: input: expected 3 to 5 dimensions, got shape {shape}")
    check_float(op, "input", input)
    if 0 in shape[2:]:
        raise ShapeError(f"{op}: input: the spatial size is empty, got shape {shape}")
    smooth = mode == LINEAR[rank] or (mode == "bicubic" and rank == 2)
    if antialias:
        if rank != 2 or mode not in FILTERS:
            raise ArgumentError(
                f"{op}: antialias: expected images (N, C, H, W) and one of the modes "
                f"{tuple(FILTERS)}, got shape {shape} and {mode!r}"
            )
    elif not smooth and mode not in ("nearest", "nearest-exact", "area"):
        raise ArgumentError(
            f"{op}: mode: expected nearest, nearest-exact, area, {LINEAR[rank]}"
            f"{', bicubic' * (rank == 2)} for {rank + 2} dimensions, got {mode!r}"
        )
    if not smooth and (align_corners if antialias else align_corners is not None):
        raise Error(f"{op}: align_corners: not used by the mode {mode!r}")
    out, factors = _sizes(input, size, scale_factor, rank)
    if recompute_scale_factor and size is not None:
        raise ArgumentError(f"{op}: recompute_scale_factor: not used with a size")
    if mode == "area":
        axes = zip(shape[2:], out, strict=True)
        plan = kernels.windows.plan(kernels.windows.adaptive_mean, *axes)
        return Resample.apply(input, plan=plan)  # type: ignore[no-any-return]
    if recompute_scale_factor:
        factors = (None,) * rank
    table = antialiased if antialias else kernels.windows.interpolated
    kind = "linear" if mode == LINEAR[rank] and not antialias else mode
    plan = kernels.windows.plan(
        table,
        *[
            (n, o, kind, bool(align_corners), factor)
            for n, o, factor in zip(shape[2:], out, factors, strict=True)
        ],
    )
    return Resample.apply(input, plan=plan)  # type: ignore[no-any-return]


def _factor(op: str, argument: str, value: Any, input: Any) -> int:
    factor = per_dim(op, argument, value, 1, 1)[0]
    if len(input.shape) < 3:
        raise ShapeError(
            f"{op}: input: expected at least 3 dimensions, got shape "
            f"{tuple(input.shape)}"
        )
    return factor


@public(method=False)
def pixel_shuffle(input: Any, upscale_factor: int) -> Tensor:
    """Move channels into space: (N, C r^2, H, W) to (N, C, H r, W r).

    Source: Shi et al., "Real-time single image and video super-resolution using an
    efficient sub-pixel convolutional neural network", 2016.

    Parameters
    ----------
    input : Tensor, shape (..., C * r * r, H, W)
    upscale_factor : int
        The factor r.

    Raises
    ------
    ShapeError
        If ``r * r`` does not divide the channels.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.pixel_shuffle(nnlib.arange(4.0).reshape(1, 4, 1, 1), 2)[0, 0]
    tensor([[0., 1.],
            [2., 3.]])
    """
    r = _factor("pixel_shuffle", "upscale_factor", upscale_factor, input)
    *lead, channels, height, width = input.shape
    if channels % (r * r):
        raise ShapeError(
            f"pixel_shuffle: input: {channels} channels are no multiple of "
            f"upscale_factor^2 = {r * r}"
        )
    n = len(lead)
    count = channels // (r * r)
    # (..., C, r, r, H, W) -> (..., C, H, r, W, r)
    parts = input.reshape(*lead, count, r, r, height, width)
    moved = parts.transpose if not hasattr(parts, "permute") else parts.permute
    parts = moved(*range(n), n, n + 3, n + 1, n + 4, n + 2)
    return parts.reshape(*lead, count, height * r, width * r)  # type: ignore[no-any-return]


@public(method=False)
def pixel_unshuffle(input: Any, downscale_factor: int) -> Tensor:
    """Move space into channels: the inverse of `pixel_shuffle`.

    Parameters
    ----------
    input : Tensor, shape (..., C, H * r, W * r)
    downscale_factor : int
        The factor r.

    Returns
    -------
    Tensor, shape (..., C * r * r, H, W)

    Raises
    ------
    ShapeError
        If r does not divide height and width.

    Examples
    --------
    >>> import nnlib
    >>> tuple(nnlib.pixel_unshuffle(nnlib.zeros(1, 1, 4, 6), 2).shape)
    (1, 4, 2, 3)
    """
    r = _factor("pixel_unshuffle", "downscale_factor", downscale_factor, input)
    *lead, channels, height, width = input.shape
    if height % r or width % r:
        raise ShapeError(
            f"pixel_unshuffle: input: {height} x {width} is no multiple of "
            f"downscale_factor = {r}"
        )
    n = len(lead)
    # (..., C, H, r, W, r) -> (..., C, r, r, H, W)
    parts = input.reshape(*lead, channels, height // r, r, width // r, r)
    moved = parts.transpose if not hasattr(parts, "permute") else parts.permute
    parts = moved(*range(n), n, n + 2, n + 4, n + 1, n + 3)
    return parts.reshape(  # type: ignore[no-any-return]
        *lead, channels * r * r, height // r, width // r
    )


@public(method=False)
def channel_shuffle(input: Any, groups: int) -> Tensor:
    """Deal the channels of groups out in turn: the first of each, then the second.

    Source: Zhang et al., "ShuffleNet: an extremely efficient convolutional neural
    network for mobile devices", 2018.

    Parameters
    ----------
    input : Tensor, shape (N, C, *spatial)
    groups : int
        Divides C.

    Returns
    -------
    Tensor, the shape of `input`

    Raises
    ------
    ShapeError
        If `groups` does not divide the channels.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.channel_shuffle(nnlib.arange(6.0).reshape(1, 6, 1), 2).flatten()
    tensor([0., 3., 1., 4., 2., 5.])
    """
    count = _factor("channel_shuffle", "groups", groups, input)
    n, channels, *spatial = input.shape
    if channels % count:
        raise ShapeError(
            f"channel_shuffle: groups: {count} does not divide {channels} channels"
        )
    # (N, groups, C/groups, ...) -> (N, C/groups, groups, ...)
    parts = input.reshape(n, count, channels // count, *spatial)
    return parts.swapaxes(1, 2).reshape(n, channels, *spatial)  # type: ignore[no-any-return]
