"""`Function`: one class per operation, and the one door through which all pass.

An operation is a subclass with ``forward`` on arrays and ``backward`` right under
it. An instance is at once the context of one call and its node in the graph::

    class Exp(Function):
        def forward(self, x):
            y = array_module(x).exp(x)
            self.save_for_backward(y)
            return y

        def backward(self, grad):
            (y,) = self.saved
            return grad * y

``backward`` is written once, with operators and public ops. In a first-order pass
it is given arrays and computes at once; under ``create_graph=True`` it is given
Tensors, whose operations are recorded in turn. So what it saves must be an input,
an output, or a constant of the derivative (a mask, an index): anything else would
lose its dependence on the input.

A class written as for PyTorch (``@staticmethod def forward(ctx, ...)``) works too:
its two methods see Tensors.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from nnlib.autograd.arguments import away_from, refuse_misfit, to_one_device
from nnlib.autograd.halves import forward_upcast
from nnlib.autograd.mode import no_grad, state
from nnlib.autograd.promotion import promote_arguments
from nnlib.autograd.saved import (
    FIRST_OUTPUT,
    mark_view,
    pack,
    raise_stale,
    unpack,
)
from nnlib.autograd.tensor import TENSOR_TYPES, Tensor, shape_instances
from nnlib.backend.device import away
from nnlib.backend.dtypes import FLOATING, HALF, float32
from nnlib.backend.errors import Error
from nnlib.backend.quiet import QUIET, restore_errors, set_errors

__all__ = ["Function", "next_sequence"]

# Numbers the nodes in the order of recording.
next_sequence = itertools.count(1).__next__
_new = object.__new__
_ndarray = np.ndarray
# Arguments that leave the dtype of an operation to its tensors; a NumPy number or
# array does not, and has to be promoted by PyTorch's table.
_WEAK = frozenset({int, float, bool, type(None)})
_NUMBERS = (np.generic, bool, int, float)


class Function:
    """Base of every differentiable operation; see the module's text.

    Attributes
    ----------
    promotes : {None, "arithmetic", "float"}
        What the door does with tensors of different dtypes: nothing; bring them
        to their common dtype by PyTorch's table; the same, and then integers to
        the default float.
    is_view : bool
        The output may share memory with the first argument.
    upcasts : bool
        16-bit floats are computed in float32 and the result rounded back. False for
        operations that only move data.
    arithmetic : bool
        There may be an overflow or an invalid operation, of which NumPy must not warn;
        False for what only moves or compares data, which then costs less.
    takes_numbers : bool, optional
        A tensor without dimensions on the CPU may stand beside tensors on another
        device, as a number may. None: if the operation promotes.
    """

    promotes: ClassVar[str | None] = None
    is_view: ClassVar[bool] = False
    upcasts: ClassVar[bool] = True
    takes_numbers: ClassVar[bool | None] = None
    arithmetic: ClassVar[bool] = True
    _sees_tensors: ClassVar[bool] = False
    # What the door asks of the class, in one look-up.
    _traits: ClassVar[tuple[Any, ...]] = (None, False, True, False, False)

    _saved: Any = ()
    _owners: Any = ()
    _changes: int = 0
    _non_differentiable: tuple[Any, ...] = ()
    edges: list[Any] | None = None
    _no_edges: tuple[bool, ...] = ()
    meta: Any = None
    sequence: int = 0
    hooks: dict[int, Callable[..., Any]] | None = None
    half: bool = False
    origin: Any = None
    # Set on the twin of a node that a pruned pass runs with fewer edges.
    whole: Function | None = None
    materialize_grads: bool = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in ("forward", "backward", "setup_context"):
            method = cls.__dict__.get(name)
            if isinstance(method, staticmethod):
                cls._sees_tensors = True
                if name == "forward" and "setup_context" in cls.__dict__:
                    continue
                setattr(cls, name, method.__func__)
        quiet = (cls.is_view or not cls.arithmetic) and not cls._sees_tensors
        cls._traits = (
            cls.promotes,
            cls.is_view,
            cls.upcasts,
            quiet,
            cls._sees_tensors,
        )
        shape_instances(cls, "edges", "sequence", "_saved", "_owners", "meta")

    def forward(self, *args: Any, **params: Any) -> Any:
        """Compute the output array (or a tuple of them) from arrays."""
        raise Error(f"{type(self).__name__}: forward is not defined")

    def backward(self, *grads: Any) -> Any:
        """Return one gradient per positional argument of ``forward``."""
        raise Error(f"{self.name()}: backward is not defined")

    def name(self) -> str:
        """Return the operation's name."""
        return type(self).__name__

    # -- what forward and backward may use ------------------------------------

    def save_for_backward(self, *values: Any) -> None:
        """Keep arrays for ``backward``: inputs, outputs or constants only."""
        self._saved = values

    @property
    def saved(self) -> tuple[Any, ...]:
        """What was saved, as arrays or (under ``create_graph``) Tensors.

        Raises
        ------
        Error
            If a value was changed in place since, or the graph was freed.
        """
        return unpack(self, state.modes.derived or self._sees_tensors)

    saved_tensors = saved

    @property
    def needs_input_grad(self) -> tuple[bool, ...]:
        """For each positional argument, whether its gradient is wanted."""
        if self.edges is None:
            return self._no_edges
        return tuple(edge is not None for edge in self.edges)

    def needs(self, index: int) -> bool:
        """Tell whether the gradient of argument `index` is wanted."""
        return self.edges is not None and self.edges[index] is not None

    def mark_non_differentiable(self, *outputs: Any) -> None:
        """Say that these outputs have no gradient."""
        self._non_differentiable = outputs

    def mark_dirty(self, *inputs: Any) -> None:
        """Refuse: a custom function returns new values."""
        raise Error(
            f"{self.name()}: mark_dirty: a Function cannot change its inputs; return a "
            "new tensor, and copy_() it where it belongs"
        )

    def set_materialize_grads(self, value: bool) -> None:
        """Say whether a missing gradient of an output arrives as zeros or None."""
        self.materialize_grads = value

    @property
    def next_functions(self) -> tuple[tuple[Any, int], ...]:
        """The nodes (or leaf tensors) that the arguments came from."""
        return tuple(
            edge if type(edge) is tuple else (edge, 0) for edge in self.edges or ()
        )

    def __repr__(self) -> str:
        return f"<{self.name()}Backward>"

    # -- the door --------------------------------------------------------------

    @classmethod
    def apply(cls, *args: Any, **params: Any) -> Any:
        """Run the operation; record it where a gradient will be wanted.

        Given raw arrays alone, it computes and returns arrays: no graph.
        """
        modes = state.modes
        if modes.interpreter is not None:
            return modes.interpreter(cls, args, params)
        promotes, is_view, upcasts, quiet, sees_tensors = cls._traits
        node = cls()
        if len(args) == 1 and not sees_tensors and type(args[0]) in TENSOR_TYPES:
            # One tensor: there is nothing to combine.
            x = args[0]
            array = x._array
            if type(array) is not _ndarray and (there := away(array)) is not None:
                with there:
                    return cls.apply(x, **params)
            dtype = array.dtype
            single = promotes != "float" or dtype is float32 or dtype.kind == "f"
            entangled = x._entangled
            if entangled and modes.grad and x._is_stale():
                raise_stale(cls)
            arrays: Any = (array,)
            recording = x._requires_grad and modes.grad
            if recording:
                source = x._grad_fn
                if source is None:
                    node.edges = [x]
                else:
                    node.edges = [(source, x._index) if x._index else source]
        else:
            single = False
        if not single:
            # One walk over the arguments finds the arrays, the edges of the graph, and
            # whether anything is out of the ordinary.
            arrays = []
            edges: list[Any] = []
            dtype = None
            tracked = mixed = whole = fraction = foreign = entangled = False
            strange = False
            for x in args:
                if type(x) in TENSOR_TYPES:
                    array = x._array
                    arrays.append(array)
                    if x._requires_grad:
                        tracked = True
                        source = x._grad_fn
                        if source is None:
                            edges.append(x)
                        else:
                            edges.append((source, x._index) if x._index else source)
                    else:
                        edges.append(None)
                    if x._entangled:
                        entangled = True
                        if modes.grad and x._is_stale():
                            raise_stale(cls)
                    if type(array) is not _ndarray:
                        foreign = True
                    if dtype is None:
                        dtype = array.dtype
                    elif array.dtype is not dtype:
                        mixed = True
                else:
                    arrays.append(x)
                    edges.append(None)
                    if type(x) is int:
                        whole = True
                    elif type(x) is float:
                        fraction = True
                    elif type(x) is _ndarray:
                        mixed = True
                    elif type(x) not in _WEAK:
                        mixed = True
                        strange = strange or not isinstance(x, np.generic)
            if dtype is None:
                if sees_tensors:
                    return _forward_tensors(node, arrays, params)
                if strange or (args and args[0] is None):
                    refuse_misfit(cls, args)
                try:
                    return node.forward(*arrays, **params)
                except Exception as error:
                    refuse_misfit(cls, args, error)
                    raise
            if promotes is not None and not mixed and dtype.kind != "f":
                # Beside a float tensor numbers change nothing, nor do integers beside
                # a tensor of integers.
                mixed = fraction or promotes == "float" or (whole and dtype.kind == "b")
            if mixed:
                if strange:
                    refuse_misfit(cls, args)
                if promotes is not None:
                    promoted = promote_arguments(promotes, args)
                    if promoted is not None:
                        return cls.apply(*promoted, **params)
            if foreign:
                moved = to_one_device(cls, args)
                if moved is not None:
                    return cls.apply(*moved, **params)
                there = away_from(arrays)
                if there is not None:
                    with there:
                        return cls.apply(*args, **params)
            recording = tracked and modes.grad
            if recording:
                node.edges = edges

        if quiet:
            # No arithmetic, which could overflow or want more than 16 bits.
            try:
                out = node.forward(*arrays, **params)
            except Exception as error:
                refuse_misfit(cls, args, error)
                raise
        else:
            errors = set_errors(QUIET)
            try:
                if sees_tensors:
                    out = _forward_tensors(node, arrays, params)
                elif upcasts and dtype is not float32 and dtype in HALF:
                    out = forward_upcast(node, arrays, params)
                elif params:
                    out = node.forward(*arrays, **params)
                elif single:
                    out = node.forward(array)
                else:
                    out = node.forward(*arrays)
            except Exception as error:
                refuse_misfit(cls, args, error)
                raise
            finally:
                restore_errors(errors)
        if recording:
            node.sequence = next_sequence()
            saved = node._saved
            if saved:
                count = len(saved)
                if (
                    count == len(arrays) <= 2
                    and saved[0] is arrays[0]
                    and saved[-1] is arrays[-1]
                    and not entangled
                ):
                    # The arguments in their order, never changed in place: by far
                    # the most frequent case.
                    node._owners = args
                elif count == 1 and saved[0] is out:
                    node._owners = FIRST_OUTPUT
                else:
                    pack(node, args, arrays, out, entangled)
        if type(out) is tuple:
            result = _wrap_several(node, out, args, params, recording)
        else:
            if type(out) is not _ndarray:
                out = _as_array(out)
            result = _new(Tensor)
            result._array = out
            if recording:
                kind = out.dtype
                if kind is float32 or kind in FLOATING:
                    if not node._non_differentiable:
                        result._requires_grad = True
                        result._grad_fn = node
                        node.meta = (out.shape, kind)
            if is_view:
                mark_view(cls, result, args, params)
        if modes.watcher is not None:
            modes.watcher.after_forward(node, args, result)
        return result


