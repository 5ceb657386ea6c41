"""The state of an optimiser as a dictionary in PyTorch's layout, and back."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module, device_context, device_of, to_device
from nnlib.backend.dtypes import FLOATING, HALF, float32
from nnlib.backend.errors import ArgumentError, DTypeError, Error, ShapeError

if TYPE_CHECKING:
    from nnlib.optim.optimizer import Optimizer

__all__ = ["load_state_dict", "state_dict"]


def state_dict(optimizer: Optimizer) -> dict[str, Any]:
    """Return state and options, with numbers in place of the parameters."""
    numbers: dict[int, int] = {}
    groups = []
    for group in optimizer.param_groups:
        for p in group["params"]:
            numbers.setdefault(id(p), len(numbers))
        packed = {key: value for key, value in group.items() if key != "params"}
        packed["params"] = [numbers[id(p)] for p in group["params"]]
        groups.append(packed)
    state = {
        numbers[id(p)]: dict(values)
        for p, values in optimizer.state.items()
        if id(p) in numbers
    }
    return {"state": state, "param_groups": groups}


def load_state_dict(optimizer: Optimizer, given: Mapping[str, Any]) -> None:
    """Check everything, then take it over."""
    where = f"{type(optimizer).__name__}.load_state_dict"
    if not isinstance(given, Mapping) or not {"state", "param_groups"} <= set(given):
        raise DTypeError(f"{where}: expected a mapping with 'state' and 'param_groups'")
    mine, theirs = optimizer.param_groups, given["param_groups"]
    if len(mine) != len(theirs):
        raise ArgumentError(
            f"{where}: expected {len(mine)} parameter groups, got {len(theirs)}"
        )
    by_number: dict[int, Tensor] = {}
    groups = []
    for index, (group, packed) in enumerate(zip(mine, theirs, strict=True)):
        if len(group["params"]) != len(packed["params"]):
            raise ArgumentError(
                f"{where}: group {index}: expected {len(group['params'])} parameters, "
                f"got {len(packed['params'])}"
            )
        by_number.update(zip(packed["params"], group["params"], strict=True))
        options = {k: copy.copy(v) for k, v in packed.items() if k != "params"}
        if isinstance(options.get("betas"), list):
            options["betas"] = tuple(options["betas"])
        fresh = {"params": group["params"], **optimizer.defaults, **options}
        optimizer.check(fresh)
        groups.append(fresh)
    state = {}
    for number, values in given["state"].items():
        # A JSON file turns the numbers into strings.
        p = by_number.get(int(number))
        if p is None:
            raise Error(f"{where}: state of parameter {number}, which is in no group")
        state[p] = {
            name: _value(where, name, value, p) for name, value in values.items()
        }
    for group, fresh in zip(mine, groups, strict=True):
        group.clear()
        group.update(fresh)
    optimizer.state.clear()
    optimizer.state.update(state)


def _value(where: str, name: str, value: Any, p: Tensor) -> Any:
    """Return a state's value: an array with the parameter's shape, or a number."""
    if isinstance(value, list | tuple):
        return type(value)(_value(where, name, x, p) for x in value)
    if isinstance(value, Tensor):
        array = value._array
    elif hasattr(value, "__array__"):
        # Another library's tensor may be on a device that NumPy cannot read.
        array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    else:
        return value
    if name in _NUMBERS or (array.ndim == 0 and p.ndim > 0):
        number = array.item()
        return int(number) if name in ("step", "n_iter", "func_evals") else number
    if name not in _FREE and tuple(array.shape) != tuple(p.shape):
        raise ShapeError(
            f"{where}: {name}: expected shape {tuple(p.shape)}, got "
            f"{tuple(array.shape)}"
        )
    place = device_of(p._array)
    dtype = p.dtype if array.dtype in FLOATING else array.dtype
    dtype = float32 if dtype in HALF else dtype
    with device_context(place):
        moved = to_device(array, place)
        return Tensor._from_array(array_module(moved).array(moved, dtype=dtype))


# Kept as numbers, also for a parameter without dimensions.
_NUMBERS = frozenset(
    {"step", "mu_product", "eta", "mu", "ro", "H_diag", "t", "prev_loss"}
)
# What has not the shape of its parameter: of LBFGS, and of Adafactor.
_FREE = frozenset({"d", "prev_flat_grad", "old_dirs", "old_stps", "row_var", "col_var"})
