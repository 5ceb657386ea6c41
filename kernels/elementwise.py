"""Element-wise loops made from a scalar function: map, gradient, map after a bias.

An element-wise family needs the same loops for each of its functions, on two targets.
They are written once here, as closures over the scalar function. That function is a
plain function of a module (marked by `scalar`), which Numba's cache can name; a closure
over a compiled function would never be found in the cache again.

The loops see flat arrays: a kernel is compiled once per dtype, whatever the shape.
Arrays of one dense layout, channels-last among them, are flattened in memory order
without a copy; only others are copied.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numba.extending import register_jitable

from nnlib.backend.errors import DTypeError, ShapeError
from nnlib.kernels.elementwise_cuda import (
    bias_map_loop,
    gradient_loop,
    map_loop,
)
from nnlib.kernels.machinery import (
    array_module,
    contiguous,
    cpu_kernel,
    cpu_loop,
    cuda_kernel,
    empty,
    empty_like,
    on_cuda,
    spread,
)
from nnlib.kernels.machinery.cuda_vectors import quads

__all__ = [
    "SERIAL",
    "BiasMap",
    "Gradient",
    "Map",
    "alike",
    "flat_views",
    "scalar",
    "scalar_type",
]

Function = TypeVar("Function", bound=Callable[..., Any])

# Each thread that takes part in a loop has at least so many elements. Entering the pool
# costs 1.2 us, but 100 us where another process has taken a core, and one thread is
# done with 65536 elements of a ReLU in 3 us.
GRAIN = 40000
# Arrays of up to this many elements take the short way to their kernel: too few for a
# second thread, hence less than twice `GRAIN`.
SERIAL = 65536

_SCALAR_TYPES: dict[str, type[Any]] = {"f": np.float32, "d": np.float64}
# Parameters in the type of the elements, ready made: making one takes 0.2 us.
_PARAMETERS: dict[tuple[Any, float], Any] = {}
_ndarray = np.ndarray
_empty = np.empty


def scalar(function: Function) -> Function:
    """Mark a module's function of scalars as callable from both targets' loops.

    It is always inlined: a call that stays in a loop keeps it from being vectorised.
    """
    return register_jitable(forceinline=True, no_cfunc_wrapper=True)(function)  # type: ignore[no-any-return]


def scalar_type(name: str, x: Any) -> type[Any]:
    """Return float32 or float64, the type of the elements of `x`.

    Raises
    ------
    DTypeError
        If `x` has another dtype; `name` is the operation that the message names.
    """
    kind = _SCALAR_TYPES.get(x.dtype.char)
    if kind is None:
        raise DTypeError(f"{name}: expected float32 or float64, got {x.dtype}")
    return kind


def _make_parameter(name: str, x: Any, parameter: float) -> Any:
    number = scalar_type(name, x)(parameter)
    if len(_PARAMETERS) >= 64:
        # A parameter that changes from step to step must not fill the memory.
        _PARAMETERS.clear()
    _PARAMETERS[x.dtype, parameter] = number
    return number


def _check(name: str, x: Any, argument: str, other: Any) -> None:
    if other.shape != x.shape:
        raise ShapeError(
            f"{name}: {argument} has shape {other.shape}, expected {x.shape}"
        )
    if other.dtype != x.dtype:
        raise DTypeError(
            f"{name}: {argument} has dtype {other.dtype}, expected {x.dtype}"
        )


def _memory_axes(x: Any) -> tuple[int, ...]:
    """Return the axes of `x` from the largest stride to the smallest."""
    strides = x.strides
    return tuple(sorted(range(x.ndim), key=lambda axis: -strides[axis]))


def alike(inputs: tuple[Any, ...], out: Any) -> bool:
    """Tell whether arrays of one shape lie densely in memory, in one order."""
    if contiguous(out):
        for x in inputs:
            if not contiguous(x):
                return False
        return True
    strides = out.strides
    for x in inputs:
        if x.strides != strides:
            return False
    expected = out.itemsize
    for stride, length in sorted(zip(strides, out.shape, strict=True)):
        if length != 1:
            if stride != expected:
                return False
            expected *= length
    return True


def flat_views(*arrays: Any) -> tuple[Any, ...] | None:
    """Return the arrays, all of one shape, as flat views of equal element order.

    Returns
    -------
    tuple of arrays, or None
        None if no common order exists in which all of them lie densely in memory.

    Examples
    --------
    >>> x = np.zeros((2, 3, 4)).transpose(0, 2, 1)
    >>> [view.shape for view in flat_views(x, np.empty_like(x))]
    [(24,), (24,)]
    >>> flat_views(x, x.copy(order="C")) is None
    True
    """
    for array in arrays:
        if not array.flags.c_contiguous:
            break
    else:
        return tuple([array.reshape(-1) for array in arrays])
    axes = _memory_axes(arrays[0])
    moved = [array.transpose(axes) for array in arrays]
    for array in moved:
        if not array.flags.c_contiguous:
            return None
    return tuple([array.reshape(-1) for array in moved])


def _named(loop: Callable[..., Any], function: Callable[..., Any], kind: str) -> Any:
    """Name a closure after its scalar function: caches and reports go by the name."""
    loop.__name__ = loop.__qualname__ = f"{function.__name__}_{kind}"
    loop.__module__ = function.__module__
    return loop


class _Elementwise:
    """The kernels made from one scalar function, and the way from arrays to them."""

    def __init__(self, function: Callable[..., Any], kind: str) -> None:
        self.__name__ = function.__name__.removesuffix("_at")
        self.__doc__ = function.__doc__
        self.function = function
        cpu, gpu = self._loops(function)
        self.cpu = cpu_kernel(shared=True)(_named(cpu, function, f"{kind}_cpu"))
        self.cuda = cuda_kernel(_named(gpu, function, f"{kind}_cuda"))

    def __repr__(self) -> str:
        """Name the function."""
        return f"<kernel {self.__name__}>"

    def _loops(self, f: Callable[..., Any]) -> tuple[Any, Any]:
        raise NotImplementedError(f"{type(self).__name__} defines no loops")

    def _parameter(self, x: Any, parameter: float) -> Any:
        """Return the parameter in the type of the elements of `x`, which it checks."""
        number = _PARAMETERS.get((x.dtype, parameter))
        if number is None:
            number = _make_parameter(self.__name__, x, parameter)
        return number

    def _run(self, inputs: tuple[Any, ...], out: Any, parameter: Any) -> None:
        if on_cuda(out) and alike(inputs, out):
            self.cuda(*inputs, out, parameter, items=quads(out.size), flat=True)
            return
        views = flat_views(*inputs, out)
        if views is None:
            module = array_module(out)
            dense = [module.ascontiguousarray(array) for array in inputs]
            result = module.empty(out.shape, out.dtype)
            self._run(tuple(dense), result, parameter)
            out[...] = result
        elif on_cuda(out):
            self.cuda(*views, parameter, items=quads(out.size))
        else:
            self.cpu(*views, parameter)


class Map(_Elementwise):
    """``y = f(x, parameter)`` for every element.

    Parameters
    ----------
    function : callable
        A `scalar` function ``f(x, parameter)`` of a module.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function, "map")

    def __call__(self, x: Any, out: Any = None, parameter: float = 0.0) -> Any:
        """Apply the function.

        Parameters
        ----------
        x : array, any shape, float32 or float64
        out : array like `x`, optional
            Where to write; it may be `x` itself. Made with the layout of `x` if None.
        parameter : float
            The function's parameter, if it has one.

        Returns
        -------
        array like `x`
        """
        if (
            out is None
            and type(x) is _ndarray
            and x.size <= SERIAL
            and x.flags.c_contiguous
        ):
            # The short way, for small arrays: it halves what a call costs. They never
            # enter the pool, and need not pass its guard.
            dtype = x.dtype
            number = _PARAMETERS.get((dtype, parameter))
            if number is None:
                number = _make_parameter(self.__name__, x, parameter)
            out = _empty(x.shape, dtype)
            cpu = self.cpu
            (cpu.dispatcher or cpu.entry)(x.ravel(), out.ravel(), number)
            return out
        number = self._parameter(x, parameter)
        if out is None:
            out = empty_like(x)
        else:
            _check(self.__name__, x, "out", out)
        self._run((x,), out, number)
        return out

    def _loops(self, f: Callable[..., Any]) -> tuple[Any, Any]:
        @cpu_loop
        def loop(first: Any, last: Any, x: Any, y: Any, parameter: Any) -> None:
            for i in range(np.uint64(first), np.uint64(last)):
                y[i] = f(x[i], parameter)

        def cpu(x: Any, y: Any, parameter: Any) -> None:
            spread(loop, x.size, GRAIN, (x, y, parameter))

        return cpu, map_loop(f)


