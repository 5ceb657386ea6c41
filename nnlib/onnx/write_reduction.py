"""Export of reductions."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.onnx.tracing import Record
from nnlib.onnx.writers import dtype_at, writes
from nnlib.onnx.writing import Writer, element_type
from nnlib.ops.extremes import ArgExtreme, Extreme, ExtremeAt
from nnlib.ops.logic import Reduce
from nnlib.ops.moments import Std, StdMean, Var, VarMean, VectorNorm
from nnlib.ops.reduction import LogSumExp, Mean, Prod, Sum
from nnlib.ops.scan import CumSum
from nnlib.ops.sorting import TopK


def _dims(dims: Any) -> Any:
    return dims if dims is None or isinstance(dims, tuple | list) else (dims,)


@writes(Sum)
def sum_(g: Writer, record: Record) -> str:
    """Write ReduceSum."""
    p = record.params
    x = g.value(0)
    if dtype_at(record) != record.out[0].dtype:
        x = g.add("Cast", [x], to=element_type(record.out[0].dtype))
    return g.reduce("ReduceSum", x, _dims(p["dims"]), p["keepdim"])


@writes(Mean)
def mean(g: Writer, record: Record) -> str:
    """Write ReduceMean."""
    p = record.params
    return g.reduce("ReduceMean", g.value(0), _dims(p["dims"]), p["keepdim"])


@writes(LogSumExp)
def logsumexp(g: Writer, record: Record) -> str:
    """Write ReduceLogSumExp."""
    p = record.params
    return g.reduce("ReduceLogSumExp", g.value(0), _dims(p["dims"]), p["keepdim"])


@writes(Prod)
def prod(g: Writer, record: Record) -> str:
    """Write ReduceProd."""
    p = record.params
    return g.reduce("ReduceProd", g.value(0), _dims(p["dim"]), p["keepdim"])


@writes(VectorNorm)
def norm(g: Writer, record: Record) -> str:
    """Write ReduceL1 or ReduceL2."""
    p = record.params
    if p["p"] not in (1, 2):
        raise g.unknown(f"a norm of order {p['p']}")
    op = "ReduceL1" if p["p"] == 1 else "ReduceL2"
    return g.reduce(op, g.value(0), _dims(p["dims"]), p["keepdim"])


@writes(Extreme)
def extreme(g: Writer, record: Record) -> str:
    """Write ReduceMax or ReduceMin."""
    p = record.params
    op = "ReduceMax" if p["largest"] else "ReduceMin"
    return g.reduce(op, g.value(0), _dims(p["dims"]), p["keepdim"])


@writes(ArgExtreme)
def arg_extreme(g: Writer, record: Record) -> str:
    """Write ArgMax or ArgMin."""
    p, x = record.params, g.value(0)
    op = "ArgMax" if p["largest"] else "ArgMin"
    if p["dim"] is not None:
        return g.add(op, [x], axis=p["dim"], keepdims=int(p["keepdim"]))
    return g.add(op, [g.add("Reshape", [x, g.ints(-1)])], axis=0, keepdims=0)


@writes(ExtremeAt)
def extreme_at(g: Writer, record: Record) -> list[str]:
    """Write the extreme and its place."""
    p, x = record.params, g.value(0)
    high = p["largest"]
    value = g.reduce("ReduceMax" if high else "ReduceMin", x, (p["dim"],), p["keepdim"])
    place = g.add(
        "ArgMax" if high else "ArgMin", [x], axis=p["dim"], keepdims=int(p["keepdim"])
    )
    return [value, place]


@writes(CumSum)
def cumsum(g: Writer, record: Record) -> str:
    """Write CumSum."""
    p = record.params
    axis = g.constant(np.array(p["dim"], np.int64))
    return g.add("CumSum", [g.value(0), axis], reverse=int(p["reverse"]))


@writes(Reduce)
def any_all(g: Writer, record: Record) -> str:
    """Write any and all as the largest and the smallest of bools."""
    p = record.params
    number = g.add("Cast", [g.value(0)], to=element_type(np.dtype(np.int32)))
    op = "ReduceMax" if p["name"] == "any" else "ReduceMin"
    out = g.reduce(op, number, _dims(p["axis"]), p["keepdim"])
    return g.add("Cast", [out], to=element_type(np.dtype(np.bool_)))


@writes(Var, Std, VarMean, StdMean)
def variance(g: Writer, record: Record) -> list[str]:
    """Write the mean squared distance from the mean (or its root), and the mean."""
    p, x, dtype = record.params, g.value(0), dtype_at(record)
    dims, keepdim = _dims(p["dims"]), p.get("keepdim", False)
    over = range(len(record.shape(0))) if dims is None else dims
    count, other = 1, 1
    for dim in over:
        count, other = count * record.shape(0)[dim], other * g.twin.shape(0)[dim]
    if count != other:
        raise g.depends()
    away = g.add("Sub", [x, g.reduce("ReduceMean", x, dims, True)])
    total = g.reduce("ReduceSum", g.add("Mul", [away, away]), dims, keepdim)
    y = g.add("Div", [total, g.constant(count - p.get("correction", 1), dtype)])
    if issubclass(record.cls, Std | StdMean):
        y = g.add("Sqrt", [y])
    return [y, g.reduce("ReduceMean", x, dims, keepdim)]


@writes(TopK)
def top_k(g: Writer, record: Record) -> list[str]:
    """Write TopK."""
    p = record.params
    k, axis, largest = g.ints(p["k"]), p["dim"], int(p["largest"])
    return g.several("TopK", [g.value(0), k], 2, axis=axis, largest=largest)
