"""What a node keeps for its backward pass, and the ties between views and bases.

Beside each saved array stands its owner: the input Tensor that the array belongs to;
for an output a pair ``(index, counter)``; anything else for a constant. The owners'
counts of in-place changes, added up, are kept as well: they only grow, so that an
equal sum means that nothing was changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from nnlib.autograd.halves import widen
from nnlib.autograd.registry import op_name
from nnlib.autograd.tensor import TENSOR_TYPES, Tensor
from nnlib.backend.dtypes import FLOATING
from nnlib.backend.errors import Error

if TYPE_CHECKING:
    from nnlib.autograd.function import Function

__all__ = [
    "FIRST_OUTPUT",
    "count_changes",
    "edge_of",
    "keep_copy",
    "mark_view",
    "pack",
    "raise_freed",
    "raise_stale",
    "spoil_output",
    "stale_view",
    "unpack",
]


# The owners of what a node saved, where that is its (only) output.
FIRST_OUTPUT = ((0, None),)


def edge_of(x: Tensor) -> Any:
    """Return where the gradient of `x` goes: a leaf, a node, or (node, output)."""
    source = x._grad_fn
    if source is None:
        return x
    return (source, x._index) if x._index else source


def pack(
    node: Function, args: Any, arrays: Sequence[Any], out: Any, entangled: bool
) -> None:
    """Note to whom each saved array belongs, and how often it was changed so far.

    `entangled` tells whether any argument may have been changed at all.
    """
    owners: list[Any] = []
    for value in node._saved:
        owner: Any = None
        if value is out:
            owner = (0, None)
        elif value is not None:
            position = 0
            for array in arrays:
                if array is value:
                    owner = args[position]
                    break
                position += 1
            else:
                if type(out) is tuple:
                    owner = _output_among(value, out)
        owners.append(owner)
    node._owners = owners
    if entangled:
        node._changes = count_changes(owners)


def _output_among(value: Any, out: tuple[Any, ...]) -> tuple[int, None] | None:
    for index, item in enumerate(out):
        if item is value:
            return (index, None)
    return None


def count_changes(owners: Sequence[Any]) -> int:
    """Add up how often the memory of these owners was changed in place."""
    changes = 0
    for x in owners:
        if type(x) in TENSOR_TYPES:
            if x._entangled:
                changes += x._holder()._version
        elif type(x) is tuple and x[1] is not None:
            changes += x[1]._version
    return changes


def unpack(node: Function, derived: bool) -> tuple[Any, ...]:
    """Return what a node saved: arrays, or Tensors for a pass that is recorded.

    Raises
    ------
    Error
        If a saved value was changed in place since, or the graph was freed.
    """
    saved: tuple[Any, ...] | None = node._saved
    if saved is None:
        raise_freed(node)
    owners = node._owners
    if not owners:
        # An operation on raw arrays, or one that was not recorded.
        return saved
    if count_changes(owners) != node._changes:
        _raise_changed(node)
    if not derived:
        return tuple(map(widen, saved)) if node.half else saved
    values = []
    for array, owner in zip(saved, owners, strict=True):
        if isinstance(owner, Tensor):
            values.append(owner)
        elif type(owner) is tuple:
            values.append(_output_tensor(node.whole or node, array, owner[0]))
        elif hasattr(array, "dtype"):
            plain = np.asarray(array) if isinstance(array, np.generic) else array
            values.append(Tensor._from_array(plain))
        else:
            values.append(array)
    return tuple(values)


def _output_tensor(node: Function, array: Any, index: int) -> Tensor:
    """Make a saved output a Tensor again, tied to the node that computed it."""
    meta = node.meta[index] if type(node.meta) is list else node.meta
    if isinstance(array, np.generic):
        array = np.asarray(array)
    if array.dtype != meta[1]:
        array = array.astype(meta[1])
    result = Tensor._from_array(array)
    if meta[1] in FLOATING:
        result._grad_fn, result._index, result._requires_grad = node, index, True
    return result


def keep_copy(node: Function, source: Tensor, start: int) -> None:
    """Give nodes their own copy of the value of `source`, about to be overwritten.

    `source` stands for the old value; it and its views are known to `node` alone and
    to those below it that were recorded after number `start`: an operation may be
    composed of others.
    """
    copies: dict[int, tuple[Any, Any]] = {}
    seen: set[Any] = set()
    stack: list[Any] = [node]
    while stack:
        edge = stack.pop()
        node = edge[0] if type(edge) is tuple else edge
        if type(node) in TENSOR_TYPES or node in seen or node.sequence <= start:
            continue
        seen.add(node)
        stack.extend(edge for edge in node.edges or () if edge is not None)
        values = list(node._saved)
        for place, (value, owner) in enumerate(zip(values, node._owners, strict=False)):
            if type(owner) not in TENSOR_TYPES:
                continue
            if owner is source or owner._base is source:
                if id(value) not in copies:
                    # The old array as well: its id must stay taken.
                    copies[id(value)] = value, value.copy()
                    owner._array = copies[id(value)][1]
                values[place] = copies[id(value)][1]
        node._saved = tuple(values)


def spoil_output(node: Function | None, memory: Any) -> None:
    """Note that the memory of an output was changed: what was saved of it is lost."""
    if node is None or not node._saved:
        return
    for value, owner in zip(node._saved, node._owners, strict=True):
        if value is memory and type(owner) is tuple and owner[1] is None:
            node._changes = -1


def mark_view(
    cls: type[Function], out: Tensor, args: Any, params: Any, index: int = -1
) -> None:
    """Tie a view to the tensor that owns its memory, with the way to take it again.

    `index` is its place among several outputs; -1 for an only one.
    """
    source = args[0]
    if type(source) not in TENSOR_TYPES:
        return
    mine, its = out._array, source._array
    if mine is its:
        out._array = mine = its[...]
    memory = mine.base
    # NumPy names the array that owns the memory, or the one the view was taken of.
    while memory is not its and (memory is None or memory is not its.base):
        if memory is None:
            return
        # A view by strides hangs on an object of NumPy's in between.
        memory = getattr(memory, "base", None)
    step = (cls, args[1:], params, index)
    root = source._base
    if root is None:
        out._base = root = source
        out._replay = (step,)
    else:
        out._base = root
        out._replay = (*source._replay, step)
    out._birth = root._rebased
    out._entangled = True


def stale_view(name: str) -> Error:
    """Return the refusal of a view whose base has another history or shape since."""
    return Error(
        f"{name}: this view was taken before its base was changed in place by a "
        "recorded operation or given another shape; take the view again"
    )


def raise_stale(cls: type[Function]) -> NoReturn:
    """Refuse a view whose base was given another history since."""
    raise stale_view(op_name(cls.__name__))


def raise_freed(node: Function) -> NoReturn:
    """Refuse a second pass through a graph that was freed."""
    raise Error(
        f"{node.name()}: backward a second time through a graph that was freed; "
        "pass retain_graph=True to the first backward"
    )


def _raise_changed(node: Function) -> NoReturn:
    shapes = [
        np.shape(value)
        for value, owner in zip(node._saved, node._owners, strict=True)
        if isinstance(owner, Tensor | tuple)
    ]
    which = (
        f"a value of shape {shapes[0]}"
        if len(shapes) == 1
        else f"one of the values (shapes {', '.join(map(str, shapes))})"
    )
    raise Error(
        f"{node.name()}: {which} saved for backward was changed in place; change a "
        "copy (clone()) instead"
    )
