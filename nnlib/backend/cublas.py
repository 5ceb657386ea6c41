"""Matrix products by cuBLAS, called without CuPy's detours.

CuPy's `matmul` checks, broadcasts and copies for tens of microseconds before it calls
the same function. Matrices are read where they lie: a transposed view is a flag of the
call. cuBLAS counts columns first, so that the product of row-major matrices is asked
for as ``out^T = b^T a^T``.

The precision is that of the dtype: no TF32; 16-bit floats are added up in float32.

Before the first product of a dtype, ones of every form are compared with NumPy's; on
any difference or error all go through CuPy's `matmul`, and `report` says why.

Environment
-----------
NNLIB_DIRECT_CUBLAS
    ``0``: all products go through CuPy.
"""

from __future__ import annotations

import itertools
import math
import os
from typing import Any, NamedTuple

import numpy as np

from nnlib.backend import device, driver
from nnlib.backend.dtypes import bfloat16
from nnlib.backend.recording import current, state

__all__ = [
    "STRAIGHT",
    "bindings",
    "direct",
    "multiply",
    "report",
    "routine_of",
    "trial",
    "tried",
]

STRAIGHT = "straight by cuBLAS"

# Values of cuBLAS' and CUDA's enumerations.
_COMPUTE_32F = 68
_HALVES = {"e": 2, "E": 14}
_DEFAULT = -1
_PLAIN, _TRANSPOSED = 0, 1
# cuBLAS takes sizes as 32-bit integers.
_LARGEST = 2**31 - 1
# The size of a grid's third dimension, which counts the matrices of a stack.
_MOST_MATRICES = 65535


class _Routine(NamedTuple):
    """How matrices of one dtype are multiplied: singly and in batches."""

    single: Any
    batched: Any
    size: int
    # Addresses of 0 and 1 on the host, for beta (nothing or all of `out`) and alpha.
    zero: int
    one: int
    handle: Any


# What was tried: the routines, None where CuPy's are used instead, and why.
_routines: dict[str, _Routine | None] = {}
_problems: dict[str, str] = {}

_constants = {char: np.array([0, 1], char) for char in "fd"}


def bindings() -> Any:
    """Return CuPy's module of cuBLAS, and what gives the thread's handle."""
    from cupy.cuda.device import get_cublas_handle
    from cupy_backends.cuda.libs import cublas

    return cublas, get_cublas_handle


def routine_of(char: str, cublas: Any, handle: Any) -> _Routine:
    """Return what multiplies arrays of a dtype.

    Parameters
    ----------
    char : str
        The character of the dtype.
    cublas : object
        Has the functions of cuBLAS, under CuPy's names.
    handle : callable
        Returns the library's handle.
    """
    constants = _constants["d" if char == "d" else "f"]
    zero = constants.ctypes.data
    one = zero + constants.itemsize
    if char == "f":
        return _Routine(cublas.sgemm, cublas.sgemmStridedBatched, 4, zero, one, handle)
    if char == "d":
        return _Routine(cublas.dgemm, cublas.dgemmStridedBatched, 8, zero, one, handle)
    kind = _HALVES[char]
    how = (_COMPUTE_32F, _DEFAULT)

    def single(
        handle: int, ta: int, tb: int, m: int, n: int, k: int, alpha: int,
        a: int, lda: int, b: int, ldb: int, beta: int, c: int, ldc: int,
    ) -> None:  # fmt: skip
        cublas.gemmEx(
            handle, ta, tb, m, n, k, alpha, a, kind, lda, b, kind, ldb, beta, c, kind,
            ldc, *how,
        )  # fmt: skip

    def batched(
        handle: int, ta: int, tb: int, m: int, n: int, k: int, alpha: int,
        a: int, lda: int, step_a: int, b: int, ldb: int, step_b: int, beta: int,
        c: int, ldc: int, step_c: int, count: int,
    ) -> None:  # fmt: skip
        cublas.gemmStridedBatchedEx(
            handle, ta, tb, m, n, k, alpha, a, kind, lda, step_a, b, kind, ldb, step_b,
            beta, c, kind, ldc, step_c, count, *how,
        )  # fmt: skip

    return _Routine(single, batched, 2, zero, one, handle)


