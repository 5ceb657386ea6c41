"""The list of public operations, and how each becomes a Tensor method.

An operation's public function is declared once, with `public`, in its own file:
the top-level name, the methods, the operators and the in-place method follow.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar, cast

from nnlib.autograd.guarding import (
    guarded,
    is_direct,
    retold,
    takes_more_tensors,
)
from nnlib.autograd.mode import state
from nnlib.autograd.places import away_from_tensors
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import DTypeError, Error

__all__ = [
    "OPS",
    "Op",
    "numpy_op",
    "op_call",
    "op_name",
    "public",
    "sample_by_sample",
    "ufunc_op",
]

F = TypeVar("F", bound=Callable[..., Any])


class Op(NamedTuple):
    """A public operation: its function, and what Tensor gets of it."""

    function: Callable[..., Any]
    methods: tuple[str, ...]
    operators: tuple[str, ...]
    inplace: str | None


OPS: dict[str, Op] = {}
_UFUNCS: dict[str, str] = {}

# NumPy's names of ufuncs where they differ from the operation's.
_UFUNC_NAMES = {
    "add": "add",
    "subtract": "sub",
    "multiply": "mul",
    "divide": "div",
    "true_divide": "div",
    "floor_divide": "floor_divide",
    "negative": "neg",
    "power": "pow",
    "absolute": "abs",
    "arctan": "atan",
    "greater": "gt",
    "greater_equal": "ge",
    "less": "lt",
    "less_equal": "le",
    "equal": "eq",
    "not_equal": "ne",
    "remainder": "remainder",
}


def public(
    *,
    method: bool | str | tuple[str, ...] = True,
    operators: str | tuple[str, ...] = (),
    inplace: bool | str | Callable[..., Tensor] = False,
    axis: bool = False,
    reads: bool = False,
    direct: bool = False,
) -> Callable[[F], F]:
    """Register a public operation under its function's name.

    Parameters
    ----------
    method : bool, str or tuple of str
        Whether Tensor gets it as a method, or under which names.
    operators : str or tuple of str
        Operator methods, such as ``"__add__"``; a reflected one (``"__radd__"``)
        is called with its arguments exchanged, an in-place one (``"__iadd__"``)
        changes the tensor.
    inplace : bool, "view" or callable
        Whether there is a method ``name_`` that writes the result into the tensor (and
        the same under its other names);
        with "view", one that makes the tensor this view of its memory;
        a callable is that method, for operations that need not touch all of it.
    axis : bool
        Take NumPy's ``axis`` and ``keepdims`` for ``dim`` and ``keepdim``, as PyTorch
        does.
    reads : bool
        Whether the function itself reads the numbers of a tensor, not only operations
        below it: `vmap` then calls it sample by sample.
    direct : bool
        Whether the function gives its arguments to the door before it asks anything of
        them, or says itself which is no tensor; so that `guarded` is not needed. It is
        seen by itself where nothing else is called.
    """

    def register(function: F) -> F:
        name = function.__name__
        own = function
        if axis:
            function = _with_numpy_names(function)
        if reads:
            function = sample_by_sample(function)
        inner = function
        if not (axis or reads or direct or is_direct(function)):
            function = guarded(function)
        # The first argument of a method is a tensor for sure.
        bound = function if takes_more_tensors(own) else inner
        methods = (name,) if method is True else method or ()
        methods = (methods,) if isinstance(methods, str) else methods
        names = (operators,) if isinstance(operators, str) else operators
        for attribute in methods:
            setattr(Tensor, attribute, bound)
        for operator in names:
            setattr(Tensor, operator, _operator(operator, inner))
        if inplace is True or inplace == "view":
            changing = _inplace(inner, name + "_", inplace)
            for attribute in (name, *methods):
                setattr(Tensor, attribute + "_", changing)
        elif inplace:
            setattr(Tensor, name + "_", inplace)
        OPS[name] = Op(function, methods, names, name + "_" if inplace else None)
        return function

    return register


_NUMPY_NAMES = {"axis": "dim", "keepdims": "keepdim"}


def _with_numpy_names(function: F) -> F:
    """Return `function` with the names of NumPy; what does not use them pays little."""

    @functools.wraps(function)
    def named(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            known = isinstance(error, TypeError) and not isinstance(error, Error)
            if not known or _NUMPY_NAMES.keys().isdisjoint(kwargs):
                wrong = retold(function, error, args, kwargs)
                if wrong is None:
                    raise
                raise wrong from None
        return named(*args, **_renamed(function.__name__, kwargs))

    return cast(F, named)


def _renamed(op: str, given: dict[str, Any]) -> dict[str, Any]:
    made = dict(given)
    for theirs, ours in _NUMPY_NAMES.items():
        if theirs in made:
            if ours in made:
                raise DTypeError(f"{op}: expected {ours} or {theirs}, got both")
            made[ours] = made.pop(theirs)
    return made


def sample_by_sample(function: F) -> F:
    """Return a function that `vmap` calls once for each sample.

    Inside `vmap` a tensor has no numbers to read, only operations on it have.
    """

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        interpreter = state.modes.interpreter
        if interpreter is None:
            there = away_from_tensors(args, kwargs)
            if there is not None:
                with there:
                    return run(*args, **kwargs)
            try:
                return function(*args, **kwargs)
            except Exception as error:
                wrong = retold(function, error, args, kwargs)
                if wrong is None:
                    raise
                raise wrong from None
        by_sample = getattr(interpreter, "by_sample", None)
        if by_sample is None:
            return function(*args, **kwargs)
        return by_sample(run, args, kwargs)

    return cast(F, run)


_PLAIN = frozenset({"__rshift__", "__round__", "__invert__", "__index__"})
_REFLECTED = frozenset(
    f"__r{name}__"
    for name in (
        "add sub mul truediv floordiv mod pow matmul and or xor lshift rshift".split()
    )
)


def _operator(operator: str, function: Callable[..., Any]) -> Callable[..., Any]:
    if operator in _REFLECTED:

        def reflected(self: Tensor, other: Any) -> Any:
            return function(other, self)

        return functools.wraps(function)(reflected)
    if operator.startswith("__i") and operator not in _PLAIN:
        return _inplace(function, operator, True)
    return function


def _inplace(
    function: Callable[..., Any], name: str, kind: bool | str
) -> Callable[..., Any]:
    from nnlib.autograd.inplace import run_inplace, turn_inplace

    run = turn_inplace if kind == "view" else run_inplace

    @functools.wraps(function)
    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return run(name, function, self, args, kwargs)

    method.__name__ = name
    method.__doc__ = f"Do `{function.__name__}` in place; return this tensor."
    return method


# NumPy's functions for which an operation stands, and the keywords both know.
_FUNCTIONS = {
    "sum": "sum",
    "mean": "mean",
    "prod": "prod",
    "max": "amax",
    "amax": "amax",
    "min": "amin",
    "amin": "amin",
    "concatenate": "cat",
    "stack": "stack",
    "einsum": "einsum",
    "outer": "outer",
    "where": "where",
}
_KEYWORDS = frozenset({"axis", "keepdims"})


def numpy_op(name: str, kwargs: dict[str, Any]) -> Callable[..., Any] | None:
    """Return the operation that stands for a NumPy function so called, or None."""
    op = OPS.get(_FUNCTIONS.get(name, ""))
    return None if op is None or not _KEYWORDS.issuperset(kwargs) else op.function


def ufunc_op(ufunc: Any) -> Callable[..., Any] | None:
    """Return the operation that stands for a NumPy ufunc, or None."""
    name = _UFUNC_NAMES.get(ufunc.__name__, ufunc.__name__)
    op = OPS.get(name)
    return None if op is None else op.function


def op_name(default: str) -> str:
    """Return the name of the public operation under way, as `op_call` does."""
    return op_call(default)[0]


def op_call(default: str) -> tuple[str, Mapping[str, Any]]:
    """Return the name and the variables of the public operation under way.

    It is looked for on the call stack, from the inside out, as far as nnlib's own
    frames go; `default` where there is none. For errors alone: it takes its time.
    """
    names = {inspect.unwrap(op.function).__code__: name for name, op in OPS.items()}
    frame = sys._getframe(1)
    while frame is not None and str(frame.f_globals.get("__name__")).startswith(
        ("nnlib.autograd.", "nnlib.ops.")
    ):
        name = names.get(frame.f_code)
        if name is not None:
            return name, frame.f_locals
        frame = frame.f_back  # type: ignore[assignment]
    return default, {}
