"""From a graph's description to steps: names checked, constants computed, faults told.

Floating initialisers become parameters, unless an operator only reads them as a
constant (a scale of Resize) or as state (running statistics). What depends on constants
alone is computed while loading; what no wanted output needs is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nnlib.backend.dtypes import FLOATING
from nnlib.backend.quiet import QUIET, restore_errors, set_errors
from nnlib.onnx import limits
from nnlib.onnx.errors import OnnxError
from nnlib.onnx.executable import Executable, Step, call
from nnlib.onnx.node import Node, label_of, wrong_counts
from nnlib.onnx.reading import dtype_of, opsets_of, to_array
from nnlib.onnx.table import find

__all__ = ["Input", "Program", "compile_model", "prune"]


class Input(NamedTuple):
    """What a model says about one input.

    Attributes
    ----------
    name : str
    dtype : numpy.dtype
    shape : tuple of (int, str or None), or None
        Sizes, or their names, or None for any; None if the rank is unknown too.
    optional : bool
        Whether an initialiser stands in for it.
    """

    name: str
    dtype: Any
    shape: tuple[int | str | None, ...] | None
    optional: bool


class Program(NamedTuple):
    """A compiled model.

    Attributes
    ----------
    inputs : list of Input
    outputs : list of str
    steps : list of Step
    trained : dict of str to array
        Initialisers that become parameters.
    fixed : dict of str to array
        Constants and state that tensors are combined with: they become buffers.
    state : set of str
        Names among `fixed` that belong to the model's state.
    host : dict of str to array
        Constants that are read on the host alone.
    """

    inputs: list[Input]
    outputs: list[str]
    steps: list[Step]
    trained: dict[str, Any]
    fixed: dict[str, Any]
    state: set[str]
    host: dict[str, Any]


class _Scope:
    """The names of one graph, and of those around it."""

    def __init__(self, outer: _Scope | None, prefix: str) -> None:
        self.outer = outer
        self.prefix = prefix
        self.names: dict[str, str] = {}

    def define(self, name: str) -> str:
        full = self.prefix + name
        self.names[name] = full
        return full

    def find(self, name: str) -> str | None:
        scope: _Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.outer
        return None


class _Compiler:
    def __init__(self, versions: dict[str, int], folder: Path) -> None:
        self.versions = versions
        self.folder = folder
        self.faults: list[str] = []
        self.constants: dict[str, Any] = {}
        self.initial: dict[str, Any] = {}

    def graph(self, graph: Any, scope: _Scope, inputs: Iterable[str]) -> list[Step]:
        """Return the steps of a graph; its names are entered into `scope`."""
        for name in inputs:
            scope.define(name)
        for tensor in graph.initializer:
            full = scope.define(tensor.name)
            array = to_array(tensor, self.folder)
            self.initial[full] = array
            if array.dtype not in FLOATING:
                self.constants[full] = array
        if graph.sparse_initializer:
            raise OnnxError("load: sparse initialisers are not supported")
        steps: list[Step] = []
        for proto in graph.node:
            step = self.step(proto, scope)
            for name in proto.output:
                if name and name in scope.names:
                    self.faults.append(f"{label_of(proto)}: {name!r} is made twice")
                if name:
                    scope.define(name)
            if step is not None:
                step = step._replace(
                    outputs=tuple(x and scope.names[x] for x in step.outputs)
                )
                if not self.fold(step, proto):
                    steps.append(step)
        return steps

    def step(self, proto: Any, scope: _Scope) -> Step | None:
        label = label_of(proto)
        domain = "" if proto.domain == "ai.onnx" else proto.domain
        version = self.versions.get(domain)
        found = None if version is None else find(domain, proto.op_type, version)
        if found is None:
            where = f"{domain}, " if domain else ""
            self.faults.append(
                f"{label}: operator {proto.op_type} ({where}opset {version}) is not "
                "supported"
            )
            return None
        since, entry = found
        names = []
        for name in proto.input:
            full = scope.find(name) if name else ""
            if full is None:
                self.faults.append(f"{label}: nothing makes its input {name!r}")
                return None
            names.append(full)
        known = {
            name: self.constants.get(full, self.initial.get(full))
            for name, full in zip(proto.input, names, strict=True)
            if full in self.constants or full in self.initial
        }

        def compile_graph(graph: Any, where: str) -> Executable:
            return self.body(graph, scope, where)

        wrong = wrong_counts(proto, domain, version)
        if wrong:
            self.faults.append(f"{label}: {wrong}")
            return None
        node = Node(proto, since, known, self.folder, compile_graph)
        try:
            run = entry.build(node)
        except OnnxError as error:
            self.faults.append(str(error))
            return None
        unread = node.unread()
        if unread:
            self.faults.append(
                f"{label}: attribute {', '.join(unread)} of {proto.op_type} "
                f"(version {since}) is not supported"
            )
            return None
        captured = node.inputs[len(proto.input) :]
        return Step(
            run,
            (*names, *captured),
            node.outputs,
            entry.host,
            entry.raw,
            label,
            proto.op_type,
        )

    def body(self, graph: Any, scope: _Scope, where: str) -> Executable:
        """Compile the graph of an attribute; outer names become captures."""
        inner = _Scope(scope, f"{where}/")
        names = [value.name for value in graph.input]
        steps = self.graph(graph, inner, names)
        outputs = []
        for value in graph.output:
            full = inner.find(value.name)
            if full is None:
                self.faults.append(f"{where}: nothing makes its output {value.name!r}")
            outputs.append(full or "")
        steps = prune(steps, outputs)
        inputs = [inner.names[name] for name in names]
        made = {*inputs, "", *(name for step in steps for name in step.outputs)}
        wanted = [name for step in steps for name in step.inputs] + outputs
        captures = list(dict.fromkeys(name for name in wanted if name not in made))
        return Executable(steps, [*inputs, *captures], outputs, captures)

    def fold(self, step: Step, proto: Any) -> bool:
        """Compute a step whose inputs are constants; tell whether that was done."""
        domain = "" if proto.domain == "ai.onnx" else proto.domain
        found = find(domain, proto.op_type, self.versions.get(domain, 0))
        if found is None or not found[1].pure:
            return False
        known = self.constants
        if proto.op_type in ("Shape", "Size"):
            known = known | {
                x: self.initial[x] for x in step.inputs if x in self.initial
            }
        if any(name and name not in known for name in step.inputs):
            return False
        args = [known.get(name) for name in step.inputs]
        errors = set_errors(QUIET)
        try:
            with limits.folding():
                out = step.run(*args) if step.raw else call(step.run, args, step.host)
        except limits.TooLarge:
            return False
        except Exception as error:
            self.faults.append(f"{step.label}: {error}")
            return True
        finally:
            restore_errors(errors)
        for name, value in zip(
            step.outputs, out if type(out) is tuple else (out,), strict=False
        ):
            if name:
                self.constants[name] = value
        return True


def prune(steps: Sequence[Step], outputs: Iterable[str]) -> list[Step]:
    """Return the steps that the outputs need, in their order."""
    needed = set(outputs)
    kept = []
    for step in reversed(steps):
        if any(name in needed for name in step.outputs if name):
            needed.update(step.inputs)
            kept.append(step)
    return kept[::-1]


def _read_inputs(graph: Any, initial: set[str]) -> list[Input]:
    found = []
    for value in graph.input:
        kind = value.type
        if not kind.HasField("tensor_type"):
            raise OnnxError(
                f"load: input {value.name!r}: expected a tensor; sequences, maps and "
                "optional values are not supported"
            )
        tensor = kind.tensor_type
        shape: Any = None
        if tensor.HasField("shape"):
            shape = tuple(
                int(dim.dim_value)
                if dim.HasField("dim_value")
                else (dim.dim_param or None)
                for dim in tensor.shape.dim
            )
        try:
            dtype = dtype_of(tensor.elem_type)
        except OnnxError as error:
            raise OnnxError(f"load: input {value.name!r}: {error}") from None
        found.append(Input(value.name, dtype, shape, value.name in initial))
    return found


def compile_model(
    model: Any, folder: Path, outputs: Sequence[str] | None = None
) -> Program:
    """Compile a ModelProto.

    Parameters
    ----------
    outputs : sequence of str, optional
        Names of values to return in place of the model's outputs; nodes that they do
        not need are left out, supported or not.

    Raises
    ------
    OnnxError
        All nodes that are not supported, together.
    """
    graph = model.graph
    if outputs is not None:
        _cut(graph := _copy(graph), outputs)
    compiler = _Compiler(opsets_of(model), folder)
    scope = _Scope(None, "")
    initial = {tensor.name for tensor in graph.initializer}
    specs = _read_inputs(graph, initial)
    steps = compiler.graph(graph, scope, [spec.name for spec in specs])
    # An initialiser that is an input as well is only its default.
    wanted = [value.name for value in graph.output]
    for name in wanted:
        if name not in scope.names:
            compiler.faults.append(f"nothing makes the output {name!r}")
    if compiler.faults:
        shown = compiler.faults[:50]
        more = len(compiler.faults) - len(shown)
        raise OnnxError(
            "load: nothing was loaded, because of\n  "
            + "\n  ".join(shown)
            + (f"\n  and {more} more" if more else "")
        )
    steps = prune(steps, wanted)
    inputs = [spec for spec in specs if not spec.optional]
    return _sort(compiler, steps, inputs, wanted)


def _copy(graph: Any) -> Any:
    made = type(graph)()
    made.CopyFrom(graph)
    return made


def _cut(graph: Any, outputs: Sequence[str]) -> None:
    """Leave only the nodes that `outputs` need."""
    needed = set(outputs)
    made = {name for node in graph.node for name in node.output if name}
    absent = [name for name in outputs if name not in made]
    if absent:
        raise OnnxError(
            f"load: outputs: the model has no value {absent[0]!r}; the last ones are "
            f"{', '.join(x for n in list(graph.node)[-5:] for x in n.output)}"
        )
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            needed.update(_inner_names(node))
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept[::-1])
    del graph.output[:]
    for name in outputs:
        graph.output.add().name = name
    inputs = [value for value in graph.input if value.name in needed]
    del graph.input[:]
    graph.input.extend(inputs)


def _inner_names(node: Any) -> set[str]:
    """Return all names that the graphs in a node's attributes read."""
    found: set[str] = set()
    for attribute in node.attribute:
        for below in attribute.g.node:
            found.update(below.input)
            found.update(_inner_names(below))
        found.update(value.name for value in attribute.g.output)
    return found


