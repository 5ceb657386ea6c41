"""What an operation says about an argument that is no tensor.

Nobody asks before: a list, None or a string has not what a tensor has, and Python's own
error comes up somewhere below. It is read where it passes, and told again with the
operation's name and the argument's. A good call pays nothing for it in an operation
that hands its arguments straight to the door, where the error passes too; in others it
pays a call in Python.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import CodeType, MappingProxyType, ModuleType
from typing import Any, TypeVar, cast

from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import DTypeError, Error

__all__ = [
    "NoTensorError",
    "guarded",
    "is_direct",
    "is_strange",
    "no_tensor",
    "retold",
    "takes_more_tensors",
]

F = TypeVar("F", bound=Callable[..., Any])

# Parameters that take something else than tensors, or lists and tuples too.
_OTHERS = frozenset(
    """
    args axis data device dilation dim dims dtype elements fill_value index
    indices_or_sections keepdims kernel_size memory_format n normalized_shape ord
    output_padding output_size p pad padding q repeats scale_factor shape shifts size
    sizes spacing split_size_or_sections start stride test_elements
    """.split()
)
_TENSOR = "a Tensor"
# In the annotations of parameters that take several.
_SEVERAL = "[Tensor]"


class NoTensorError(DTypeError):
    """An argument is no tensor; it knows which, for the operations around it."""

    def __init__(self, op: str, name: str, value: Any, wanted: str) -> None:
        kind = type(value).__name__
        dtype = getattr(value, "dtype", None)
        if dtype is not None and not isinstance(value, Tensor):
            kind = f"{kind} of {dtype}"
        super().__init__(f"{op}: {name}: expected {wanted}, got {kind}")
        self.value, self.wanted = value, wanted


# In whose code an argument's fault comes up: nnlib's own, and what that calls.
_OWN = sys.stdlib_module_names | {
    *("nnlib", "numpy", "numba", "ml_dtypes"),
    *("cupy", "cupy_backends", "cupyx"),
}

# What Python's and NumPy's errors say of None.
_OF_NONE = ("NoneType", "not supported for the input types")


def is_direct(function: Callable[..., Any]) -> bool:
    """Tell whether a function does no more than hand its arguments to the door.

    Its code then names nothing but ``apply``, classes, and what modules hold.
    """
    known = function.__globals__
    names = function.__code__.co_names
    modules = [x for x in map(known.get, names) if isinstance(x, ModuleType)]
    return "apply" in names and all(
        name == "apply"
        or isinstance(known.get(name), type | ModuleType)
        or (not hasattr(Tensor, name) and any(hasattr(m, name) for m in modules))
        for name in names
    )


def takes_more_tensors(function: Callable[..., Any]) -> bool:
    """Tell whether another parameter than the first may be a tensor."""
    kinds = list(function.__annotations__.items())[1:]
    return any(_may_be_tensor(name, kind) and name != "return" for name, kind in kinds)


def guarded(function: F) -> F:
    """Return `function`, which names an argument that is no tensor."""

    @functools.wraps(function)
    def guard(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            wrong = retold(function, error, args, kwargs)
            if wrong is None:
                raise
            raise wrong from None

    return cast(F, guard)


def _bound(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments of a call by their parameters' names, in these' order."""
    code: CodeType = inspect.unwrap(function).__code__
    names = code.co_varnames[: code.co_argcount]
    given = dict(zip(names, args, strict=False))
    if code.co_flags & inspect.CO_VARARGS:
        place = code.co_argcount + code.co_kwonlyargcount
        given[code.co_varnames[place]] = tuple(args[code.co_argcount :])
    given |= kwargs
    order = {name: place for place, name in enumerate(code.co_varnames)}
    return dict(sorted(given.items(), key=lambda x: order.get(x[0], len(order))))


def retold(
    function: Callable[..., Any],
    error: Exception,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] = MappingProxyType({}),
) -> DTypeError | None:
    """Return what to raise in place of `error`, which came of a call of an operation.

    None where its arguments are not to blame, or the error tells enough.
    """
    if _came_up_elsewhere(error):
        return None
    given = _bound(function, args, kwargs)
    op, wanted = public_name(function.__name__), _TENSOR
    blamed: Iterator[tuple[str, Any]]
    if isinstance(error, NoTensorError):
        # Told by an operation below, of which the user knows nothing.
        value, wanted = error.value, error.wanted
        blamed = (part for part in _parts(given) if part[1] is value)
    elif isinstance(error, Error):
        return None
    elif isinstance(error, AttributeError | TypeError | ValueError | IndexError):
        left_out = _left_out(function, given)
        lacking = (
            (name, value)
            for name, value in _parts(given)
            if _lacks(value, error) and name not in left_out
        )
        blamed = itertools.chain(lacking, _strange(function, given))
    else:
        return None
    for name, value in blamed:
        if _SEVERAL in _written(function.__annotations__.get(name, "")):
            wanted = "Tensors"
        return NoTensorError(op, name, value, wanted)
    return None