class Gradient(_Elementwise):
    """``dx = f(dy, saved, parameter)`` for every element.

    Parameters
    ----------
    function : callable
        A `scalar` function ``f(gradient, saved, parameter)`` of a module.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function, "gradient")

    def __call__(
        self, gradient: Any, saved: Any, out: Any = None, parameter: float = 0.0
    ) -> Any:
        """Apply the function.

        Parameters
        ----------
        gradient : array, any shape, float32 or float64
            The gradient of the output.
        saved : array like `gradient`
            The input or the output of the forward function; the function's text says
            which.
        out : array like `gradient`, optional
            Where to write; it may be `gradient` or `saved` itself.
        parameter : float
            The function's parameter, if it has one.

        Returns
        -------
        array like `gradient`
        """
        if (
            out is None
            and type(saved) is _ndarray
            and saved.size <= SERIAL
            and gradient.shape == saved.shape
            and gradient.dtype is saved.dtype
            and saved.flags.c_contiguous
            and gradient.flags.c_contiguous
        ):
            # The short way, as in `Map`.
            dtype = saved.dtype
            number = _PARAMETERS.get((dtype, parameter))
            if number is None:
                number = _make_parameter(self.__name__, saved, parameter)
            out = _empty(saved.shape, dtype)
            cpu = self.cpu
            run = cpu.dispatcher or cpu.entry
            run(gradient.ravel(), saved.ravel(), out.ravel(), number)
            return out
        number = self._parameter(gradient, parameter)
        _check(self.__name__, gradient, "the saved value", saved)
        if out is None:
            out = empty_like(saved)
        else:
            _check(self.__name__, gradient, "out", out)
        self._run((gradient, saved), out, number)
        return out

    def _loops(self, f: Callable[..., Any]) -> tuple[Any, Any]:
        @cpu_loop
        def loop(
            first: Any, last: Any, gradient: Any, saved: Any, out: Any, parameter: Any
        ) -> None:
            for i in range(np.uint64(first), np.uint64(last)):
                out[i] = f(gradient[i], saved[i], parameter)

        def cpu(gradient: Any, saved: Any, out: Any, parameter: Any) -> None:
            spread(loop, out.size, GRAIN, (gradient, saved, out, parameter))

        return cpu, gradient_loop(f)


class BiasMap(_Elementwise):
    """``y = f(x + bias, parameter)``, the bias running along the last axis.

    Parameters
    ----------
    function : callable
        A `scalar` function ``f(x, parameter)`` of a module.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function, "bias_map")

    def __call__(
        self, x: Any, bias: Any, out: Any = None, parameter: float = 0.0
    ) -> Any:
        """Apply the function.

        Parameters
        ----------
        x : array, shape (..., C), float32 or float64
        bias : array, shape (C,), dtype of `x`
        out : array like `x`, optional
            Where to write; it may be `x` itself.
        parameter : float
            The function's parameter, if it has one.

        Returns
        -------
        array like `x`
        """
        name = f"bias_{self.__name__}"
        number = self._parameter(x, parameter)
        if x.ndim < 1 or bias.shape != x.shape[-1:]:
            raise ShapeError(
                f"{name}: bias has shape {bias.shape}, expected {x.shape[-1:]}"
            )
        if bias.dtype != x.dtype:
            raise DTypeError(f"{name}: bias has dtype {bias.dtype}, expected {x.dtype}")
        if out is None:
            out = empty(x, x.shape, x.dtype)
        else:
            _check(name, x, "out", out)
        dense = [each if contiguous(each) else each.copy("C") for each in (x, bias)]
        result = out if contiguous(out) else empty(x, x.shape, x.dtype)
        if on_cuda(x):
            self.cuda(*dense, result, number, items=quads(x.size), flat=True)
        elif x.size:
            rows = dense[0].reshape(-1, x.shape[-1])  # (..., C) -> (N, C)
            self.cpu(rows, dense[1], result.reshape(rows.shape), number)
        if result is not out:
            out[...] = result
        return out

    def _loops(self, f: Callable[..., Any]) -> tuple[Any, Any]:
        @cpu_loop
        def loop(
            first: Any, last: Any, x: Any, bias: Any, y: Any, parameter: Any
        ) -> None:
            for i in range(np.uint64(first), np.uint64(last)):
                for j in range(x.shape[1]):
                    y[i, j] = f(x[i, j] + bias[j], parameter)

        def cpu(x: Any, bias: Any, y: Any, parameter: Any) -> None:
            rows = max(1, GRAIN // x.shape[1])
            spread(loop, x.shape[0], rows, (x, bias, y, parameter))

        return cpu, bias_map_loop(f)