# -- helpers of the door, off the fast path --------------------------------------


def _wrap_several(
    node: Function, out: Any, args: Any, params: Any, recording: bool
) -> Any:
    result: list[Any] = []
    meta: list[Any] = []
    cls = type(node)
    view = cls.is_view
    constants = node._non_differentiable
    for index, array in enumerate(out):
        if type(array) is not _ndarray:
            array = _as_array(array)
        if array is None:
            result.append(None)
            meta.append(None)
            continue
        tensor = _new(Tensor)
        tensor._array = array
        result.append(tensor)
        if recording:
            kind = array.dtype
            meta.append((array.shape, kind))
            if kind is float32 or kind in FLOATING:
                if not (constants and any([array is other for other in constants])):
                    tensor._requires_grad = True
                    tensor._grad_fn = node
                    tensor._index = index
        if view:
            mark_view(cls, tensor, args, params, index)
    if recording:
        node.meta = meta
    return tuple(result)


def _as_array(out: Any) -> Any:
    if isinstance(out, _NUMBERS):
        return np.array(out)
    return out


def _forward_tensors(node: Function, arrays: Sequence[Any], params: Any) -> Any:
    """Run a PyTorch-style forward, which sees Tensors."""
    wrapped = [Tensor._from_array(x) if hasattr(x, "dtype") else x for x in arrays]
    if node.edges is None:
        node._no_edges = (False,) * len(wrapped)
    with no_grad():
        setup = getattr(node, "setup_context", None)
        if setup is None:
            out = node.forward(*wrapped, **params)
        else:
            out = node.forward(*wrapped, **params)
            setup(tuple(wrapped), out)
    node._saved = tuple(_unwrap(value) for value in node._saved)
    node._non_differentiable = tuple(map(_unwrap, node._non_differentiable))
    several = isinstance(out, tuple | list)
    made = [_unwrap(item) for item in (out if several else (out,))]
    # An input handed through becomes a view of it, not a second name.
    made = [x[...] if any(x is y for y in arrays) else x for x in made]
    return tuple(made) if several else made[0]


def _unwrap(value: Any) -> Any:
    return value._array if isinstance(value, Tensor) else value
