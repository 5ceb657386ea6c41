"""Weight normalisation: a weight as length times direction.

T. Salimans, D. P. Kingma: Weight normalization, NeurIPS 2016, eq. 2:
``w = g v / |v|``.
"""

from __future__ import annotations

from typing import Any, TypeVar

from nnlib.autograd.mode import no_grad
from nnlib.autograd.tensor import Parameter, Tensor
from nnlib.backend.errors import Error, ShapeError
from nnlib.nn.module import Module

__all__ = ["WeightNorm", "norm_except", "remove_weight_norm", "weight_norm"]

M = TypeVar("M", bound=Module)


def norm_except(v: Tensor, dim: int | None) -> Tensor:
    """Return the 2-norm over all dimensions but one (over all if None), kept as 1."""
    dims = tuple(i for i in range(v.ndim) if dim is None or i != dim % v.ndim)
    total = (v * v).sum(dims, keepdim=True) if dims else v * v
    total = total.sqrt()
    return total.reshape(()) if dim is None else total


class WeightNorm:
    """The forward pre-hook that makes the weight from length and direction."""

    def __init__(self, name: str, dim: int | None) -> None:
        self.name = name
        self.dim = dim

    def compute(self, module: Module) -> Tensor:
        """Return ``g v / |v|``."""
        g = getattr(module, self.name + "_g")
        v = getattr(module, self.name + "_v")
        return v * (g / norm_except(v, self.dim))  # type: ignore[no-any-return]

    def __call__(self, module: Module, args: Any) -> None:
        """Renew the weight before `forward`."""
        setattr(module, self.name, self.compute(module))


def weight_norm(module: M, name: str = "weight", dim: int | None = 0) -> M:
    """Replace a parameter by its length and direction, and return the module.

    Parameters
    ----------
    module : Module
    name : str, default "weight"
        The parameter; ``<name>_g`` and ``<name>_v`` take its place.
    dim : int or None, default 0
        One length for each index of this dimension; None: one for all.

    Raises
    ------
    Error
        If there is no such parameter, or it is normalised already.

    Examples
    --------
    >>> from nnlib import nn
    >>> layer = weight_norm(nn.Linear(20, 40))
    >>> sorted(name for name, _ in layer.named_parameters())
    ['bias', 'weight_g', 'weight_v']
    """
    weight = take_parameter("weight_norm", module, name)
    if dim is not None and not -weight.ndim <= dim < weight.ndim:
        raise ShapeError(
            f"weight_norm: dim: {dim} is out of range for {name} of shape "
            f"{tuple(weight.shape)}"
        )
    hook = WeightNorm(name, dim)
    del module._parameters[name]
    with no_grad():
        g = norm_except(weight.detach(), dim)
    module.register_parameter(name + "_g", Parameter(g))
    module.register_parameter(name + "_v", Parameter(weight.detach()))
    hook(module, ())
    module.register_forward_pre_hook(hook)
    return module


def take_parameter(op: str, module: Module, name: str) -> Parameter:
    """Return a parameter that is there and has no such hook yet."""
    for hook, _ in (module._forward_pre_hooks or {}).values():
        if getattr(hook, "name", None) == name:
            raise Error(f"{op}: {type(module).__name__}.{name} is normalised already")
    weight = module._parameters.get(name)
    if weight is None:
        raise Error(f"{op}: {type(module).__name__} has no parameter {name!r}")
    return weight


def take_hook(op: str, kind: type[Any], module: Module, name: str) -> Any:
    """Remove the hook of a class for a parameter and return it."""
    hooks = module._forward_pre_hooks or {}
    for key, (hook, _) in hooks.items():
        if isinstance(hook, kind) and hook.name == name:
            del hooks[key]
            return hook
    raise Error(f"{op}: {type(module).__name__}.{name} is not normalised")


def remove_weight_norm(module: M, name: str = "weight") -> M:
    """Make an ordinary parameter again of what `weight_norm` replaced."""
    hook = take_hook("remove_weight_norm", WeightNorm, module, name)
    with no_grad():
        weight = hook.compute(module)
    delattr(module, name)
    for suffix in ("_g", "_v"):
        del module._parameters[name + suffix]
    module.register_parameter(name, Parameter(weight))
    return module
