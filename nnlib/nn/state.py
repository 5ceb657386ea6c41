"""The state dict, both ways, and the changes of a module's memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnlib.autograd.sparse import RowSparse
from nnlib.autograd.tensor import Parameter, Tensor
from nnlib.backend.device import (
    Device,
    array_module,
    context_of,
    device_of,
    names_device,
    resolve_device,
    to_device,
)
from nnlib.backend.dtypes import is_floating, resolve_dtype
from nnlib.backend.errors import DTypeError, Error, ShapeError
from nnlib.backend.layouts import check_format, preserve_format

if TYPE_CHECKING:
    from nnlib.nn.module import Module

__all__ = ["IncompatibleKeys", "clear_grad", "collect", "load", "parse_to", "replace"]


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict` did not find, and what it could not use."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class _Entry(NamedTuple):
    """One tensor of a module: where it is registered."""

    module: Module
    kind: str
    name: str
    tensor: Tensor


def collect(
    module: Module, found: dict[str, Any], prefix: str, keep_vars: bool
) -> None:
    """Add the state of `module` and all below to `found`."""
    for hook in list((module._state_dict_pre_hooks or {}).values()):
        hook(module, prefix, keep_vars)
    for _, name, tensor in _own_entries(module):
        found[prefix + name] = tensor if keep_vars else tensor.detach()
    for name, below in module._modules.items():
        if below is not None:
            below.state_dict(
                destination=found, prefix=f"{prefix}{name}.", keep_vars=keep_vars
            )
    for hook in list((module._state_dict_hooks or {}).values()):
        hook(module, found, prefix, {})


def _own_entries(module: Module) -> list[tuple[str, str, Tensor]]:
    skipped = module._non_persistent_buffers_set
    return [
        (kind, name, tensor)
        for kind in ("_parameters", "_buffers")
        for name, tensor in module.__dict__[kind].items()
        if tensor is not None and name not in skipped
    ]


def load(
    module: Module, state_dict: Any, strict: bool, assign: bool
) -> IncompatibleKeys:
    """Check everything, then load everything; see `Module.load_state_dict`."""
    where = f"{type(module).__name__}.load_state_dict"
    if not isinstance(state_dict, Mapping):
        raise DTypeError(
            f"{where}: expected a mapping of names to tensors, got "
            f"{type(state_dict).__name__}"
        )
    given = dict(state_dict)
    problems: list[str] = []
    keys = IncompatibleKeys([], [])
    _run_pre_hooks(module, given, "", strict, keys, problems)
    wanted: dict[str, _Entry] = {}
    for path, below in module.named_modules(remove_duplicate=False):
        for kind, name, tensor in _own_entries(below):
            full = f"{path}.{name}" if path else name
            wanted[full] = _Entry(below, kind, name, tensor)
    keys.missing_keys.extend(
        name
        for name, entry in wanted.items()
        if name not in given and entry.name not in entry.module._optional_entries
    )
    keys.unexpected_keys.extend(name for name in given if name not in wanted)

    arrays = {}
    shapes_differ = False
    for name, entry in wanted.items():
        if name not in given:
            continue
        array = _as_array(given[name])
        if array is None:
            kind = type(given[name]).__name__
            problems.append(f"{name}: expected a tensor or array, got {kind}")
        elif tuple(array.shape) != tuple(entry.tensor.shape):
            shapes_differ = True
            problems.append(
                f"{name}: expected shape {tuple(entry.tensor.shape)}, got "
                f"{tuple(array.shape)}"
            )
        else:
            arrays[name] = array
    if strict:
        if keys.unexpected_keys:
            problems.insert(0, f"unexpected: {', '.join(keys.unexpected_keys)}")
        if keys.missing_keys:
            problems.insert(0, f"missing: {', '.join(keys.missing_keys)}")
    if problems:
        kind_of_error = ShapeError if shapes_differ else Error
        raise kind_of_error(
            f"{where}: nothing was loaded, because of\n  " + "\n  ".join(problems)
        )
    for name, array in arrays.items():
        (_assign if assign else _copy)(wanted[name], array)
    for _, below in module.named_modules():
        for hook in list((below._load_state_dict_post_hooks or {}).values()):
            hook(below, keys)
    return keys


def _run_pre_hooks(
    module: Module,
    given: dict[str, Any],
    prefix: str,
    strict: bool,
    keys: IncompatibleKeys,
    problems: list[str],
) -> None:
    for hook in list((module._load_state_dict_pre_hooks or {}).values()):
        hook(module, given, prefix, {}, strict, *keys, problems)
    for name, below in module._modules.items():
        if below is not None:
            _run_pre_hooks(below, given, f"{prefix}{name}.", strict, keys, problems)


def _as_array(value: Any) -> Any:
    """Return the array of a Tensor, array or foreign CPU tensor, else None."""
    if isinstance(value, Tensor):
        return value._array
    if type(value).__module__.startswith("cupy"):
        return value
    if hasattr(value, "__array__"):
        if hasattr(value, "detach"):
            value = value.detach().cpu()
            # NumPy itself knows no bfloat16.
            value = value.float() if str(value.dtype).endswith("bfloat16") else value
        array = np.asarray(value)
        try:
            resolve_dtype(array.dtype)
        except DTypeError:
            return None
        return array
    return None


def _copy(entry: _Entry, array: Any) -> None:
    target = entry.tensor._array
    array = to_device(array, device_of(target))
    with context_of(target):
        array_module(target).copyto(target, array, casting="unsafe")
    entry.tensor._bump()


def _assign(entry: _Entry, array: Any) -> None:
    if entry.kind == "_buffers":
        entry.module._buffers[entry.name] = Tensor._from_array(array[...])
    else:
        kept = Parameter(Tensor._from_array(array), entry.tensor.requires_grad)
        entry.module._parameters[entry.name] = kept


def replace(parameter: Parameter, fn: Callable[[Tensor], Tensor]) -> None:
    """Give a parameter (and its gradient) the memory that `fn` makes of its own."""
    old = parameter._array
    changed = fn(Tensor._from_array(old))
    if changed._array is not old:
        parameter.data = changed
    if parameter._grad is not None:
        parameter._grad = fn(parameter._grad.detach())


def clear_grad(parameter: Tensor, set_to_none: bool) -> None:
    """Drop a gradient, or fill it with zeros."""
    grad = parameter._grad
    if grad is None:
        return
    if set_to_none:
        parameter._grad = None
    elif isinstance(grad, RowSparse):
        parameter._grad = grad.clone().zero_()
    elif grad._grad_fn is not None:
        with context_of(grad._array):
            zeros = array_module(grad._array).zeros_like(grad._array)
        parameter._grad = Tensor._from_array(zeros)
    else:
        with context_of(grad._array):
            grad._array.fill(0)
        grad._bump()


def parse_to(
    *args: Any,
    device: Any = None,
    dtype: Any = None,
    non_blocking: bool = False,
    memory_format: Any = preserve_format,
) -> tuple[Device | None, Any, bool]:
    """Read the arguments of `Module.to`: a device, a dtype, or a tensor for both."""
    check_format("Module.to", memory_format)
    for argument in args:
        if isinstance(argument, Tensor):
            device, dtype = argument.device, argument.dtype
        elif names_device("Module.to", argument):
            device = argument
        elif argument is not None:
            dtype = argument
    if dtype is not None:
        dtype = resolve_dtype(dtype)
        if not is_floating(dtype):
            raise DTypeError(
                f"Module.to: expected a floating dtype, got {dtype}; type() casts to "
                "integers"
            )
    return None if device is None else resolve_device(device), dtype, non_blocking
