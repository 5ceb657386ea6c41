"""One backward pass: iterative, in reverse order of recording.

A node is recorded after all nodes it depends on, so its sequence number is higher
than theirs: taking the highest number first from a heap visits every node after all
nodes that use it, without a look at the graph beforehand.

Gradients under way lie in one dictionary, by where they go: an *edge* is a leaf
Tensor, a node (its first output), or a pair ``(node, output)``. When the heap is
empty, what is left there belongs to the leaves.
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from nnlib.autograd.function import Function
from nnlib.autograd.halves import widen
from nnlib.autograd.mode import state
from nnlib.autograd.saved import raise_freed
from nnlib.autograd.sparse import is_row_sparse
from nnlib.autograd.sums import add_into, sum_of, use_device_of_any
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import ARRAYS, array_module, keeping_device
from nnlib.backend.dtypes import HALF
from nnlib.backend.errors import DTypeError, Error, ShapeError
from nnlib.backend.quiet import QUIET, restore_errors, set_errors

__all__ = ["from_hook", "run_pass"]

_new = object.__new__
_ndarray = np.ndarray
_references = sys.getrefcount


def _count_alone() -> int:
    results = (np.empty(0),)
    value = results[0]
    return _references(value)


# How many references an array has that nobody knows but a node's tuple of results
# and one variable. Such an array is the engine's own: it may add to it in place,
# unless somebody else knows the tuple.
_ALONE = _count_alone()


def _count_results() -> int:
    results = (np.empty(0),)
    return _references(results)


_RESULTS_ALONE = _count_results()


def _memory_is_its_own(value: Any) -> bool:
    """Tell whether nobody else sees the memory of an array that nobody else holds.

    A view may be all that is left of its base: images are permuted views.
    """
    base = value.base
    plain = type(value) is _ndarray
    if base is None:
        return not plain or bool(value.flags.writeable)
    return (
        type(base) is type(value)
        and base.base is None
        and base.size == value.size
        and base.dtype is value.dtype
        and (not plain or value.flags.writeable)
        and _references(base) == _BASE_ALONE
    )


def _count_base() -> int:
    value = np.empty(2)[::-1]
    base = value.base
    return _references(base)


# How many references the base of a single view has, one variable among them.
_BASE_ALONE = _count_base()


def run_pass(
    roots: Sequence[tuple[Any, Any]],
    retain_graph: bool,
    create_graph: bool,
    targets: set[Any] | None = None,
    oldest: int = 0,
) -> dict[Any, list[Any]]:
    """Send gradients from `roots` through the graph.

    Parameters
    ----------
    roots : sequence of (edge, gradient)
        Arrays, or Tensors if `create_graph`.
    retain_graph : bool
        Keep what the nodes saved.
    create_graph : bool
        Record the pass itself.
    targets : set of edges, optional
        Stop at these and run nothing that does not lead to one; by default the pass
        goes to all leaves.
    oldest : int, optional
        With `targets`: run no node recorded before this sequence number.

    Returns
    -------
    dict
        For each target (or leaf) that was reached, a list ``[gradient, owned]``:
        `owned` tells whether nobody else holds the array.
    """
    modes = state.modes
    before = modes.grad, modes.derived, modes.interpreter
    modes.grad = modes.derived = create_graph
    modes.interpreter = None
    errors = set_errors(QUIET)
    several = keeping_device() if len(ARRAYS) > 1 else None
    try:
        made = _Pass(retain_graph, create_graph, targets, several is not None)
        if several is None:
            return made.run(roots, oldest)
        with several:
            return made.run(roots, oldest)
    finally:
        restore_errors(errors)
        modes.grad, modes.derived, modes.interpreter = before


class _Pass:
    """The gradients under way, and the nodes that wait for their turn."""

    __slots__ = (
        *("derived", "found", "heap", "keep", "pending", "reaching", "several"),
        "targets",
    )

    def __init__(
        self,
        retain_graph: bool,
        create_graph: bool,
        targets: set[Any] | None,
        several: bool,
    ) -> None:
        self.keep, self.derived, self.targets = retain_graph, create_graph, targets
        # Whether the nodes may be on several CUDA devices.
        self.several = several
        self.pending: dict[Any, list[Any]] = {}
        self.heap: list[tuple[int, Function]] = []
        self.found: dict[Any, list[Any]] = {}
        self.reaching: set[Function] = set()

    def run(
        self, roots: Sequence[tuple[Any, Any]], oldest: int
    ) -> dict[Any, list[Any]]:
        targets = self.targets
        if targets is not None:
            start = [edge for edge, _ in roots]
            self.reaching = _reaching(start, targets, oldest)
        for edge, value in roots:
            self.send(edge, value, False, None)
        heap = self.heap
        while heap:
            node = heapq.heappop(heap)[1]
            grads = self.collect(node)
            if targets is not None and node not in self.reaching:
                continue
            acting = node if targets is None else self.narrowed(node)
            edges = acting.edges
            if node._saved is None or edges is None:
                raise_freed(node)
            results = _call_backward(acting, grads, self.derived)
            if len(results) < len(edges):
                _check_count(node, results, edges)
            count = len(results)
            fresh = _references(results) == _RESULTS_ALONE
            for position, edge in enumerate(edges):
                if edge is None or position >= count:
                    continue
                value = results[position]
                if value is None:
                    continue
                owned = fresh and _references(value) == _ALONE
                self.send(edge, value, owned, node)
            if not self.keep and node._saved:
                # A node that saved nothing can serve another pass.
                node._saved = node._owners = node.edges = None
            # Nothing of this node must live on during the next one.
            results = value = None
        self.found.update(self.pending)
        return self.found

    def send(self, edge: Any, value: Any, owned: bool, sender: Any) -> None:
        """Add a gradient to what waits at `edge`."""
        node, index = edge if type(edge) is tuple else (edge, 0)
        if self.targets is not None:
            if node not in self.reaching and edge not in self.targets:
                return
        slot = self.pending.get(edge)
        if isinstance(node, Function):
            if slot is None:
                self.schedule(node)
            meta = node.meta
            shape, dtype = meta[index] if type(meta) is list else meta
        else:
            array = node._array
            shape, dtype = array.shape, array.dtype
        if type(value) is not _ndarray:
            if is_row_sparse(value) and not isinstance(node, Function):
                self.pending[edge] = [value if slot is None else value.plus(slot[0]), 0]
                return
            value = _as_gradient(value, self.derived, sender)
        if value.shape != shape or value.dtype is not dtype:
            value = _fit(value, shape, dtype, sender)
        if owned:
            owned = not self.derived and _memory_is_its_own(value)
        if slot is None:
            self.pending[edge] = [value, owned]
        elif slot[1]:
            slot[0] = add_into(slot[0], value)
        elif is_row_sparse(slot[0]):
            slot[:] = slot[0].plus(value), True
        elif owned and type(value) is type(slot[0]):
            # What came first belongs to others as well (both sides of a sum).
            slot[:] = add_into(value, slot[0]), True
        else:
            total = sum_of(slot[0], value)
            # NumPy adds arrays without dimensions up to a scalar.
            slot[0] = np.asarray(total) if isinstance(total, np.generic) else total
            slot[1] = not self.derived

    def schedule(self, node: Function) -> None:
        """Put a node among those that wait, unless another output's gradient did."""
        if type(node.meta) is list:
            for index in range(len(node.meta)):
                if ((node, index) if index else node) in self.pending:
                    return
        heapq.heappush(self.heap, (-node.sequence, node))

    def collect(self, node: Function) -> list[Any]:
        """Take a node's gradients out of the dictionary, one per output."""
        if type(node.meta) is list:
            slots = [
                self.pending.pop((node, index) if index else node, None)
                for index in range(len(node.meta))
            ]
            grads = [None if slot is None else slot[0] for slot in slots]
        else:
            grads = [self.pending.pop(node)[0]]
        if self.several:
            use_device_of_any(grads)
        if node.hooks:
            _call_hooks(node, grads, self.derived)
        if self.targets is not None:
            for index, value in enumerate(grads):
                edge = (node, index) if index else node
                if value is not None and edge in self.targets:
                    self.found[edge] = [value, False]
        return grads

    def narrowed(self, node: Function) -> Function:
        """Return a twin of `node` without the edges that lead to no target.

        Its backward then computes no gradient that nobody asked for.
        """
        targets = self.targets or ()
        edges = [
            edge
            if edge is not None
            and (
                edge in targets
                or (edge[0] if type(edge) is tuple else edge) in self.reaching
            )
            else None
            for edge in node.edges or ()
        ]
        if all(a is b for a, b in zip(edges, node.edges or (), strict=True)):
            return node
        twin = _new(type(node))
        twin.__dict__.update(node.__dict__)
        twin.edges, twin.whole = edges, node
        return twin


