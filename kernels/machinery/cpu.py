"""Compilation for the CPU: `body`, `cpu_kernel` and the loop `prange`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, overload

import numba
from numba import types
from numba.extending import register_jitable

from nnlib.backend import threads
from nnlib.kernels.machinery import blas, cache

__all__ = [
    "CpuKernel",
    "body",
    "cpu_kernel",
    "cpu_loop",
    "num_threads",
    "prange",
]

Body = TypeVar("Body", bound=Callable[..., Any])

# ``nnan`` and ``ninf`` would let the compiler fold ``x != x``; ``contract`` allows the
# fused multiply-add that a GPU uses as well.
_STRICT = {"contract", "nsz"}
_REASSOCIATE = {"contract", "nsz", "arcp", "afn", "reassoc"}

# For use inside kernels: how many threads a `prange` loop will use. Numba's own
# function of this name is a ctypes object in compiled code, which cannot be cached on
# disk.
num_threads: Any = types.ExternalFunction("get_num_threads", types.intp())

# A loop over range(n) whose iterations are shared among the threads of the pool.
prange: type[range] = numba.prange


def _options(reassociate: bool) -> dict[str, Any]:
    return {
        "nogil": True,
        # Nobody calls a kernel from C: a tenth of the time to compile.
        "no_cfunc_wrapper": True,
        "error_model": "numpy",
        "boundscheck": False,
        "fastmath": _REASSOCIATE if reassociate else _STRICT,
    }


@overload
def body(function: Body) -> Body: ...
@overload
def body(*, reassociate: bool = False) -> Callable[[Body], Body]: ...


def body(
    function: Body | None = None, *, reassociate: bool = False
) -> Body | Callable[[Body], Body]:
    """Mark a function over indices and raw arrays as usable from both targets' loops.

    It can be called from other bodies, from `cpu_kernel` and `cuda_kernel` loops, and
    from plain Python (in tests).

    Parameters
    ----------
    function : callable
        A function of a module, in the part of Python that Numba compiles.
    reassociate : bool
        Let the compiler reorder this body's float sums (CPU only), so that a reduction
        vectorises.

    Examples
    --------
    >>> @body
    ... def square(value):
    ...     return value * value
    >>> square(3)
    9
    """
    if function is None:
        return functools.partial(body, reassociate=reassociate)
    # For Python, and in the simulator, it stays a plain function.
    compiled: Body = register_jitable(**_options(reassociate))(function)
    return compiled


@overload
def cpu_loop(function: Body) -> Body: ...
@overload
def cpu_loop(*, reassociate: bool = False) -> Callable[[Body], Body]: ...


def cpu_loop(
    function: Body | None = None, *, reassociate: bool = False
) -> Body | Callable[[Body], Body]:
    """Mark a loop ``f(first, last, ...)`` that a kernel shares out by `spread`.

    Compiled for such kernels alone: Python cannot call it.

    Parameters
    ----------
    function : callable
    reassociate : bool
        As for `cpu_kernel`.
    """
    if function is None:
        return functools.partial(cpu_loop, reassociate=reassociate)
    options = {**_options(reassociate), "no_cpython_wrapper": True}
    compiled: Body = numba.njit(**options)(function)
    return compiled


class CpuKernel:
    """A compiled loop: called like the function it was made from.

    Compiled for each new set of argument types at the first call with it, or loaded
    from the cache folder.

    Attributes
    ----------
    function : callable
        The Python function.
    name : str
        Its module and name.
    entry : callable
        What a call runs. It changes at the first call and with the thread pool; a
        caller who reads it anew each time saves 0.15 us against calling the kernel.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        parallel: bool,
        shared: bool,
        reassociate: bool,
        signatures: list[Any] | None,
    ) -> None:
        self.function = function
        self.name = f"{function.__module__}.{function.__name__}"
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__
        self.parallel = parallel
        self.shared = shared
        self.dispatcher: Any = None
        self._options = _options(reassociate)
        self._signatures = signatures
        self.entry: Callable[..., Any] = self._first_call

    def __call__(self, *args: Any) -> Any:
        """Run the loop."""
        return self.entry(*args)

    def __repr__(self) -> str:
        """Name the kernel."""
        return f"<cpu kernel {self.name}>"

    def compile(self) -> Any:
        """Make the Numba dispatcher (which compiles per signature, at its calls)."""
        if self.dispatcher is None:
            dispatcher = numba.njit(parallel=self.parallel, **self._options)(
                self.function
            )
            cache.attach(dispatcher, self.function)
            for signature in self._signatures or ():
                dispatcher.compile(signature)
            if self._signatures:
                dispatcher.disable_compile()
            self.dispatcher = dispatcher
        return self.dispatcher

    def _first_call(self, *args: Any) -> Any:
        with threads.compile_lock:
            threads.prepare()
            blas.load()
            if self.parallel or self.shared:
                threads.pool.launch()
            dispatcher = self.compile()
        if self.parallel or self.shared:
            threads.pool.adopt(self, dispatcher)
        else:
            self.entry = dispatcher
        return self.entry(*args)

    def bind(self, call: Callable[..., Any]) -> None:
        """Set what a call runs: the pool guards its kernels with it."""
        self.entry = call


@overload
def cpu_kernel(function: Callable[..., Any]) -> CpuKernel: ...
@overload
def cpu_kernel(
    *,
    parallel: bool = True,
    shared: bool = False,
    reassociate: bool = False,
    signatures: list[Any] | None = None,
) -> Callable[[Callable[..., Any]], CpuKernel]: ...


def cpu_kernel(
    function: Callable[..., Any] | None = None,
    *,
    parallel: bool = True,
    shared: bool = False,
    reassociate: bool = False,
    signatures: list[Any] | None = None,
) -> CpuKernel | Callable[[Callable[..., Any]], CpuKernel]:
    """Compile a loop over arrays for the CPU.

    Parameters
    ----------
    function : callable
        A function of a module whose outer loop is ``for i in prange(n)``.
    parallel : bool
        False for a loop without `prange`: its entry costs 0.3 us in place of 1.5 us.
    shared : bool
        The function shares a loop out by `spread`, in place of `prange`: it compiles
        in half the time, and small arrays do not enter the pool.
    reassociate : bool
        Let the compiler reorder this loop's float sums, so that a reduction vectorises.
        NaN and infinity keep their meaning.
    signatures : list of Numba signatures, optional
        Compile for these alone, whatever the layout of the arguments (an argument whose
        type is ``float32[:, :]`` takes any strides). Compiled on the first call.

    Returns
    -------
    CpuKernel
        Called like `function`; releases the GIL; cached on disk.
    """

    def decorate(inner: Callable[..., Any]) -> CpuKernel:
        return CpuKernel(
            inner,
            parallel=parallel and not shared,
            shared=shared,
            reassociate=reassociate,
            signatures=signatures,
        )

    return decorate if function is None else decorate(function)
