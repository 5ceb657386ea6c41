"""What the losses share: reductions, and checks of targets.

Checks of shapes and dtypes raise at once. Checks of values raise at once on the CPU,
where they cost a pass; on CUDA they leave the place of the first bad value where the
next synchronisation finds it, so that nothing waits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nnlib import kernels
from nnlib.autograd.function import Function
from nnlib.autograd.hidden import Hidden
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module, away
from nnlib.backend.dtypes import FLOATING
from nnlib.backend.errors import ArgumentError, DTypeError, ShapeError
from nnlib.ops.activation import SMALL
from nnlib.ops.arithmetic import sum_to
from nnlib.ops.arrays import FEW, constants, nonzeros
from nnlib.ops.dims import raw
from nnlib.ops.reduction import Mean

REDUCTIONS = frozenset({"none", "mean", "sum"})


def check_reduction(op: str, reduction: Any, shape: tuple[int, ...]) -> None:
    """Raise for an unknown reduction, and for the mean of an empty batch.

    Parameters
    ----------
    op : str
        What the message names.
    reduction : str
    shape : tuple of int
        The shape of what is reduced.

    Raises
    ------
    ArgumentError
        If the reduction is unknown.
    ShapeError
        If the mean is asked for over nothing.
    """
    if reduction == "mean":
        if 0 in shape:
            raise ShapeError(
                f"{op}: the mean over an empty batch (shape {tuple(shape)}) is not "
                "defined; skip the batch or use reduction='sum'"
            )
    elif reduction not in REDUCTIONS:
        raise ArgumentError(
            f"{op}: reduction: expected 'none', 'mean' or 'sum', got {reduction!r}"
        )


def check_same_shape(op: str, **tensors: Any) -> None:
    """Raise unless all have one shape: a loss never broadcasts its target silently."""
    expected = None
    for x in tensors.values():
        shape = getattr(raw(x), "shape", ())
        if expected is None:
            expected = shape
        elif shape != expected:
            break
    else:
        return
    for name, x in tensors.items():
        if not hasattr(x, "shape"):
            kind = type(x).__name__
            raise DTypeError(f"{op}: {name}: expected a Tensor, got {kind}")
    shapes = {name: tuple(x.shape) for name, x in tensors.items()}
    (first, expected), *rest = shapes.items()
    for name, shape in rest:
        if shape != expected:
            raise ShapeError(
                f"{op}: {name} has shape {shape}, {first} has shape {expected}: "
                "expected the same (a loss does not broadcast; reshape or expand "
                "explicitly)"
            )


def check_float(op: str, name: str, x: Any) -> None:
    """Raise unless `x` is a floating tensor."""
    try:
        floating = x.dtype in FLOATING
    except AttributeError:
        kind = type(x).__name__
        raise DTypeError(f"{op}: {name}: expected a Tensor, got {kind}") from None
    if not floating:
        raise DTypeError(f"{op}: {name}: expected a floating dtype, got {x.dtype}")


def check_values(
    op: str, name: str, x: Any, good: Callable[[Any], Any], expected: str
) -> None:
    """Raise for the first element for which ``good(array)`` is False.

    Write `good` so that a NaN fails it. Raises as `report` does. Inside `vmap` there is
    nothing to read.
    """
    array = raw(x)
    if type(array) is Hidden:
        return
    if type(array) is not np.ndarray and (there := away(array)) is not None:
        with there:
            check_values(op, name, x, good, expected)
        return
    fine = good(array)
    if type(array) is np.ndarray and nonzeros(fine) == array.size:
        return

    def describe(position: int, value: Any) -> ArgumentError:
        where = place(position, array.shape)
        return ArgumentError(f"{op}: {name}{where} is {value}, expected {expected}")

    report(~fine, array, describe)


def report(bad: Any, array: Any, describe: Callable[[int, Any], Exception]) -> None:
    """Raise for the first true element of `bad`.

    At once on the CPU; on CUDA at the next synchronisation.

    Parameters
    ----------
    bad : boolean array, shape of `array`
    array : array
        What was checked.
    describe : callable
        ``describe(position, value)`` makes the exception, for a flat position.
    """
    if type(array) is np.ndarray:
        if bad.any():
            position = int(np.argmax(bad))
            raise describe(position, array.reshape(-1)[position].item())
    elif array.size:
        module = array_module(array)
        slots, slot = kernels.machinery.faults.open_slot(array, describe)
        positions = module.arange(array.size)
        nothing = np.iinfo(np.int64).max
        slots[slot] = module.where(bad.reshape(-1), positions, nothing).min()


def place(position: int, shape: tuple[int, ...]) -> str:
    """Return a flat position as the index that a user would write."""
    index = np.unravel_index(position, shape)
    return f"[{', '.join(str(int(i)) for i in index)}]" if index else ""


def between(low: float, high: float) -> Callable[[Any], Any]:
    """Return the test of lying between two bounds; a NaN does not."""

    def test(array: Any) -> Any:
        if array.dtype.kind == "f":
            least, most = constants(array, low, high)
            return (array >= least) & (array <= most)
        return (array >= low) & (array <= high)

    return test


def signs(array: Any) -> Any:
    """Test for labels that are 1 or -1."""
    return abs(array) == constants(array, 1)[0]


def not_negative(array: Any) -> Any:
    """Test for a number from 0 on; a NaN is none."""
    return array >= constants(array, 0)[0]


def not_nan(array: Any) -> Any:
    """Test for anything but NaN."""
    return array == array


def total(values: Any) -> Any:
    """Return the sum of all elements of an array."""
    if values.size <= SMALL or type(values) is not np.ndarray:
        return values.sum()
    return kernels.reduction.reduce_all(values, kernels.reduction.SUM)


def reduced(values: Any, reduction: str) -> Any:
    """Reduce an array of losses (inside a ``forward``)."""
    if reduction != "none" and 0 < values.size <= FEW and type(values) is np.ndarray:
        result = sum(values.ravel().tolist())
        if reduction == "mean":
            result /= values.size
        return np.array(result, values.dtype)
    if reduction == "mean":
        return total(values) / values.size
    return total(values) if reduction == "sum" else values


def reduce(values: Any, reduction: str) -> Any:
    """Reduce losses, Tensor or array, by public operations."""
    if reduction == "none":
        return values
    if reduction == "mean":
        return Mean.apply(values, dims=None, keepdim=False)
    return sum_to(values, ())


class PointLoss(Function):
    """A loss element by element, and its reduction, in one operation.

    A subclass gives the loss of two arrays (`value`) and its derivatives by both in
    public operations (`slopes`); both find the other parameters in ``self.params``.
    """

    promotes = "float"

    def forward(self, x: Any, y: Any, *, reduction: str, **params: Any) -> Any:
        """Return the reduced loss."""
        self.params = params
        # The factor by which each element's derivative enters.
        self.scale = 1 / x.size if reduction == "mean" else 1
        self.save_for_backward(x, y)
        return reduced(self.value(x, y), reduction)

    def backward(self, grad: Any) -> Any:
        """Return the derivatives, times the gradient."""
        x, y = self.saved
        if self.scale != 1:
            grad = grad * self.scale
        return self.slopes(grad, x, y)

    def value(self, x: Any, y: Any) -> Any:
        """Return the loss of each element."""
        raise NotImplementedError(f"{type(self).__name__} defines no value")

    def slopes(self, grad: Any, x: Any, y: Any) -> tuple[Any, Any]:
        """Return ``grad`` times the derivative by `x`, and by `y` where needed."""
        raise NotImplementedError(f"{type(self).__name__} defines no slopes")


def weighted(op: str, values: Any, weight: Any, reduction: str) -> Tensor:
    """Weight the losses; the mean divides by the sum of the weights."""
    check_same_shape(op, input=values, weight=weight)
    values = values * weight
    if reduction != "mean":
        return reduce(values, reduction)  # type: ignore[no-any-return]
    return sum_to(values, ()) / sum_to(weight, ())  # type: ignore[no-any-return]
