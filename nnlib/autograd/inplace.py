"""In-place methods: compute, write into the tensor's memory, rewrite its history.

``x.mul_(y)`` is ``mul(x, y)`` written into ``x``'s memory; afterwards ``x`` is the
result of that node. Where ``x`` is a view, its base is rewritten too: it becomes the
result of a node that takes the old base outside the view and ``x`` inside, and other
views of it, taken before, refuse to be used (they would have the wrong history).

Four ways lead through here. `run_inplace` serves every operation declared with
``inplace=True``; where nothing is recorded, the arithmetic ones among them run as a
ufunc into the memory itself. `run_direct` serves operations whose ``forward`` changes
its first argument (an assignment to a few elements should not copy the rest).
`turn_inplace` (``x.t_()``) makes a tensor a view of its own memory: no value changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from nnlib.autograd.function import Function, next_sequence
from nnlib.autograd.mode import enable_grad, state
from nnlib.autograd.saved import keep_copy, spoil_output, stale_view
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module, away
from nnlib.backend.dtypes import category, float32, float64, int64
from nnlib.backend.errors import DTypeError, Error, ShapeError
from nnlib.backend.quiet import QUIET, restore_errors, set_errors

__all__ = [
    "check_writable",
    "is_plain",
    "run_direct",
    "run_inplace",
    "take_again",
    "turn_inplace",
    "write",
]

_UFUNCS = {
    "add_": "add",
    "sub_": "subtract",
    "mul_": "multiply",
    "div_": "divide",
    "__iadd__": "add",
    "__isub__": "subtract",
    "__imul__": "multiply",
    "__itruediv__": "divide",
}
_ndarray = np.ndarray
_FAST_DTYPES = frozenset({float32, float64, int64})


def run_inplace(
    name: str, function: Callable[..., Any], target: Tensor, args: Any, kwargs: Any
) -> Any:
    """Run ``function(target, ...)`` and write its result into `target`.

    Raises
    ------
    Error
        If `target` is a leaf that requires a gradient, or a view of one, while
        operations are recorded; or if its elements share memory (an expanded view).
    ShapeError
        If broadcasting would give the result another shape.
    DTypeError
        If the result is of a higher kind (float) than `target` (integer).
    """
    ufunc = _UFUNCS.get(name)
    if ufunc is not None and is_plain(target):
        recorded = state.modes.grad and _tracked(args)
        if not recorded and _run_ufunc(ufunc, target, args, kwargs):
            target._bump()
            return target
    if state.modes.interpreter is not None:
        run = state.modes.interpreter.run_inplace
        return run(name, function, target, args, kwargs)
    array = target._array
    if type(array) is not _ndarray and (there := away(array)) is not None:
        with there:
            return run_inplace(name, function, target, args, kwargs)
    check_writable(name, target)
    if not _is_recorded(target, args, kwargs):
        if ufunc is not None and _run_ufunc(ufunc, target, args, kwargs):
            _changed(target)
            return target
        result = function(target, *args, **kwargs)
        if not isinstance(result, Tensor):
            return NotImplemented
        return write(name, target, result)
    _check_way(name, target, (*args, *kwargs.values()))
    source = _alias(target)
    args = [source if x is target else x for x in args]
    start = next_sequence()
    result = function(source, *args, **kwargs)
    if not isinstance(result, Tensor):
        return NotImplemented
    if result._grad_fn is not None:
        keep_copy(result._grad_fn, source, start)
    return write(name, target, result)


def run_direct(
    name: str, cls: type[Function], target: Tensor, *args: Any, **params: Any
) -> Tensor:
    """Apply `cls`, whose ``forward`` changes its first array, to `target`.

    Such a ``forward`` returns the changed array and saves neither it nor the old
    values.
    """
    if state.modes.interpreter is not None:
        raise Error(
            f"{name}: not possible inside vmap; use where(), scatter() or another "
            "operation that returns a new tensor"
        )
    array = target._array
    if type(array) is not _ndarray and (there := away(array)) is not None:
        with there:
            return run_direct(name, cls, target, *args, **params)
    check_writable(name, target)
    if not _is_recorded(target, args, params):
        arrays = [x._array if isinstance(x, Tensor) else x for x in args]
        if all(type(x) is type(array) or not hasattr(x, "dtype") for x in arrays):
            errors = set_errors(QUIET)
            try:
                cls().forward(array, *arrays, **params)
            finally:
                restore_errors(errors)
        else:
            # The door says what is wrong with the devices.
            cls.apply(target, *args, **params)
        _changed(target)
        return target
    _check_way(name, target, args)
    source = _alias(target)
    result = cls.apply(source, *args, **params)
    return _adopt(target, result)


def turn_inplace(
    name: str, function: Callable[..., Any], target: Tensor, args: Any, kwargs: Any
) -> Tensor:
    """Make `target` the view ``function(target, ...)`` of its memory.

    It counts as a change: what was saved of it has the old shape. Views taken before
    go on where nothing is recorded, else they refuse to be used.

    Raises
    ------
    Error
        Inside vmap; or if `target` is a leaf that requires a gradient, or a view of
        one, while operations are recorded.
    """
    if state.modes.interpreter is not None:
        raise Error(
            f"{name}: not possible inside vmap; use {name.removesuffix('_')}(), which "
            "returns a new tensor"
        )
    _check_history(name, target)
    # No value changes: under no_grad, too, the history stays true by a step more.
    with enable_grad():
        view = function(_alias(target), *args, **kwargs)
    _changed(target)
    target._array = view._array
    if target._base is None:
        target._rebased += 1
    else:
        # A view stays one of its base; a stale one stays stale.
        target._replay += view._replay
    if target._grad_fn is not None:
        target._grad_fn, target._index = view._grad_fn, view._index
        _retain_again(target)
    return target


def is_plain(target: Tensor) -> bool:
    """Tell whether `target` may be overwritten at once: nothing else knows of it.

    No history, no base, nobody who watches: for such a tensor the short ways of
    `zero_`, `copy_` and the arithmetic methods only have to count the change, for it
    and its detached twins.
    """
    modes = state.modes
    array = target._array
    return (
        target._grad_fn is None
        and target._base is None
        and not (target._requires_grad and modes.grad)
        and modes.interpreter is None
        and modes.watcher is None
        and type(array) is np.ndarray
        and array.flags.writeable
    )


def check_writable(name: str, target: Tensor) -> None:
    """Refuse to change what must stay as it is; see `run_inplace`."""
    array = target._array
    if isinstance(array, np.ndarray) and not array.flags.writeable:
        raise Error(
            f"{name}: elements of this tensor of shape {array.shape} share memory "
            "(an expanded view) or the memory is read-only; change a copy (clone())"
        )
    _check_history(name, target)


def _check_history(name: str, target: Tensor) -> None:
    if not state.modes.grad:
        return
    if target._requires_grad and target._grad_fn is None:
        raise Error(
            f"{name}: a leaf that requires a gradient cannot be changed in place "
            "while operations are recorded; do it under no_grad()"
        )
    root = target._base
    if root is None:
        return
    if root._requires_grad and root._grad_fn is None:
        raise Error(
            f"{name}: a view of a leaf that requires a gradient cannot be changed in "
            "place while operations are recorded; do it under no_grad()"
        )
    if target._is_stale():
        raise stale_view(name)


def _check_way(name: str, target: Tensor, values: Iterable[Any]) -> None:
    """Refuse to record into a view of a tensor that has another shape since."""
    root = target._base
    if root is None or target._birth == root._rebased or not state.modes.grad:
        return
    if any(isinstance(x, Tensor) and x._requires_grad for x in values):
        raise stale_view(name)


def write(name: str, target: Tensor, result: Tensor) -> Tensor:
    """Write `result` into `target`'s memory and give `target` its history."""
    new = result._array
    old = target._array
    if new.shape != old.shape:
        raise ShapeError(
            f"{name}: the result has shape {new.shape}, this tensor {old.shape}"
        )
    if new.dtype != old.dtype:
        if category(new.dtype) > category(old.dtype):
            raise DTypeError(
                f"{name}: a result of dtype {new.dtype} cannot be written into a "
                f"tensor of dtype {old.dtype}"
            )
        if result._requires_grad:
            result = result.to(old.dtype)
            new = result._array
    old[...] = new
    return _adopt(target, result)


