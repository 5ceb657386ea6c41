"""The instructions of the PTX interpreter, each for all threads at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from ptx_arithmetic import compare, plain, refuse, rounded, select, shift
from ptx_memory import LOCAL, SPACES, Fault, view

__all__ = ["bind"]

Action = Callable[[Any], None]
_TYPE = re.compile(r"(?:[busf](?:8|16|32|64)|pred)$")


def bind(machine: Any, made: Any) -> Action:
    """Return an instruction as a function of the mask of threads that run it."""
    parts = made.name.split(".")
    kinds = [p for p in parts[1:] if _TYPE.match(p)]
    action: Action = _FORMS.get(parts[0], plain)(machine, made, parts, kinds)
    if not made.predicate:
        return action
    negated = made.predicate[0] == "!"
    register = machine.register(made.predicate.lstrip("!"))

    def guarded(mask: Any) -> None:
        chosen = mask & (~register if negated else register)
        if chosen.any():
            action(chosen)

    return guarded


# -- moves and conversions --------------------------------------------------------


def _move(machine: Any, made: Any, parts: list[str], kinds: list[str]) -> Action:
    into, source = made.operands[0], made.operands[1]
    kind = kinds[0]
    if "{" in into + source:
        return _regroup(machine, into, source, int(kind[1:]) // 8)
    out, value = machine.value(into, kind), machine.value(source, kind)

    def run(mask: Any) -> None:
        np.copyto(out, value, where=mask)

    return run


def _names(operand: str) -> list[str]:
    return [name.strip() for name in operand.strip("{} ").split(",")]


def _regroup(machine: Any, into: str, source: str, size: int) -> Action:
    """Split a register in parts, or join it of parts."""
    names = _names(into if "{" in into else source)
    parts = [machine.register(name) for name in names]
    whole = machine.register(source if "{" in into else into)
    pieces = whole.view(parts[0].dtype).reshape(machine.lanes, len(names))
    if whole.itemsize != size:
        raise Fault("registers of another width")

    def run(mask: Any) -> None:
        for n, part in enumerate(parts):
            if "{" in into:
                np.copyto(part, pieces[:, n], where=mask)
            else:
                np.copyto(pieces[:, n], part, where=mask)

    return run


_WHOLE = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


def _resized(machine: Any, name: str, kind: str) -> Any:
    """Return a register wide enough for a type, as numbers of the type's sort."""
    width = machine.register(name).itemsize * 8
    return machine.value(name, kind if kind[0] == "f" else f"{kind[0]}{width}")