def no_tensor(
    op: str,
    given: Mapping[str, Any],
    args: Sequence[Any],
    error: Exception | None,
    wanted: str = _TENSOR,
) -> DTypeError | None:
    """Return what to raise where one of the door's `args` is no tensor or number.

    `op` and `given` are the public operation under way and its variables. None is an
    argument that is left out, unless `error` says that it was needed.
    """
    strange = [x for x in args if is_strange(x)]
    if not strange and isinstance(error, AttributeError):
        lacking = error.obj
        strange = [x for x in args if x is lacking and not hasattr(x, "dtype")]
        if not strange and isinstance(lacking, int | float | None):
            # NumPy came as far as the elements.
            strange = [x for x in args if x is None]
    elif not strange and isinstance(error, TypeError):
        # Other errors of types come of arrays, not of what was left out.
        if any(sign in str(error) for sign in _OF_NONE):
            strange = [x for x in args if x is None]
    if not strange:
        return None
    value = strange[0]
    known = [name for name, x in given.items() if x is value]
    place = next(i for i, x in enumerate(args) if x is value)
    name = known[0] if known else f"argument {place}"
    return NoTensorError(public_name(op), name, value, wanted)


def _came_up_elsewhere(error: Exception) -> bool:
    """Tell whether a function of the user's has raised it, a hook or a distance."""
    trace = error.__traceback__
    while trace is not None:
        name = str(trace.tb_frame.f_globals.get("__name__", ""))
        if name.partition(".")[0] not in _OWN:
            return True
        trace = trace.tb_next
    return False


def public_name(op: str) -> str:
    """Return an operation's name as its users know it."""
    for room in ("linalg", "special"):
        op = op.replace(f"{room}_", f"{room}.", 1) if op.startswith(room) else op
    return op


def _parts(given: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the arguments, and the elements of those that are lists."""
    for name, value in given.items():
        yield name, value
        if isinstance(value, list | tuple):
            yield from _parts({f"{name}[{i}]": item for i, item in enumerate(value)})


def _lacks(value: Any, error: Exception) -> bool:
    """Tell whether `value` is what lacked an attribute that tensors have."""
    if not isinstance(error, AttributeError):
        return False
    name = error.name or ""
    known = name.startswith("_") or hasattr(Tensor, name)
    return value is error.obj and known and not isinstance(value, Tensor)


def _left_out(function: Callable[..., Any], given: Mapping[str, Any]) -> set[str]:
    """Return the parameters of which None was given, which is their default."""
    known = inspect.signature(function).parameters
    return {
        name
        for name, value in given.items()
        if value is None and name in known and known[name].default is None
    }


def is_strange(value: Any) -> bool:
    """Tell whether a value is neither tensor nor array nor number nor None."""
    dtype = getattr(value, "dtype", None)
    if dtype is not None:
        return getattr(dtype, "kind", "") in "OSUM"
    return not isinstance(value, int | float | None)


def _strange(
    function: Callable[..., Any], given: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    """Yield the arguments for which no parameter of tensors is there."""
    parameters = inspect.signature(function).parameters
    for name, value in given.items():
        known = parameters.get(name)
        if known is None or not _may_be_tensor(name, known.annotation):
            continue
        several = name == "tensors" or _SEVERAL in _written(known.annotation)
        if known.kind is inspect.Parameter.VAR_POSITIONAL or (
            several and isinstance(value, list | tuple)
        ):
            parts = [(f"{name}[{i}]", x) for i, x in enumerate(value)]
            yield from (
                part for part in parts if part[1] is None or is_strange(part[1])
            )
        elif (
            is_strange(value)
            or (value is None and known.default is not None)
            or (several and isinstance(value, int | float))
        ):
            yield name, value


def _may_be_tensor(name: str, annotation: Any) -> bool:
    """Tell whether a parameter may be a tensor, or a list of them."""
    kind = _written(annotation)
    return name not in _OTHERS and (kind == "Any" or "Tensor" in kind)


def _written(annotation: Any) -> str:
    """Return an annotation as text, as most are already."""
    if isinstance(annotation, str):
        return annotation
    return inspect.formatannotation(annotation)
