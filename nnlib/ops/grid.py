"""Images sampled at places of a grid, and the grids of affine maps.

M. Jaderberg and others, "Spatial Transformer Networks", 2015. Kernels make the samples
and their first derivatives (`nnlib.kernels.grid`). The same is composed of rows of
channels, taken and weighted: so there are derivatives of any order by the images and by
the grid, and samples where the kernels have no form.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from nnlib import kernels
from nnlib.autograd.function import Function
from nnlib.autograd.mode import enable_grad
from nnlib.autograd.places import on_its_device
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.dtypes import FLOATING, HALF, float32, int64
from nnlib.backend.errors import ArgumentError, DTypeError, ShapeError
from nnlib.ops.casting import cast
from nnlib.ops.dims import constant, raw
from nnlib.ops.gathering import IndexSelect
from nnlib.ops.matmul import matmul

__all__ = ["affine_grid", "grid_sample"]

Gradients = tuple[Any, Any]

_MODES = ("bilinear", "nearest", "bicubic")
_PADDINGS = ("zeros", "border", "reflection")
# Where a coordinate that is no number is sent: outside, so that it reads zeros. Those
# beyond the largest that are told apart stay on their side.
_NOWHERE = -100.0
_FAR = 1e9


def _inside(x: Any, size: int, padding: str, align: bool) -> tuple[Any, Any]:
    """Return coordinates brought into the image, and the slope of that (1, -1, 0)."""
    xp = array_module(x)
    slope = xp.ones_like(x)
    if padding == "reflection":
        low, span = (0.0, size - 1.0) if align else (-0.5, float(size))
        if span:
            slope = xp.where(x < low, -slope, slope)
            away = xp.abs(x - low)
            turns = xp.floor(away / span)
            rest = away - turns * span
            back = turns - 2 * xp.floor(turns * 0.5) == 1
            slope = xp.where(back, -slope, slope)
            x = xp.where(back, span - rest, rest) + low
        else:
            x, slope = x * 0, slope * 0
    if padding != "zeros":
        slope = xp.where((x > 0) & (x < size - 1), slope, 0)
        x = xp.clip(x, 0, size - 1)
    usable = xp.abs(x) < _FAR
    x = xp.where(xp.isnan(x), _NOWHERE, xp.clip(x, -_FAR, _FAR))
    return x, xp.where(usable, slope, 0)


class GridPlaces(Function):
    """Coordinates from -1 to 1 as places in pixels, brought into the image."""

    def forward(self, g: Any, *, size: int, padding: str, align: bool) -> Any:
        """Return the places along a dimension of `size` pixels."""
        factor = (size - 1) / 2 if align else size / 2
        shift = factor if align else factor - 0.5
        x, slope = _inside(g * factor + shift, size, padding, align)
        self.save_for_backward((slope * factor).astype(g.dtype))
        return x.astype(g.dtype)

    def backward(self, grad: Any) -> Any:
        """Return the gradient times the slope."""
        (slope,) = self.saved
        return grad * slope


def cubic_weights(t: Any) -> list[Any]:
    """Return the weights of four neighbours (R. Keys, 1981, with a = -3/4)."""
    a = -0.75

    def near(x: Any) -> Any:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x: Any) -> Any:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    return [far(t + 1), near(t), near(1 - t), far(2 - t)]


def _taps(
    grid: Any, sizes: Sequence[int], mode: str, padding: str, align: bool
) -> list[list[tuple[Any, Any]]]:
    """Return for each dimension of the image its taps: pixels and their weights.

    Pixels are arrays of integers, still outside the image for zeros.
    """
    found = []
    for place, size in enumerate(sizes):
        g = grid[..., len(sizes) - 1 - place].reshape(-1)
        keep = "zeros" if mode == "bicubic" else padding
        x = GridPlaces.apply(g, size=size, padding=keep, align=align)
        array = raw(x)
        xp = array_module(array)
        if mode == "nearest":
            found.append([(xp.rint(array), None)])
            continue
        first = xp.floor(array)
        t = x - constant(first, x)
        if mode == "bilinear":
            found.append([(first, 1 - t), (first + 1, t)])
            continue
        known = xp.isfinite if padding == "reflection" else lambda g: g == g
        pixels = [
            xp.where(
                known(raw(g)), _inside(first + k, size, padding, align)[0], _NOWHERE
            )
            for k in range(-1, 3)
        ]
        found.append(list(zip(pixels, cubic_weights(t), strict=True)))
    return found


def _corners(
    taps: list[list[tuple[Any, Any]]], sizes: Sequence[int], start: Any
) -> Iterator[tuple[Any, Any, list[Any]]]:
    """Yield rows, whether they are inside, and weights, for each set of neighbours."""
    for corner in itertools.product(*taps):
        rows, inside = start, True
        for (pixel, _), size in zip(corner, sizes, strict=True):
            within = (pixel >= 0) & (pixel < size)
            inside = within & inside
            index = array_module(pixel).where(within, pixel, 0).astype(int64)
            rows = rows * size + index
        yield rows, inside, [weight for _, weight in corner if weight is not None]


def _check(input: Any, grid: Any, mode: str, padding_mode: str) -> None:
    x, g = raw(input), raw(grid)
    if mode not in _MODES:
        raise ArgumentError(
            f"grid_sample: mode: expected one of {_MODES}, got {mode!r}"
        )
    if padding_mode not in _PADDINGS:
        raise ArgumentError(
            f"grid_sample: padding_mode: expected one of {_PADDINGS}, got "
            f"{padding_mode!r}"
        )
    if x.dtype not in FLOATING or g.dtype != x.dtype:
        raise DTypeError(
            "grid_sample: expected floating tensors of one dtype, got input of "
            f"{x.dtype} and grid of {g.dtype}"
        )
    rank = x.ndim - 2
    fits = x.ndim in (4, 5) and g.ndim == x.ndim and g.shape[-1] == rank
    if not fits or len(g) != len(x):
        raise ShapeError(
            "grid_sample: expected input (N, C, H, W) and grid (N, H', W', 2), or "
            f"(N, C, D, H, W) and (N, D', H', W', 3), got {x.shape} and {g.shape}"
        )
    if 0 in x.shape[2:]:
        raise ShapeError(f"grid_sample: input has no pixels: shape {x.shape}")
    if mode == "bicubic" and rank != 2:
        raise ShapeError(f"grid_sample: bicubic takes images, got shape {x.shape}")


class GridSample(Function):
    """Values of images at places between their pixels."""

    def forward(
        self, x: Any, grid: Any, *, mode: str, padding: str, align: bool
    ) -> Any:
        """Return the values, (N, C, H', W') or (N, C, D', H', W')."""
        self.setting = mode, padding, align
        self.save_for_backward(x, grid)
        return kernels.grid.sample(x, grid, mode, padding, align)

    def backward(self, grad: Any) -> Gradients:
        """Return the gradients by the images and by the places."""
        x, grid = self.saved
        if isinstance(grad, Tensor):
            return self._composed(grad, x, grid)
        dx = dg = None
        if self.needs(0):
            dx = kernels.grid.input_gradient(grad, grid, x.shape, *self.setting)
        if self.needs(1):
            dg = kernels.grid.grid_gradient(grad, x, grid, *self.setting)
        return dx, dg

    def _composed(self, grad: Tensor, x: Tensor, grid: Tensor) -> Gradients:
        """Return the gradients as functions that have derivatives."""
        from nnlib.autograd import grad as gradients  # here, for it needs operations

        with enable_grad():
            # Copies: two arguments may depend on one another.
            given = x.clone(), grid.clone()
            mode, padding, align = self.setting
            y = composed(given[0], given[1], mode, padding, align)
        wanted = [k for k in (0, 1) if self.needs(k)]
        found: list[Any] = [None, None]
        made = gradients(
            y, [given[k] for k in wanted], grad, create_graph=True, allow_unused=True
        )
        for k, value in zip(wanted, made, strict=True):
            found[k] = value
        return found[0], found[1]


def composed(input: Any, grid: Any, mode: str, padding: str, align: bool) -> Tensor:
    """Return what `grid_sample` does, made of operations that have derivatives."""
    dtype = raw(input).dtype
    count, channels, *sizes = raw(input).shape
    shape = raw(grid).shape[1:-1]
    xp = array_module(raw(grid))
    # (N, C, H, W) -> (N * H * W, C): a pixel's channels are a row.
    order = (0, *range(2, 2 + len(sizes)), 1)
    pixels = input.permute(*order).reshape(count * math.prod(sizes), channels)
    start = xp.repeat(xp.arange(count), math.prod(shape))
    taps = _taps(grid, sizes, mode, padding, align)
    total: Any = None
    for rows, inside, weights in _corners(taps, sizes, start):
        weight = constant(inside.astype(dtype), grid)
        for factor in weights:
            weight = weight * factor
        taken = IndexSelect.apply(pixels, constant(rows, grid), dim=0)
        part = taken * weight.reshape(-1, 1)
        total = part if total is None else total + part
    # (N * H' * W', C) -> (N, C, H', W')
    back = (0, 1 + len(sizes), *range(1, 1 + len(sizes)))
    return total.reshape(count, *shape, channels).permute(*back)  # type: ignore[no-any-return]


@public(method=False)
@on_its_device
def grid_sample(
    input: Any,
    grid: Any,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """Return the values of images at places between their pixels.

    Parameters
    ----------
    input : Tensor, shape (N, C, H, W) or (N, C, D, H, W)
    grid : Tensor, shape (N, H', W', 2) or (N, D', H', W', 3), dtype of `input`
        Places as (x, y) or (x, y, z), from -1 (left, top, front) to 1.
    mode : {"bilinear", "nearest", "bicubic"}
        How values are made of neighbours; bicubic of images alone.
    padding_mode : {"zeros", "border", "reflection"}
        What is outside: zeros, the nearest pixel of the border, or the image mirrored
        at its border. NaN is nowhere, and reads zeros; so does infinity, but for the
        border it lies beyond.
    align_corners : bool, optional
        Whether -1 and 1 are the middles of the outer pixels, or (default) their edges.

    Returns
    -------
    Tensor, shape (N, C, H', W') or (N, C, D', H', W')

    Raises
    ------
    ArgumentError
        If `mode` or `padding_mode` is unknown.
    ShapeError, DTypeError
        If the arguments do not fit.

    Examples
    --------
    >>> import nnlib
    >>> image = nnlib.tensor([[[[1.0, 3.0]]]])
    >>> middle = nnlib.tensor([[[[0.0, 0.0]]]])
    >>> nnlib.nn.functional.grid_sample(image, middle, align_corners=False)
    tensor([[[[2.]]]])
    """
    _check(input, grid, mode, padding_mode)
    align = bool(align_corners)
    dtype = raw(input).dtype
    if dtype in HALF:
        x, places = cast(input, float32), cast(grid, float32)
        return cast(grid_sample(x, places, mode, padding_mode, align), dtype)  # type: ignore[no-any-return]
    if not kernels.grid.fits(raw(input)):
        return composed(input, grid, mode, padding_mode, align)
    return GridSample.apply(  # type: ignore[no-any-return]
        input, grid, mode=mode, padding=padding_mode, align=align
    )


@public(method=False)
@on_its_device
def affine_grid(
    theta: Any, size: Sequence[int], align_corners: bool | None = None
) -> Tensor:
    """Return the places that affine maps send the pixels of an image to.

    Parameters
    ----------
    theta : Tensor, shape (N, 2, 3) or (N, 3, 4), floating
        The maps, their translation in the last column.
    size : sequence of int
        Shape of the images to make: (N, C, H, W) or (N, C, D, H, W).
    align_corners : bool, optional
        As in `grid_sample`.

    Returns
    -------
    Tensor, shape (N, H, W, 2) or (N, D, H, W, 3)
        A grid for `grid_sample`.

    Raises
    ------
    DTypeError
        If `theta` is not floating.
    ShapeError
        If `theta` and `size` do not fit.

    Examples
    --------
    >>> import nnlib
    >>> turned = nnlib.tensor([[[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]])
    >>> nnlib.nn.functional.affine_grid(turned, (1, 1, 1, 2), align_corners=True)
    tensor([[[[ 0.,  1.],
              [ 0., -1.]]]])
    """
    array = raw(theta)
    if array.dtype not in FLOATING:
        raise DTypeError(
            f"affine_grid: theta: expected a floating dtype, got {array.dtype}"
        )
    count, _, *lengths = (*map(int, size), *[0] * (2 - len(size)))
    rank = len(lengths)
    wanted = (count, rank, rank + 1)
    if rank not in (2, 3) or array.shape != wanted or min(size) < 1:
        raise ShapeError(
            "affine_grid: expected theta (N, 2, 3) and a size (N, C, H, W), or theta "
            f"(N, 3, 4) and a size (N, C, D, H, W), got {array.shape} and {tuple(size)}"
        )
    xp = array_module(array)
    lines = []
    for length in lengths:
        steps = xp.arange(length, dtype=np.float64)
        if align_corners:
            steps = steps * (2 / max(length - 1, 1)) - (1 if length > 1 else 0)
        else:
            steps = (steps * 2 + 1) / length - 1
        lines.append(steps)
    grids = xp.meshgrid(*lines, indexing="ij")
    # (D, H, W) each -> (D * H * W, 4): x, y, z and 1.
    flat = [part.reshape(-1) for part in reversed(grids)]
    base = xp.stack([*flat, xp.ones_like(flat[0])], axis=-1).astype(array.dtype)
    placed = matmul(constant(base, theta), theta.swapaxes(-1, -2))
    return placed.reshape(count, *lengths, rank)
