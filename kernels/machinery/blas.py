"""Matrix products from inside kernels: a single-threaded OpenBLAS of our own.

``scipy-openblas64`` carries a shared library, which is loaded here privately
(``RTLD_LOCAL``, after NumPy, without importing the package, whose import would let
NumPy bind to it), so that its setting of one thread is not the user's NumPy's. Without
it the copy inside NumPy's wheel serves; without that a plain loop does, slowly.
`blas_info` tells which.

The functions reach compiled code by name (`llvmlite.binding.add_symbol` and
`numba.types.ExternalFunction`): unlike a ctypes function, that can be cached on disk.
"""

from __future__ import annotations

import ctypes
import glob
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numba
from numba import types
from numba.extending import overload

from nnlib.backend import threads

__all__ = ["BlasInfo", "blas_info", "gemm", "gemv", "load"]

# The constants of the C interface.
_ROW_MAJOR = 101
_NO_TRANS = 111
_TRANS = 112

_int = types.int32
_long = types.int64
_address = types.uintp


def _gemm_type(real: Any) -> Any:
    return types.void(
        _int, _int, _int, _long, _long, _long, real, _address, _long, _address, _long,
        real, _address, _long,
    )  # fmt: skip


def _gemv_type(real: Any) -> Any:
    return types.void(
        _int, _int, _long, _long, real, _address, _long, _address, _long, real,
        _address, _long,
    )  # fmt: skip


_SIGNATURES = {
    "sgemm": _gemm_type(types.float32),
    "dgemm": _gemm_type(types.float64),
    "sgemv": _gemv_type(types.float32),
    "dgemv": _gemv_type(types.float64),
}
_sgemm, _dgemm, _sgemv, _dgemv = (
    types.ExternalFunction(f"nnlib_{name}", signature)
    for name, signature in _SIGNATURES.items()
)


class BlasInfo(NamedTuple):
    """Which library multiplies matrices inside the kernels."""

    name: str
    path: str | None
    note: str


_info: BlasInfo | None = None
# Held for the life of the process: compiled code keeps their addresses.
_held: list[Any] = []


def _candidates() -> Iterator[tuple[str, str, str]]:
    suffix = {"win32": "*.dll", "darwin": "*.dylib"}.get(sys.platform, "*.so*")
    spec = importlib.util.find_spec("scipy_openblas64")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        for path in glob.glob(str(Path(folder) / "lib" / suffix)):
            yield "scipy-openblas64", path, ""
    for path in threads.numpy_openblas():
        yield (
            "NumPy's OpenBLAS",
            path,
            "scipy-openblas64 is not installed: NumPy's own products now use one "
            "thread; pip install scipy-openblas64",
        )


def _open(path: str) -> dict[str, int]:
    """Load the library at `path` for one thread; return its functions' addresses."""
    before = os.environ.get("OPENBLAS_NUM_THREADS")
    # Read by the library as it loads: without it, it would start threads of its own.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    try:
        library = ctypes.CDLL(path)
    finally:
        if before is None:
            del os.environ["OPENBLAS_NUM_THREADS"]
        else:
            os.environ["OPENBLAS_NUM_THREADS"] = before
    library.scipy_openblas_set_num_threads64_(1)
    _held.append(library)
    return {
        name: int(
            ctypes.cast(
                getattr(library, f"scipy_cblas_{name}64_"), ctypes.c_void_p
            ).value
            or 0
        )
        for name in _SIGNATURES
    }


def load() -> BlasInfo:
    """Make the functions known to compiled code; done once, before the first kernel."""
    global _info
    if _info is not None:
        return _info
    for name, path, note in _candidates():
        try:
            addresses = _open(path)
        except (OSError, AttributeError):
            continue
        _info = BlasInfo(name, path, note)
        break
    else:
        addresses = _plain()
        _info = BlasInfo(
            "plain loops",
            None,
            "no OpenBLAS was found: matrix products are slow; "
            "pip install scipy-openblas64",
        )
    for name, address in addresses.items():
        llvm.add_symbol(f"nnlib_{name}", address)
    return _info


def blas_info() -> BlasInfo:
    """Return which library multiplies matrices inside the kernels.

    Examples
    --------
    >>> isinstance(blas_info().name, str)
    True
    """
    return load()


def _plain() -> dict[str, int]:
    """Compile loops that stand in for a BLAS; return their addresses."""
    addresses = {}
    for name, signature in _SIGNATURES.items():
        real = types.float32 if name[0] == "s" else types.float64
        make = _plain_gemm if name.endswith("gemm") else _plain_gemv
        function = numba.cfunc(signature)(make(real))
        _held.append(function)
        addresses[name] = int(function.address)
    return addresses


