"""CUDA kernels: `cuda_kernel`, their launch through CuPy, and the lazy `cuda` module.

A launch goes through CuPy, on CuPy's current stream: Numba's own way costs tens of
microseconds, this one a few. Numba's calling convention is spelled out by `pack`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, overload

from nnlib.backend import device as backend
from nnlib.kernels.machinery import compile as compiler

__all__ = [
    "CudaKernel",
    "LazyCuda",
    "Launch",
    "cuda",
    "cuda_kernel",
    "pack",
    "registry",
    "tests_launcher",
]

# Blocks per multiprocessor of a grid-stride loop: enough to hide the latency of memory.
_BLOCKS_PER_PROCESSOR = 16


class LazyCuda:
    """Stands for `numba.cuda` until a kernel is compiled for CUDA or simulated."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module("numba.cuda"), name)


cuda: Any = LazyCuda()

# Every CUDA kernel of the loaded families, by module and name.
registry: dict[str, CudaKernel] = {}


class Launch:
    """One launch: what `tests_launcher` receives in place of the GPU.

    A grid that the kernel does not count on is made small: each simulated thread costs.
    """

    __slots__ = ("args", "blocks", "kernel", "threads")

    def __init__(
        self,
        kernel: CudaKernel,
        args: tuple[Any, ...],
        blocks: int | None,
        threads: int | None,
    ) -> None:
        self.kernel = kernel
        self.args = args
        self.blocks = blocks or 2
        self.threads = threads or (kernel.threads if blocks else 16)


# Set by the tests: called with each `Launch` in place of the GPU.
tests_launcher: Callable[[Launch], None] | None = None


def pack(args: tuple[Any, ...]) -> list[Any]:
    """Spell arguments out as Numba's kernels take them.

    An array is: null, null, its size, its item size, its address, its shape, its
    strides in bytes (each 64 bits wide); a scalar is itself. CuPy passes a Python int
    as 64 bits.

    Examples
    --------
    >>> class Cupy:
    ...     size, itemsize, shape, strides = 6, 4, (2, 3), (12, 4)
    ...     class data:
    ...         ptr = 4096
    >>> pack((Cupy(), 7))
    [0, 0, 6, 4, 4096, 2, 3, 12, 4, 7]
    """
    fields: list[Any] = []
    for arg in args:
        if hasattr(arg, "strides") and hasattr(arg.data, "ptr"):
            fields += (0, 0, arg.size, arg.itemsize, arg.data.ptr)
            fields += arg.shape
            fields += arg.strides
        else:
            fields.append(arg)
    return fields


class CudaKernel:
    """A loop for CUDA: called with arrays and scalars, and the size of the launch.

    Attributes
    ----------
    function : callable
        The Python function.
    name : str
        Its module and name.
    threads : int
        Threads per block, unless a call says otherwise.
    """

    def __init__(self, function: Callable[..., Any], threads: int) -> None:
        self.function = function
        self.name = f"{function.__module__}.{function.__name__}"
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__
        self.threads = threads
        self._loaded: dict[Any, Any] = {}

    def __repr__(self) -> str:
        """Name the kernel."""
        return f"<cuda kernel {self.name}>"

    def __call__(
        self,
        *args: Any,
        items: int | None = None,
        blocks: int | None = None,
        threads: int | None = None,
    ) -> None:
        """Launch on CuPy's current stream; returns at once.

        Parameters
        ----------
        *args : array or scalar
            Floats as NumPy scalars of the right type.
        items : int, optional
            How many iterations a grid-stride loop has: the grid is chosen for it.
            Nothing is launched for 0.
        blocks : int, optional
            The grid, where the kernel counts on it.
        threads : int, optional
            Threads per block.
        """
        if items == 0 or blocks == 0:
            return
        if tests_launcher is not None:
            tests_launcher(Launch(self, args, blocks, threads))
            return
        threads = threads or self.threads
        key = tuple([_key(arg) for arg in args])
        module = backend.cupy()
        number = module.cuda.runtime.getDevice()
        found = self._loaded.get((number, key))
        if found is None:
            found = self._load(module, args, number)
            self._loaded[number, key] = found
        function, processors = found
        if blocks is None:
            most = processors * _BLOCKS_PER_PROCESSOR
            blocks = max(1, min(-(-(items or 1) // threads), most))
        function((blocks, 1, 1), (threads, 1, 1), pack(args))

    def _load(self, module: Any, args: tuple[Any, ...], number: int) -> tuple[Any, int]:
        device = module.cuda.Device(number)
        capability = device.compute_capability
        cc = (int(capability[:-1]), int(capability[-1]))
        compiled = compiler.compile_for(self.function, compiler.signature_of(args), cc)
        library = module.cuda.function.Module()
        library.load(compiled.cubin)
        processors = int(device.attributes["MultiProcessorCount"])
        return library.get_function(compiled.entry), processors


def _key(arg: Any) -> Any:
    """Return what decides which compilation an argument needs."""
    if hasattr(arg, "strides") and hasattr(arg.data, "ptr"):
        return (arg.dtype, arg.ndim, arg.flags.c_contiguous)
    return type(arg)


@overload
def cuda_kernel(function: Callable[..., Any]) -> CudaKernel: ...
@overload
def cuda_kernel(
    *, threads: int = 256
) -> Callable[[Callable[..., Any]], CudaKernel]: ...


def cuda_kernel(
    function: Callable[..., Any] | None = None, *, threads: int = 256
) -> CudaKernel | Callable[[Callable[..., Any]], CudaKernel]:
    """Compile a loop over arrays for CUDA, at the first launch with its argument types.

    Parameters
    ----------
    function : callable
        A function of a module, of which `cuda.grid`, `cuda.gridsize`, shared memory and
        ``cuda.syncthreads`` make a loop over a grid.
    threads : int
        Threads per block.

    Raises
    ------
    ValueError
        If another kernel of the module has this name.
    """

    def decorate(inner: Callable[..., Any]) -> CudaKernel:
        kernel = CudaKernel(inner, threads)
        if kernel.name in registry:
            raise ValueError(f"cuda_kernel: there is a kernel {kernel.name} already")
        registry[kernel.name] = kernel
        return kernel

    return decorate if function is None else decorate(function)
