"""`backward` and `grad`: what the user asks of a pass through the graph."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from nnlib.autograd.guarding import guarded
from nnlib.autograd.mode import set_grad_enabled, state
from nnlib.autograd.passes import from_hook, run_pass
from nnlib.autograd.saved import edge_of
from nnlib.autograd.sparse import RowSparse, is_row_sparse
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module, away, context_of
from nnlib.backend.errors import DTypeError, Error, ShapeError

__all__ = ["backward", "grad"]

# Two threads may reach the same leaves.
_accumulating = threading.Lock()
_ndarray = np.ndarray


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
        start = [(edge_of(output), value) for output, value in roots]
        found = run_pass(start, keep, create_graph)
        # Hooks run as the pass does: recorded or not.
        with set_grad_enabled(create_graph):
            for leaf, (value, owned) in found.items():
                if leaf._hooks:
                    value, owned = _leaf_hooks(leaf, value, create_graph), False
                _accumulate(leaf, value, owned, create_graph)
        return
    chosen = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    values = _captured(roots, chosen, keep, create_graph, name)
    with set_grad_enabled(create_graph):
        for tensor, caught in zip(chosen, values, strict=True):
            if caught is not None:
                plain = caught if create_graph else caught._array
                _accumulate(tensor, plain, False, create_graph)


@guarded
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
            array = tensor._array
            with context_of(array):
                zeros = array_module(array).zeros_like(array)
            value = Tensor._from_array(zeros)
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
    if state.modes.interpreter is not None:
        raise Error(f"{name}: not possible inside vmap; use nnlib.func.grad or vjp")
    outputs = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    if grads is None or isinstance(grads, Tensor) or hasattr(grads, "dtype"):
        grads = [grads] * len(outputs) if grads is None else [grads]
    if type(grads) is not list and not isinstance(grads, list | tuple):
        kind = type(grads).__name__
        raise DTypeError(f"{name}: gradient: expected Tensors, got {kind}")
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
            given = Tensor._from_array(_ones(array))
        elif not isinstance(given, Tensor):
            with context_of(array):
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


def _ones(array: Any) -> Any:
    if type(array) is _ndarray:
        return np.ones_like(array)
    with context_of(array):
        return array_module(array).ones_like(array)


def _captured(
    roots: list[tuple[Tensor, Any]],
    chosen: list[Tensor],
    retain_graph: bool,
    create_graph: bool,
    name: str,
) -> list[Tensor | None]:
    """Run the pass and catch the gradients of `chosen`, leaving ``grad`` alone."""
    edges = []
    for position, tensor in enumerate(chosen):
        if not isinstance(tensor, Tensor):
            raise DTypeError(
                f"{name}: input {position}: expected a Tensor, got "
                f"{type(tensor).__name__}"
            )
        if not tensor._requires_grad:
            raise Error(f"{name}: input {position} does not require a gradient")
        edges.append(edge_of(tensor))
    start = [(edge_of(output), value) for output, value in roots]
    found = run_pass(start, retain_graph, create_graph, set(edges))
    result: list[Tensor | None] = []
    for tensor, edge in zip(chosen, edges, strict=True):
        slot = found.get(edge)
        value = None if slot is None else slot[0]
        if value is not None and tensor._grad_fn is None and tensor._hooks:
            with set_grad_enabled(create_graph):
                value = _leaf_hooks(tensor, value, create_graph)
        if value is not None and not isinstance(value, Tensor):
            value = Tensor._from_array(value)
        result.append(value)
    return result


def _leaf_hooks(leaf: Tensor, value: Any, create_graph: bool) -> Any:
    for hook in list((leaf._hooks or {}).values()):
        changed = hook(value if isinstance(value, Tensor) else _wrap(value))
        if changed is not None:
            array = leaf._array
            value = from_hook(changed, array.shape, array.dtype, create_graph)
    return value


def _wrap(array: Any) -> Tensor:
    # NumPy computes a scalar, no array, from arrays without dimensions.
    return Tensor._from_array(
        np.asarray(array) if isinstance(array, np.generic) else array
    )


def _accumulate(leaf: Tensor, value: Any, owned: bool, create_graph: bool) -> None:
    """Add to the gradient of a leaf; run the hooks that wait for it."""
    if type(leaf._array) is not _ndarray and (there := away(leaf._array)) is not None:
        with there:
            _accumulate(leaf, value, owned, create_graph)
        return
    with _accumulating:
        previous = leaf._grad
        if create_graph:
            # A copy, also under this mode: the engine's value may be a broadcast one
            # that cannot be written to, or the gradient of another leaf as well.
            leaf._grad = value.clone() if previous is None else previous + value
        elif is_row_sparse(value):
            _accumulate_rows(leaf, previous, value)
        elif previous is None:
            leaf._grad = _wrap(value if owned else value.copy())
        elif previous._requires_grad or isinstance(previous, RowSparse):
            leaf._grad = _wrap(previous._array + value)
        else:
            previous._array += value
            previous._bump()
    for hook in list((leaf._post_hooks or {}).values()):
        hook(leaf)


def _accumulate_rows(leaf: Tensor, previous: Any, value: Any) -> None:
    """Add a row-sparse gradient to that of a leaf."""
    if previous is None:
        leaf._grad = value
    elif is_row_sparse(previous) or previous._requires_grad:
        total = value.plus(previous)
        leaf._grad = total if isinstance(total, Tensor) else _wrap(total)
    else:
        value.add_to(previous)
        previous._bump()
