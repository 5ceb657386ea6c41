"""Ranges, identity matrices and grids of coordinates."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import (
    array_module,
    device_context,
    module_of,
    resolve_device,
)
from nnlib.backend.dtypes import FLOATING, get_default_dtype, int64, resolve_dtype
from nnlib.backend.errors import ArgumentError, DTypeError, ShapeError
from nnlib.ops.arrays import add_up
from nnlib.ops.creation import finish, shape_of

__all__ = ["arange", "eye", "linspace", "logspace", "meshgrid"]


@public(method=False)
def eye(
    n: int,
    m: int | None = None,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return an identity matrix.

    Parameters
    ----------
    n : int
        Rows.
    m : int, optional
        Columns; default `n`.
    dtype, device, requires_grad
        As for `zeros`.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.eye(2)
    tensor([[1., 0.],
            [0., 1.]])
    """
    rows, columns = shape_of("eye", (n, n if m is None else m))
    kind = get_default_dtype() if dtype is None else resolve_dtype(dtype)
    place = resolve_device(device)
    with device_context(place):
        return finish(module_of(place).eye(rows, columns, dtype=kind), requires_grad)


@public(method=False)
def arange(
    start: float,
    end: float | None = None,
    step: float = 1,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return the numbers from `start` to below `end` in steps: ``start + i * step``.

    Parameters
    ----------
    start : number
        With one argument: the end, from zero.
    end : number
    step : number, default 1
    dtype : numpy.dtype or str, optional
        Default: int64 if all three are integers, else the default dtype.
    device, requires_grad
        As for `zeros`.

    Raises
    ------
    ArgumentError
        If `step` is zero, or leads away from `end`; or a number is not finite.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.arange(1, 2.5, 0.5)
    tensor([1. , 1.5, 2. ])
    """
    if end is None:
        start, end = 0, start
    numbers = [x.item() if hasattr(x, "item") else x for x in (start, end, step)]
    start, end, step = numbers
    if not all(map(math.isfinite, numbers)):
        raise ArgumentError(
            "arange: expected finite numbers, got "
            f"start {start}, end {end}, step {step}"
        )
    if step == 0:
        raise ArgumentError("arange: step: expected a number other than zero")
    if (end - start) * step < 0:
        raise ArgumentError(f"arange: step {step} leads from {start} away from {end}")
    integral = all(isinstance(x, int) for x in numbers)
    if dtype is not None:
        kind = resolve_dtype(dtype)
    else:
        kind = int64 if integral else get_default_dtype()
    place = resolve_device(device)
    module = module_of(place)
    with device_context(place):
        if integral:
            made = module.arange(start, end, step, dtype=int64)
        else:
            count = max(0, math.ceil((end - start) / step))
            made = module.arange(count, dtype=np.float64) * step + start
        return finish(made.astype(kind, copy=False), requires_grad)


@public(method=False)
def linspace(
    start: float,
    end: float,
    steps: int,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return `steps` numbers at equal distances from `start` to `end`, both included.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.linspace(0, 1, 3)
    tensor([0. , 0.5, 1. ])
    """
    (count,) = shape_of("linspace", (steps,))
    kind = get_default_dtype() if dtype is None else resolve_dtype(dtype)
    place = resolve_device(device)
    start, end = float(start), float(end)
    with device_context(place):
        made = _line(module_of(place), start, end, count)
        if kind not in FLOATING:
            made = module_of(place).trunc(made)
        return finish(made.astype(kind), requires_grad)


def _line(module: Any, start: float, end: float, count: int) -> Any:
    """Return what NumPy's `linspace` does, in a third of its time."""
    made = module.arange(count, dtype=np.float64)
    if count > 1:
        made *= (end - start) / (count - 1)
    made += start
    if count > 1:
        made[-1] = end
    return made


@public(method=False)
def logspace(
    start: float,
    end: float,
    steps: int,
    base: float = 10.0,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return `base` to the power of `steps` numbers from `start` to `end`.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.logspace(0, 2, 3)
    tensor([  1.,  10., 100.])
    """
    (count,) = shape_of("logspace", (steps,))
    kind = get_default_dtype() if dtype is None else resolve_dtype(dtype)
    place = resolve_device(device)
    with device_context(place):
        made = base ** _line(module_of(place), float(start), float(end), count)
        return finish(made.astype(kind), requires_grad)


class Meshgrid(Function):
    """Coordinates of the points of a grid, one output per axis."""

    upcasts = False
    arithmetic = False

    def forward(self, *axes: Any, indexing: str) -> Any:
        """Return each axis spread over the grid."""
        self.indexing = indexing
        self.shapes = [axis.shape for axis in axes]
        order = list(range(len(axes)))
        if indexing == "xy" and len(axes) > 1:
            order[:2] = 1, 0
        shape = [axes[place].size for place in order]
        outs = []
        for place, axis in zip(order, axes, strict=True):
            out = array_module(axis).empty(shape, axis.dtype)
            along = [1] * len(axes)
            along[place] = axis.size
            out[...] = axis.reshape(along)
            outs.append(out)
        return tuple(outs)

    def backward(self, *grads: Any) -> Any:
        """Sum the gradient over the other dimensions."""
        found = []
        for axis, grad in enumerate(grads):
            if axis < 2 and self.indexing == "xy" and len(grads) > 1:
                axis = 1 - axis
            others = tuple(dim for dim in range(grad.ndim) if dim != axis)
            if others and isinstance(grad, Tensor):
                grad = grad.sum(others)
            elif others:
                grad = add_up(grad, others, False)
            found.append(grad)
        # An axis may be a number: (1,) -> ().
        return tuple(
            grad.reshape(shape) for grad, shape in zip(found, self.shapes, strict=True)
        )


@public(method=False)
def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """Return the coordinates of the points of a grid.

    Parameters
    ----------
    *tensors : Tensor, shape (L_i,) or ()
        The coordinates along each axis; or one sequence of them.
    indexing : {"ij", "xy"}
        Whether the first axis runs along the rows (matrix) or the columns (plot).

    Returns
    -------
    tuple of Tensor, each of shape (L_0, L_1, ...)

    Raises
    ------
    ShapeError
        If a tensor has more than one dimension.
    DTypeError
        If `indexing` is unknown or the dtypes differ.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.meshgrid(nnlib.arange(2), nnlib.arange(3))[0]
    tensor([[0, 0, 0],
            [1, 1, 1]])
    """
    if len(tensors) == 1 and isinstance(tensors[0], list | tuple):
        tensors = tuple(tensors[0])
    if indexing not in ("ij", "xy"):
        raise DTypeError(f"meshgrid: indexing: expected 'ij' or 'xy', got {indexing!r}")
    for position, axis in enumerate(tensors):
        if axis.ndim > 1:
            raise ShapeError(
                f"meshgrid: tensor {position} has shape {tuple(axis.shape)}, expected "
                "at most one dimension"
            )
        if axis.dtype != tensors[0].dtype:
            raise DTypeError(
                f"meshgrid: tensor {position} is {axis.dtype}, the first "
                f"{tensors[0].dtype}"
            )
    return Meshgrid.apply(*tensors, indexing=indexing)  # type: ignore[no-any-return]