def _convert(machine: Any, made: Any, parts: list[str], kinds: list[str]) -> Action:
    target, kind = kinds
    marks = [p for p in parts[1:-2] if p not in ("ftz", "sat")]
    out = _resized(machine, made.operands[0], target)
    dtype = np.dtype(
        {"u": "u", "s": "i", "f": "f", "b": "u"}[target[0]] + str(int(target[1:]) // 8)
    )
    source = made.operands[1]
    if source.startswith("%") and source not in machine.specials:
        value = _resized(machine, source, kind)
        narrow = machine.value("0", kind).dtype if kind[0] != "f" else value.dtype
    else:
        value = machine.value(source, kind)
        narrow = value.dtype
    saturate = "sat" in parts

    def run(mask: Any) -> None:
        given = value.astype(narrow) if value.dtype != narrow else value
        if marks and marks[0] in _WHOLE:
            given = _WHOLE[marks[0]](given)
        if given.dtype.kind == "f" and dtype.kind != "f":
            limits = np.iinfo(dtype)
            given = np.where(np.isnan(given), 0, given)
            low, high = given <= limits.min, given >= limits.max
            done = np.where(low | high, 0, given).astype(dtype)
            done = np.where(low, limits.min, np.where(high, limits.max, done))
        elif marks and marks[0] in ("rm", "rp", "rz") and dtype.kind == "f":
            done = rounded(given.astype(np.longdouble), dtype.type, marks[0])
        else:
            done = given.astype(dtype)
        if saturate and dtype.kind == "f":
            done = np.where(np.isnan(done), 0, np.clip(done, 0, 1))
        np.copyto(out, done.astype(out.dtype), where=mask)

    return run


# -- memory -----------------------------------------------------------------------


def _address(machine: Any, operand: str) -> Any:
    base, _, offset = operand.strip("[] ").partition("+")
    shift = np.uint64(int(offset or "0") % (1 << 64))
    value = machine.value(base.strip(), "u64")
    if shift == 0:
        return lambda: value
    return lambda: value + shift


def _access(machine: Any, parts: list[str], kinds: list[str]) -> Any:
    """Return what checks addresses and finds the indices of memory's elements."""
    kind = kinds[0]
    count = next((int(p[1:]) for p in parts if p in ("v2", "v4")), 1)
    size = int(kind[1:]) // 8
    dtype = {"u": "u", "s": "i", "f": "f", "b": "u"}[kind[0]] + str(size)
    elements, bits = view(dtype)
    named = next((p for p in parts if p in ("global", "shared", "local")), "")
    space = SPACES[named]
    first = np.uint64(1 << 12)
    # Atomic operations and what is read past the caches are meant to meet.
    ordered = parts[0] != "atom" and "volatile" not in parts

    def find(addresses: Any, mask: Any, writes: bool) -> Any:
        chosen = addresses if mask is True else addresses[mask]
        problem = machine.memory.check(chosen, size, size * count, space)
        if problem:
            number = int(problem.split()[1])
            raise Fault(f"{machine.where(mask, number)}: {problem}")
        if space != LOCAL and ordered:
            machine.order.note(chosen, size, count, mask, writes)
        return (chosen - first >> np.uint64(bits)).astype(np.int64)

    return find, elements, count


def _load(machine: Any, made: Any, parts: list[str], kinds: list[str]) -> Action:
    into = _names(made.operands[0])
    if parts[1] == "param":
        inside, _, offset = made.operands[1].strip("[] ").partition("+")
        field = machine.parameters.get(inside)
        if field is None or offset:
            return refuse(machine, made)
        out = _resized(machine, into[0], kinds[0])
        sort = {"u": "u", "s": "i", "f": "f", "b": "u"}[kinds[0][0]]
        value = np.frombuffer(field, f"{sort}{int(kinds[0][1:]) // 8}")
        if value.size != 1:
            raise Fault("a parameter of another width")
        return lambda mask: np.copyto(out, value.astype(out.dtype), where=mask)
    address = _address(machine, made.operands[1])
    find, elements, count = _access(machine, parts, kinds)
    outs = [_resized(machine, name, kinds[0]) for name in into]

    def run(mask: Any) -> None:
        index = find(address(), mask, False)
        for n in range(count):
            value = elements[index + n].astype(outs[n].dtype)
            if mask is True:
                outs[n][...] = value
            else:
                outs[n][mask] = value

    return run


def _store(machine: Any, made: Any, parts: list[str], kinds: list[str]) -> Action:
    if parts[1] == "param":
        return refuse(machine, made)
    address = _address(machine, made.operands[0])
    find, elements, count = _access(machine, parts, kinds)
    values = []
    for name in _names(made.operands[1]):
        register = name.startswith("%") and name not in machine.specials
        values.append(
            _resized(machine, name, kinds[0])
            if register
            else np.broadcast_to(machine.value(name, kinds[0]), machine.lanes)
        )

    def run(mask: Any) -> None:
        index = find(address(), mask, True)
        for n in range(count):
            value = values[n] if mask is True else values[n][mask]
            elements[index + n] = value.astype(elements.dtype)

    return run


def _atomic(machine: Any, made: Any, parts: list[str], kinds: list[str]) -> Action:
    changes = {"add": np.add, "min": np.minimum, "max": np.maximum}
    name = next((p for p in parts if p in changes), "")
    if not name or kinds[0][0] == "f":
        return refuse(machine, made)
    into, at, given = made.operands
    out = machine.value(into, kinds[0])
    address = _address(machine, at)
    value = np.broadcast_to(machine.value(given, kinds[0]), machine.lanes)
    find, elements, _ = _access(machine, parts, kinds)

    def run(mask: Any) -> None:
        index = find(address(), mask, False)
        lanes = machine.lane if mask is True else machine.lane[mask]
        for lane, place in zip(lanes, index, strict=True):
            out[lane] = elements[place]
            elements[place] = changes[name](elements[place], value[lane])

    return run


# -- control and threads together -------------------------------------------------


def _branch(machine: Any, made: Any, *_: Any) -> Action:
    return lambda mask: machine.jump(
        slice(None) if mask is True else mask, made.operands[-1]
    )


def _leave(machine: Any, *_: Any) -> Action:
    return lambda mask: machine.leave(slice(None) if mask is True else mask)


def _barrier(machine: Any, made: Any, *_: Any) -> Action:
    if made.operands != ("0",):
        return refuse(machine, made)
    return lambda mask: machine.barrier(slice(None) if mask is True else mask)


def _shuffle(machine: Any, made: Any, parts: list[str], kinds: list[str]) -> Action:
    if parts[1:3] != ["sync", "bfly"]:
        return refuse(machine, made)
    names = made.operands
    out = machine.value(names[0], "b32")
    fits = machine.value(names[1], "pred") if len(names) == 6 else None
    a, b, c, members = (
        np.broadcast_to(machine.value(o, "b32"), machine.lanes) for o in names[-4:]
    )
    base = machine.lane - machine.in_warp

    def run(mask: Any) -> None:
        lane = machine.in_warp
        segment = (c >> np.uint32(8) & np.uint32(31)).astype(np.int64)
        clamp = (c & np.uint32(31)).astype(np.int64)
        source = lane ^ (b & np.uint32(31)).astype(np.int64)
        inside = source <= (lane & segment) | (clamp & ~segment)
        from_ = base + np.where(inside, source, lane)
        runs = np.broadcast_to(mask, machine.lanes)
        known = from_ < machine.lanes
        from_ = np.minimum(from_, machine.lanes - 1)
        fine = known & runs[from_] & (machine.block[from_] == machine.block)
        fine &= (members[from_] >> lane.astype(np.uint32)) & np.uint32(1) == 1
        if (runs & ~fine).any():
            at = machine.where(runs & ~fine)
            raise Fault(f"{at}: shuffles with a thread that is not here")
        np.copyto(out, a[from_], where=mask)
        if fits is not None:
            np.copyto(fits, inside, where=mask)

    return run


_FORMS: dict[str, Any] = {
    "setp": compare,
    "selp": select,
    "shl": shift,
    "shr": shift,
    "mov": _move,
    "cvt": _convert,
    "ld": _load,
    "st": _store,
    "atom": _atomic,
    "bra": _branch,
    "ret": _leave,
    "exit": _leave,
    "bar": _barrier,
    "shfl": _shuffle,
    "membar": lambda *_: lambda mask: None,
    "fence": lambda *_: lambda mask: None,
}
