"""The ONNX project's own node tests: ``python -m nnlib.onnx.conformance`` runs them.

The tests come with the ``onnx`` package, as models of one node (or of the nodes that an
operator is defined by) with inputs and expected outputs.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nnlib.onnx.errors import package
from nnlib.onnx.model import load
from nnlib.onnx.reading import DTYPES, HIGHEST_OPSET, to_array
from nnlib.onnx.table import find

__all__ = ["Outcome", "cases", "main", "run", "run_all"]

# Families that nnlib leaves out, by operator.
_FAMILIES = {
    "quantised numbers": (
        "QuantizeLinear DequantizeLinear DynamicQuantizeLinear QLinearConv "
        "QLinearMatMul ConvInteger MatMulInteger"
    ),
    "strings": (
        "StringNormalizer StringConcat StringSplit RegexFullMatch TfIdfVectorizer "
        "LabelEncoder"
    ),
    "sequences, maps and optional values": (
        "SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert "
        "SequenceLength SequenceMap SplitToSequence ConcatFromSequence Optional "
        "OptionalGetElement OptionalHasElement"
    ),
    "image files": "ImageDecoder",
    "signal processing": "DFT STFT MelWeightMatrix",
    "detection": "NonMaxSuppression RoiAlign MaxRoiPool DeformConv",
    "preview operators": "FlexAttention LinearAttention CausalConvWithState SwiGLU",
}
_OUT = {op: why for why, names in _FAMILIES.items() for op in names.split()}
# Expected outputs that hold what NumPy's generator drew.
_RANDOM = ("Bernoulli", "RandomUniformLike", "RandomNormalLike", "Multinomial")


class Outcome(NamedTuple):
    """What became of one test.

    Attributes
    ----------
    name : str
    kind : {"passed", "failed", "out of scope"}
    detail : str
        Why it failed, or is out of scope.
    """

    name: str
    kind: str
    detail: str = ""


def cases() -> list[Any]:
    """Return the node tests of the installed ``onnx`` package."""
    package()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        return list(collect_testcases(None))


def _nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            yield from _nodes(attribute.g)


def _types(graph: Any) -> Iterator[str]:
    """Yield what nnlib's tensors cannot hold among inputs and outputs."""
    for value in [*graph.input, *graph.output]:
        kind = value.type.WhichOneof("value")
        if kind not in ("tensor_type", None):
            yield "sequences, maps and optional values"
        elif kind and value.type.tensor_type.elem_type not in DTYPES:
            number = value.type.tensor_type.elem_type
            name = str(package().TensorProto.DataType.Name(number)).lower()
            yield f"elements of type {name}"


def out_of_scope(case: Any) -> str | None:
    """Return why nnlib does not run a test, or None."""
    model = case.model
    versions = {entry.domain: entry.version for entry in model.opset_import}
    for domain in versions:
        if domain not in ("", "ai.onnx"):
            return f"operators of the domain {domain}"
    version = versions.get("", 0)
    if not 7 <= version <= HIGHEST_OPSET:
        return f"opset {version}"
    reasons = list(_types(model.graph))
    if reasons:
        return reasons[0]
    nodes = list(_nodes(model.graph))
    for node in nodes:
        if node.op_type in _OUT:
            return _OUT[node.op_type]
        if node.op_type in _RANDOM:
            return "results are random"
        number = next((a.i for a in node.attribute if a.name == "to"), 1)
        if node.op_type in ("Cast", "BitCast") and number not in DTYPES:
            return "elements that no tensor of nnlib can hold"
        if find("", node.op_type, version) is None:
            return f"the operator {node.op_type}"
        if node.op_type == "Dropout" and "training_dropout" in case.name:
            if "zero_ratio" not in case.name:
                return "results are random"
    return None


def run(case: Any) -> Outcome:
    """Run one test."""
    why = out_of_scope(case)
    if why is not None:
        return Outcome(case.name, "out of scope", why)
    try:
        model = load(case.model)
        for inputs, expected in case.data_sets:
            found = model(*map(_array, inputs))
            found = found if isinstance(found, tuple) else (found,)
            for number, (a, b) in enumerate(zip(found, expected, strict=True)):
                problem = _difference(a.numpy(), _array(b), case)
                if problem:
                    return Outcome(case.name, "failed", f"output {number}: {problem}")
    except Exception as error:  # whatever it is, the other tests still run
        return Outcome(case.name, "failed", f"{type(error).__name__}: {error}")
    return Outcome(case.name, "passed")


def _array(value: Any) -> Any:
    """Return an array; some tests hold their values as the format's own tensors."""
    if isinstance(value, package().TensorProto):
        return to_array(value, Path("."))
    return np.asarray(value)


def _difference(found: Any, wanted: Any, case: Any) -> str | None:
    if found.dtype != wanted.dtype:
        return f"dtype {found.dtype} in place of {wanted.dtype}"
    if found.shape != wanted.shape:
        return f"shape {found.shape} in place of {wanted.shape}"
    if found.dtype.kind in "iub":
        return None if (found == wanted).all() else "values differ"
    a, b = found.astype(np.float64), wanted.astype(np.float64)
    rtol, atol = max(case.rtol, 1e-3), max(case.atol, 1e-7)
    if found.dtype.itemsize == 2:
        rtol, atol = max(rtol, 1e-2), max(atol, 1e-2)
    if np.allclose(a, b, rtol, atol, equal_nan=True):
        return None
    with np.errstate(all="ignore"):
        return f"values differ by up to {np.nanmax(np.abs(a - b)):.3g}"


def run_all() -> list[Outcome]:
    """Run every test."""
    return [run(case) for case in cases()]


def main() -> int:
    """Print what passed, what failed, and what is out of scope and why."""
    outcomes = run_all()
    count = Counter(outcome.kind for outcome in outcomes)
    print(f"ONNX node tests (onnx {package().__version__}): {len(outcomes)}")
    for kind in ("passed", "failed", "out of scope"):
        print(f"  {kind:<13}{count[kind]:5}")
    failed = [outcome for outcome in outcomes if outcome.kind == "failed"]
    for outcome in failed:
        print(f"FAILED {outcome.name}: {outcome.detail}")
    print("out of scope, by reason:")
    reasons = Counter(o.detail for o in outcomes if o.kind == "out of scope")
    for reason, number in reasons.most_common():
        print(f"  {number:5}  {reason}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
