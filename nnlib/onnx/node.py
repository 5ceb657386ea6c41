"""A node of a graph as the functions of `nnlib.onnx.table` see it while loading."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from nnlib.onnx.errors import OnnxError, package
from nnlib.onnx.reading import to_array

__all__ = ["Node", "wrong_counts"]

_MISSING: Any = object()
# AttributeProto.AttributeType to the field that holds the value.
_KINDS = {
    1: ("float", "f"),
    2: ("int", "i"),
    3: ("string", "s"),
    4: ("tensor", "t"),
    5: ("graph", "g"),
    6: ("floats", "floats"),
    7: ("ints", "ints"),
    8: ("strings", "strings"),
}


class Node:
    """One node: its name, its inputs and outputs, and its attributes.

    An attribute that nobody has read when the node has been built is one that nnlib
    does not know: `unread` names it.

    Attributes
    ----------
    op : str
    version : int
        The version in which the operator got the meaning it has in the model.
    inputs, outputs : tuple of str
        Names of values; "" where an optional one is left out.
    known : dict of str to array
        Values of inputs that are known while loading.
    """

    def __init__(
        self,
        proto: Any,
        version: int,
        known: dict[str, Any],
        folder: Path,
        compile_graph: Callable[..., Any] | None = None,
    ) -> None:
        self.op = proto.op_type
        self.version = version
        self.inputs = tuple(proto.input)
        self.outputs = tuple(proto.output)
        self.label = label_of(proto)
        self.known = known
        self._folder = folder
        self._compile = compile_graph
        self._attributes = {a.name: a for a in proto.attribute}
        self._read: set[str] = set()

    def fail(self, message: str) -> OnnxError:
        """Return the error that says `message` about this node."""
        return OnnxError(f"{self.label}: {message}")

    def has(self, position: int) -> bool:
        """Tell whether an optional input is given."""
        return position < len(self.inputs) and self.inputs[position] != ""

    def wants(self, position: int) -> bool:
        """Tell whether an optional output is wanted."""
        return position < len(self.outputs) and self.outputs[position] != ""

    def constant(self, position: int) -> np.ndarray[Any, Any] | None:
        """Return the value of an input if it is known while loading, else None."""
        return self.known.get(self.inputs[position]) if self.has(position) else None

    def given(self, name: str) -> bool:
        """Tell whether there is an attribute `name`."""
        return name in self._attributes

    def unread(self) -> list[str]:
        """Return the attributes that nobody asked for."""
        return sorted(set(self._attributes) - self._read)

    def _get(self, name: str, kind: str, default: Any) -> Any:
        self._read.add(name)
        proto = self._attributes.get(name)
        if proto is None:
            if default is _MISSING:
                raise self.fail(f"the attribute {name} is missing")
            return default
        got, field = _KINDS.get(proto.type, ("of another type", ""))
        if got != kind:
            raise self.fail(f"attribute {name}: expected {kind}, got {got}")
        if proto.ref_attr_name:
            raise self.fail(f"attribute {name}: refers to another outside a function")
        return getattr(proto, field)

    def int(self, name: str, default: Any = _MISSING) -> Any:
        """Return an integer attribute."""
        return self._get(name, "int", default)

    def float(self, name: str, default: Any = _MISSING) -> Any:
        """Return a float attribute."""
        return self._get(name, "float", default)

    def ints(self, name: str, default: Any = _MISSING) -> Any:
        """Return a list of integers as a tuple."""
        value = self._get(name, "ints", default)
        return value if value is None else tuple(value)

    def floats(self, name: str, default: Any = _MISSING) -> Any:
        """Return a list of floats as a tuple."""
        value = self._get(name, "floats", default)
        return value if value is None else tuple(value)

    def string(self, name: str, default: Any = _MISSING, allowed: Any = None) -> Any:
        """Return a string attribute; one of `allowed`, if that is given."""
        value = self._get(name, "string", default)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if allowed is not None and value not in allowed:
            raise self.fail(
                f"attribute {name}: expected one of {', '.join(map(str, allowed))}, "
                f"got {value!r}"
            )
        return value

    def strings(self, name: str, default: Any = _MISSING) -> Any:
        """Return a list of strings as a tuple."""
        value = self._get(name, "strings", default)
        if value is None:
            return None
        return tuple(
            v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in value
        )

    def tensor(self, name: str, default: Any = _MISSING) -> Any:
        """Return a tensor attribute as an array."""
        value = self._get(name, "tensor", default)
        return value if value is default else to_array(value, self._folder)

    def graph(self, name: str) -> Any:
        """Return the compiled graph of an attribute: an `Executable` with `captures`.

        The names it takes from outside are appended to this node's inputs.
        """
        value = self._get(name, "graph", _MISSING)
        if self._compile is None:
            raise self.fail(f"attribute {name}: no graph is expected here")
        body = self._compile(value, f"{self.label}.{name}")
        start = len(self.inputs)
        self.inputs += body.captures
        return body, slice(start, len(self.inputs))


def label_of(proto: Any) -> str:
    """Return how messages call a node: its type, and its name or first output."""
    name = proto.name or next((x for x in proto.output if x), "")
    return f"{proto.op_type} node {name!r}"


def wrong_counts(proto: Any, domain: str, version: int | None) -> str:
    """Tell where a node has other numbers of inputs or outputs than its operator."""
    defs = package().defs
    if not defs.has(proto.op_type, domain):
        return ""
    try:
        schema = defs.get_schema(proto.op_type, version, domain)
    except defs.SchemaError:
        return ""  # an operator that came later than this version
    given = len(proto.input)
    if not schema.min_input <= given <= schema.max_input:
        least, most = schema.min_input, schema.max_input
        wanted = str(least) if least == most else f"{least} to {most}"
        if most > 1000:
            wanted = f"at least {least}"
        return f"expected {wanted} inputs, got {given}"
    absent = [i for i, name in enumerate(proto.input[: schema.min_input]) if not name]
    if absent and schema.inputs[-1].option != schema.inputs[-1].option.Variadic:
        return f"its input {schema.inputs[absent[0]].name!r} is left out"
    if len(proto.output) > schema.max_output:
        return f"expected at most {schema.max_output} outputs, got {len(proto.output)}"
    return ""
