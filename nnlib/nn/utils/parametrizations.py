"""Weight and spectral normalisation as parametrisations, under PyTorch's names."""

from __future__ import annotations

import functools
from typing import Any, TypeVar

from nnlib import ops
from nnlib.autograd.mode import no_grad
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import Error
from nnlib.nn import init
from nnlib.nn.module import Module
from nnlib.nn.utils.parametrize import is_parametrized, register_parametrization
from nnlib.nn.utils.spectral_norm import SpectralNorm, unit
from nnlib.nn.utils.weight_norm import norm_except

__all__ = ["spectral_norm", "weight_norm"]

M = TypeVar("M", bound=Module)


class _WeightNorm(Module):
    """``g v / |v|``; see `nnlib.nn.utils.weight_norm`."""

    def __init__(self, dim: int | None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, g: Tensor, v: Tensor) -> Tensor:
        """Return the weight of a length and a direction."""
        return v * (g / norm_except(v, self.dim))

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return length and direction of a weight."""
        return norm_except(weight, self.dim), weight


class _SpectralNorm(Module):
    """``w / sigma(w)``; see `nnlib.nn.utils.spectral_norm`."""

    _u: Tensor
    _v: Tensor

    def __init__(self, weight: Tensor, steps: int, dim: int, eps: float) -> None:
        super().__init__()
        self.rule = SpectralNorm("weight", steps, dim, eps)
        matrix = self.rule.matrix(weight.detach())
        for name, length in zip(("_u", "_v"), matrix.shape, strict=True):
            vector = ops.empty_like(matrix[:1, :1].expand(1, length).reshape(-1))
            self.register_buffer(name, unit(init.normal_(vector), eps))
        self._iterate(weight, 15)

    def _iterate(self, weight: Tensor, steps: int) -> None:
        # Beginning with u, where the hook begins with v: both as PyTorch.
        with no_grad():
            matrix = self.rule.matrix(weight.detach())
            for _ in range(steps):
                self._u.copy_(unit(ops.matmul(matrix, self._v), self.rule.eps))
                self._v.copy_(unit(ops.matmul(matrix.t(), self._u), self.rule.eps))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight over its largest singular value."""
        u, v = self._u, self._v
        if self.training:
            self._iterate(weight, self.rule.n_power_iterations)
            # The graph keeps copies: the next use changes the vectors in place.
            u, v = u.clone(), v.clone()
        return weight / (u * ops.matmul(self.rule.matrix(weight), v)).sum()

    def right_inverse(self, value: Tensor) -> Tensor:
        """Return the value itself: it has norm 1 already."""
        return value


def weight_norm(module: M, name: str = "weight", dim: int | None = 0) -> M:
    """Make a parameter of its length (``original0``) and direction (``original1``).

    `nnlib.nn.utils.parametrize.remove_parametrizations` undoes it. What
    `nnlib.nn.utils.weight_norm` (or PyTorch's) has saved is loaded, too.

    Examples
    --------
    >>> from nnlib import nn
    >>> sorted(weight_norm(nn.Linear(20, 40)).state_dict())[1:]
    ['parametrizations.weight.original0', 'parametrizations.weight.original1']
    """
    module = register_parametrization(module, name, _WeightNorm(dim), unsafe=True)
    module.register_load_state_dict_pre_hook(functools.partial(_read_older, name))
    return module


def _read_older(
    name: str, module: Module, state_dict: dict[str, Any], prefix: str, *rest: Any
) -> None:
    """Rename what `nnlib.nn.utils.weight_norm` has saved."""
    if not is_parametrized(module, name):
        return  # removed: it may be the older kind by now
    for number, older in enumerate((f"{name}_g", f"{name}_v")):
        if prefix + older in state_dict:
            new = f"{prefix}parametrizations.{name}.original{number}"
            state_dict[new] = state_dict.pop(prefix + older)


def spectral_norm(
    module: M,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dim: int | None = None,
) -> M:
    """Divide a parameter by its largest singular value at every use.

    Arguments as of `nnlib.nn.utils.spectral_norm`;
    `nnlib.nn.utils.parametrize.remove_parametrizations` undoes it.
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        raise Error(f"spectral_norm: {type(module).__name__} has no parameter {name!r}")
    if dim is None:
        dim = 1 if "ConvTranspose" in type(module).__name__ else 0
    rule = _SpectralNorm(weight, n_power_iterations, dim, eps)
    return register_parametrization(module, name, rule)
