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

from nnlib.autograd.mode import no_grad, state
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import device_of
from nnlib.backend.dtypes import (
    FLOATING,
    HALF,
    float32,
    get_default_dtype,
    promote,
)
from nnlib.backend.errors import DeviceError, DTypeError, Error
from nnlib.backend.quiet import QUIET, restore_errors, set_errors

__all__ = ["Function", "once_differentiable"]

_next_sequence = itertools.count(1).__next__
_new = object.__new__
_ndarray = np.ndarray
# Arguments that leave the dtype of an operation to its tensors; a NumPy number or
# array does not, and has to be promoted by PyTorch's table.
_WEAK = frozenset({int, float, bool, type(None), tuple, list, str, slice})


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
        On the CPU, 16-bit floats are computed in float32 and the result rounded
        back. False for operations that only move data.
    """

    promotes: ClassVar[str | None] = None
    is_view: ClassVar[bool] = False
    upcasts: ClassVar[bool] = True
    _sees_tensors: ClassVar[bool] = False
    _builtin: ClassVar[bool] = False

    _saved: Any = ()
    _non_differentiable: tuple[Any, ...] = ()
    edges: list[Any] | None = None
    meta: Any = None
    sequence: int = 0
    hooks: dict[int, Callable[..., Any]] | None = None
    captures: Any = None
    half: bool = False
    origin: Any = None
    materialize_grads: bool = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._builtin = cls.__module__.startswith("nnlib.")
        for name in ("forward", "backward"):
            method = cls.__dict__.get(name)
            if isinstance(method, staticmethod):
                cls._sees_tensors = True
                setattr(cls, name, method.__func__)

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
        """What was saved, as arrays or (under ``create_graph``) Tensors."""
        return self._saved  # type: ignore[no-any-return]

    saved_tensors = saved

    @property
    def needs_input_grad(self) -> tuple[bool, ...]:
        """For each positional argument, whether its gradient is wanted."""
        if self.edges is None:
            return (False,) * 64
        return tuple(edge is not None for edge in self.edges)

    def needs(self, index: int) -> bool:
        """Tell whether the gradient of argument `index` is wanted."""
        return self.edges is not None and self.edges[index] is not None

    def mark_non_differentiable(self, *outputs: Any) -> None:
        """Say that these outputs have no gradient."""
        self._non_differentiable = outputs

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
        if state.interpreter is not None:
            return state.interpreter(cls, args, params)
        arrays = []
        dtype = None
        mixed = tracked = foreign = False
        for x in args:
            if isinstance(x, Tensor):
                array = x._array
                arrays.append(array)
                if x._requires_grad:
                    tracked = True
                elif x._base is not None and state.grad and x._is_stale():
                    _raise_stale(cls)
                if type(array) is not _ndarray:
                    foreign = True
                if dtype is None:
                    dtype = array.dtype
                elif array.dtype is not dtype:
                    mixed = True
            else:
                arrays.append(x)
                if type(x) not in _WEAK:
                    mixed = True
        if dtype is None:
            return cls._on_arrays(arrays, params)
        if cls.promotes is not None and (mixed or dtype.kind != "f"):
            promoted = _promote(cls, args)
            if promoted is not None:
                return cls.apply(*promoted, **params)
        if foreign:
            _check_devices(cls, args)

        node = cls()
        recording = tracked and state.grad
        if recording:
            node.edges = edges = []
            for x in args:
                if isinstance(x, Tensor):
                    if x._base is not None and x._is_stale():
                        _raise_stale(cls)
                    source = x._grad_fn
                    if source is None:
                        edges.append(x if x._requires_grad else None)
                    elif x._index:
                        edges.append((source, x._index))
                    else:
                        edges.append(source)
                else:
                    edges.append(None)
        errors = set_errors(QUIET)
        try:
            if cls._sees_tensors:
                out = _forward_tensors(node, arrays, params)
            elif dtype in HALF and cls.upcasts and not foreign:
                out, arrays = _forward_upcast(node, arrays, params)
            else:
                out = node.forward(*arrays, **params)
        finally:
            restore_errors(errors)
        if recording:
            node.sequence = _next_sequence()
            if node._saved:
                _pack(node, args, arrays, out)
        if type(out) is tuple:
            result: Any = tuple(
                _wrap(node, item, index, recording) for index, item in enumerate(out)
            )
            if recording:
                node.meta = [(item.shape, item.dtype) for item in out]
            if cls.is_view:
                for index, item in enumerate(result):
                    _mark_view(cls, item, args, {**params, "_output": index})
        else:
            if type(out) is not _ndarray:
                out = _as_array(out, arrays)
            result = _new(Tensor)
            result._array = out
            if recording and out.dtype in FLOATING and not node._non_differentiable:
                result._requires_grad = True
                result._grad_fn = node
                node.meta = (out.shape, out.dtype)
            if cls.is_view:
                _mark_view(cls, result, args, params)
        if state.watcher is not None:
            state.watcher.after_forward(node, args, result)
        return result

    @classmethod
    def _on_arrays(cls, arrays: Sequence[Any], params: dict[str, Any]) -> Any:
        node = cls()
        if cls._sees_tensors:
            return _forward_tensors(node, arrays, params)
        return node.forward(*arrays, **params)


def once_differentiable(
    alternative: str,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Mark a fused ``backward`` that has no derivative of its own.

    Parameters
    ----------
    alternative : str
        What to call instead for a second derivative; named in the error.
    """

    def mark(backward: Callable[..., Any]) -> Callable[..., Any]:
        def checked(self: Function, *grads: Any) -> Any:
            if any(isinstance(grad, Tensor) for grad in grads):
                raise Error(
                    f"{self.name()}: this fused operation has no second derivative; "
                    f"use {alternative} instead"
                )
            return backward(self, *grads)

        return checked

    return mark


