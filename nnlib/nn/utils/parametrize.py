"""Parameters that are functions of others, recomputed at every use.

``module.weight`` of a parametrised module is computed by the Modules under
``module.parametrizations.weight`` from what they keep as ``original``.
"""

from __future__ import annotations

from typing import Any, TypeVar

from nnlib.autograd.mode import no_grad
from nnlib.autograd.tensor import Parameter, Tensor
from nnlib.backend.errors import DTypeError, Error, ShapeError
from nnlib.nn.containers import ModuleDict, ModuleList
from nnlib.nn.module import Module

__all__ = [
    "ParametrizationList",
    "is_parametrized",
    "register_parametrization",
    "remove_parametrizations",
]

M = TypeVar("M", bound=Module)


class ParametrizationList(ModuleList):
    """The chain of Modules that computes one tensor from what it was made of.

    Attributes
    ----------
    original, or original0, original1, ... : Parameter or buffer
        What the first Module is given.
    """

    def __init__(self, modules: list[Module], original: Tensor) -> None:
        super().__init__(modules)
        self.is_tensor = True
        first = modules[0]
        values: Any = original.detach()
        if hasattr(first, "right_inverse"):
            with no_grad():
                values = first.right_inverse(values)
            self.is_tensor = not isinstance(values, tuple | list)
        parts = [values] if self.is_tensor else list(values)
        for index, part in enumerate(parts):
            name = "original" if self.is_tensor else f"original{index}"
            if isinstance(original, Parameter):
                # The parameter itself stays where it can: optimisers know it.
                same = self.is_tensor and part._array.base is original._array.base
                kept = original if same else Parameter(part, original.requires_grad)
                self.register_parameter(name, kept)
            else:
                self.register_buffer(name, part)
        self.count = len(parts)

    def originals(self) -> list[Tensor]:
        """Return what the tensor is computed from."""
        if self.is_tensor:
            return [self.original]
        return [getattr(self, f"original{index}") for index in range(self.count)]

    def forward(self) -> Any:
        """Compute the tensor."""
        value = self[0](*self.originals())
        for module in list(self)[1:]:
            value = module(value)
        return value

    def assign(self, value: Tensor) -> None:
        """Change the originals so that the tensor becomes `value`."""
        with no_grad():
            for module in reversed(list(self)):
                if not hasattr(module, "right_inverse"):
                    raise Error(
                        f"parametrize: {type(module).__name__} has no right_inverse: "
                        "its tensor cannot be assigned"
                    )
                value = module.right_inverse(value)
            parts = [value] if self.is_tensor else list(value)
            for original, part in zip(self.originals(), parts, strict=True):
                original.detach().copy_(part)


def register_parametrization(
    module: M, tensor_name: str, parametrization: Module, *, unsafe: bool = False
) -> M:
    """Let a Module compute a parameter or buffer of another; return that one.

    Parameters
    ----------
    module : Module
    tensor_name : str
        The parameter or buffer; as ``module.parametrizations.<name>.original`` it
        stays a parameter.
    parametrization : Module
        ``forward`` maps the original to the tensor. A ``right_inverse``, if there is
        one, maps the tensor to the original (or a tuple of them).
    unsafe : bool, default False
        Allow a change of shape or dtype.

    Raises
    ------
    Error
        If there is no such tensor.
    ShapeError, DTypeError
        If shape or dtype change.

    Examples
    --------
    >>> from nnlib import nn
    >>> class Symmetric(nn.Module):
    ...     def forward(self, x):
    ...         return (x + x.transpose(0, 1)) / 2
    >>> layer = register_parametrization(nn.Linear(3, 3), "weight", Symmetric())
    >>> bool((layer.weight == layer.weight.transpose(0, 1)).all())
    True
    >>> sorted(layer.state_dict())
    ['bias', 'parametrizations.weight.original']
    """
    if is_parametrized(module, tensor_name):
        chain = module.parametrizations[tensor_name]
        _check_same(chain(), parametrization(chain()), tensor_name, unsafe)
        chain.append(parametrization)
        return module
    for members in (module._parameters, module._buffers):
        original = members.get(tensor_name)
        if original is not None:
            break
    else:
        raise Error(
            f"register_parametrization: {type(module).__name__} has no parameter or "
            f"buffer {tensor_name!r}"
        )
    chain = ParametrizationList([parametrization], original)
    with no_grad():
        _check_same(original, chain(), tensor_name, unsafe)
    del members[tensor_name]
    if "parametrizations" not in module._modules:
        module.add_module("parametrizations", ModuleDict())
    module.parametrizations[tensor_name] = chain
    return module


def _check_same(old: Tensor, new: Any, name: str, unsafe: bool) -> None:
    where = f"register_parametrization: {name}"
    if not isinstance(new, Tensor):
        raise DTypeError(f"{where}: expected a Tensor, got {type(new).__name__}")
    if unsafe:
        return
    if new.shape != old.shape:
        raise ShapeError(
            f"{where}: expected shape {tuple(old.shape)}, got {tuple(new.shape)}; "
            "unsafe=True allows it"
        )
    if new.dtype != old.dtype:
        raise DTypeError(f"{where}: expected dtype {old.dtype}, got {new.dtype}")


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Tell whether a tensor (or any) of a module is parametrised."""
    table = module._modules.get("parametrizations")
    if not isinstance(table, ModuleDict):
        return False
    return bool(len(table)) if tensor_name is None else tensor_name in table


def remove_parametrizations(
    module: M, tensor_name: str, leave_parametrized: bool = True
) -> M:
    """Make an ordinary parameter or buffer again.

    Parameters
    ----------
    module : Module
    tensor_name : str
    leave_parametrized : bool, default True
        Keep the computed value; False: the original one.
    """
    if not is_parametrized(module, tensor_name):
        raise Error(
            f"remove_parametrizations: {type(module).__name__}.{tensor_name} is not "
            "parametrised"
        )
    chain = module.parametrizations[tensor_name]
    if not (leave_parametrized or chain.is_tensor):
        raise Error(
            f"remove_parametrizations: {tensor_name} has several originals: only its "
            "computed value can be kept"
        )
    with no_grad():
        value = chain() if leave_parametrized else chain.originals()[0]
    del module.parametrizations[tensor_name]
    if not len(module.parametrizations):
        del module.parametrizations
    if chain._parameters:
        wanted = any(p is not None and p.requires_grad for p in chain.parameters())
        module.register_parameter(tensor_name, Parameter(value.detach(), wanted))
    else:
        module.register_buffer(tensor_name, value.detach())
    return module
