"""The backward pass: iterative, in reverse order of recording.

A node is recorded after all nodes it depends on, so its sequence number is higher
than theirs: taking the highest number first from a heap visits every node after all
nodes that use it, without a look at the graph beforehand.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

import numpy as np

from nnlib.autograd.function import Function
from nnlib.autograd.mode import enable_grad, no_grad
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.dtypes import HALF
from nnlib.backend.errors import DTypeError, Error, ShapeError
from nnlib.backend.quiet import QUIET, restore_errors, set_errors

__all__ = ["backward", "grad"]


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Sequence[Tensor] | Tensor | None = None,
    *,
    name: str = "autograd.backward",
) -> None:
    """Accumulate gradients of `tensors` in the leaves they came from.

    Parameters
    ----------
    tensors : Tensor or sequence of Tensor
        What to differentiate.
    grad_tensors : Tensor or sequence of Tensor, optional
        The gradient of each; needed for those with more than one element.
    retain_graph, create_graph, inputs
        As in `Tensor.backward`.
    """
    roots = _roots(tensors, grad_tensors, create_graph, name)
    keep = create_graph if retain_graph is None else retain_graph
    if inputs is None:
        _run(roots, keep, create_graph)
        return
    chosen = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    for tensor, value in zip(
        chosen, _captured(roots, chosen, keep, create_graph, name), strict=True
    ):
        if value is not None:
            _accumulate(tensor, value, False, create_graph)


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    materialize_grads: bool = False,
) -> tuple[Any, ...]:
    """Return the gradients of `outputs` by `inputs`; ``grad`` of leaves stays.

    Parameters
    ----------
    outputs, inputs : Tensor or sequence of Tensor
        What to differentiate, and by what.
    grad_outputs : Tensor or sequence of Tensor, optional
        The gradient of each output; needed for those with more than one element.
    retain_graph : bool, optional
        Keep what was saved, for another pass; default `create_graph`.
    create_graph : bool, default False
        Record the pass itself, for higher derivatives.
    allow_unused : bool, optional
        Give None for an input that the outputs do not depend on, instead of an
        error; default `materialize_grads`.
    materialize_grads : bool, default False
        Give zeros for such an input.

    Returns
    -------
    tuple of Tensor
        One gradient per input.

    Examples
    --------
    >>> import nnlib
    >>> x = nnlib.tensor(3.0, requires_grad=True)
    >>> (dx,) = grad(x * x * x, x, create_graph=True)
    >>> grad(dx, x)
    (tensor(18.),)
    """
    name = "autograd.grad"
    roots = _roots(outputs, grad_outputs, create_graph, name)
    chosen = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    keep = create_graph if retain_graph is None else retain_graph
    found = _captured(roots, chosen, keep, create_graph, name)
    result = []
    for position, (tensor, value) in enumerate(zip(chosen, found, strict=True)):
        if value is None and materialize_grads:
            module = array_module(tensor._array)
            value = Tensor._from_array(module.zeros_like(tensor._array))
        if value is None and not allow_unused:
            raise Error(
                f"{name}: input {position} was not used to compute the outputs; pass "
                "allow_unused=True to get None for it"
            )
        result.append(value)
    return tuple(result)


def _roots(
    tensors: Tensor | Sequence[Tensor], grads: Any, create_graph: bool, name: str
) -> list[tuple[Tensor, Any]]:
    outputs = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    if grads is None or isinstance(grads, Tensor) or hasattr(grads, "dtype"):
        grads = [grads] * len(outputs) if grads is None else [grads]
    if len(grads) != len(outputs):
        raise ShapeError(
            f"{name}: {len(outputs)} outputs, but {len(grads)} gradients for them"
        )
    roots = []
    for output, given in zip(outputs, grads, strict=True):
        if not output._requires_grad:
            raise Error(
                f"{name}: this tensor does not require a gradient and has no history: "
                "nothing it was computed from has requires_grad=True"
            )
        array = output._array
        if given is None:
            if array.size != 1:
                raise ShapeError(
                    f"{name}: a gradient is implied only for a scalar; this tensor "
                    f"has shape {array.shape}: reduce it first (sum(), mean()) or "
                    "pass gradient="
                )
            given = Tensor._from_array(array_module(array).ones_like(array))
        elif not isinstance(given, Tensor):
            given = Tensor._from_array(array_module(array).asarray(given))
        if given._array.shape != array.shape:
            raise ShapeError(
                f"{name}: gradient: expected shape {array.shape}, got "
                f"{given._array.shape}"
            )
        if given._array.dtype != array.dtype:
            given = given.to(array.dtype)
        roots.append((output, given if create_graph else given._array))
    return roots


def _captured(
    roots: list[tuple[Tensor, Any]],
    chosen: list[Tensor],
    retain_graph: bool,
    create_graph: bool,
    name: str,
) -> list[Any]:
    """Run the pass and catch the gradients of `chosen`, leaving ``grad`` alone."""
    places: dict[tuple[int, int], list[int]] = {}
    for position, tensor in enumerate(chosen):
        if not tensor._requires_grad:
            raise Error(f"{name}: input {position} does not require a gradient")
        key = (id(tensor._grad_fn or tensor), tensor._index)
        places.setdefault(key, []).append(position)
    found: list[Any] = [None] * len(chosen)
    useful = _useful(roots, {key[0] for key in places})
    _run(roots, retain_graph, create_graph, places, found, useful)
    return [
        value if value is None or isinstance(value, Tensor) else _wrap(value)
        for value in found
    ]


def _wrap(array: Any) -> Tensor:
    return Tensor._from_array(array)


def _useful(roots: list[tuple[Tensor, Any]], targets: set[int]) -> set[int]:
    """Find the nodes from which a target can be reached (iterative post-order)."""
    useful: set[int] = set()
    seen: set[int] = set()
    stack: list[tuple[Any, bool]] = [
        (output._grad_fn, False) for output, _ in roots if output._grad_fn is not None
    ]
    while stack:
        node, expanded = stack.pop()
        children = [
            edge[0] if type(edge) is tuple else edge
            for edge in node.edges or ()
            if edge is not None
        ]
        if expanded:
            if any(id(child) in useful or id(child) in targets for child in children):
                useful.add(id(node))
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend(
                (child, False) for child in children if isinstance(child, Function)
            )
    return useful


def _run(*args: Any) -> None:
    """Run the pass without NumPy's floating-point warnings (one switch for all)."""
    errors = set_errors(QUIET)
    try:
        _pass(*args)
    finally:
        restore_errors(errors)