# -- helpers of the door, off the fast path --------------------------------------


def _wrap(node: Function, array: Any, index: int, recording: bool) -> Any:
    if array is None:
        return None
    if type(array) is not _ndarray and isinstance(array, np.generic):
        array = np.asarray(array)
    result = _new(Tensor)
    result._array = array
    if recording and array.dtype in FLOATING:
        if any(array is other for other in node._non_differentiable):
            return result
        result._requires_grad = True
        result._grad_fn = node
        result._index = index
    return result


def _as_array(out: Any, arrays: Sequence[Any]) -> Any:
    if isinstance(out, np.generic | bool | int | float):
        return np.asarray(out)
    return out


def _mark_view(cls: type[Function], out: Tensor, args: Any, params: Any) -> None:
    """Tie a view to the tensor that owns its memory, with the way to take it again."""
    source = args[0]
    if not isinstance(source, Tensor):
        return
    mine, its = out._array, source._array
    if mine is its:
        out._array = mine = its[...]
    owner = its if its.base is None else its.base
    if mine.base is not owner and mine.base is not its:
        return
    out._base = root = source if source._base is None else source._base
    out._replay = (*source._replay, (cls, args[1:], params))
    out._birth = root._rebased
    if root._owner is not None:
        out._owner = root._owner


def _pack(node: Function, args: Any, arrays: Sequence[Any], out: Any) -> None:
    """Tie each saved array to the Tensor it belongs to, with its version."""
    packed = []
    for value in node._saved:
        if isinstance(value, Tensor):
            value = value._array
        position = 0
        for array in arrays:
            if array is value and isinstance(args[position], Tensor):
                x = args[position]
                holder = x._holder()
                packed.append((value, x, holder, holder._version))
                break
            position += 1
        else:
            if value is out:
                packed.append((value, 0, None, 0))
            elif type(out) is tuple:
                index = next((i for i, item in enumerate(out) if item is value), None)
                packed.append((value, index, None, 0))
            else:
                packed.append((value, None, None, 0))
    node._saved = packed


