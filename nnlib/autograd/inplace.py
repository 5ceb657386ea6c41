"""In-place methods: compute, write into the tensor's memory, rewrite its history.

``x.mul_(y)`` is ``mul(x, y)`` written into ``x``'s memory; afterwards ``x`` is the
result of that node. Where ``x`` is a view, its base is rewritten too: it becomes the
result of a node that takes the old base outside the view and ``x`` inside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nnlib.autograd.function import Function
from nnlib.autograd.mode import state
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.dtypes import category
from nnlib.backend.errors import DTypeError, Error, ShapeError

__all__ = ["check_writable", "run_inplace", "write"]


def run_inplace(
    name: str, function: Callable[..., Any], target: Tensor, args: Any, kwargs: Any
) -> Tensor:
    """Run ``function(target, ...)`` and write its result into `target`."""
    check_writable(name, target)
    source = target
    if state.grad:
        source = _alias(target)
    result = function(source, *args, **kwargs)
    if not isinstance(result, Tensor):
        return NotImplemented
    _keep_old_value(result._grad_fn, source)
    return write(name, target, result)


def check_writable(name: str, target: Tensor) -> None:
    """Refuse to change a leaf that a recorded operation would need unchanged."""
    if not state.grad:
        return
    root = target if target._base is None else target._base
    if target._requires_grad and target._grad_fn is None:
        raise Error(
            f"{name}: a leaf that requires a gradient cannot be changed in place "
            "while operations are recorded; do it under no_grad()"
        )
    if target._replay and root._requires_grad and root._grad_fn is None:
        raise Error(
            f"{name}: a view of a leaf that requires a gradient cannot be changed in "
            "place while operations are recorded; do it under no_grad()"
        )


def write(name: str, target: Tensor, result: Tensor) -> Tensor:
    """Write `result` into `target`'s memory and give `target` its history."""
    new = result._array
    old = target._array
    if new.shape != old.shape:
        raise ShapeError(
            f"{name}: the result has shape {new.shape}, this tensor {old.shape}"
        )
    if new.dtype != old.dtype and category(new.dtype) > category(old.dtype):
        raise DTypeError(
            f"{name}: a result of dtype {new.dtype} cannot be written into a tensor "
            f"of dtype {old.dtype}"
        )
    if new.dtype != old.dtype and result._requires_grad:
        result = result.to(old.dtype)
        new = result._array
    array_module(old).copyto(old, new, casting="unsafe")
    target._bump()
    root = target if target._base is None else target._base
    recorded = state.grad and (result._requires_grad or root._requires_grad)
    if recorded and target._replay:
        _rebase(target, root, result)
    elif state.grad:
        target._grad_fn, target._index = result._grad_fn, result._index
        target._requires_grad = result._requires_grad
        target._rebased += 1
    return target


def _alias(target: Tensor) -> Tensor:
    """Return a tensor with the same memory and history, to be an op's argument."""
    alias = Tensor._from_array(target._array[...])
    alias._grad_fn, alias._index = target._grad_fn, target._index
    alias._requires_grad = target._requires_grad
    return alias


def _keep_old_value(node: Function | None, source: Tensor) -> None:
    """Give the node its own copy of the value that is about to be overwritten."""
    if node is None or not node._saved:
        return
    packed = []
    for entry in node._saved:
        if entry[1] is source:
            kept = entry[0].copy()
            source._array = kept if entry[0].dtype == source.dtype else source._array
            entry = (kept, source, source, source._version)
        packed.append(entry)
    node._saved = packed


class CopySlices(Function):
    """A base after one of its views was replaced: the old base outside it."""

    def forward(self, base: Any, value: Any, *, replay: Any) -> Any:
        """Return the base's array, which already holds the new values."""
        self.replay = replay
        return base[...]

    def backward(self, grad: Any) -> Any:
        """Split the gradient: outside the view to the base, inside to the value."""
        array = grad._array if isinstance(grad, Tensor) else grad
        mask = array_module(array).ones_like(array)
        region = take_again(mask, self.replay)
        region[...] = 0
        return grad * (mask if array is grad else Tensor._from_array(mask)), take_again(
            grad, self.replay
        )


def take_again(base: Any, replay: Any) -> Any:
    """Take a view of `base` (array or Tensor) by the recorded steps."""
    for cls, rest, params in replay:
        index = params.get("_output")
        plain = {key: value for key, value in params.items() if key != "_output"}
        base = cls.apply(base, *rest, **plain)
        if index is not None:
            base = base[index]
    return base


def _rebase(view: Tensor, root: Tensor, result: Tensor) -> None:
    before = _alias(root)
    after = CopySlices.apply(before, result, replay=view._replay)
    root._grad_fn, root._index = after._grad_fn, after._index
    root._requires_grad = after._requires_grad
    root._rebased += 1
    again = take_again(root, view._replay)
    view._grad_fn, view._index = again._grad_fn, again._index
    view._requires_grad = again._requires_grad
    view._birth = root._rebased