def _sort(
    compiler: _Compiler, steps: list[Step], inputs: list[Input], outputs: list[str]
) -> Program:
    """Find out what each initialiser and constant is used as."""
    values = compiler.initial | compiler.constants
    state_places = {
        name
        for step in steps
        for position, name in enumerate(step.inputs)
        if position in _state(compiler, step)
    }
    trained: dict[str, Any] = {}
    fixed: dict[str, Any] = {}
    host: dict[str, Any] = {}
    made = []
    for step in steps:
        names = list(step.inputs)
        for position, name in enumerate(names):
            if name not in values:
                continue
            array = values[name]
            if position in step.host:
                names[position] = f"{name}@host"
                host[f"{name}@host"] = array
            elif name in compiler.constants or name in state_places or not array.ndim:
                (fixed if array.dtype in FLOATING else host)[name] = array
            else:
                trained[name] = array
        made.append(step._replace(inputs=tuple(names)))
    for name in outputs:
        if name in values:
            array = values[name]
            kind = host if name in compiler.constants else trained
            kind[name] = array
    state = {name for name in fixed if name in compiler.initial}
    return Program(inputs, outputs, made, trained, fixed, state, host)


def _state(compiler: _Compiler, step: Step) -> tuple[int, ...]:
    found = find("", step.op, compiler.versions.get("", 0))
    return () if found is None else found[1].state
