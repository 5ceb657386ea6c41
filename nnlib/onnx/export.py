"""`export`: a Module as a file in the ONNX format."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.errors import ArgumentError, DTypeError
from nnlib.nn.module import Module
from nnlib.onnx.errors import OnnxError, package
from nnlib.onnx.tracing import Trace, Traced
from nnlib.onnx.writers import writer_of
from nnlib.onnx.writing import Writer, element_type, place_of, to_proto

__all__ = ["export"]

_LOWEST, _HIGHEST = 13, 21
# The intermediate representation that came with each opset.
_IR = {13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10}


def export(
    model: Module,
    example_inputs: Any,
    path: str | os.PathLike[str] | None = None,
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    dynamic_axes: Mapping[str, Any] | None = None,
    opset_version: int = 17,
    export_params: bool = True,
    do_constant_folding: bool = True,
    verbose: bool = False,
) -> Any:
    """Write a model, in evaluation mode, as an ONNX file.

    The model is run on the example inputs and what it computes is written down; so
    Python's own ``if`` and ``for`` are written as they went for these. Parameters and
    buffers become initialisers under the names of the `state_dict`.

    Parameters
    ----------
    model : Module
    example_inputs : Tensor, or tuple of Tensor
    path : str or path, optional
        Replaced only when the new file is complete; None writes no file.
    input_names, output_names : sequence of str, optional
        Default ``input``, ``output`` (with a number, if there are several).
    dynamic_axes : dict, optional
        For names of inputs, the dimensions that may have any size: a list of them, or
        a dict from dimension to the name of the size. Dimensions of one name, or of
        different inputs with one size in the example, change together. Entries of
        outputs name dimensions that are found by themselves.
    opset_version : int, default 17
        13 to 21.
    export_params, do_constant_folding, verbose : bool
        Taken, so that PyTorch code runs, and without effect: the parameters are in the
        file, and what depends on constants alone is written as a constant.

    Returns
    -------
    onnx.ModelProto
        The model, as it was written.

    Raises
    ------
    OnnxError
        If an operation has no counterpart (named), or depends on a dynamic axis in a
        way that cannot be written.
    ArgumentError, DTypeError
        If the arguments do not fit.

    Examples
    --------
    >>> import nnlib
    >>> model = nnlib.nn.Sequential(nnlib.nn.Linear(3, 2), nnlib.nn.ReLU())
    >>> made = export(model, nnlib.zeros(1, 3), dynamic_axes={"input": [0]})
    >>> [node.op_type for node in made.graph.node]
    ['Gemm', 'Relu']
    """
    onnx = package()
    if not _LOWEST <= opset_version <= _HIGHEST:
        raise ArgumentError(
            f"export: opset_version: expected {_LOWEST} to {_HIGHEST}, got "
            f"{opset_version}"
        )
    examples = _examples(example_inputs)
    names = _names("input", input_names, len(examples))
    axes = _axes(dynamic_axes or {}, names, examples)
    others = [_resized(x, axes[name]) for x, name in zip(examples, names, strict=True)]
    first, second = _trace(model, examples), _trace(model, others)
    graphs = [
        _write(model, one, two, names, opset_version)
        for one, two in ((first, second), (second, first))
    ]
    _compare(*graphs)
    writer, outputs = graphs[0]
    results = _names("output", output_names, len(outputs))
    strange = [name for name in dynamic_axes or {} if name not in (*names, *results)]
    if strange:
        raise ArgumentError(
            f"export: dynamic_axes: there is no input or output {strange[0]!r}; there "
            f"are {', '.join((*names, *results))}"
        )
    made = _assemble(
        onnx, writer, outputs, (first, second), names, results, axes, dynamic_axes
    )
    made.opset_import.add().version = opset_version
    made.ir_version = _IR[opset_version]
    onnx.checker.check_model(made)
    if path is not None:
        _save(made.SerializeToString(), Path(path))
    return made


def _examples(given: Any) -> list[Tensor]:
    values = list(given) if isinstance(given, tuple | list) else [given]
    for number, value in enumerate(values):
        if not isinstance(value, Tensor):
            raise DTypeError(
                f"export: example_inputs: expected Tensors, got "
                f"{type(value).__name__} as number {number}"
            )
    return values


def _names(kind: str, given: Sequence[str] | None, count: int) -> list[str]:
    if given is None:
        return [kind] if count == 1 else [f"{kind}_{n}" for n in range(count)]
    names = [given] if isinstance(given, str) else list(given)
    if len(names) != count or len(set(names)) != count or not all(names):
        raise ArgumentError(
            f"export: {kind}_names: expected {count} different names, got {names}"
        )
    return names


def _axes(
    given: Mapping[str, Any], names: list[str], examples: list[Tensor]
) -> dict[str, dict[int, str]]:
    """Return, for each input, its free dimensions and their names."""
    found: dict[str, dict[int, str]] = {}
    for name, x in zip(names, examples, strict=True):
        entry = given.get(name, {})
        if not isinstance(entry, Mapping):
            entry = {dim: f"{name}_dim{dim}" for dim in entry}
        for dim in entry:
            if not isinstance(dim, int) or not -x.ndim <= dim < x.ndim:
                raise ArgumentError(
                    f"export: dynamic_axes: {name!r} has no dimension {dim!r}"
                )
        found[name] = {dim % x.ndim: str(label) for dim, label in entry.items()}
    return found


def _resized(x: Tensor, axes: dict[int, str]) -> Tensor:
    """Return an example with one more entry in each free dimension, and other values.

    The values are those of the first, in reversed order: still indices within bounds.
    """
    module = array_module(x._array)
    array = module.ascontiguousarray(x._array).reshape(-1)[::-1].reshape(x.shape)
    for dim in axes:
        length = array.shape[dim]
        if not length:
            raise ArgumentError("export: example_inputs: a dynamic axis is empty")
        array = module.take(array, module.arange(length + 1) % length, dim)
    return Tensor._from_array(array)


def _trace(model: Module, examples: list[Tensor]) -> tuple[Trace, list[Any], list[Any]]:
    """Run the model in evaluation mode; return the trace, inputs and outputs."""
    own = {id(tensor) for tensor in model.state_dict(keep_vars=True).values()}
    trace = Trace(own)
    inputs = [trace.fresh(x._array) for x in examples]
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with trace.inside():
            out = model(*inputs)
    finally:
        for module, training in modes:
            module.training = training
    outputs = list(_flat(out))
    for value in outputs:
        if not isinstance(value, Tensor):
            raise OnnxError(
                f"export: expected the model to return tensors, got "
                f"{type(value).__name__}"
            )
    return trace, inputs, outputs


def _flat(out: Any) -> Any:
    if isinstance(out, tuple | list):
        for item in out:
            yield from _flat(item)
    elif isinstance(out, Mapping):
        yield from _flat(list(out.values()))
    else:
        yield out


def _write(
    model: Module, traced: Any, twin: Any, names: list[str], opset: int
) -> tuple[Writer, list[str]]:
    """Turn a trace into nodes; the other trace tells which numbers are free."""
    trace, inputs, outputs = traced
    other, other_inputs, other_outputs = twin
    missing = {
        record.cls.__name__ for record in trace.records if writer_of(record.cls) is None
    }
    if missing:
        raise OnnxError(
            f"export: no counterpart in ONNX is known for {', '.join(sorted(missing))}"
        )
    if [r.cls for r in trace.records] != [r.cls for r in other.records]:
        raise OnnxError(
            "export: how many operations the model runs depends on the size of a "
            "dynamic axis (a loop in Python over it); give the axis a fixed size"
        )
    own: dict[int, str] = {}
    places: dict[Any, str] = {}
    for key, tensor in model.state_dict(keep_vars=True).items():
        own.setdefault(id(tensor), key)
        places.setdefault(place_of(tensor._array), key)
    shapes = [
        (name, tuple(a.shape), tuple(b.shape))
        for name, a, b in zip(names, inputs, other_inputs, strict=True)
    ]
    writer = Writer(opset, own, places, shapes)
    for record, second in zip(trace.records, other.records, strict=True):
        writer.record, writer.twin = record, second
        write = writer_of(record.cls)
        made = write(writer, record)  # type: ignore[misc]
        made = made if isinstance(made, list) else [made]
        for value, name in zip(record.out, made, strict=False):
            if type(value) is Traced:
                writer.values[value._number] = name
    found = [writer.of(x, y) for x, y in zip(outputs, other_outputs, strict=True)]
    return writer, found


def _compare(first: tuple[Writer, Any], second: tuple[Writer, Any]) -> None:
    """Refuse a graph that differs with the sizes of the free dimensions."""
    one, two = first[0], second[0]
    for a, b in zip(one.nodes, two.nodes, strict=False):
        if a != b:
            raise OnnxError(
                f"export: {a.op_type} depends on the values of the example inputs, or "
                "on the size of a dynamic axis, in a way that cannot be exported"
            )
    for name, array in one.initial.items():
        other = two.initial.get(name)
        if other is None or not np.array_equal(array, other, equal_nan=_nan(array)):
            raise OnnxError(
                f"export: a constant of shape {array.shape} depends on the example "
                "inputs or on the size of a dynamic axis"
            )


def _nan(array: Any) -> bool:
    return array.dtype.kind in "fc"


def _assemble(
    onnx: Any,
    writer: Writer,
    outputs: list[str],
    traces: Any,
    names: list[str],
    results: list[str],
    axes: dict[str, dict[int, str]],
    given: Mapping[str, Any] | None,
) -> Any:
    """Return the model with its inputs and outputs declared."""
    helper = onnx.helper
    (_, inputs, values), (_, _, others) = traces
    nodes = list(writer.nodes)
    for name, result in zip(outputs, results, strict=True):
        nodes.append(helper.make_node("Identity", [name], [result]))
    nodes = _needed(nodes, results)
    _rename_last(nodes, outputs, results, set(names) | set(writer.initial))
    declared = [
        helper.make_tensor_value_info(
            name,
            element_type(x.dtype),
            [axes[name].get(dim, size) for dim, size in enumerate(x.shape)],
        )
        for name, x in zip(names, inputs, strict=True)
    ]
    labels = {
        (n, n + 1): axes[name][dim]
        for name, x in zip(names, inputs, strict=True)
        for dim, n in enumerate(x.shape)
        if dim in axes[name]
    }
    made = []
    for name, x, y in zip(results, values, others, strict=True):
        entry = (given or {}).get(name, {})
        chosen = dict(entry) if isinstance(entry, Mapping) else {}
        shape = [
            a if a == b else chosen.get(dim, labels.get((a, b), f"{name}_dim{dim}"))
            for dim, (a, b) in enumerate(zip(x.shape, y.shape, strict=True))
        ]
        made.append(helper.make_tensor_value_info(name, element_type(x.dtype), shape))
    read = {name for node in nodes for name in node.input}
    initial = [
        to_proto(array, name) for name, array in writer.initial.items() if name in read
    ]
    graph = helper.make_graph(nodes, "nnlib", declared, made, initial)
    model = onnx.ModelProto()
    model.graph.CopyFrom(graph)
    model.producer_name = "nnlib"
    return model


def _needed(nodes: list[Any], results: list[str]) -> list[Any]:
    """Return the nodes that the outputs need, in their order."""
    wanted = set(results)
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    return kept[::-1]


def _rename_last(
    nodes: list[Any], outputs: list[str], results: list[str], fixed: set[str]
) -> None:
    """Give values the names of the outputs that they are, in place of an Identity."""
    for name, result in zip(outputs, results, strict=True):
        if name in fixed or outputs.count(name) > 1:
            continue
        for node in list(nodes):
            if node.op_type == "Identity" and list(node.output) == [result]:
                nodes.remove(node)
                continue
            for field in (node.input, node.output):
                for place, used in enumerate(field):
                    if used == name:
                        field[place] = result


def _save(data: bytes, path: Path) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