def _adopt(target: Tensor, result: Tensor) -> Tensor:
    """Make `target`, whose memory holds `result`'s values, the result of its node."""
    _changed(target)
    if not state.modes.grad:
        return target
    root = target._base
    if root is not None:
        if result._requires_grad or root._requires_grad:
            _rebase(target, root, result)
    elif result._requires_grad or target._requires_grad:
        target._grad_fn, target._index = result._grad_fn, result._index
        target._requires_grad = result._requires_grad
        target._rebased += 1
        _retain_again(target)
    return target


def _retain_again(tensor: Tensor) -> None:
    """Keep the gradient of what the tensor is now, if that of the old value was."""
    if tensor._retains:
        tensor._retains = False
        tensor.retain_grad()


def _changed(target: Tensor) -> None:
    """Count the change, and spoil what a node saved of its own output here."""
    target._bump()
    if target._grad_fn is not None:
        spoil_output(target._grad_fn, target._array)
    root = target._base
    if root is not None:
        spoil_output(root._grad_fn, root._array)


def _is_recorded(target: Tensor, args: Any, kwargs: Any) -> bool:
    modes = state.modes
    if modes.interpreter is not None or modes.watcher is not None:
        return True
    if not modes.grad:
        return False
    if target._requires_grad:
        return True
    if target._base is not None and target._base._requires_grad:
        return True
    if _tracked(args):
        return True
    if not kwargs:
        return False
    return any(isinstance(x, Tensor) and x._requires_grad for x in kwargs.values())


