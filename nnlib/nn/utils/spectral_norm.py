"""Spectral normalisation: a weight divided by its largest singular value.

T. Miyato et al.: Spectral normalization for generative adversarial networks,
ICLR 2018, algorithm 1: the value is followed by one step of power iteration a call.
"""

from __future__ import annotations

from typing import Any, TypeVar

from nnlib import ops
from nnlib.autograd.mode import no_grad
from nnlib.autograd.tensor import Parameter, Tensor
from nnlib.backend.errors import ArgumentError
from nnlib.nn import init
from nnlib.nn.module import Module
from nnlib.nn.utils.weight_norm import take_hook, take_parameter

__all__ = ["SpectralNorm", "remove_spectral_norm", "spectral_norm", "unit"]

M = TypeVar("M", bound=Module)


def unit(x: Tensor, eps: float) -> Tensor:
    """Return a vector over its length."""
    return x / (x * x).sum().sqrt().clamp(min=eps)


class SpectralNorm:
    """The forward pre-hook that divides the weight by its largest singular value."""

    def __init__(self, name: str, n_power_iterations: int, dim: int, eps: float):
        self.name = name
        self.n_power_iterations = n_power_iterations
        self.dim = dim
        self.eps = eps

    def matrix(self, weight: Tensor) -> Tensor:
        """Return the weight as a matrix with `dim` as its rows."""
        if self.dim != 0:
            weight = weight.movedim(self.dim, 0)
        return weight.reshape(weight.shape[0], -1)

    def iterate(self, weight: Tensor, u: Tensor, v: Tensor, steps: int) -> None:
        """Bring the singular vectors nearer, in place."""
        with no_grad():
            matrix = self.matrix(weight.detach())
            for _ in range(steps):
                v.copy_(unit(ops.matmul(matrix.t(), u), self.eps))
                u.copy_(unit(ops.matmul(matrix, v), self.eps))

    def compute(self, module: Module, iterate: bool) -> Tensor:
        """Return the weight over its largest singular value, ``u^T W v``."""
        weight = getattr(module, self.name + "_orig")
        u = getattr(module, self.name + "_u")
        v = getattr(module, self.name + "_v")
        if iterate:
            self.iterate(weight, u, v, self.n_power_iterations)
            # The graph keeps copies: the next call changes the vectors in place.
            u, v = u.clone(), v.clone()
        sigma = (u * ops.matmul(self.matrix(weight), v)).sum()
        return weight / sigma  # type: ignore[no-any-return]

    def __call__(self, module: Module, args: Any) -> None:
        """Renew the weight before `forward`."""
        setattr(module, self.name, self.compute(module, module.training))


def spectral_norm(
    module: M,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dim: int | None = None,
) -> M:
    """Divide a parameter by its largest singular value at every call.

    Parameters
    ----------
    module : Module
    name : str, default "weight"
        The parameter; it becomes ``<name>_orig``, with the buffers ``<name>_u`` and
        ``<name>_v``.
    n_power_iterations : int, default 1
        Steps per call, in training mode.
    eps : float, default 1e-12
        The least length that vectors are divided by.
    dim : int, optional
        The dimension of the outputs; default 1 for transposed convolutions, else 0.

    Raises
    ------
    Error
        If there is no such parameter, or it is normalised already.

    Examples
    --------
    >>> from nnlib import nn
    >>> layer = spectral_norm(nn.Linear(20, 40))
    >>> sorted(layer.state_dict())
    ['bias', 'weight_orig', 'weight_u', 'weight_v']
    """
    weight = take_parameter("spectral_norm", module, name)
    if n_power_iterations < 1:
        raise ArgumentError(
            f"spectral_norm: n_power_iterations: expected at least 1, got "
            f"{n_power_iterations}"
        )
    if dim is None:
        dim = 1 if "ConvTranspose" in type(module).__name__ else 0
    hook = SpectralNorm(name, n_power_iterations, dim, eps)
    matrix = hook.matrix(weight.detach())
    vectors = []
    for length in matrix.shape:
        vector = Tensor._from_array(matrix._array.flatten()[:1].repeat(length))
        vectors.append(unit(init.normal_(vector), eps))
    # Some steps at once: with PyTorch's single one the first losses come from a
    # weight that is far from its norm.
    hook.iterate(weight, vectors[0], vectors[1], 15)
    del module._parameters[name]
    module.register_parameter(name + "_orig", weight)
    module.register_buffer(name + "_u", vectors[0])
    module.register_buffer(name + "_v", vectors[1])
    setattr(module, name, weight.detach())
    module.register_forward_pre_hook(hook)
    return module


def remove_spectral_norm(module: M, name: str = "weight") -> M:
    """Make an ordinary parameter again, with the normalised value."""
    hook = take_hook("remove_spectral_norm", SpectralNorm, module, name)
    with no_grad():
        weight = hook.compute(module, False)
    delattr(module, name)
    del module._parameters[name + "_orig"]
    del module._buffers[name + "_u"], module._buffers[name + "_v"]
    module.register_parameter(name, Parameter(weight))
    return module
