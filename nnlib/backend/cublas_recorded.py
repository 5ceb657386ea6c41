"""Matrix products in CUDA graphs: cuBLAS called without CuPy, which refuses then.

The library is the one that CuPy has loaded; the handle is one of our own, with a
workspace in the graph's memory: cuBLAS's own would be shared by graphs that run at
once. Before a recording, products of every form are tried (`nnlib.backend.cublas`).

NVIDIA, cuBLAS documentation: "CUDA Graphs Support", "cublasSetWorkspace".
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from nnlib.backend import cublas, device, driver
from nnlib.backend.errors import DeviceError
from nnlib.backend.recording import Recording

__all__ = ["Library", "library", "prepare", "refusal"]

# The workspace that NVIDIA recommends, which is what the library takes by itself: with
# another, it may choose another way to add up, and so other bits.
_HOPPER, _WORKSPACE_HOPPER, _WORKSPACE = 9, 32 << 20, 4 << 20

_INT, _LONG, _POINTER = ctypes.c_int, ctypes.c_longlong, ctypes.c_void_p
_HEAD = [_POINTER, _INT, _INT, _INT, _INT, _INT, _POINTER]
# What follows: both factors, beta and the result, each with what describes it.
_SINGLE = [*[_POINTER, _INT] * 2, _POINTER, _POINTER, _INT]
_BATCHED = [*[_POINTER, _INT, _LONG] * 2, _POINTER, _POINTER, _INT, _LONG, _INT]
_SINGLE_EX = [*[_POINTER, _INT, _INT] * 2, _POINTER, _POINTER, *[_INT] * 4]
_BATCHED_EX = [
    *[_POINTER, _INT, _INT, _LONG] * 2, _POINTER, _POINTER, _INT, _INT, _LONG,
    *[_INT] * 3,
]  # fmt: skip
# CuPy's names for the functions, the library's, and the types of their arguments.
_FUNCTIONS: dict[str, tuple[str, list[Any]]] = {
    "create": ("cublasCreate_v2", [_POINTER]),
    "setStream": ("cublasSetStream_v2", [_POINTER, _POINTER]),
    "setWorkspace": ("cublasSetWorkspace_v2", [_POINTER, _POINTER, ctypes.c_size_t]),
    "sgemm": ("cublasSgemm_v2", [*_HEAD, *_SINGLE]),
    "dgemm": ("cublasDgemm_v2", [*_HEAD, *_SINGLE]),
    "sgemmStridedBatched": ("cublasSgemmStridedBatched", [*_HEAD, *_BATCHED]),
    "dgemmStridedBatched": ("cublasDgemmStridedBatched", [*_HEAD, *_BATCHED]),
    "gemmEx": ("cublasGemmEx", [*_HEAD, *_SINGLE_EX]),
    "gemmStridedBatchedEx": ("cublasGemmStridedBatchedEx", [*_HEAD, *_BATCHED_EX]),
}

# What was found, by device and dtype: nothing wrong, or what.
_problems: dict[tuple[int, str], str] = {}
_handles: dict[int, int] = {}


class Library:
    """The functions of cuBLAS under CuPy's names; a failure of one raises.

    Parameters
    ----------
    library : ctypes.CDLL
    """

    def __init__(self, library: Any) -> None:
        for short, (name, types) in _FUNCTIONS.items():
            setattr(self, short, self._checked(getattr(library, name), name, types))

    @staticmethod
    def _checked(function: Any, name: str, types: list[Any]) -> Callable[..., None]:
        function.argtypes, function.restype = types, _INT

        def call(*args: Any) -> None:
            status = function(*args)
            if status:
                raise DeviceError(f"matmul: {name} of cuBLAS failed: status {status}")

        return call


@functools.cache
def library() -> Any:
    """Return cuBLAS as CuPy has loaded it.

    Raises
    ------
    OSError
        If it is not found.
    """
    # CuPy's module is linked to it: from now on the name alone finds it.
    cublas.bindings()
    major = device.cupy().cuda.runtime.runtimeGetVersion() // 1000
    windows = os.name == "nt"
    name = f"cublas64_{major}.dll" if windows else f"libcublas.so.{major}"
    return Library(ctypes.CDLL(name))


def _handle(number: int) -> int:
    """Return our handle of a device, made at the first call."""
    if number not in _handles:
        made = ctypes.c_void_p()
        library().create(ctypes.addressof(made))
        _handles[number] = made.value or 0
    return _handles[number]


def prepare(recording: Recording, stream: Any) -> None:
    """Let matrices be multiplied within a recording that is about to begin.

    Those of the dtypes that have been multiplied by cuBLAS itself so far; `report` says
    what hinders the others.

    Parameters
    ----------
    recording : Recording
    stream : cupy.cuda.Stream
        The current one.
    """
    cupy = device.cupy()
    number = int(driver.bindings()[0]())
    for char in cublas.direct():
        try:
            handle = _handle(number)
            if not recording.products:
                _place(recording, handle, stream, cupy.cuda.Device(number))
            routine = cublas.routine_of(char, library(), lambda: _handles[number])
            if (number, char) not in _problems:
                _problems[number, char] = cublas.trial(routine, char, cupy)
        except Exception as error:  # noqa: BLE001 - any failure: no products
            _problems[number, char] = f"{type(error).__name__}: {error}"
        if not _problems[number, char]:
            recording.products[char] = routine


def _place(recording: Recording, handle: int, stream: Any, place: Any) -> None:
    """Set the handle's stream, and a workspace in the graph's memory."""
    hopper = int(place.compute_capability[:-1]) >= _HOPPER
    size = _WORKSPACE_HOPPER if hopper else _WORKSPACE
    workspace = recording.pool.malloc(size)
    recording.keep(workspace)
    # A new stream takes the library's own workspace again: so it comes first.
    library().setStream(handle, stream.ptr)
    library().setWorkspace(handle, workspace.ptr, size)


def refusal(dtype: np.dtype[Any]) -> DeviceError:
    """Return the error of a product that cannot be recorded."""
    found = _problems.get((int(driver.bindings()[0]()), dtype.char))
    reason = found or cublas.report().get(dtype.name, "")
    if not reason:
        reason = "none has run before: run the same once before the recording"
    elif reason == cublas.STRAIGHT:
        reason = "these matrices are too large for one call of cuBLAS"
    return DeviceError(
        "matmul: this product cannot be recorded in a CUDA graph, for which cuBLAS is "
        f"to be called directly (CuPy refuses): {reason}"
    )
