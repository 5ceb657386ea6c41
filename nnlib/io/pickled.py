"""An interpreter for the pickles inside PyTorch's files, which runs none of their code.

A pickle is a program for a small stack machine; two of its instructions, a global name
and a call, are what makes loading one dangerous. Here a global is looked up in a table
of the few names that a file of tensors needs, and what is called is nnlib's own.
Source: PEP 307, PEP 3154, and the comments of Python's ``pickletools``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

from nnlib.io.safetensors import CheckpointError

__all__ = ["Call", "checked_key", "interpret"]

_MARK = object()


def checked_key(key: Any) -> Any:
    """Return a dict's key if it is a plain one.

    Python hashes nested tuples by recursion in C without a bound: deep ones, which a
    few bytes describe, would end the process.
    """
    plain = (str, int, float, bytes, type(None))
    parts = key if isinstance(key, tuple) else (key,)
    if not all(isinstance(part, plain) for part in parts):
        raise CheckpointError(
            f"its description has a dict key of type {type(key).__name__} that is no "
            "number, string or tuple of them"
        )
    return key


class Call:
    """What a global stands for: a function of nnlib's, under its name in the file."""

    __slots__ = ("name", "run")

    def __init__(self, name: str, run: Callable[..., Any] | None) -> None:
        self.name, self.run = name, run