def _pass(
    roots: list[tuple[Tensor, Any]],
    retain_graph: bool,
    create_graph: bool,
    places: dict[tuple[int, int], list[int]] | None = None,
    found: list[Any] | None = None,
    useful: set[int] | None = None,
) -> None:
    heap: list[tuple[int, Function]] = []
    # Gradients under way: per node a list with one entry per output, each either
    # None or [gradient, whether the engine owns its memory].
    pending: dict[Function, list[Any]] = {}
    leaves: dict[Tensor, list[Any]] = {}

    def send(edge: Any, value: Any, owned: bool, sender: Any) -> None:
        index = 0
        if type(edge) is tuple:
            edge, index = edge
        if isinstance(edge, Function):
            if useful is not None and id(edge) not in useful and places is not None:
                if (id(edge), index) not in places and not any(
                    key[0] == id(edge) for key in places
                ):
                    return
            meta = edge.meta
            if type(meta) is list:
                meta = meta[index]
            slots = pending.get(edge)
            if slots is None:
                count = len(edge.meta) if type(edge.meta) is list else 1
                pending[edge] = slots = [None] * count
                heapq.heappush(heap, (-edge.sequence, edge))
        else:
            meta = (edge._array.shape, edge._array.dtype)
            slots = leaves.get(edge)
            if slots is None:
                leaves[edge] = slots = [None]
        if value.shape != meta[0] or value.dtype != meta[1]:
            value = _fit(value, meta, sender)
        slot = slots[index]
        if slot is None:
            slots[index] = [value, owned]
        elif create_graph:
            slot[0] = slot[0] + value
        elif slot[1]:
            slot[0] += value
        else:
            slot[0] = slot[0] + value
            slot[1] = True

    for output, value in roots:
        source = output._grad_fn
        edge = output if source is None else (source, output._index)
        send(edge, value, False, None)

    mode = enable_grad() if create_graph else no_grad()
    with mode:
        while heap:
            node = heapq.heappop(heap)[1]
            slots = pending.pop(node)
            grads = [None if slot is None else slot[0] for slot in slots]
            if node.hooks:
                _call_hooks(node, grads, create_graph)
            if places is not None and found is not None:
                _capture(node, grads, places, found)
                if useful is not None and id(node) not in useful:
                    continue
            edges = node.edges
            results = _call_backward(node, grads, create_graph)
            if edges is None:
                continue
            fresh = node._builtin and not create_graph
            only = grads[0] if len(grads) == 1 else None
            for position, edge in enumerate(edges):
                if edge is None:
                    continue
                value = results[position] if position < len(results) else None
                if value is None:
                    continue
                owned = (
                    fresh
                    and value is not only
                    and value.base is None
                    and not (len(results) > 1 and _repeated(results, position))
                )
                send(edge, value, owned, node)
            if not retain_graph:
                node._saved = None
                node.edges = None

    for leaf, (slot,) in leaves.items():
        value, owned = slot
        if leaf._hooks:
            value = _leaf_hooks(leaf, value, create_graph)
            owned = False
        if places is not None and found is not None:
            for position in places.get((id(leaf), 0), ()):
                found[position] = value
            continue
        _accumulate(leaf, value, owned, create_graph)