def _plain_gemm(real: Any) -> Any:
    pointer = types.CPointer(real)

    def multiply(
        order: Any,
        trans_a: Any,
        trans_b: Any,
        m: Any,
        n: Any,
        k: Any,
        alpha: Any,
        a: Any,
        lda: Any,
        b: Any,
        ldb: Any,
        beta: Any,
        c: Any,
        ldc: Any,
    ) -> Any:
        x = numba.carray(_as_pointer(a, pointer), ((k if trans_a == 112 else m), lda))
        y = numba.carray(_as_pointer(b, pointer), ((n if trans_b == 112 else k), ldb))
        out = numba.carray(_as_pointer(c, pointer), (m, ldc))
        for i in range(m):
            for j in range(n):
                out[i, j] = real(0) if beta == 0 else beta * out[i, j]
            for p in range(k):
                factor = alpha * (x[p, i] if trans_a == 112 else x[i, p])
                for j in range(n):
                    out[i, j] += factor * (y[j, p] if trans_b == 112 else y[p, j])

    return multiply


def _plain_gemv(real: Any) -> Any:
    pointer = types.CPointer(real)

    def multiply(
        order: Any,
        trans: Any,
        m: Any,
        n: Any,
        alpha: Any,
        a: Any,
        lda: Any,
        x: Any,
        incx: Any,
        beta: Any,
        y: Any,
        incy: Any,
    ) -> Any:
        matrix = numba.carray(_as_pointer(a, pointer), (m, lda))
        rows = n if trans == 112 else m
        inner = m if trans == 112 else n
        v = numba.carray(_as_pointer(x, pointer), (inner * incx,))
        out = numba.carray(_as_pointer(y, pointer), (rows * incy,))
        for i in range(rows):
            total = real(0)
            for p in range(inner):
                total += (matrix[p, i] if trans == 112 else matrix[i, p]) * v[p * incx]
            old = real(0) if beta == 0 else beta * out[i * incy]
            out[i * incy] = old + alpha * total

    return multiply


@numba.extending.intrinsic  # type: ignore[untyped-decorator]
def _as_pointer(context: Any, address: Any, pointer: Any) -> Any:
    target = pointer.instance_type

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(target))

    return target(address, pointer), generate


def gemm(
    trans_a: bool, trans_b: bool, m: int, n: int, k: int,
    alpha: Any, a: int, lda: int, b: int, ldb: int, beta: Any, c: int, ldc: int,
) -> None:  # fmt: skip
    """Compute ``C = alpha * op(A) @ op(B) + beta * C``, row-major, in this thread.

    For use inside `cpu_kernel` loops. `a`, `b`, `c` are addresses
    (``array.ctypes.data``), `lda`, `ldb`, `ldc` the distances of two rows in elements;
    `alpha` and `beta` have the type of the matrices, float32 or float64.
    """
    raise NotImplementedError("gemm: only compiled kernels can call this function")


@overload(gemm)  # type: ignore[untyped-decorator]
def _gemm_overload(
    trans_a: Any,
    trans_b: Any,
    m: Any,
    n: Any,
    k: Any,
    alpha: Any,
    a: Any,
    lda: Any,
    b: Any,
    ldb: Any,
    beta: Any,
    c: Any,
    ldc: Any,
) -> Any:
    function = _sgemm if alpha == types.float32 else _dgemm

    def call(
        trans_a: Any,
        trans_b: Any,
        m: Any,
        n: Any,
        k: Any,
        alpha: Any,
        a: Any,
        lda: Any,
        b: Any,
        ldb: Any,
        beta: Any,
        c: Any,
        ldc: Any,
    ) -> Any:
        function(
            _ROW_MAJOR, _TRANS if trans_a else _NO_TRANS,
            _TRANS if trans_b else _NO_TRANS, m, n, k, alpha, a, lda, b, ldb, beta, c,
            ldc,
        )  # fmt: skip

    return call


def gemv(
    trans: bool, m: int, n: int, alpha: Any, a: int, lda: int,
    x: int, incx: int, beta: Any, y: int, incy: int,
) -> None:  # fmt: skip
    """Compute ``y = alpha * op(A) @ x + beta * y`` for an (m, n) matrix A.

    For use inside `cpu_kernel` loops; arguments as in `gemm`.
    """
    raise NotImplementedError("gemv: only compiled kernels can call this function")


@overload(gemv)  # type: ignore[untyped-decorator]
def _gemv_overload(
    trans: Any,
    m: Any,
    n: Any,
    alpha: Any,
    a: Any,
    lda: Any,
    x: Any,
    incx: Any,
    beta: Any,
    y: Any,
    incy: Any,
) -> Any:
    function = _sgemv if alpha == types.float32 else _dgemv

    def call(
        trans: Any,
        m: Any,
        n: Any,
        alpha: Any,
        a: Any,
        lda: Any,
        x: Any,
        incx: Any,
        beta: Any,
        y: Any,
        incy: Any,
    ) -> Any:
        function(
            _ROW_MAJOR, _TRANS if trans else _NO_TRANS, m, n, alpha, a, lda, x, incx,
            beta, y, incy,
        )  # fmt: skip

    return call