def _form(
    rows: int, columns: int, down: int, across: int, size: int
) -> tuple[int, int] | None:
    """Return the flag and the leading dimension of a matrix of these strides.

    Returns
    -------
    (int, int) or None
        Whether it is transposed, and how many elements lie from one row (or column) to
        the next; None if it must be copied.
    """
    if across == size or columns == 1:
        step = columns if rows == 1 else down // size
        if step >= columns and (rows == 1 or down == step * size):
            return _PLAIN, step
    if down == size or rows == 1:
        step = rows if columns == 1 else across // size
        if step >= rows and (columns == 1 or across == step * size):
            return _TRANSPOSED, step
    return None


def _step(array: Any, batch: tuple[int, ...]) -> int | None:
    """Return the bytes from one matrix of a stack to the next, 0 if it is always one.

    None if no one number says it.
    """
    lead = len(batch) - (array.ndim - 2)
    shape, strides = array.shape, array.strides
    step = expected = None
    for axis in range(len(batch) - 1, -1, -1):
        if batch[axis] == 1:
            continue
        inside = axis - lead
        stride = strides[inside] if inside >= 0 and shape[inside] > 1 else 0
        if step is None:
            step = stride
        elif stride != expected:
            return None
        expected = stride * batch[axis]
    return 0 if step is None else step


def _view(base: Any, form: str) -> Any:
    """Return stacks of matrices in the form that they are tried in."""
    if form == "turned":
        return base.swapaxes(-1, -2)
    return base[..., 1:-2] if form == "part" else base


def _base_shape(shape: tuple[int, ...], form: str) -> tuple[int, ...]:
    *batch, m, n = shape
    if form == "turned":
        return (*batch, n, m)
    return (*batch, m, n + 3) if form == "part" else shape


_FORMS = ("whole", "part", "turned")
_TRIED = (
    ((5, 7), (7, 3)), ((1, 7), (7, 4)), ((5, 7), (7, 1)), ((5, 1), (1, 6)),
    ((3, 5, 7), (3, 7, 2)), ((3, 5, 7), (7, 2)), ((5, 7), (3, 7, 2)),
    ((2, 3, 5, 7), (2, 3, 7, 4)),
)  # fmt: skip
_TOLERANCES = {"f": 1e-5, "d": 1e-13, "e": 4e-3, "E": 3e-2}


def trial(routine: _Routine, char: str, cupy: Any) -> str:
    """Multiply matrices of every form; return what is wrong, if anything."""
    rng = np.random.default_rng(0)
    kind = bfloat16 if char == "E" else np.dtype(char)
    accumulate = False
    for shapes in _TRIED:
        for forms in itertools.product(_FORMS, repeat=2):
            both = []
            for shape, form in zip(shapes, forms, strict=True):
                base = rng.standard_normal(_base_shape(shape, form)).astype(kind)
                wide = _view(base, form).astype(np.float64)
                both.append((wide, _view(cupy.asarray(base), form)))
            (x, a), (y, b) = both
            expected = x @ y
            out = cupy.asarray(rng.standard_normal(expected.shape).astype(kind))
            accumulate = not accumulate
            if accumulate:
                expected += out.get().astype(np.float64)
            if not _run(routine, a, b, out, accumulate):
                continue
            error = np.abs(out.get().astype(np.float64) - expected).max()
            if not error <= _TOLERANCES[char] * max(1.0, np.abs(expected).max()):
                return f"{kind}, shapes {shapes}, {forms}: off by {error:.2g}"
    return ""


