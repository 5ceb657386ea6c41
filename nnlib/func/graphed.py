"""`make_graphed_callables`: functions and modules whose passes are CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nnlib.autograd import grad as gradients
from nnlib.autograd.function import Function
from nnlib.autograd.mode import enable_grad
from nnlib.autograd.once import once_differentiable
from nnlib.autograd.tensor import Tensor
from nnlib.backend import device
from nnlib.backend.errors import DeviceError, DTypeError, ShapeError
from nnlib.backend.graphs import CUDAGraph, Pool, graph
from nnlib.nn.module import Module

__all__ = ["make_graphed_callables"]


class Replayed(Function):
    """The forward pass of a function by one graph, the backward pass by another."""

    upcasts = False

    def forward(self, *arrays: Any, passes: _Passes) -> Any:
        """Return the outputs, a tuple."""
        self.passes = passes
        return passes.ahead(arrays)

    @once_differentiable(  # type: ignore[untyped-decorator]
        "the callable before make_graphed_callables"
    )
    def backward(self, *grads: Any) -> Any:
        """Return the gradients of inputs and parameters."""
        return self.passes.back(grads)


class _Passes:
    """Both graphs of a function of tensors, and the tensors that they work on."""

    def __init__(
        self,
        call: Callable[..., Any],
        samples: Sequence[Tensor],
        parameters: Sequence[Tensor],
        warm: int,
        unused: bool,
        pool: Pool | None,
    ) -> None:
        self.inputs = [
            x.detach().clone().requires_grad_(x.requires_grad) for x in samples
        ]
        self.several = True
        self._ahead, self._back = CUDAGraph(), CUDAGraph()
        tensors = [*self.inputs, *parameters]
        self.weights = [p._array for p in parameters]
        # Which of inputs and parameters get a gradient, and which outputs have one.
        self.leaves = [i for i, x in enumerate(tensors) if x.requires_grad]
        leaves = [tensors[i] for i in self.leaves]
        with enable_grad():
            for _ in range(warm):
                roots = [y for y in self._run(call) if y.requires_grad]
                if roots and leaves:
                    gradients(
                        roots, leaves, list(map(_ones, roots)), allow_unused=unused
                    )
            with graph(self._ahead, pool=pool):
                outputs = self._run(call)
            self.roots = [i for i, y in enumerate(outputs) if y.requires_grad]
            roots = [outputs[i] for i in self.roots]
            self.slopes = list(map(_ones, roots))
            self.found: Sequence[Tensor | None] = [None] * len(leaves)
            if roots and leaves:
                with graph(self._back, pool=self._ahead.pool()):
                    self.found = gradients(
                        roots, leaves, self.slopes,
                        retain_graph=pool is not None, allow_unused=unused,
                    )  # fmt: skip
        # Another graph of the pool may run between the two: it gets no memory of what
        # the forward pass has saved.
        self.saved = None if pool is None else outputs
        self.outputs = [y.detach() for y in outputs]
        self.count = len(tensors)

    def _run(self, call: Callable[..., Any]) -> Sequence[Tensor]:
        found = call(*self.inputs)
        self.several = isinstance(found, tuple | list)
        outputs: Sequence[Tensor] = found if self.several else (found,)
        if not all(isinstance(y, Tensor) for y in outputs):
            raise DTypeError(
                "make_graphed_callables: expected a callable that returns a Tensor or "
                "a tuple of them"
            )
        return outputs

    def ahead(self, arrays: Sequence[Any]) -> tuple[Any, ...]:
        """Replay the forward pass on these inputs."""
        for number, (mine, array) in enumerate(zip(self.inputs, arrays, strict=False)):
            if array.shape != mine.shape or array.dtype != mine.dtype:
                raise ShapeError(
                    f"graphed callable: argument {number}: expected {mine.dtype} of "
                    f"shape {tuple(mine.shape)}, as it was recorded, got {array.dtype} "
                    f"of shape {array.shape}"
                )
            mine._array[...] = array
        for mine, array in zip(self.weights, arrays[len(self.inputs) :], strict=True):
            if array is not mine and array.data.ptr != mine.data.ptr:
                raise DeviceError(
                    "graphed callable: a parameter lies elsewhere than at the "
                    "recording; call make_graphed_callables anew"
                )
        self._ahead.replay()
        return tuple([y._array[...] for y in self.outputs])

    def back(self, grads: Sequence[Any]) -> tuple[Any, ...]:
        """Replay the backward pass on the gradients of the outputs."""
        for slope, number in zip(self.slopes, self.roots, strict=True):
            slope._array[...] = grads[number]
        self._back.replay()
        result: list[Any] = [None] * self.count
        for found, number in zip(self.found, self.leaves, strict=True):
            result[number] = None if found is None else found._array
        return tuple(result)


def _ones(y: Tensor) -> Tensor:
    """Return ones like an output, in memory that is none of a graph's."""
    array = y._array
    return Tensor._from_array(device.array_module(array).ones_like(array))


def make_graphed_callables(
    callables: Any,
    sample_args: Any,
    num_warmup_iters: int = 3,
    allow_unused_input: bool = False,
    pool: Pool | None = None,
) -> Any:
    """Return callables whose forward and backward passes are CUDA graphs.

    For a part of a step that can be recorded where the whole cannot. The results are
    overwritten by the next call, before which its backward pass must have run, once.

    Parameters
    ----------
    callables : callable or tuple of callables
        Modules, whose ``forward`` is replaced for the mode (training or not) that they
        are in, or functions. They take tensors and return one or several.
    sample_args : tuple of Tensor, or one for each callable
        On CUDA. Their shapes, dtypes and ``requires_grad`` are those of every call.
    num_warmup_iters : int
        Runs before the recording: at least 1.
    allow_unused_input : bool
        Whether an input or parameter may have no part in the outputs.
    pool : Pool, optional
        Memory that the graphs share with others.

    Raises
    ------
    DTypeError
        If `sample_args` is no tuple.
    DeviceError
        If there is no CUDA, a sample lies on the CPU, or the work cannot be recorded.
    """
    device.cupy()
    if not isinstance(sample_args, tuple | list):
        # A tensor would be taken for a tuple of its rows.
        raise DTypeError(
            "make_graphed_callables: sample_args: expected a tuple, got "
            f"{type(sample_args).__name__}"
        )
    if isinstance(callables, tuple | list):
        return tuple(
            [
                make_graphed_callables(
                    call, sample, num_warmup_iters, allow_unused_input, pool
                )
                for call, sample in zip(callables, sample_args, strict=True)
            ]
        )
    for number, x in enumerate(sample_args):
        if not isinstance(x, Tensor) or not x.is_cuda:
            raise DeviceError(
                f"make_graphed_callables: sample_args: argument {number}: expected a "
                f"tensor on CUDA, got {getattr(x, 'device', type(x).__name__)}"
            )
    module = callables if isinstance(callables, Module) else None
    original = callables if module is None else module.forward
    parameters = [] if module is None else list(module.parameters())
    passes = _Passes(
        original, sample_args, parameters, num_warmup_iters, allow_unused_input, pool
    )

    def graphed(*args: Any) -> Any:
        if len(args) != len(passes.inputs):
            raise ShapeError(
                f"graphed callable: expected {len(passes.inputs)} arguments, got "
                f"{len(args)}"
            )
        found = Replayed.apply(*args, *parameters, passes=passes)
        return found if passes.several else found[0]

    if module is None:
        return graphed
    training = module.training

    def forward(*args: Any) -> Any:
        run = graphed if module.training == training else original
        return run(*args)

    module.forward = forward
    return module
