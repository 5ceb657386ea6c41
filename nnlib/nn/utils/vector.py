"""All parameters as one vector, and back."""

from __future__ import annotations

from collections.abc import Iterable

from nnlib import ops
from nnlib.autograd.guarding import guarded
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module, context_of
from nnlib.backend.errors import DTypeError, ShapeError

__all__ = ["parameters_to_vector", "vector_to_parameters"]


@guarded
def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """Return all parameters one after the other in one vector.

    Raises
    ------
    ShapeError
        If there are none.

    Examples
    --------
    >>> from nnlib import nn
    >>> parameters_to_vector(nn.Linear(3, 2).parameters()).shape
    Size([8])
    """
    flat = [parameter.reshape(-1) for parameter in parameters]
    if not flat:
        raise ShapeError("parameters_to_vector: expected at least one parameter")
    return ops.cat(flat)


@guarded
def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Write the parts of a vector into the parameters, in order.

    Raises
    ------
    ShapeError
        If the vector is not as long as all parameters together.
    """
    if not isinstance(vec, Tensor):
        raise DTypeError(
            f"vector_to_parameters: vec: expected a Tensor, got {type(vec).__name__}"
        )
    targets = list(parameters)
    total = sum(parameter.numel() for parameter in targets)
    if tuple(vec.shape) != (total,):
        raise ShapeError(
            f"vector_to_parameters: vec: expected shape ({total},), got "
            f"{tuple(vec.shape)}"
        )
    start = 0
    for parameter in targets:
        array = parameter._array
        part = vec._array[start : start + array.size].reshape(array.shape)
        with context_of(array):
            array_module(array).copyto(array, part, casting="unsafe")
        parameter._bump()
        start += array.size