def tried(char: str) -> _Routine | None:
    """Return what multiplies arrays of a dtype, once it was tried; None: CuPy does."""
    if char in _routines:
        return _routines[char]
    if char not in _TOLERANCES:
        return None
    if driver.capturing():
        # A trial waits for the device, which would break the recording.
        return None
    found: _Routine | None = None
    if os.environ.get("NNLIB_DIRECT_CUBLAS") == "0":
        problem = "NNLIB_DIRECT_CUBLAS is 0"
    else:
        try:
            found = routine_of(char, *bindings())
            problem = trial(found, char, device.cupy())
        except Exception as error:  # noqa: BLE001 - any failure: CuPy's way
            problem = f"the trial failed: {type(error).__name__}: {error}"
    _problems[char] = problem
    _routines[char] = None if problem else found
    return _routines[char]


def report() -> dict[str, str]:
    """Say how matrices of each dtype used so far are multiplied.

    Examples
    --------
    >>> report()
    {}
    """
    names = {"f": "float32", "d": "float64", "e": "float16", "E": "bfloat16"}
    return {
        names[char]: f"through CuPy: {problem}" if problem else STRAIGHT
        for char, problem in _problems.items()
    }


def direct() -> list[str]:
    """Return the dtypes (characters) whose matrices cuBLAS itself multiplies so far.

    Examples
    --------
    >>> direct()
    []
    """
    return [char for char, routine in _routines.items() if routine is not None]


def multiply(a: Any, b: Any, out: Any, accumulate: bool = False) -> bool:
    """Write ``a @ b`` to `out`, or add it there, on CuPy's current stream.

    Parameters
    ----------
    a : cupy.ndarray, shape (..., M, K)
    b : cupy.ndarray, shape (..., K, N)
        Of one dtype: float32, float64, float16 or bfloat16. The leading dimensions
        broadcast to those of `out`. No dimension is 0.
    out : cupy.ndarray, shape (..., M, N), C-contiguous
    accumulate : bool
        Add to what `out` holds.

    Returns
    -------
    bool
        False if cuBLAS cannot read the operands as they lie; nothing is done then.

    Raises
    ------
    DeviceError
        If an array lies on another device than the current one.
    """
    char = a.dtype.char
    if state.recording is None:
        routine = tried(char)
    else:
        found = current()
        routine = tried(char) if found is None else found.products.get(char)
        if found is not None:
            for array in (a, b, out):
                found.hold(array)
    return routine is not None and _run(routine, a, b, out, accumulate)


def _run(routine: _Routine, a: Any, b: Any, out: Any, accumulate: bool) -> bool:
    single, batched, size, zero, one, get_handle = routine
    *batch, m, n = out.shape
    *lead_a, _, k = a.shape
    *_, down_a, across_a = a.strides
    *_, down_b, across_b = b.strides
    form_a = _form(m, k, down_a, across_a, size)
    form_b = _form(k, n, down_b, across_b, size)
    if form_a is None or form_b is None:
        return False
    beta = one if accumulate else zero
    count, step_a, step_b = 1, 0, 0
    if batch:
        found_a, found_b = _step(a, tuple(batch)), _step(b, tuple(batch))
        if found_a is None or found_b is None or found_a < 0 or found_b < 0:
            return False
        step_a, step_b = found_a // size, found_b // size
        count = math.prod(batch)
        rows = form_a == (_PLAIN, k) and step_a == m * k
        if step_b == 0 and (rows or count == 1):
            # (..., M, K) -> (...*M, K): one product
            m, count = m * count, 1
    if max(m, n, k, form_a[1], form_b[1]) > _LARGEST or count > _MOST_MATRICES:
        return False
    current = driver.bindings()[0]()
    data_a, data_b, data_out = a.data, b.data, out.data
    for data in (data_a, data_b, data_out):
        if data.device_id != current:
            raise driver.elsewhere("matmul", data.device_id, current)
    args = (
        get_handle(), form_b[0], form_a[0], n, m, k, one, data_b.ptr, form_b[1],
    )  # fmt: skip
    if count == 1:
        single(*args, data_a.ptr, form_a[1], beta, data_out.ptr, n)
    else:
        batched(
            *args, step_b, data_a.ptr, form_a[1], step_a, beta, data_out.ptr, n, m * n,
            count,
        )  # fmt: skip
    return True
