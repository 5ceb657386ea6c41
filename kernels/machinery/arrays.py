"""Which target an array belongs to.

`DeviceArray` is a NumPy array that plays a CUDA array: with it the CUDA branch of a
public kernel function runs on a machine without a GPU, in Numba's simulator or up to
the launch, where the signature is recorded for compilation.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from nnlib.backend import driver
from nnlib.backend.device import array_module as _backend_module
from nnlib.backend.errors import DeviceError

__all__ = [
    "DeviceArray",
    "array_module",
    "contiguous",
    "empty",
    "empty_like",
    "home",
    "on_cuda",
    "there",
    "upload",
]


_NUMPY = (np.ndarray, np.generic)


class DeviceArray(np.ndarray[Any, Any]):
    """A NumPy array that the kernels take for a CUDA array (tests only)."""

    def get(self) -> Any:
        """Return a copy for the CPU, as a CuPy array does."""
        return self.view(np.ndarray).copy()


class _DeviceModule:
    """NumPy under CuPy's role: what it makes is a `DeviceArray`."""

    ndarray = DeviceArray

    def __getattr__(self, name: str) -> Any:
        value = getattr(np, name)
        # The tests let NumPy refuse these arrays.
        value = getattr(value, "unguarded", value)
        if isinstance(value, type) or not callable(value):
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            result = value(*args, **kwargs)
            return result.view(DeviceArray) if type(result) is np.ndarray else result

        return call


_device_module = _DeviceModule()


def on_cuda(array: Any) -> bool:
    """Tell whether `array` is handled by the CUDA kernels.

    Examples
    --------
    >>> on_cuda(np.zeros(2))
    False
    """
    kind = type(array)
    if kind is np.ndarray:
        return False
    return kind is DeviceArray or not isinstance(array, np.ndarray)


def array_module(array: Any) -> Any:
    """Return the module whose functions make arrays where `array` lives.

    Examples
    --------
    >>> array_module(np.zeros(2)).__name__
    'numpy'
    """
    kind = type(array)
    if kind is np.ndarray:
        return np
    if kind is DeviceArray:
        return _device_module
    return _backend_module(array)


def home(array: Any) -> Any:
    """Return what tells arrays of different modules and devices apart.

    Examples
    --------
    >>> home(np.zeros(2)) == home(np.ones(3))
    True
    """
    # NumPy's arrays tell their device by a string, or not at all.
    return type(array), getattr(getattr(array, "device", None), "id", 0)


def there(like: Any) -> AbstractContextManager[Any]:
    """Return a context in which new arrays lie on the device of `like`.

    What is kept by its `home` is made within it: the current device may be another. A
    launch is refused then, but what is kept must be right for the next.

    Examples
    --------
    >>> with there(np.zeros(2)):
    ...     np.zeros(1)
    array([0.])
    """
    device: AbstractContextManager[Any]
    device = nullcontext() if isinstance(like, _NUMPY) else like.device
    return device


def upload(table: Any, like: Any, name: str, *, wait: bool = True) -> Any:
    """Return a NumPy array's copy where `like` lives.

    Parameters
    ----------
    table : numpy.ndarray
    like : array
    name : str
        The operation, for the error.
    wait : bool
        Whether to return once the copy is there. What is kept must be: a kernel on
        another stream may read it next.

    Raises
    ------
    DeviceError
        If the current stream records a graph: its replays would copy from memory of
        the host that has become another's.

    Examples
    --------
    >>> upload(np.arange(3), np.zeros(2), "sum")
    array([0, 1, 2])
    """
    module = array_module(like)
    if isinstance(like, _NUMPY):
        return module.asarray(table)
    if driver.capturing():
        raise DeviceError(
            f"{name}: a table must be copied to the GPU, which a graph that is being "
            "recorded cannot hold; run the same once before the recording"
        )
    with there(like):
        return module.asarray(table, blocking=wait)


def contiguous(array: Any) -> bool:
    """Tell whether an array is C-contiguous.

    CuPy makes an object of its flags for each question; the flag itself is at hand.

    Examples
    --------
    >>> contiguous(np.zeros((2, 3)).T)
    False
    """
    if isinstance(array, _NUMPY):
        return array.flags.c_contiguous
    try:
        return array._c_contiguous  # type: ignore[no-any-return]
    except AttributeError:
        return array.flags.c_contiguous  # type: ignore[no-any-return]


def empty(like: Any, shape: Any, dtype: Any) -> Any:
    """Return a new C-contiguous array where `like` lives, its values unset.

    Examples
    --------
    >>> empty(np.zeros(2), (3, 4), np.float32).shape
    (3, 4)
    """
    kind = type(like)
    if kind is np.ndarray:
        return np.empty(shape, dtype)
    if isinstance(like, _NUMPY):
        return array_module(like).empty(shape, dtype)
    # What CuPy's `empty` comes to, after its checks.
    return kind(shape, dtype)


def empty_like(array: Any) -> Any:
    """Return a new array of the shape, dtype and memory layout of `array`.

    Examples
    --------
    >>> empty_like(np.zeros((2, 3), order="F")).strides
    (8, 16)
    """
    if not isinstance(array, _NUMPY) and contiguous(array):
        return type(array)(array.shape, array.dtype)
    return array_module(array).empty_like(array)