def _repeated(results: Sequence[Any], position: int) -> bool:
    value = results[position]
    return any(
        other is value for index, other in enumerate(results) if index != position
    )


def _call_backward(node: Function, grads: list[Any], create_graph: bool) -> Any:
    """Hand a node its gradients and what it saved; return a tuple of gradients."""
    if node.edges is None:
        raise Error(
            f"{node.name()}: backward a second time through a graph that was freed; "
            "pass retain_graph=True to the first backward"
        )
    if len(grads) > 1 and node.materialize_grads:
        like = next(value for value in grads if value is not None)
        grads = [
            _zeros(meta, like, create_graph) if value is None else value
            for value, meta in zip(grads, node.meta, strict=True)
        ]
    packed = node._saved
    if packed:
        node._saved = _unpack(node, packed, create_graph)
    try:
        if node._sees_tensors and not create_graph:
            results = node.backward(*(x if x is None else _wrap(x) for x in grads))
        elif node.half and not create_graph:
            results = node.backward(*(_widen(value) for value in grads))
        else:
            results = node.backward(*grads)
    finally:
        node._saved = packed
    if type(results) is not tuple:
        results = tuple(results) if isinstance(results, list) else (results,)
    if node._sees_tensors and not create_graph:
        results = tuple(x._array if isinstance(x, Tensor) else x for x in results)
    if node.origin is not None:
        node.origin.check_backward(node, results)
    return results


def _widen(value: Any) -> Any:
    if value is not None and value.dtype in HALF and isinstance(value, np.ndarray):
        return value.astype(np.float32)
    return value


def _zeros(meta: Any, like: Any, create_graph: bool) -> Any:
    array = like._array if isinstance(like, Tensor) else like
    zeros = array_module(array).zeros(meta[0], meta[1])
    return _wrap(zeros) if create_graph else zeros


def _unpack(node: Function, packed: Any, create_graph: bool) -> tuple[Any, ...]:
    values = []
    for array, owner, root, version in packed:
        if root is not None and root._version != version:
            raise Error(
                f"{node.name()}: a value of shape {array.shape} saved for backward was "
                f"changed in place (version {root._version}, saved at {version}); "
                "change a copy (clone()) instead"
            )
        if isinstance(owner, Tensor):
            values.append(owner if create_graph or node._sees_tensors else array)
        elif (create_graph or node._sees_tensors) and hasattr(array, "dtype"):
            values.append(_output_tensor(node, array, owner))
        else:
            values.append(array)
    return tuple(values)


def _output_tensor(node: Function, array: Any, index: int | None) -> Tensor:
    """Make a saved output a Tensor again, tied to the node that computed it."""
    result = _wrap(array)
    if index is not None:
        meta = node.meta[index] if type(node.meta) is list else node.meta
        if array.dtype != meta[1]:
            result = _wrap(array.astype(meta[1]))
        result._grad_fn, result._index, result._requires_grad = node, index, True
    return result


def _fit(value: Any, meta: Any, sender: Any) -> Any:
    name = "gradient" if sender is None else f"{sender.name()}.backward"
    if value.shape != meta[0]:
        raise ShapeError(
            f"{name}: a gradient has shape {tuple(value.shape)}, the input it belongs "
            f"to has {meta[0]}"
        )
    if sender is not None and not sender.half and meta[1] not in HALF:
        raise DTypeError(
            f"{name}: a gradient has dtype {value.dtype}, the input it belongs to has "
            f"{meta[1]}"
        )
    return value.to(meta[1]) if isinstance(value, Tensor) else value.astype(meta[1])


def _call_hooks(node: Function, grads: list[Any], create_graph: bool) -> None:
    for hook in list((node.hooks or {}).values()):
        wrapped = [
            x if x is None or isinstance(x, Tensor) else _wrap(x) for x in grads
        ]
        hook(wrapped)
        for index, value in enumerate(wrapped):
            if value is not None:
                grads[index] = value if create_graph else value._array


def _leaf_hooks(leaf: Tensor, value: Any, create_graph: bool) -> Any:
    for hook in list((leaf._hooks or {}).values()):
        wrapped = value if isinstance(value, Tensor) else _wrap(value)
        changed = hook(wrapped)
        if changed is not None:
            value = changed if create_graph else changed._array
    return value


def _capture(node: Function, grads: Any, places: Any, found: list[Any]) -> None:
    for index, value in enumerate(grads):
        for position in places.get((id(node), index), ()):
            found[position] = value


def _accumulate(leaf: Tensor, value: Any, owned: bool, create_graph: bool) -> None:
    previous = leaf._grad
    if isinstance(value, Tensor) and not create_graph:
        value = value._array
    if create_graph:
        leaf._grad = value if previous is None else previous + value
    elif previous is None:
        leaf._grad = _wrap(value if owned else value.copy())
    else:
        previous._array += value
        previous._bump()
    for hook in list((leaf._post_hooks or {}).values()):
        hook(leaf)