class _Machine:
    """The stack machine; each instruction is a method, by its byte in `_CODES`."""

    def __init__(
        self, data: bytes, names: Mapping[str, Any], persistent: Callable[[Any], Any]
    ) -> None:
        self.data = data
        self.place = 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.names = names
        self.persistent = persistent

    def take(self, count: int) -> bytes:
        end = self.place + count
        if count < 0 or end > len(self.data):
            raise CheckpointError("its description ends too early")
        part = self.data[self.place : end]
        self.place = end
        return part

    def skip(self, count: int) -> None:
        self.take(count)

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> str:
        end = self.data.find(b"\n", self.place)
        if end < 0:
            raise CheckpointError("its description ends too early")
        return self.take(end + 1 - self.place)[:-1].decode()

    def since_mark(self) -> list[Any]:
        for at in range(len(self.stack) - 1, -1, -1):
            if self.stack[at] is _MARK:
                items = self.stack[at + 1 :]
                del self.stack[at:]
                return items
        raise CheckpointError("its description is damaged: no mark")

    def run(self) -> Any:
        while True:
            code = self.take(1)[0]
            if code == 0x2E:  # STOP
                return self.stack.pop()
            step = _CODES.get(code)
            if step is None:
                raise CheckpointError(
                    f"its description uses the instruction 0x{code:02x}, which no file "
                    "of tensors needs"
                )
            step(self)

    def push(self, value: Any) -> None:
        self.stack.append(value)

    # -- instructions that need more than an expression --------------------------

    def find_global(self, module: str, name: str) -> None:
        full = f"{module}.{name}"
        if full not in self.names:
            raise CheckpointError(
                f"it asks for {full}, and loading that could run code: refused. If you "
                "trust the file, convert it where PyTorch is installed: "
                "safetensors.torch.save_file(state_dict, 'weights.safetensors')"
            )
        self.push(self.names[full])

    def stack_global(self) -> None:
        name = self.stack.pop()
        self.find_global(str(self.stack.pop()), str(name))

    def reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Call) or function.run is None:
            raise CheckpointError("its description calls what is no function")
        if not isinstance(arguments, tuple):
            raise CheckpointError("its description is damaged: no arguments")
        self.push(function.run(*arguments))

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise CheckpointError("its description is damaged: no dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[checked_key(key)] = value

    def append(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise CheckpointError("its description is damaged: no list")
        target.extend(items)

    def last(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise CheckpointError("its description is damaged: the stack is empty")
        items = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return items

    def build(self) -> None:
        # Attributes set on a dict or a tensor (``_metadata``) are of no use here.
        self.stack.pop()

    def long(self, count: int) -> None:
        self.push(int.from_bytes(self.take(count), "little", signed=True))


def interpret(
    data: bytes, names: Mapping[str, Any], persistent: Callable[[Any], Any]
) -> Any:
    """Return the object that a pickle describes.

    Parameters
    ----------
    data : bytes
    names : mapping of str to object
        What global names stand for: a `Call`, or a value. No other is looked up.
    persistent : callable
        Returns what a persistent identifier (of a storage) stands for.

    Raises
    ------
    CheckpointError
        If it is damaged, or asks for another global.

    Examples
    --------
    >>> import pickle
    >>> interpret(pickle.dumps({"a": [1, 2.5, None]}), {}, lambda key: None)
    {'a': [1, 2.5, None]}
    """
    try:
        return _Machine(data, names, persistent).run()
    except CheckpointError:
        raise
    except (
        ValueError, TypeError, KeyError, IndexError, OverflowError, struct.error
    ) as error:  # fmt: skip
        raise CheckpointError(f"its description is damaged ({error!r})") from None


def _memoize(m: _Machine) -> None:
    m.memo[len(m.memo)] = m.stack[-1]


def _text(form: str) -> Callable[[_Machine], None]:
    return lambda m: m.push(m.take(m.number(form)).decode("utf-8", "surrogatepass"))


def _bytes(form: str) -> Callable[[_Machine], None]:
    return lambda m: m.push(m.take(m.number(form)))


def _put(form: str) -> Callable[[_Machine], None]:
    return lambda m: m.memo.__setitem__(m.number(form), m.stack[-1])


def _get(form: str) -> Callable[[_Machine], None]:
    return lambda m: m.push(m.memo[m.number(form)])


def _value(value: Any) -> Callable[[_Machine], None]:
    return lambda m: m.push(value)


def _number(form: str) -> Callable[[_Machine], None]:
    return lambda m: m.push(m.number(form))


_CODES: dict[int, Callable[[_Machine], None]] = {
    ord("\x80"): lambda m: m.skip(1),  # PROTO
    ord("\x95"): lambda m: m.skip(8),  # FRAME
    ord("("): _value(_MARK),
    ord("0"): lambda m: m.stack.pop() and None,
    ord("N"): _value(None),
    ord("\x88"): _value(True),
    ord("\x89"): _value(False),
    ord("J"): _number("<i"),
    ord("K"): _number("<B"),
    ord("M"): _number("<H"),
    ord("G"): _number(">d"),
    ord("\x8a"): lambda m: m.long(m.number("<B")),
    ord("\x8b"): lambda m: m.long(m.number("<i")),
    ord("X"): _text("<I"),
    ord("\x8c"): _text("<B"),
    ord("\x8d"): _text("<Q"),
    ord("U"): _text("<B"),
    ord("T"): _text("<i"),
    ord("B"): _bytes("<I"),
    ord("C"): _bytes("<B"),
    ord("]"): lambda m: m.push([]),
    ord("}"): lambda m: m.push({}),
    ord(")"): _value(()),
    ord("l"): lambda m: m.push(m.since_mark()),
    ord("t"): lambda m: m.push(tuple(m.since_mark())),
    ord("\x85"): lambda m: m.push(tuple(m.last(1))),
    ord("\x86"): lambda m: m.push(tuple(m.last(2))),
    ord("\x87"): lambda m: m.push(tuple(m.last(3))),
    ord("q"): _put("<B"),
    ord("r"): _put("<I"),
    ord("\x94"): _memoize,
    ord("h"): _get("<B"),
    ord("j"): _get("<I"),
    ord("s"): lambda m: m.set_items(m.last(2)),
    ord("u"): lambda m: m.set_items(m.since_mark()),
    ord("a"): lambda m: m.append(m.last(1)),
    ord("e"): lambda m: m.append(m.since_mark()),
    ord("c"): lambda m: m.find_global(m.line(), m.line()),
    ord("\x93"): lambda m: m.stack_global(),
    ord("Q"): lambda m: m.push(m.persistent(m.stack.pop())),
    ord("R"): lambda m: m.reduce(),
    ord("\x81"): lambda m: m.reduce(),  # NEWOBJ: of the same few names
    ord("b"): lambda m: m.build(),
}
