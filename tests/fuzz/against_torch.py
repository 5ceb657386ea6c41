"""Run one random call in nnlib and in PyTorch and compare everything it gives.

A call is a function of the library and its tensors: ``lambda lib, x: lib.sum(x, 1)``.
Values, dtypes, shapes and the gradients of a random weighting must agree; where
PyTorch raises, nnlib must raise as well.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import counting
import numpy as np
import pytest

import nnlib

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

TOLERANCE = {"float64": 1e-9, "float32": 2e-5, "float16": 1e-2, "bfloat16": 4e-2}


class Differs(AssertionError):
    """What was called, and how the two answers differ."""


def flatten(value: Any) -> list[Any]:
    """Return the tensors of a nested result."""
    if isinstance(value, tuple | list):
        return [item for part in value for item in flatten(part)]
    return [value]


def array_of(value: Any) -> np.ndarray:
    """Return any tensor or number as float64, int64 or bool."""
    if isinstance(value, nnlib.Tensor):
        array = value.detach().numpy()
    elif isinstance(value, torch.Tensor):
        value = value.detach()
        array = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    else:
        array = np.asarray(value)
    if array.dtype.kind in "fV":
        return array.astype(np.float64)
    return array


def dtype_name(value: Any) -> str:
    """Return the dtype's name as both libraries spell it."""
    return str(value.dtype).removeprefix("torch.")


def run(call: Callable[..., Any], lib: Any, inputs: list[Any]) -> Any:
    """Return the result, or the exception."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return call(lib, *inputs)
    except Exception as error:  # noqa: BLE001 - what it is, is compared
        return error


def agree(
    what: str,
    call: Callable[..., Any],
    arrays: Sequence[np.ndarray],
    *,
    grad: bool = True,
    values_only: bool = False,
    order: np.random.Generator | None = None,
) -> bool:
    """Compare one call; raise `Differs` or tell whether both gave a result.

    Parameters
    ----------
    what : str
        The call in words, for the message.
    values_only : bool
        Leave integer results (indices of equal values may differ) aside.
    order : Generator, optional
        Lay the memory of the inputs out at random (same values).
    """
    counting.count()
    mine = [as_mine(array, grad, order) for array in arrays]
    theirs = [as_theirs(array, grad) for array in arrays]
    got, want = run(call, nnlib, mine), run(call, torch, theirs)
    shapes = [(x.shape, str(x.dtype)) for x in arrays]
    if isinstance(want, Exception):
        if isinstance(got, Exception):
            if not isinstance(got, nnlib.backend.errors.Error | ValueError | TypeError):
                raise Differs(f"{what} on {shapes}: raises {got!r}") from got
            return False
        raise Differs(f"{what} on {shapes}: PyTorch raises {want}, nnlib gives {got}")
    if isinstance(got, Exception):
        raise Differs(f"{what} on {shapes}: nnlib raises {got!r}") from got
    pairs = list(zip(flatten(got), flatten(want), strict=True))
    for a, b in pairs:
        compare(what, shapes, a, b, values_only)
    if grad:
        compare_gradients(what, shapes, pairs, mine, theirs)
    return True


def as_mine(array: np.ndarray, grad: bool, order: Any) -> nnlib.Tensor:
    """Return an nnlib leaf, perhaps with another memory layout."""
    if order is not None and array.ndim > 1:
        perm = order.permutation(array.ndim)
        inverse = np.argsort(perm)
        array = array.transpose(perm).copy().transpose(inverse)
    made = nnlib.from_numpy(np.array(array, order="K"))
    return made.requires_grad_() if grad and array.dtype.kind == "f" else made


def as_theirs(array: np.ndarray, grad: bool) -> Any:
    """Return a PyTorch leaf."""
    made = torch.tensor(array)
    return made.requires_grad_() if grad and array.dtype.kind == "f" else made


def compare(what: str, shapes: Any, a: Any, b: Any, values_only: bool) -> None:
    """Compare one result."""
    if hasattr(b, "dtype"):
        if dtype_name(a) != dtype_name(b):
            raise Differs(f"{what} on {shapes}: dtype {a.dtype}, PyTorch {b.dtype}")
        if values_only and b.dtype == torch.int64:
            return
    mine, its = array_of(a), array_of(b)
    if mine.shape != its.shape:
        raise Differs(f"{what} on {shapes}: shape {mine.shape}, PyTorch {its.shape}")
    tolerance = TOLERANCE.get(dtype_name(b) if hasattr(b, "dtype") else "", 0)
    if not np.allclose(mine, its, tolerance, tolerance, equal_nan=True):
        raise Differs(f"{what} on {shapes}: {mine}, PyTorch {its}")


def compare_gradients(
    what: str, shapes: Any, pairs: Any, mine: Any, theirs: Any
) -> None:
    """Compare the gradients of a weighting of all results."""
    total = its_total = None
    for a, b in pairs:
        if not (isinstance(b, torch.Tensor) and b.requires_grad):
            continue
        if not a.requires_grad:
            raise Differs(f"{what} on {shapes}: the result requires no gradient")
        weights = np.cos(np.arange(a.numel(), dtype=np.float64)).reshape(a.shape)
        weights = weights.astype(a.dtype)
        part = (a * nnlib.from_numpy(weights)).sum()
        its = (b * torch.tensor(weights)).sum()
        total = part if total is None else total + part
        its_total = its if its_total is None else its_total + its
    if total is None:
        return
    total.backward()
    its_total.backward()
    # Of several dtypes the least exact decides.
    tolerance = 10 * max(
        TOLERANCE[dtype_name(x)] for x in mine if x.is_floating_point()
    )
    for number, (x, y) in enumerate(zip(mine, theirs, strict=True)):
        if not y.requires_grad:
            continue
        want = np.zeros(y.shape) if y.grad is None else array_of(y.grad)
        got = np.zeros(x.shape) if x.grad is None else array_of(x.grad)
        if got.shape != want.shape or not np.allclose(
            got, want, tolerance, tolerance, equal_nan=True
        ):
            raise Differs(
                f"{what} on {shapes}: gradient {number}: {got}, PyTorch {want}"
            )