def _forward_tensors(node: Function, arrays: Sequence[Any], params: Any) -> Any:
    """Run a PyTorch-style forward, which sees Tensors."""
    wrapped = [Tensor._from_array(x) if hasattr(x, "dtype") else x for x in arrays]
    with no_grad():
        out = node.forward(*wrapped, **params)
    node._saved = tuple(_unwrap(value) for value in node._saved)
    node._non_differentiable = tuple(map(_unwrap, node._non_differentiable))
    if isinstance(out, tuple | list):
        return tuple(_unwrap(item) for item in out)
    return _unwrap(out)


def _unwrap(value: Any) -> Any:
    return value._array if isinstance(value, Tensor) else value


def _forward_upcast(
    node: Function, arrays: Sequence[Any], params: Any
) -> tuple[Any, list[Any]]:
    """Compute 16-bit floats in float32; round the outputs back."""
    half = None
    wide = []
    for x in arrays:
        if isinstance(x, np.ndarray) and x.dtype in HALF:
            half = x.dtype if half is None or half == x.dtype else float32
            x = x.astype(np.float32)
        wide.append(x)
    out = node.forward(*wide, **params)
    node.half = True
    if type(out) is tuple:
        return tuple(_round(item, half) for item in out), wide
    return _round(out, half), wide


def _round(item: Any, half: Any) -> Any:
    if getattr(item, "dtype", None) == float32:
        return np.asarray(item).astype(half)
    return item


def _promote(cls: type[Function], args: Sequence[Any]) -> list[Any] | None:
    """Cast tensor arguments to their common dtype; None if there is nothing to do."""
    rank: Any = None
    target: Any = None
    best = -1
    for x in args:
        # A tensor with dimensions outranks one without, which outranks a scalar,
        # within one category of dtype; a higher category always wins.
        if isinstance(x, Tensor) or hasattr(x, "dtype"):
            array = x._array if isinstance(x, Tensor) else x
            rank, dtype = (2 if array.ndim else 1), array.dtype
        elif isinstance(x, bool):
            rank, dtype = 0, np.dtype(np.bool_)
        elif isinstance(x, int):
            rank, dtype = 0, np.dtype(np.int64)
        elif isinstance(x, float):
            rank, dtype = 0, get_default_dtype()
        else:
            continue
        if target is None:
            target, best = dtype, rank
            continue
        common = promote(target, dtype)
        kind = _kind(common)
        if rank != best and _kind(target) == _kind(dtype):
            if rank > best:
                target, best = dtype, rank
        elif _kind(target) != kind:
            target, best = dtype, rank
        elif _kind(dtype) == kind:
            target, best = common, max(best, rank)
    if target is None:
        return None
    if cls.promotes == "float" and target not in FLOATING:
        target = get_default_dtype()
    changed = False
    out: list[Any] = []
    for x in args:
        if isinstance(x, Tensor):
            if x._array.dtype != target:
                x, changed = x.to(target), True
        elif hasattr(x, "dtype"):
            if x.dtype != target:
                x, changed = x.astype(target), True
        elif isinstance(x, int) and target in FLOATING and not isinstance(x, bool):
            pass
        out.append(x)
    return out if changed else None


def _kind(dtype: Any) -> int:
    return 2 if dtype in FLOATING else (0 if dtype.kind == "b" else 1)


def _check_devices(cls: type[Function], args: Sequence[Any]) -> None:
    first = None
    for position, x in enumerate(args):
        if not isinstance(x, Tensor):
            continue
        device = device_of(x._array)
        if first is None:
            first = device
        elif device != first:
            raise DeviceError(
                f"{cls.__name__.lower()}: argument {position} is on {device}, "
                f"the ones before it on {first}; move it with .to('{first}')"
            )


def _raise_stale(cls: type[Function]) -> None:
    raise Error(
        f"{cls.__name__.lower()}: this view was taken before its base was changed in "
        "place by a recorded operation; take the view again"
    )


def check_dtype(op: str, argument: str, got: Any, expected: str) -> None:
    """Raise a DTypeError that names op and argument (a helper for ops)."""
    raise DTypeError(f"{op}: {argument}: expected {expected}, got {got}")