def _tracked(args: Any) -> bool:
    """Tell whether an argument may bring a history (a view may have become stale)."""
    for x in args:
        if isinstance(x, Tensor) and (x._requires_grad or x._base is not None):
            return True
    return False


def _run_ufunc(ufunc: str, target: Tensor, args: Any, kwargs: Any) -> bool:
    """Run an arithmetic method into the memory itself; say whether it fitted."""
    array = target._array
    if array.dtype not in _FAST_DTYPES or len(args) != 1:
        return False
    alpha = 1
    if kwargs:
        if len(kwargs) > 1 or "alpha" not in kwargs or ufunc in ("multiply", "divide"):
            return False
        alpha = kwargs["alpha"]
    other = args[0]
    if array.dtype is int64 and (type(alpha) is not int or ufunc == "divide"):
        return False
    if isinstance(other, Tensor):
        other = other._array
        if other.dtype != array.dtype or type(other) is not type(array):
            return False
    elif type(other) is not int and (type(other) is not float or array.dtype is int64):
        return False
    errors = set_errors(QUIET)
    try:
        if alpha != 1:
            other = other * alpha
        getattr(array_module(array), ufunc)(array, other, array)
    except (ValueError, OverflowError):
        return False
    finally:
        restore_errors(errors)
    return True


def _alias(target: Tensor) -> Tensor:
    """Return a tensor with the same memory and history, to be an op's argument."""
    alias = Tensor._from_array(target._array[...])
    alias._grad_fn, alias._index = target._grad_fn, target._index
    alias._requires_grad = target._requires_grad
    return alias


class ZeroRegion(Function):
    """A copy with zeros inside a view."""

    upcasts = False

    def forward(self, x: Any, *, replay: Any, order: tuple[int, ...]) -> Any:
        """Copy `x` in the memory order of the base, so that the view exists in it."""
        self.replay, self.order = replay, order
        inverse = sorted(range(x.ndim), key=order.__getitem__)
        shape = [x.shape[axis] for axis in order]
        copy = array_module(x).empty(shape, x.dtype).transpose(inverse)
        copy[...] = x
        take_again(copy, replay)[...] = 0
        return copy

    def backward(self, grad: Any) -> Any:
        """Do the same to the gradient (a projection is its own adjoint)."""
        return ZeroRegion.apply(grad, replay=self.replay, order=self.order)


class CopySlices(Function):
    """A base after one of its views was replaced: the old base outside it."""

    upcasts = False

    def forward(self, base: Any, value: Any, *, replay: Any) -> Any:
        """Return the base's array, which already holds the new values."""
        self.replay = replay
        self.order = tuple(sorted(range(base.ndim), key=lambda i: -base.strides[i]))
        return base[...]

    def backward(self, grad: Any) -> Any:
        """Split the gradient: outside the view to the base, inside to the value."""
        outside = inside = None
        if self.needs(0):
            outside = ZeroRegion.apply(grad, replay=self.replay, order=self.order)
        if self.needs(1):
            inside = take_again(grad, self.replay)
        return outside, inside


def take_again(base: Any, replay: Any) -> Any:
    """Take a view of `base` (array or Tensor) by the recorded steps."""
    for cls, rest, params, index in replay:
        base = cls.apply(base, *rest, **params)
        if index >= 0:
            base = base[index]
    return base


def _rebase(view: Tensor, root: Tensor, result: Tensor) -> None:
    before = _alias(root)
    after = CopySlices.apply(before, result, replay=view._replay)
    root._grad_fn, root._index = after._grad_fn, after._index
    root._requires_grad = after._requires_grad
    root._rebased += 1
    _retain_again(root)
    again = take_again(root, view._replay)
    view._grad_fn, view._index = again._grad_fn, again._index
    view._requires_grad = again._requires_grad
    view._birth = root._rebased
    _retain_again(view)
