"""DLPack for arrays, with bfloat16, which NumPy's own DLPack does not know.

NumPy hands bfloat16 over as the 16-bit integers of the same bits; the type's name in
the capsule is then written anew. Capsules are made for one exchange, so nobody else
reads that name.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from nnlib.backend.device import device_context, module_of, resolve_device
from nnlib.backend.dtypes import bfloat16, resolve_dtype
from nnlib.backend.errors import DTypeError

__all__ = ["export_array", "import_array"]

_UNSIGNED, _BFLOAT = 1, 4
# Where the type (code, bits) stands in a capsule's structure, by the capsule's name:
# data, device and ndim before it; in the versioned form also the version, the context,
# the deleter and the flags.
_TYPE_AT = {b"dltensor": 20, b"dltensor_versioned": 52}

_api = ctypes.pythonapi
_name_of = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(
    ("PyCapsule_GetName", _api)
)
_pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", _api)
)


def export_array(array: Any, **options: Any) -> Any:
    """Return a DLPack capsule on the memory of a NumPy or CuPy array."""
    if array.dtype != bfloat16:
        return array.__dlpack__(**options)
    capsule = array.view(np.uint16).__dlpack__(**options)
    _rename(capsule, _UNSIGNED, _BFLOAT)
    return capsule


def import_array(source: Any) -> Any:
    """Return an array on the memory of any object that speaks DLPack.

    Raises
    ------
    DTypeError
        If its numbers are of a type that nnlib does not have.
    """
    if not hasattr(source, "__dlpack_device__"):
        raise DTypeError(
            "from_dlpack: expected an object with __dlpack__, got "
            f"{type(source).__name__}"
        )
    kind, number = source.__dlpack_device__()
    place = resolve_device("cpu" if int(kind) == 1 else int(number))
    giver = _Giver(source)
    with device_context(place):
        array = module_of(place).from_dlpack(giver)
    if giver.is_bfloat16:
        return array.view(bfloat16)
    resolve_dtype(array.dtype)
    return array


class _Giver:
    """An object that gives bfloat16 as 16-bit integers."""

    def __init__(self, source: Any) -> None:
        self.source, self.is_bfloat16 = source, False

    def __dlpack_device__(self) -> Any:
        return self.source.__dlpack_device__()

    def __dlpack__(self, **options: Any) -> Any:
        capsule = self.source.__dlpack__(**options)
        self.is_bfloat16 = _rename(capsule, _BFLOAT, _UNSIGNED)
        return capsule


def _rename(capsule: Any, before: int, after: int) -> bool:
    """Change the code of a 16-bit type in a capsule; tell whether it was `before`."""
    name = _name_of(capsule)
    kind = (ctypes.c_uint8 * 2).from_address(
        _pointer_of(capsule, name) + _TYPE_AT[name]
    )
    if tuple(kind) != (before, 16):
        return False
    kind[0] = after
    return True