def _reaching(roots: Sequence[Any], targets: set[Any], oldest: int) -> set[Function]:
    """Find the nodes from which a target can be reached (iterative post-order)."""
    reaching: set[Function] = set()
    seen: set[Function] = set()
    stack: list[tuple[Any, bool]] = [
        (edge[0] if type(edge) is tuple else edge, False) for edge in roots
    ]
    while stack:
        node, expanded = stack.pop()
        if not isinstance(node, Function) or node.sequence < oldest:
            continue
        if expanded:
            for edge in node.edges or ():
                below = edge[0] if type(edge) is tuple else edge
                if edge is not None and (edge in targets or below in reaching):
                    reaching.add(node)
                    break
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            for edge in node.edges or ():
                stack.append((edge[0] if type(edge) is tuple else edge, False))
    return reaching


def _call_backward(node: Function, grads: list[Any], derived: bool) -> Any:
    """Hand a node its gradients; return a tuple of gradients."""
    if len(grads) > 1 and node.materialize_grads:
        like = next(value for value in grads if value is not None)
        grads = [
            _zeros(meta, like, derived) if value is None and meta else value
            for value, meta in zip(grads, node.meta, strict=True)
        ]
    try:
        if derived:
            results = node.backward(*grads)
        elif node._sees_tensors:
            results = node.backward(*(x if x is None else _wrap(x) for x in grads))
        elif node.half:
            results = node.backward(*(widen(value) for value in grads))
        else:
            results = node.backward(*grads)
    except Exception as error:
        if node.origin is not None:
            node.origin.explain(node, error)
        raise
    if type(results) is not tuple:
        results = tuple(results) if isinstance(results, list) else (results,)
    if node.origin is not None:
        node.origin.check_backward(node, results)
    return results


