"""`load`: a file in the ONNX format as a Module."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from nnlib.autograd.tensor import Parameter, Tensor
from nnlib.backend.dtypes import FLOATING
from nnlib.backend.errors import ArgumentError, DTypeError, ShapeError
from nnlib.backend.quiet import QUIET, restore_errors, set_errors
from nnlib.nn.module import Module
from nnlib.onnx.compiling import Input, Program, compile_model, prune
from nnlib.onnx.errors import OnnxError
from nnlib.onnx.executable import Executable, as_tensor, mode
from nnlib.onnx.reading import read

__all__ = ["OnnxModule", "load"]


def load(
    path: str | os.PathLike[str] | Any,
    *,
    outputs: str | Sequence[str] | None = None,
    free_batch: bool = False,
) -> OnnxModule:
    """Return the model of an ONNX file as a Module, in evaluation mode.

    Its floating initialisers are Parameters (running statistics of normalisations are
    buffers), under their names in the file, where dots separate modules as usual; so
    they can be frozen, trained, saved and replaced like those of any other Module.

    Parameters
    ----------
    path : str, path or onnx.ModelProto
        Opsets 7 to 28; weights in other files are looked for beside it.
    outputs : str or sequence of str, optional
        Names of inner values to return in place of the model's outputs (for features
        and new heads). What they do not need is left out.
    free_batch : bool, default False
        Let a model that was exported for one batch size take any: the first dimension
        of its inputs is not checked, and a Reshape to that batch size keeps the first
        dimension of its input.

    Returns
    -------
    OnnxModule
        Call it with the model's inputs in order, or by name.

    Raises
    ------
    OnnxError
        If the file is damaged, or data of it is missing; if an operator, an attribute
        or the opset is not supported: all such nodes are named together.
    """
    try:
        model, folder = read(path)
        wanted = (outputs,) if isinstance(outputs, str) else outputs
        if free_batch:
            _free_batch(model)
        program = compile_model(model, folder, wanted)
        return OnnxModule(program)
    except (OnnxError, OSError):
        raise
    except (
        ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError,
        RecursionError, MemoryError,
    ) as error:  # fmt: skip
        raise OnnxError(f"load: the model is damaged: {error!r}") from error


def _free_batch(model: Any) -> None:
    """Make the first dimension of inputs free, and reshapes follow it."""
    graph = model.graph
    initial = {tensor.name: tensor for tensor in graph.initializer}
    sizes = set()
    for value in graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name not in initial and len(dims) and dims[0].HasField("dim_value"):
            sizes.add(dims[0].dim_value)
            dims[0].ClearField("dim_value")
    made = {name for node in graph.node for name in node.output}
    inputs = {value.name for value in graph.input} - set(initial)
    for node in graph.node:
        if node.op_type != "Reshape" or len(node.input) < 2:
            continue
        varies = node.input[0] in made | inputs
        tensor = initial.get(node.input[1])
        if tensor is None or not varies:
            continue
        raw = np.frombuffer(tensor.raw_data, "<i8") if tensor.raw_data else None
        shape = list(tensor.int64_data if raw is None else raw)
        if len(shape) > 1 and shape[0] in sizes:
            tensor.ClearField("raw_data")
            del tensor.int64_data[:]
            tensor.int64_data.extend([0, *shape[1:]])


class OnnxModule(Module):
    """A model read from an ONNX file: what `load` returns.

    In training mode its Dropout nodes drop, and its BatchNormalization nodes take the
    batch's statistics and update the running ones, except where scale and bias are
    both frozen: a frozen normalisation stays as in evaluation mode.

    Attributes
    ----------
    input_names, output_names : tuple of str
    value_names : tuple of str
        The inner values that `truncate` can return.
    parameter_names : dict of str to str
        For each initialiser of the file that is a parameter or buffer, its key in the
        `state_dict`.
    """

    def __init__(
        self, program: Program, tensors: dict[str, Tensor] | None = None
    ) -> None:
        super().__init__()
        self._inputs = program.inputs
        self._program = program
        self.parameter_names: dict[str, str] = {}
        self._sources: list[tuple[str, Any, str, str]] = []
        for name, array in program.trained.items():
            self._place(name, Parameter(Tensor._from_array(array)))
        for name, array in program.fixed.items():
            self._place(name, Tensor._from_array(array), name in program.state)
        for name, tensor in (tensors or {}).items():
            self._place(name, tensor, name in program.state)
        self._link()
        self.eval()

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs, in the order of the arguments."""
        return tuple(spec.name for spec in self._inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs."""
        return tuple(self._program.outputs)

    @property
    def value_names(self) -> tuple[str, ...]:
        """Names of all values that the model computes, in their order."""
        return tuple(
            name for step in self._program.steps for name in step.outputs if name
        )

    def _place(self, name: str, tensor: Tensor, persistent: bool = True) -> None:
        """Register a tensor under its dotted name, in modules made for the parts."""
        *path, leaf = [part or "_" for part in name.replace("@", "_").split(".")]
        module: Any = self
        key = ""
        for part in path:
            while part not in module._modules and hasattr(module, part):
                part += "_"
            if part not in module._modules:
                module.add_module(part, Module())
            module = module._modules[part]
            key += f"{part}."
        while hasattr(module, leaf):
            leaf += "_"
        if isinstance(tensor, Parameter):
            module.register_parameter(leaf, tensor)
            kind = "_parameters"
        else:
            module.register_buffer(leaf, tensor, persistent)
            kind = "_buffers"
        self._sources.append((name, module, kind, leaf))
        self.parameter_names[name] = key + leaf

    def _link(self) -> None:
        program = self._program
        self._host = list(program.host.values())
        names = [spec.name for spec in program.inputs]
        names += [name for name, *_ in self._sources] + list(program.host)
        self._executable = Executable(program.steps, names, program.outputs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model.

        Parameters
        ----------
        *args, **kwargs : Tensor or array
            The inputs, in their order, or by name, or one dict by name.

        Returns
        -------
        Tensor, or tuple of Tensor if there are several outputs

        Raises
        ------
        ArgumentError
            If an input is missing or unknown.
        DTypeError, ShapeError
            If an input is not what the model says.
        """
        given = self._bind(args, kwargs)
        given += [
            module.__dict__[kind][leaf] for _, module, kind, leaf in self._sources
        ]
        given += self._host
        before, mode.training = mode.training, self.training
        errors = set_errors(QUIET)
        try:
            out = self._executable.run(given)
        finally:
            mode.training = before
            restore_errors(errors)
        result = tuple(map(as_tensor, out))
        return result[0] if len(result) == 1 else result

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        if len(args) == 1 and isinstance(args[0], dict) and not kwargs:
            kwargs, args = args[0], ()
        specs = self._inputs
        if len(args) == len(specs) and not kwargs:
            return [self._check(s, x) for s, x in zip(specs, args, strict=True)]
        names = [spec.name for spec in specs]
        signature = ", ".join(names)
        if len(args) > len(specs):
            raise ArgumentError(
                f"OnnxModule: expected {len(specs)} inputs ({signature}), got "
                f"{len(args)}"
            )
        given = dict(zip(names, args, strict=False))
        for name, value in kwargs.items():
            if name not in names:
                raise ArgumentError(
                    f"OnnxModule: unknown input {name!r}; expected {signature}"
                )
            if name in given:
                raise ArgumentError(f"OnnxModule: input {name!r} is given twice")
            given[name] = value
        missing = [name for name in names if name not in given]
        if missing:
            raise ArgumentError(
                f"OnnxModule: missing input {', '.join(missing)}; expected {signature}"
            )
        return [self._check(spec, given[spec.name]) for spec in specs]

    def _check(self, spec: Input, value: Any) -> Any:
        if not isinstance(value, Tensor):
            if not hasattr(value, "dtype"):
                raise DTypeError(
                    f"OnnxModule: input {spec.name!r}: expected a tensor or array, got "
                    f"{type(value).__name__}"
                )
            value = Tensor._from_array(np.asarray(value))
        array = value._array
        if array.dtype != spec.dtype and not self._is_cast_to(spec.dtype, array.dtype):
            raise DTypeError(
                f"OnnxModule: input {spec.name!r}: expected dtype {spec.dtype}, got "
                f"{array.dtype}"
            )
        if spec.shape is not None:
            sizes = array.shape
            if len(sizes) != len(spec.shape) or any(
                isinstance(want, int) and want != got
                for want, got in zip(spec.shape, sizes, strict=True)
            ):
                shape = ", ".join("any" if n is None else str(n) for n in spec.shape)
                raise ShapeError(
                    f"OnnxModule: input {spec.name!r}: expected shape ({shape}), got "
                    f"{sizes}"
                )
        return value

    def _is_cast_to(self, wanted: Any, got: Any) -> bool:
        """Tell whether the module itself was cast to the dtype of an input."""
        if wanted not in FLOATING or got not in FLOATING:
            return False
        first = next(iter(self.parameters()), None)
        return first is not None and first.dtype == got

    def truncate(self, outputs: str | Sequence[str]) -> OnnxModule:
        """Return a Module that ends at inner values and shares these parameters.

        Parameters
        ----------
        outputs : str or sequence of str
            Of `value_names`.

        Raises
        ------
        ArgumentError
            If there is no such value.
        """
        wanted = [outputs] if isinstance(outputs, str) else list(outputs)
        for name in wanted:
            if name not in self.value_names:
                raise ArgumentError(
                    f"truncate: there is no value {name!r}; the last ones are "
                    f"{', '.join(self.value_names[-5:])}"
                )
        steps = prune(self._program.steps, wanted)
        needed = {name for step in steps for name in step.inputs}
        held = {name: (m, kind, leaf) for name, m, kind, leaf in self._sources}
        tensors = {
            name: m.__dict__[kind][leaf]
            for name, (m, kind, leaf) in held.items()
            if name in needed
        }
        cut = self._program._replace(
            inputs=[spec for spec in self._inputs if spec.name in needed],
            outputs=wanted,
            steps=steps,
            trained={},
            fixed={},
            host={k: v for k, v in self._program.host.items() if k in needed},
        )
        return OnnxModule(cut, tensors).train(self.training)

    def extra_repr(self) -> str:
        """Return the inputs, the outputs and the number of nodes."""
        return (
            f"{', '.join(self.input_names)} -> {', '.join(self.output_names)}, "
            f"{len(self._program.steps)} nodes"
        )
