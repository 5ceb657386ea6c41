"""CUDA kernels: `cuda_kernel`, their launch through CuPy, and the lazy `cuda` module.

A launch goes to the driver, on CuPy's current stream: Numba's own way costs tens of
microseconds, and so does CuPy's with the many fields of Numba's arrays, which is taken
only where a trial finds the direct one wrong (`launch_check`). Numba's calling
convention is spelled out by `pack`; what a launch finds again (the same types, shapes
and strides) is packed once, so that it only fills in addresses and numbers.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, overload

import numpy as np

from nnlib.backend import device as backend
from nnlib.backend import driver
from nnlib.backend.recording import current, state
from nnlib.kernels.machinery import compile as compiler

__all__ = [
    "CudaKernel",
    "LazyCuda",
    "Launch",
    "cuda",
    "cuda_kernel",
    "numbers",
    "pack",
    "registry",
    "tests_launcher",
]

# What CUDA takes; a larger number would lose its upper bits on the way.
_MOST_BLOCKS = 2**31 - 1
# Forms of a launch that a kernel keeps.
_MOST_FORMS = 1024
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


_FORMATS: dict[type[Any], str] = {
    int: "q",
    bool: "?",
    np.bool_: "?",
    np.float16: "e",
    np.float32: "f",
    np.float64: "d",
    np.int8: "b",
    np.int16: "h",
    np.int32: "i",
    np.int64: "q",
    np.uint8: "B",
    np.uint16: "H",
    np.uint32: "I",
    np.uint64: "Q",
}


def pack(args: tuple[Any, ...]) -> list[tuple[str, Any]]:
    """Spell arguments out as Numba's kernels take them, with their formats.

    An array is: null, null, its size, its item size, its address, its shape, its
    strides in bytes (each 64 bits wide); a scalar is itself, a Python int 64 bits wide.
    Addresses and scalars, which are set anew for each launch, are given as None.

    Examples
    --------
    >>> class Cupy:
    ...     size, itemsize, shape, strides = 6, 4, (2, 3), (12, 4)
    >>> [value for _, value in pack((Cupy(), 7))]
    [0, 0, 6, 4, None, 2, 3, 12, 4, None]
    """
    fields: list[tuple[str, Any]] = []
    for arg in args:
        kind = _FORMATS.get(type(arg))
        if kind is not None:
            fields.append((kind, None))
            continue
        numbers = (0, 0, arg.size, arg.itemsize, None, *arg.shape, *arg.strides)
        fields += [("q", number) for number in numbers]
    return fields


def numbers(args: tuple[Any, ...]) -> list[Any]:
    """Return all of a launch's arguments as CuPy's launch takes them."""
    found: list[Any] = []
    for arg in args:
        if type(arg) in _FORMATS:
            found.append(arg)
        else:
            found += (0, 0, arg.size, arg.itemsize, arg.data.ptr)
            found += arg.shape
            found += arg.strides
    return found


class _Form:
    """A kernel loaded for arguments of certain types, shapes and strides."""

    __slots__ = ("free", "function", "handle", "most")

    def __init__(self, function: Any, most: int, direct: bool) -> None:
        # CuPy's function; the driver's handle, if launches go there at once.
        self.function = function
        self.handle = driver.handle(function) if direct else None
        self.most = most
        # Arguments ready to be filled. A launch takes one out and puts it back, so that
        # two threads never fill the same.
        self.free: list[driver.Arguments] = []


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
    direct : bool, optional
        Whether launches go to the driver at once, or through CuPy. None: the former,
        where a trial has shown that it works (`launch_check`).
    """

    direct: bool | None = None

    def __init__(self, function: Callable[..., Any], threads: int) -> None:
        self.function = function
        self.name = f"{function.__module__}.{function.__name__}"
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__
        self.threads = threads
        self._loaded: dict[Any, Any] = {}
        self._forms: dict[Any, _Form] = {}

    def __repr__(self) -> str:
        """Name the kernel."""
        return f"<cuda kernel {self.name}>"

    def __call__(
        self,
        *args: Any,
        items: int | None = None,
        blocks: int | None = None,
        threads: int | None = None,
        flat: bool = False,
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
        flat : bool
            Hand the arrays over as ``array.reshape(-1)``, without making these: all
            must be dense in memory, in one order of their elements.

        Raises
        ------
        ValueError
            If there are more blocks than CUDA takes; at its first launch, if a flat one
            is given an array with gaps.
        DeviceError
            If an array lies on another device than the current one.
        """
        if items == 0 or blocks == 0:
            return
        if state.recording is not None:
            _hold(args)
        if tests_launcher is not None:
            if flat:
                args = tuple([_flattened(arg) for arg in args])
            tests_launcher(Launch(self, args, blocks, threads))
            return
        device, stream, launch = driver.bindings()
        number = device()
        # One walk: what decides the form of the launch, and what each launch sets.
        key: list[Any] = [number, flat]
        values = []
        try:
            for arg in args:
                kind = type(arg)
                if kind in _FORMATS:
                    key.append(kind)
                    values.append(arg)
                else:
                    key.append(arg.dtype)
                    if flat:
                        key.append(arg.size)
                    else:
                        key.append(arg.shape)
                        key.append(arg.strides)
                    data = arg.data
                    if data.device_id != number:
                        raise driver.elsewhere(self.name, data.device_id, number)
                    values.append(data.ptr)
        except AttributeError:
            # No array and no number: this says what is wrong with it.
            compiler.signature_of(args)
            raise
        found = tuple(key)
        form = self._forms.get(found)
        if form is None:
            form = self._prepare(found, args, flat)
        if threads is None:
            threads = self.threads
        if blocks is None:
            blocks = -(-(items or 1) // threads)
            if blocks > form.most:
                blocks = form.most
        elif blocks > _MOST_BLOCKS:
            raise ValueError(
                f"{self.name}: {blocks} blocks, expected {_MOST_BLOCKS} at most"
            )
        if form.handle is None:
            if flat:
                args = tuple([_flattened(arg) for arg in args])
            form.function((blocks, 1, 1), (threads, 1, 1), numbers(args))
            return
        free = form.free
        arguments = free.pop() if free else self._arguments(args, flat)
        arguments.set(*values)
        call = (
            form.handle, blocks, 1, 1, threads, 1, 1, 0,
            driver.stream_handle(stream().ptr), arguments.pointers, None,
        )  # fmt: skip
        status = launch(*call)
        if status:
            driver.retry(status, call)
        free.append(arguments)

    def _prepare(
        self, key: tuple[Any, ...], args: tuple[Any, ...], flat: bool
    ) -> _Form:
        """Load the kernel for these types, if need be, and keep the form."""
        if flat:
            args = tuple([_flattened(arg) for arg in args])
        number = key[0]
        types = (number, *map(_type_key, args))
        loaded = self._loaded.get(types)
        if loaded is None:
            loaded = self._loaded[types] = self.load(backend.cupy(), args, number)
        if len(self._forms) >= _MOST_FORMS:
            # Shapes may be new in each step.
            self._forms.clear()
        direct = self.direct
        if direct is None:
            # It launches kernels itself.
            from nnlib.kernels.machinery import launch_check

            direct = launch_check.direct(number)
        function, most = loaded
        form = _Form(function, most, direct)
        if direct or not driver.capturing():
            self._forms[key] = form
        return form

    def _arguments(self, args: tuple[Any, ...], flat: bool) -> driver.Arguments:
        if flat:
            args = tuple([_flattened(arg) for arg in args])
        return driver.Arguments(pack(args))

    def load(self, module: Any, args: tuple[Any, ...], number: int) -> tuple[Any, int]:
        """Return the kernel as CuPy's function on a device, and the blocks to fill it.

        Parameters
        ----------
        module : module
            CuPy.
        args : tuple
            Of a launch: their types decide.
        number : int
            The device.
        """
        device = module.cuda.Device(number)
        capability = device.compute_capability
        cc = (int(capability[:-1]), int(capability[-1]))
        compiled = compiler.compile_for(self.function, compiler.signature_of(args), cc)
        library = module.cuda.function.Module()
        library.load(compiled.cubin)
        function = library.get_function(compiled.entry)
        processors = int(device.attributes["MultiProcessorCount"])
        return function, processors * _BLOCKS_PER_PROCESSOR


def _hold(args: tuple[Any, ...]) -> None:
    """Keep what a graph will read at each replay (tables that only caches know)."""
    recording = current()
    if recording is not None:
        for arg in args:
            if hasattr(arg, "data") and type(arg) not in _FORMATS:
                recording.hold(arg)


def _flattened(arg: Any) -> Any:
    """Return an array as its elements in memory order; anything else as it is."""
    if type(arg) in _FORMATS:
        return arg
    if not arg.flags.c_contiguous:
        strides = arg.strides
        arg = arg.transpose(sorted(range(arg.ndim), key=lambda axis: -strides[axis]))
    if not arg.flags.c_contiguous:
        raise ValueError(f"a flat launch: shape {arg.shape}, strides {arg.strides}")
    return arg.reshape(-1)


def _type_key(arg: Any) -> Any:
    """Return what decides which compilation an argument needs."""
    if type(arg) in _FORMATS:
        return type(arg)
    return (arg.dtype, arg.ndim, arg.flags.c_contiguous)


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