def _check_count(node: Function, results: Sequence[Any], edges: list[Any]) -> None:
    """Refuse fewer gradients than arguments, where a missing one is wanted."""
    if any(edge is not None for edge in edges[len(results) :]):
        raise Error(
            f"{node.name()}.backward: returned {len(results)} gradients, forward has "
            f"{len(edges)} arguments"
        )


def _wrap(array: Any) -> Tensor:
    return Tensor._from_array(
        np.asarray(array) if isinstance(array, np.generic) else array
    )


def _as_gradient(value: Any, derived: bool, sender: Any) -> Any:
    """Bring what a node returned into the form of this pass."""
    if type(value) in ARRAYS:
        return _wrap(value) if derived else value
    if isinstance(value, Tensor):
        return value if derived else value._array
    if isinstance(value, np.generic | int | float):
        value = np.asarray(value)
    elif not hasattr(value, "dtype"):
        raise DTypeError(
            f"{sender.name()}.backward: expected an array or a Tensor as gradient, got "
            f"{type(value).__name__}"
        )
    return _wrap(value) if derived else value


def _zeros(meta: Any, like: Any, derived: bool) -> Any:
    array = like._array if isinstance(like, Tensor) else like
    zeros = array_module(array).zeros(meta[0], meta[1])
    return _wrap(zeros) if derived else zeros


def _fit(value: Any, shape: Any, dtype: Any, sender: Any) -> Any:
    """Raise unless a gradient fits its input; 16-bit floats are rounded to fit."""
    name = "gradient" if sender is None else f"{sender.name()}.backward"
    if value.shape != shape:
        raise ShapeError(
            f"{name}: a gradient has shape {tuple(value.shape)}, the input it belongs "
            f"to has {shape}"
        )
    if value.dtype == dtype:
        return value
    if sender is not None and not sender.half and dtype not in HALF:
        raise DTypeError(
            f"{name}: a gradient has dtype {value.dtype}, the input it belongs to has "
            f"{dtype}"
        )
    return value.to(dtype) if isinstance(value, Tensor) else value.astype(dtype)


def _call_hooks(node: Function, grads: list[Any], derived: bool) -> None:
    for hook in list((node.hooks or {}).values()):
        wrapped = [x if x is None or isinstance(x, Tensor) else _wrap(x) for x in grads]
        hook(wrapped)
        for index, value in enumerate(wrapped):
            if value is not None:
                meta = node.meta[index] if type(node.meta) is list else node.meta
                grads[index] = from_hook(value, meta[0], meta[1], derived)


def from_hook(changed: Any, shape: Any, dtype: Any, derived: bool) -> Any:
    """Check what a hook put in the place of a gradient."""
    if not isinstance(changed, Tensor) or changed._array.shape != shape:
        found = getattr(changed, "shape", None)
        raise ShapeError(
            f"hook: expected a gradient of shape {shape}, got "
            f"{type(changed).__name__ if found is None else tuple(found)}"
        )
    if changed._array.dtype != dtype:
        raise DTypeError(
            f"hook: expected a gradient of dtype {dtype}, got {changed._array.dtype}"
        )
    return changed if derived else changed._array
