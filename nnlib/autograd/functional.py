"""Derivatives of functions: products with the Jacobian and Hessian, and these whole.

As `torch.autograd.functional`. A function takes one or several Tensors and returns one
or several; a single one stands for itself in the results, several come as tuples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nnlib.autograd.engine import grad
from nnlib.autograd.mode import enable_grad
from nnlib.autograd.registry import OPS
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.errors import DTypeError, Error, ShapeError

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]

Function = Callable[..., Any]


def vjp(
    func: Function,
    inputs: Any,
    v: Any = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Any, Any]:
    r"""Return ``func(*inputs)`` and ``v^T J``: one backward pass.

    Parameters
    ----------
    func : callable
    inputs : Tensor or tuple of Tensor
    v : Tensor or tuple of Tensor, optional
        Of the outputs' shapes; not needed for one output of one element.
    create_graph : bool, default False
        Make the results differentiable.
    strict : bool, default False
        Raise where an output does not depend on an input, instead of giving zeros.

    Returns
    -------
    outputs : Tensor or tuple of Tensor
    product : Tensor or tuple of Tensor, of the inputs' shapes

    Examples
    --------
    >>> import nnlib
    >>> vjp(lambda x: x * x, nnlib.tensor([1.0, 2.0]), nnlib.tensor([1.0, 1.0]))
    (tensor([1., 4.]), tensor([2., 4.]))
    """
    run = _Run("vjp", func, inputs, create_graph, strict)
    product = run.pull(run.outputs, run.cotangents(v, run.outputs))
    return run.given(run.outputs, run.one_output), run.given(product, run.one_input)


def jvp(
    func: Function,
    inputs: Any,
    v: Any = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Any, Any]:
    """Return ``func(*inputs)`` and ``J v``.

    ``u^T J`` is linear in ``u``: its derivative by ``u``, applied to ``v``, is ``J v``.
    This takes two backward passes, whatever the number of outputs.

    Parameters
    ----------
    v : Tensor or tuple of Tensor, optional
        Of the inputs' shapes; not needed for one input of one element.
    func, inputs, create_graph, strict
        As for `vjp`.

    Examples
    --------
    >>> import nnlib
    >>> jvp(lambda x: x * x, nnlib.tensor([1.0, 2.0]), nnlib.tensor([1.0, 1.0]))
    (tensor([1., 4.]), tensor([2., 4.]))
    """
    run = _Run("jvp", func, inputs, create_graph, strict)
    v = run.cotangents(v, run.inputs)
    weights = [_zeros_like(out).requires_grad_() for out in run.outputs]
    with enable_grad():
        pulled = run.pull(run.outputs, weights, create_graph=True)
        product = run.pull(pulled, v, weights)
    return run.given(run.outputs, run.one_output), run.given(product, run.one_output)


def jacobian(
    func: Function,
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
) -> Any:
    """Return the Jacobian, one backward pass per element of the outputs.

    Parameters
    ----------
    vectorize : bool, default False
        Kept for PyTorch's signature.
    func, inputs, create_graph, strict
        As for `vjp`.

    Returns
    -------
    Tensor or nested tuples of Tensor
        ``[output][input]``, of shape ``(*output.shape, *input.shape)``.

    Examples
    --------
    >>> import nnlib
    >>> jacobian(lambda x: x * x, nnlib.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    run = _Run("jacobian", func, inputs, create_graph, strict)
    result = []
    for out in run.outputs:
        rows = [run.pull([out], [seed]) for seed in _unit_vectors(out)]
        blocks = []
        for position, x in enumerate(run.inputs):
            shape = (*out.shape, *x.shape)
            column = [row[position] for row in rows]
            block: Any = OPS["stack"].function(column) if column else None
            blocks.append(
                block.reshape(shape) if column else _zeros_like(x, shape=shape)
            )
        result.append(run.given(blocks, run.one_input))
    return run.given(result, run.one_output)


def hessian(
    func: Function,
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
) -> Any:
    """Return the Hessian of a function with one output of one element.

    Returns
    -------
    Tensor or nested tuples of Tensor
        ``[input][input]``, of shape ``(*input.shape, *input.shape)``.

    Examples
    --------
    >>> import nnlib
    >>> hessian(lambda x: (x * x * x).sum(), nnlib.tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """

    def gradient(*xs: Tensor) -> Any:
        run = _Run("hessian", func, xs, True, strict)
        run.require_scalar()
        product = run.pull(run.outputs, run.cotangents(None, run.outputs))
        return run.given(product, isinstance(inputs, Tensor))

    return jacobian(gradient, inputs, create_graph)


def vhp(
    func: Function,
    inputs: Any,
    v: Any = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Any, Any]:
    """Return ``func(*inputs)`` and ``v^T H`` for a function with one element.

    Parameters
    ----------
    v : Tensor or tuple of Tensor, optional
        Of the inputs' shapes; not needed for one input of one element.
    func, inputs, create_graph, strict
        As for `vjp`.
    """
    run = _Run("vhp", func, inputs, create_graph, strict)
    run.require_scalar()
    v = run.cotangents(v, run.inputs)
    with enable_grad():
        gradient = run.pull(
            run.outputs, run.cotangents(None, run.outputs), create_graph=True
        )
        product = run.pull(gradient, v)
    return run.given(run.outputs, run.one_output), run.given(product, run.one_input)


def hvp(
    func: Function,
    inputs: Any,
    v: Any = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Any, Any]:
    """Return ``func(*inputs)`` and ``H v``, which is `vhp`: a Hessian is symmetric."""
    return vhp(func, inputs, v, create_graph, strict)


class _Run:
    """One evaluation: fresh inputs, the outputs, and how results are given back."""

    def __init__(
        self, name: str, func: Function, inputs: Any, create_graph: bool, strict: bool
    ) -> None:
        self.name, self.create_graph, self.strict = name, create_graph, strict
        self.one_input = isinstance(inputs, Tensor)
        # With `create_graph` the results stay connected to the user's tensors.
        with enable_grad():
            self.inputs = [
                x.clone()
                if create_graph and x.requires_grad
                else x.detach().requires_grad_()
                for x in self.tensors(inputs, "inputs")
            ]
            made = func(*self.inputs)
        self.one_output = isinstance(made, Tensor)
        self.outputs = self.tensors(made, "the outputs of the function")

    def tensors(self, value: Any, what: str) -> list[Tensor]:
        """Return one or several Tensors as a list."""
        several = [value] if isinstance(value, Tensor) else value
        if not isinstance(several, Sequence) or not all(
            isinstance(x, Tensor) for x in several
        ):
            raise DTypeError(
                f"{self.name}: {what}: expected a Tensor or a tuple of Tensors, got "
                f"{type(value).__name__}"
            )
        return list(several)

    def require_scalar(self) -> None:
        """Refuse anything but one output of one element."""
        if len(self.outputs) != 1 or self.outputs[0].numel() != 1:
            shapes = ", ".join(str(tuple(out.shape)) for out in self.outputs)
            raise ShapeError(
                f"{self.name}: the function must return one element, its outputs have "
                f"shape {shapes}"
            )

    def cotangents(self, v: Any, like: list[Tensor]) -> list[Tensor]:
        """Check what the user multiplies with; ones for a single element."""
        if v is None:
            if len(like) != 1 or like[0].numel() != 1:
                raise ShapeError(
                    f"{self.name}: v may be left out only for a single element"
                )
            return [_zeros_like(like[0], 1)]
        given = self.tensors(v, "v")
        shapes = [tuple(x.shape) for x in given]
        expected = [tuple(x.shape) for x in like]
        if shapes != expected:
            raise ShapeError(f"{self.name}: v: expected {expected}, got {shapes}")
        return given

    def pull(
        self,
        outputs: list[Tensor],
        weights: list[Tensor],
        inputs: list[Tensor] | None = None,
        create_graph: bool | None = None,
    ) -> list[Tensor]:
        """Return the gradients of the weighted outputs; zeros where there are none."""
        xs = self.inputs if inputs is None else inputs
        pairs = [
            pair for pair in zip(outputs, weights, strict=True) if pair[0].requires_grad
        ]
        found: Sequence[Tensor | None] = [None] * len(xs)
        record = self.create_graph if create_graph is None else create_graph
        if pairs:
            found = grad(
                [out for out, _ in pairs],
                xs,
                [u for _, u in pairs],
                retain_graph=True,
                create_graph=record,
                allow_unused=True,
            )
        for position, value in enumerate(found):
            if value is None and self.strict:
                raise Error(
                    f"{self.name}: the result does not depend on input {position}; "
                    "strict=False gives zeros for it"
                )
        return [
            _zeros_like(x) if value is None else value
            for x, value in zip(xs, found, strict=True)
        ]

    def given(self, values: Sequence[Any], single: bool) -> Any:
        """Return results in the form of what they belong to."""
        if not self.create_graph:
            values = [x.detach() if isinstance(x, Tensor) else x for x in values]
        return values[0] if single else tuple(values)


def _zeros_like(x: Tensor, value: float = 0, shape: Any = None) -> Tensor:
    array = x.array
    made = array_module(array).full(
        array.shape if shape is None else shape, value, dtype=array.dtype
    )
    return Tensor._from_array(made)


def _unit_vectors(out: Tensor) -> list[Tensor]:
    vectors = []
    for index in range(out.numel()):
        unit = _zeros_like(out)
        unit.array.reshape(-1)[index] = 1
        vectors.append(unit)
    return vectors
