"""Elements of arrays that a kernel knows by their addresses alone."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic, overload

from nnlib.kernels.machinery.cuda_vectors import inlined, load4_at, store4_at

__all__ = ["load", "put4_at", "store", "take4_at"]


@intrinsic  # type: ignore[untyped-decorator]
def _load(typing_context: Any, address: Any, i: Any, like: Any) -> Any:
    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = context.get_data_type(signature.return_type)
        base = builder.inttoptr(args[0], kind.as_pointer())
        return builder.load(builder.gep(base, [args[1]], inbounds=True))

    return like(types.int64, types.int64, like), lower


@intrinsic  # type: ignore[untyped-decorator]
def _store(typing_context: Any, address: Any, i: Any, value: Any) -> Any:
    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        base = builder.inttoptr(args[0], args[2].type.as_pointer())
        builder.store(args[2], builder.gep(base, [args[1]], inbounds=True))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, value), lower


def _pointer(address: Any, i: Any, like: Any) -> Any:
    kind = ctypes.c_float if isinstance(like, np.float32) else ctypes.c_double
    return kind.from_address(int(address) + int(i) * ctypes.sizeof(kind))


def load(address: Any, i: Any, like: Any) -> Any:
    """Return element `i`, of the type of `like`, of the array at an address."""
    return type(like)(_pointer(address, i, like).value)


def store(address: Any, i: Any, value: Any) -> None:
    """Write element `i` of the array at an address."""
    _pointer(address, i, value).value = float(value)


overload(load, strict=False)(
    lambda address, i, like: lambda address, i, like: _load(address, i, like)
)
overload(store, strict=False)(
    lambda address, i, value: lambda address, i, value: _store(address, i, value)
)


@inlined
def take4_at(address: Any, i: Any, last: Any, whole: Any, like: Any) -> Any:
    """Return elements i to i + 3 of the array at an address, which ends before `last`.

    Not `whole`, they are read one by one, and for those past the end the last again.
    """
    if whole:
        return load4_at(address, i, like)
    final = np.int64(last) - 1
    first = np.int64(i)
    return (
        load(address, first, like),
        load(address, min(first + 1, final), like),
        load(address, min(first + 2, final), like),
        load(address, min(first + 3, final), like),
    )


@inlined
def put4_at(
    address: Any, i: Any, last: Any, whole: Any, a: Any, b: Any, c: Any, d: Any
) -> None:
    """Write elements i to i + 3, those past the end excepted; `whole` as `take4_at`."""
    if whole:
        store4_at(address, i, a, b, c, d)
    else:
        first, end = np.int64(i), np.int64(last)
        store(address, first, a)
        if first + 1 < end:
            store(address, first + 1, b)
        if first + 2 < end:
            store(address, first + 2, c)
        if first + 3 < end:
            store(address, first + 3, d)
