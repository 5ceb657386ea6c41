"""Clipping of gradients: by their common norm, and by value."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from nnlib import kernels
from nnlib.autograd.guarding import guarded
from nnlib.autograd.sparse import is_row_sparse
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module, context_of, device_of, to_device
from nnlib.backend.dtypes import HALF, float32
from nnlib.backend.errors import ArgumentError, Error
from nnlib.backend.quiet import QUIET, restore_errors, set_errors

__all__ = [
    "clip_grad_norm_",
    "clip_grad_value_",
    "clip_grads_with_norm_",
    "get_total_norm",
]


def _gradients(parameters: Any) -> list[Any]:
    """Return the arrays of the gradients that there are, each once, to be changed."""
    given = [parameters] if isinstance(parameters, Tensor) else parameters
    unique = {id(tensor): tensor for tensor in given}
    found = [p._grad for p in unique.values() if p._grad is not None]
    arrays = []
    for grad in found:
        # A graph that saved it (create_graph=True) must notice.
        grad._bump()
        if is_row_sparse(grad):
            # Equal rows must be one before they are squared or clamped.
            arrays.append(grad.coalesce()._values)
        else:
            arrays.append(grad._array)
    return arrays


def _norm(array: Any, norm_type: float) -> Any:
    """Return the norm of one array, of shape (), in float32 or float64."""
    module = array_module(array)
    if array.dtype in HALF:
        array = array.astype(float32)
    if norm_type == 2.0:
        reduction = kernels.reduction
        return module.sqrt(reduction.reduce_all(array, reduction.SQUARES))
    if array.size == 0:
        return module.zeros((), array.dtype)
    if norm_type == math.inf:
        return module.abs(array).max()
    return (module.abs(array) ** norm_type).sum() ** (1.0 / norm_type)


def _total_norm(arrays: list[Any], norm_type: float) -> Any:
    """Return the norm of the arrays' norms, where the first of them lives."""
    module = array_module(arrays[0])
    place = device_of(arrays[0])
    norms = []
    for x in arrays:
        with context_of(x):
            norm = array_module(x).asarray(_norm(x, norm_type))
        norms.append(to_device(norm, place))
    with context_of(arrays[0]):
        stacked = module.stack(norms)
        if norm_type == math.inf:
            total = stacked.max()
        elif norm_type == 2.0:
            total = module.sqrt((stacked * stacked).sum())
        else:
            total = (stacked**norm_type).sum() ** (1.0 / norm_type)
        return module.asarray(total)


@guarded
def get_total_norm(
    tensors: Iterable[Tensor] | Tensor,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Tensor:
    """Return the norm of all tensors together, as if they were one vector.

    Parameters
    ----------
    tensors : iterable of Tensor
    norm_type : float, default 2.0
        ``inf`` is the largest absolute value.
    error_if_nonfinite : bool, default False
        Raise if the norm is NaN or infinite (waits for a GPU).

    Returns
    -------
    Tensor, shape ()
    """
    given = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    return _checked_norm(
        "get_total_norm", [x._array for x in given], norm_type, error_if_nonfinite
    )


def _checked_norm(
    name: str, arrays: list[Any], norm_type: float, error_if_nonfinite: bool
) -> Tensor:
    if not norm_type > 0:
        raise ArgumentError(
            f"{name}: norm_type: expected a positive number, got {norm_type}"
        )
    if not arrays:
        from nnlib.autograd.construct import tensor

        return tensor(0.0)
    total = _total_norm(arrays, float(norm_type))
    if error_if_nonfinite and not math.isfinite(float(total)):
        raise Error(
            f"{name}: the total norm of order {norm_type} is {float(total)}: a "
            "gradient is NaN or infinite, so it cannot be scaled"
        )
    return Tensor._from_array(total)


@guarded
def clip_grad_norm_(
    parameters: Iterable[Tensor] | Tensor,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Tensor:
    """Scale all gradients so that their common norm is at most `max_norm`.

    The factor is ``min(1, max_norm / (norm + 1e-6))``, one for all of them.

    R. Pascanu, T. Mikolov, Y. Bengio: On the difficulty of training recurrent neural
    networks, ICML 2013, algorithm 1.

    Parameters
    ----------
    parameters : iterable of Tensor, or Tensor
        Those without a gradient do not count.
    max_norm : float
    norm_type : float, default 2.0
        ``inf`` is the largest absolute value.
    error_if_nonfinite : bool, default False
        Raise if the norm is NaN or infinite (waits for a GPU).

    Returns
    -------
    Tensor, shape ()
        The norm before the scaling.

    Raises
    ------
    Error
        If the norm is not finite and `error_if_nonfinite`.

    Examples
    --------
    >>> import nnlib
    >>> x = nnlib.tensor([3.0, 4.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> clip_grad_norm_(x, 1.0)
    tensor(10.)
    >>> x.grad
    tensor([0.6, 0.8])
    """
    arrays = _gradients(parameters)
    total = _checked_norm("clip_grad_norm_", arrays, norm_type, error_if_nonfinite)
    if arrays:
        token = set_errors(QUIET)
        try:
            _scale(arrays, total._array, float(max_norm))
        finally:
            restore_errors(token)
    return total


@guarded
def clip_grads_with_norm_(
    parameters: Iterable[Tensor] | Tensor, max_norm: float, total_norm: Tensor
) -> None:
    """Scale all gradients by ``min(1, max_norm / (total_norm + 1e-6))``.

    The second half of `clip_grad_norm_`, for a norm known from elsewhere.

    Examples
    --------
    >>> import nnlib
    >>> x = nnlib.tensor([3.0, 4.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> clip_grads_with_norm_(x, 1.0, nnlib.tensor(20.0))
    >>> x.grad
    tensor([0.3, 0.4])
    """
    arrays = _gradients(parameters)
    if arrays:
        token = set_errors(QUIET)
        try:
            _scale(arrays, total_norm._array, float(max_norm))
        finally:
            restore_errors(token)


def _scale(arrays: list[Any], total: Any, max_norm: float) -> None:
    # Stays on the device: reading the norm would wait for a GPU.
    module = array_module(total)
    with context_of(total):
        factor = module.asarray(module.minimum(max_norm / (total + 1e-6), 1.0))
    for array in arrays:
        with context_of(array):
            if device_of(array) == device_of(factor):
                array *= factor.astype(array.dtype)
            else:
                array *= float(factor)


@guarded
def clip_grad_value_(parameters: Iterable[Tensor] | Tensor, clip_value: float) -> None:
    """Clamp every element of every gradient to ``[-clip_value, clip_value]``.

    Examples
    --------
    >>> import nnlib
    >>> x = nnlib.tensor([3.0, -0.1], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> clip_grad_value_(x, 1.0)
    >>> x.grad
    tensor([ 1. , -0.2])
    """
    limit = float(clip_value)
    if not limit >= 0:
        raise ArgumentError(
            f"clip_grad_value_: clip_value: expected at least 0, got {limit}"
        )
    for array in _gradients(parameters):
        with context_of(array):
            array_module(array).clip(array, -limit, limit, out=array)
