"""Trade time for memory: forget what a part of the graph saved, recompute it later."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

from nnlib.autograd.function import Function, next_sequence
from nnlib.autograd.mode import enable_grad, state
from nnlib.autograd.passes import run_pass
from nnlib.autograd.saved import edge_of, unpack
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ArgumentError, Error
from nnlib.backend.random import default_generator

__all__ = ["checkpoint", "checkpoint_sequential", "outer_edges"]


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    preserve_rng_state: bool = True,
    use_reentrant: bool | None = None,
    **kwargs: Any,
) -> Any:
    """Run ``function(*args, **kwargs)`` without keeping its intermediate values.

    Backward runs `function` once more to have them back; between the two only the
    arguments are kept. Tensors that `function` reaches otherwise (a module's
    parameters) get their gradients too, and checkpoints may be nested.

    Parameters
    ----------
    function : callable
        Returns a Tensor or a tuple with Tensors. It must do the same thing each time
        that it is called.
    *args, **kwargs
        Its arguments.
    preserve_rng_state : bool, default True
        Draw the same random numbers the second time, so that dropout repeats.
    use_reentrant : bool, optional
        Kept for PyTorch's signature; there is one way here, and it behaves like
        PyTorch's ``use_reentrant=False``.

    Returns
    -------
    Tensor or tuple
        What `function` returned.

    Raises
    ------
    Error
        In backward, if the second run returned other shapes than the first.

    Notes
    -----
    Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016.

    Examples
    --------
    >>> import nnlib
    >>> x = nnlib.tensor([1.0, 2.0], requires_grad=True)
    >>> checkpoint(lambda x: (x * x).exp(), x).sum().backward()
    """
    if not state.modes.grad:
        return function(*args, **kwargs)
    before = default_generator.get_state() if preserve_rng_state else None
    start = next_sequence()
    made = function(*args, **kwargs)
    outputs = list(made) if isinstance(made, tuple | list) else [made]
    places = [
        i for i, x in enumerate(outputs) if isinstance(x, Tensor) and x.requires_grad
    ]
    if not places:
        return made
    node = Checkpoint()
    node.run, node.places, node.random = (function, args, kwargs), places, before
    # Here the graph of the first run is let go: its outer ends become the node's edges.
    node.edges = outer_edges([outputs[i] for i in places], start)
    node.sequence = next_sequence()
    node.meta = [(outputs[i]._array.shape, outputs[i]._array.dtype) for i in places]
    tensors = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]
    node.guard(tensors)
    for index, place in enumerate(places):
        result = Tensor._from_array(outputs[place]._array)
        result._grad_fn, result._index, result._requires_grad = node, index, True
        outputs[place] = result
    if isinstance(made, Tensor):
        return outputs[0]
    if hasattr(made, "_fields"):
        return type(made)(*outputs)
    return type(made)(outputs)


def checkpoint_sequential(
    functions: Iterable[Callable[..., Any]],
    segments: int,
    input: Any,
    preserve_rng_state: bool = True,
    use_reentrant: bool | None = None,
) -> Any:
    """Run `functions` in turn, in `segments` parts, all but the last a `checkpoint`.

    Parameters
    ----------
    functions : Sequential, or iterable of callables
        Each takes what the one before it returned.
    segments : int
        The number of parts, about equally long; about the square root of the number of
        functions needs the least memory.
    input : Tensor
        For the first.
    preserve_rng_state, use_reentrant
        See `checkpoint`.

    Raises
    ------
    ArgumentError
        If `segments` is not between 1 and the number of functions.

    Examples
    --------
    >>> import nnlib
    >>> layers = nnlib.nn.Sequential(*[nnlib.nn.Linear(2, 2) for _ in range(4)])
    >>> checkpoint_sequential(layers, 2, nnlib.ones(1, 2)).sum().backward()
    """
    steps = list(functions)
    if not 1 <= segments <= len(steps):
        raise ArgumentError(
            f"checkpoint_sequential: segments: expected 1 to {len(steps)} for as many "
            f"functions, got {segments}"
        )
    length = len(steps) // segments
    last = length * (segments - 1)

    def run(part: list[Callable[..., Any]], x: Any) -> Any:
        for step in part:
            x = step(x)
        return x

    for start in range(0, last, length):
        input = checkpoint(
            functools.partial(run, steps[start : start + length]),
            input,
            preserve_rng_state=preserve_rng_state,
            use_reentrant=use_reentrant,
        )
    return run(steps[last:], input)


class Checkpoint(Function):
    """The node that stands for a part of the graph and computes it anew."""

    run: Any = None
    places: Any = ()
    random: Any = None

    def guard(self, tensors: list[Tensor]) -> None:
        """Have a change in place of an argument noticed."""
        self._saved = tuple(x._array for x in tensors)
        self._owners = tensors
        self._changes = sum(x.version for x in tensors)

    def backward(self, *grads: Any) -> Any:
        """Run the function again, recorded, and send the gradients through it."""
        derived = state.modes.derived
        unpack(self, False)
        oldest = next_sequence()
        outputs = self.run_again()
        roots = [
            (edge_of(out), grad)
            for out, grad in zip(outputs, grads, strict=True)
            if grad is not None and out.requires_grad
        ]
        edges = self.edges or ()
        targets = {edge for edge in edges if edge is not None}
        found = run_pass(roots, derived, derived, targets, oldest)
        return tuple(found.pop(edge, (None,))[0] for edge in edges)

    def run_again(self) -> list[Tensor]:
        """Return the outputs that need gradients, with a fresh graph."""
        function, args, kwargs = self.run
        now = default_generator.get_state()
        if self.random is not None:
            default_generator.set_state(self.random)
        try:
            with enable_grad():
                made = function(*args, **kwargs)
        finally:
            if self.random is not None:
                default_generator.set_state(now)
        outputs = list(made) if isinstance(made, tuple | list) else [made]
        chosen = [outputs[i] for i in self.places]
        for out, (shape, _) in zip(chosen, self.meta, strict=True):
            if tuple(out.shape) != tuple(shape):
                raise Error(
                    f"checkpoint: the second run returned shape {tuple(out.shape)}, "
                    f"the first {tuple(shape)}: the function must repeat itself"
                )
        return chosen


def outer_edges(outputs: list[Tensor], start: int) -> list[Any]:
    """Find the leaves and the older nodes from which a graph grew (iterative)."""
    found: dict[Any, None] = {}
    seen: set[Any] = set()
    stack = [edge_of(out) for out in outputs]
    while stack:
        edge = stack.pop()
        node = edge[0] if type(edge) is tuple else edge
        if not isinstance(node, Function) or node.sequence < start:
            found[edge] = None
        elif node not in seen:
            seen.add(node)
            stack.extend(below for below in node.edges or () if below is not None)
    return list(found)
