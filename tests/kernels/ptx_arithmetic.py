"""Arithmetic of the PTX interpreter: each instruction one NumPy operation.

Approximate instructions are computed exactly; a fused multiplication and addition in
the next wider type, so that its last bit may differ.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from ptx_memory import Fault

__all__ = ["compare", "plain", "refuse", "rounded", "select", "shift"]

Action = Callable[[Any], None]
_TINY = np.finfo(np.float32).tiny


def refuse(machine: Any, made: Any, *_: Any) -> Action:
    """Return what fails when it is reached."""

    def refuse(mask: Any) -> None:
        raise Fault("this instruction is not known here")

    return refuse


def _is_nan(a: Any, b: Any) -> Any:
    return np.isnan(a) | np.isnan(b)


_COMPARISONS: dict[str, Any] = {
    "eq": np.equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "lo": np.less,
    "ls": np.less_equal,
    "hi": np.greater,
    "hs": np.greater_equal,
    "nan": _is_nan,
    "num": lambda a, b: ~_is_nan(a, b),
    # Unordered: true where one is not a number.
    "equ": lambda a, b: (a == b) | _is_nan(a, b),
    "neu": np.not_equal,
    "ltu": lambda a, b: ~(a >= b),
    "leu": lambda a, b: ~(a > b),
    "gtu": lambda a, b: ~(a <= b),
    "geu": lambda a, b: ~(a < b),
}


def compare(machine: Any, made: Any, parts: list[str], kinds: list[str]) -> Action:
    """``setp``: compare two values."""
    if len(parts) != 3 or len(made.operands) != 3:
        return refuse(machine, made)
    out = machine.value(made.operands[0], "pred")
    a, b = (machine.value(o, kinds[0]) for o in made.operands[1:])
    compare = _COMPARISONS.get(parts[1])
    if parts[1] == "ne":
        floats = kinds[0][0] == "f"
        compare = (lambda a, b: (a < b) | (a > b)) if floats else np.not_equal

    def run(mask: Any) -> None:
        np.copyto(out, compare(a, b), where=mask)

    return run


def rounded(value: Any, dtype: Any, how: str) -> Any:
    """Round a value of a wider type to `dtype`."""
    result = value.astype(dtype)
    if how == "rm":
        return np.where(result > value, np.nextafter(result, dtype(-np.inf)), result)
    if how == "rp":
        return np.where(result < value, np.nextafter(result, dtype(np.inf)), result)
    if how == "rz":
        past = np.abs(result) > np.abs(value)
        return np.where(past, np.nextafter(result, dtype(0)), result)
    return result


def _wide_float(function: Any, how: str) -> Any:
    def run(*values: Any) -> Any:
        dtype = values[0].dtype.type
        wide = np.float64 if dtype is np.float32 else np.longdouble
        return rounded(function(*[v.astype(wide) for v in values]), dtype, how)

    return run


def _divide(a: Any, b: Any) -> Any:
    if a.dtype.kind == "f":
        return a / b
    # A division by zero gives all bits, as on the GPU.
    safe = np.where(b == 0, b.dtype.type(1), b)
    return np.where(b == 0, ~b, (a - np.fmod(a, safe)) // safe)


def _remainder(a: Any, b: Any) -> Any:
    return np.where(b == 0, a, np.fmod(a, np.where(b == 0, b.dtype.type(1), b)))


def _high(a: Any, b: Any) -> Any:
    if a.itemsize == 4:
        wide = np.int64 if a.dtype.kind == "i" else np.uint64
        return (a.astype(wide) * b.astype(wide) >> wide(32)).astype(a.dtype)
    both = np.broadcast_arrays(a, b)
    high = [(int(x) * int(y) >> 64) for x, y in zip(*both, strict=True)]
    mask = (1 << 64) - 1
    return np.array([h & mask for h in high], np.uint64).view(a.dtype)


def _flushed(function: Any) -> Any:
    """Replace subnormal numbers by zeros before and after."""

    def flush(value: Any) -> Any:
        return np.where(
            np.abs(value) < _TINY, np.copysign(value.dtype.type(0), value), value
        )

    def run(*values: Any) -> Any:
        done = function(*[flush(v) if v.dtype.kind == "f" else v for v in values])
        return flush(done).astype(done.dtype)

    return run


def _fused(a: Any, b: Any, c: Any) -> Any:
    return a * b + c


def _leading_zeros(a: Any) -> Any:
    bits = a.itemsize * 8
    return np.array([bits - int(x).bit_length() for x in np.atleast_1d(a)], np.uint32)


def _ones(a: Any) -> Any:
    return np.bitwise_count(a).astype(np.uint32)


def _insert_field(a: Any, b: Any, at: Any, width: Any) -> Any:
    whole, one = a.dtype.type, a.dtype.type(1)
    at, width = at.astype(whole), width.astype(whole)
    field = np.where(width >= a.itemsize * 8, ~whole(0), (one << width) - one) << at
    return (b & ~field) | ((a << at) & field)


def _extract_field(a: Any, at: Any, width: Any) -> Any:
    if a.dtype.kind != "u":
        raise Fault("bfe of signed numbers is not known here")
    whole, one = a.dtype.type, a.dtype.type(1)
    at, width = at.astype(whole), width.astype(whole)
    field = np.where(width >= a.itemsize * 8, ~whole(0), (one << width) - one)
    return (a >> at) & field


_OPERATIONS: dict[str, Any] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": _divide,
    "rem": _remainder,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "not": np.invert,
    "neg": np.negative,
    "abs": np.abs,
    "copysign": lambda a, b: np.copysign(b, a),
    "sqrt": np.sqrt,
    "rsqrt": lambda a: a.dtype.type(1) / np.sqrt(a),
    "rcp": lambda a: a.dtype.type(1) / a,
    "ex2": np.exp2,
    "lg2": np.log2,
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
    "fma": _fused,
    "mad": _fused,
    "clz": _leading_zeros,
    "popc": _ones,
    "bfi": _insert_field,
    "bfe": _extract_field,
    "cvta": lambda a: a.copy(),
}
_KNOWN = {
    "lo", "hi", "wide", "rn", "rm", "rp", "rz", "ftz", "approx", "full", "to",
    "global", "shared", "local", "pred",
}  # fmt: skip


def plain(machine: Any, made: Any, parts: list[str], kinds: list[str]) -> Action:
    """Return an operation of its operands alone."""
    name, marks = parts[0], {p for p in parts[1:] if p not in kinds}
    if name in ("min", "max"):
        floats = {"min": np.fmin, "max": np.fmax}
        whole = {"min": np.minimum, "max": np.maximum}
        function = (floats if kinds and kinds[0][0] == "f" else whole)[name]
    else:
        function = _OPERATIONS.get(name)
    if function is None or not kinds or marks - _KNOWN:
        return refuse(machine, made)
    kind, floating = kinds[-1], kinds[-1][0] == "f"
    into, operands = made.operands[0], list(made.operands[1:])
    sources = [kind] * len(operands)
    result = kind
    if "wide" in marks:
        result = kind[0] + str(2 * int(kind[1:]))
        sources[2:] = [result] * len(sources[2:])
        narrow = np.dtype(("i" if kind[0] == "s" else "u") + str(int(result[1:]) // 8))
        function = _widening(function, narrow.type)
    elif "hi" in marks:
        function = _high
    elif name in ("bfi", "bfe"):
        sources[-2:] = ["u32", "u32"]
    elif name in ("clz", "popc"):
        result = "u32"
    how = (marks & {"rm", "rp", "rz"}) or ({"rn"} if name == "fma" else set())
    if floating and how:
        function = _wide_float(function, how.pop())
    if "ftz" in marks and kind == "f32":
        function = _flushed(function)
    out = machine.value(into, result)
    values = [machine.value(o, k) for o, k in zip(operands, sources, strict=True)]
    if isinstance(function, np.ufunc):
        call = functools.partial(function, *values, out=out)

        def run_in_place(mask: Any) -> None:
            call(where=mask)

        return run_in_place

    def run(mask: Any) -> None:
        np.copyto(out, function(*values), where=mask)

    return run


def _widening(function: Any, wide: Any) -> Any:
    return lambda *values: function(*[v.astype(wide) for v in values])


def shift(machine: Any, made: Any, parts: list[str], kinds: list[str]) -> Action:
    """``shl`` and ``shr``: a count past the width leaves nothing."""
    kind = kinds[0]
    out, a = (machine.value(o, kind) for o in made.operands[:2])
    count = machine.value(made.operands[2], "u32")
    function = np.left_shift if parts[0] == "shl" else np.right_shift

    def run(mask: Any) -> None:
        np.copyto(out, function(a, count.astype(a.dtype)), where=mask)

    return run


def select(machine: Any, made: Any, parts: list[str], kinds: list[str]) -> Action:
    """``selp``: choose by a predicate."""
    out, a, b = (machine.value(o, kinds[0]) for o in made.operands[:3])
    chooser = machine.value(made.operands[3], "pred")

    def run(mask: Any) -> None:
        np.copyto(out, np.where(chooser, a, b), where=mask)

    return run
