"""The graph that an export builds: nodes, initialisers, names, sizes.

Two traces of the model, with different sizes of the free dimensions, tell apart the
numbers that depend on these from those that do not.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import CPU, to_device
from nnlib.onnx.errors import OnnxError, package
from nnlib.onnx.reading import DTYPES
from nnlib.onnx.tracing import Record, Traced

__all__ = ["Writer", "element_type", "to_proto"]

_NUMBERS = {dtype: number for number, dtype in DTYPES.items()}
FAR = 2**62


def element_type(dtype: Any) -> int:
    """Return the number of ``TensorProto.DataType`` that stands for a dtype."""
    return _NUMBERS[np.dtype(dtype)]


def to_proto(array: Any, name: str) -> Any:
    """Return an array as a TensorProto."""
    tensor = package().TensorProto()
    tensor.name = name
    tensor.data_type = element_type(array.dtype)
    tensor.dims.extend(array.shape)
    plain = np.ascontiguousarray(array)
    tensor.raw_data = plain.reshape(-1).view("u1").tobytes()
    return tensor


class Writer:
    """Collects the nodes of one graph.

    Parameters
    ----------
    opset : int
    names : dict of int to str
        Names of the model's own tensors, by identity.
    places : dict
        The same by the place of their memory.
    inputs : list of (str, tuple, tuple)
        Name and both shapes of each input.
    """

    def __init__(
        self,
        opset: int,
        names: dict[int, str],
        places: dict[Any, str],
        inputs: list[tuple[str, tuple[int, ...], tuple[int, ...]]],
    ) -> None:
        self.opset = opset
        self.nodes: list[Any] = []
        self.initial: dict[str, Any] = {}
        self.values: dict[int, str] = {
            number: name for number, (name, _, _) in enumerate(inputs)
        }
        self.record: Record
        self.twin: Record
        self._own = names
        self._places = places
        self._inputs = inputs
        self._taken = {name for name, _, _ in inputs}
        self._constants: dict[Any, str] = {}
        self._sizes: dict[tuple[int, int], str] = {}

    # -- names and values ------------------------------------------------------

    def name(self, hint: str) -> str:
        """Return a name that is not taken."""
        found, number = hint, 1
        while found in self._taken:
            found = f"{hint}_{number}"
            number += 1
        self._taken.add(found)
        return found

    def constant(self, array: Any, dtype: Any = None) -> str:
        """Return the name of a constant; equal ones are stored once."""
        array = np.asarray(array, dtype)
        key = array.dtype, array.shape, array.tobytes()
        if key not in self._constants:
            # A node, not an initialiser: what reads the file must not train it.
            value = to_proto(array, "value")
            self._constants[key] = self.add("Constant", [], value=value)
        return self._constants[key]

    def ints(self, *values: Any) -> str:
        """Return the name of a constant vector of int64."""
        return self.constant(np.array(values, np.int64).reshape(-1))

    def own(self, tensor: Tensor) -> str | None:
        """Return the name of a tensor of the model, which becomes an initialiser."""
        array = tensor._array
        name = self._own.get(id(tensor)) or self._places.get(place_of(array))
        if name is None:
            return None
        if name not in self.initial:
            self._taken.add(name)
            self.initial[name] = to_device(array, CPU)
        return name

    def value(self, position: int, dtype: Any = None) -> str:
        """Return the name of an argument of the operation at hand ("" for None)."""
        return self.of(self.record.args[position], self.twin.args[position], dtype)

    def of(self, x: Any, twin: Any, dtype: Any = None) -> str:
        """Return the name of a tensor or number, given its twin of the other trace."""
        if x is None:
            return ""
        if type(x) is Traced:
            return self.values[x._number]
        if not isinstance(x, Tensor):
            if x != twin and x == x:
                raise self.depends()
            return self.constant(x, dtype)
        own = self.own(x)
        if own is not None:
            return own
        a, b = to_device(x._array, CPU), to_device(twin._array, CPU)
        if a.shape != b.shape:
            return self._filled(a, b)
        return self.constant(a)

    def _filled(self, a: Any, b: Any) -> str:
        """Write a constant whose size is free: possible if all its elements are one."""
        if not a.size or (a != a.flat[0]).any() or (b != a.flat[0]).any():
            raise self.depends()
        shape = self.sizes(a.shape, b.shape)
        fill = to_proto(a.reshape(-1)[:1], "value")
        return self.add("ConstantOfShape", [shape], value=fill)

    def depends(self) -> OnnxError:
        """Return the error of an operation that a free size is written into."""
        return OnnxError(
            f"export: {self.record.cls.__name__} depends on the size of a dynamic axis "
            "in a way that cannot be exported; give the axis a fixed size"
        )

    def unknown(self, what: str) -> OnnxError:
        """Return the error of something without a counterpart in ONNX."""
        return OnnxError(
            f"export: {self.record.cls.__name__}: {what}: no counterpart in ONNX is "
            "known"
        )

    # -- nodes -------------------------------------------------------------------

    def add(self, op: str, inputs: list[str], **attributes: Any) -> str:
        """Add a node with one output; return its name."""
        return self.several(op, inputs, 1, **attributes)[0]

    def several(
        self, op: str, inputs: list[str], count: int, **attributes: Any
    ) -> list[str]:
        """Add a node with `count` outputs; return their names."""
        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        outputs = [self.name(op.lower()) for _ in range(count)]
        given = {key: value for key, value in attributes.items() if value is not None}
        node = package().helper.make_node(op, inputs, outputs, self.name(op), **given)
        self.nodes.append(node)
        return outputs

    def reduce(self, op: str, x: str, dims: Any, keep: bool) -> str:
        """Add a reduction; its axes are an input from opset 18 (ReduceSum: 13)."""
        axes = None if dims is None else list(dims)
        flag = int(bool(keep))
        if axes is None:
            return self.add(op, [x], keepdims=flag)
        if self.opset >= 18 or op == "ReduceSum":
            return self.add(op, [x, self.ints(*axes)], keepdims=flag)
        return self.add(op, [x], axes=axes, keepdims=flag)

    # -- sizes -------------------------------------------------------------------

    def sizes(self, a: tuple[int, ...], b: tuple[int, ...]) -> str:
        """Return the name of a shape whose numbers may depend on the inputs' sizes."""
        if len(a) != len(b):
            raise self.depends()
        if a == b:
            return self.ints(*a)
        parts = [
            self.ints(x) if x == y else self.size(x, y)
            for x, y in zip(a, b, strict=True)
        ]
        return self.add("Concat", parts, axis=0) if len(parts) > 1 else parts[0]

    def inferred(self, a: tuple[int, ...], b: tuple[int, ...]) -> str:
        """Return a shape for Reshape: if one size alone is free, it is inferred."""
        free = [d for d, (x, y) in enumerate(zip(a, b, strict=True)) if x != y]
        if len(free) > 1:
            return self.sizes(a, b)
        return self.ints(*(-1 if d in free else n for d, n in enumerate(a)))

    def size(self, a: int, b: int) -> str:
        """Return the name of a vector that holds the size of an input's dimension."""
        if (a, b) in self._sizes:
            return self._sizes[a, b]
        for name, first, second in self._inputs:
            for dim, pair in enumerate(zip(first, second, strict=True)):
                if pair == (a, b) and a != b:
                    shape = self.add("Shape", [name])
                    found = self.add("Gather", [shape, self.ints(dim)], axis=0)
                    self._sizes[a, b] = found
                    return found
        raise self.depends()


def place_of(array: Any) -> Any:
    """Return what tells the memory of an array from any other."""
    pointer = getattr(array, "__array_interface__", None)
    if pointer is None:
        pointer = array.__cuda_array_interface__
    return pointer["data"][0], array.shape, array.strides, array.dtype
