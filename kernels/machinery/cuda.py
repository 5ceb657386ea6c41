"""Compilation for CUDA: `cuda_kernel` and the lazily imported `cuda` module."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

__all__ = ["CudaKernel", "cuda", "cuda_kernel", "registry"]


class _LazyCuda:
    """`numba.cuda`, imported when a kernel is first compiled for CUDA."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module("numba.cuda"), name)


cuda: Any = _LazyCuda()

# Every CUDA kernel of the loaded families, by module and name.
registry: dict[str, CudaKernel] = {}


class CudaKernel:
    """A grid-stride loop for CUDA: called with arrays, scalars and the launch's size."""

    def __init__(self, function: Callable[..., Any], threads: int) -> None:
        self.function = function
        self.name = f"{function.__module__}.{function.__name__}"
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__
        self.threads = threads

    def __call__(
        self,
        *args: Any,
        items: int | None = None,
        blocks: int | None = None,
        threads: int | None = None,
    ) -> None:
        """Launch on CuPy's current stream."""
        raise NotImplementedError


def cuda_kernel(
    function: Callable[..., Any] | None = None, *, threads: int = 256
) -> Any:
    """Compile a loop over arrays for CUDA."""

    def decorate(inner: Callable[..., Any]) -> CudaKernel:
        kernel = CudaKernel(inner, threads)
        registry[kernel.name] = kernel
        return kernel

    return decorate if function is None else decorate(function)
