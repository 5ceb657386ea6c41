"""One kernel call over many arrays: the parameters of an optimiser's group.

The kernel is given a table of addresses: a column for each parameter; rows for the
parameter, its gradient and up to three kept arrays. The elements of all parameters are
cut into chunks, which are what threads and CUDA blocks share out: a bias of ten and a
matrix of a million fill the machine alike.

An update is one scalar function of an element of each array; `Update` makes the loops.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nnlib.backend.errors import DTypeError, ShapeError
from nnlib.backend.recording import Recording, current
from nnlib.kernels.addresses import load, put4_at, store, take4_at
from nnlib.kernels.elementwise import scalar, scalar_type
from nnlib.kernels.machinery import (
    array_module,
    cpu_kernel,
    cpu_loop,
    cuda,
    cuda_kernel,
    on_cuda,
    spread,
)
from nnlib.kernels.machinery.arrays import there, upload
from nnlib.kernels.machinery.cuda_vectors import (
    aligned_address,
    inlined,
    quad_at,
    quad_end,
)
from nnlib.kernels.recorded_settings import settings_of, write_settings_cuda

__all__ = ["ParameterTable", "Update"]

# Elements of a chunk: a few microseconds of work.
CHUNK = 8192
# Each thread that takes part has at least so many chunks.
GRAIN = 4
# Elements that a CUDA block reads at once, and blocks that are enough for a device.
PASS = 1024
BLOCKS = 8192
# Rows of the table: parameter, gradient, three kept arrays.
ROWS = 5
# Settings of a rule, at most: a CUDA kernel takes each as an argument.
SETTINGS = 12


def _data_offset() -> int | None:
    """Find where a NumPy array object holds its address, if that is to be found.

    NumPy's own ways to the address take 0.8 us an array, at every step of training.
    """
    offsets = []
    for sample in (np.empty(3), np.empty(5)):
        words = (ctypes.c_int64 * 8).from_address(id(sample))
        address = sample.ctypes.data
        offsets.append([k for k in range(8) if words[k] == address])
    return offsets[0][0] * 8 if offsets[0] == offsets[1] and offsets[0] else None


_OFFSET = _data_offset()


@cpu_kernel(parallel=False)
def read_addresses(objects: Any, offset: Any, row: Any) -> None:
    """Write the addresses of the data of array objects, given those of the objects."""
    for t in range(row.size):
        row[t] = load(objects[t] + offset, 0, offset)


def _addresses(arrays: Sequence[Any], row: Any) -> None:
    """Write the addresses of the data of `arrays` to `row`."""
    if not isinstance(arrays[0], np.ndarray):
        row[:] = [array.data.ptr for array in arrays]
    elif _OFFSET is None:
        row[:] = [array.ctypes.data for array in arrays]
    else:
        objects = np.fromiter(map(id, arrays), np.int64, len(arrays))
        read_addresses(objects, _OFFSET, row)


class ParameterTable:
    """The addresses of a group's arrays, and their chunks.

    Parameters
    ----------
    params : sequence of arrays
        All on one device, float32 or float64 alike. They are updated in place.
    slots : sequence of sequences of arrays
        The kept arrays: ``slots[s][t]`` belongs to ``params[t]``, of its shape. At most
        three.

    Raises
    ------
    ShapeError
        If a kept array has another shape than its parameter, or strides.
    DTypeError
        If the dtypes differ.

    Examples
    --------
    >>> p = [np.ones(2), np.ones((3, 4))]
    >>> table = ParameterTable(p, [[np.zeros_like(x) for x in p]])
    >>> table.set_gradients([np.ones_like(x) for x in p])
    >>> table.chunks.tolist()
    [[0, 0, 2], [1, 0, 12]]
    """

    def __init__(
        self, params: Sequence[Any], slots: Sequence[Sequence[Any]] = ()
    ) -> None:
        if not params:
            raise ShapeError("ParameterTable: expected at least one parameter")
        if len(slots) > ROWS - 2:
            raise ShapeError(
                f"ParameterTable: {len(slots)} kept arrays for each parameter, "
                f"expected {ROWS - 2} at most"
            )
        self.kind = scalar_type("ParameterTable", params[0])
        self.module = array_module(params[0])
        self.cuda = on_cuda(params[0])
        self.strides = [array.strides for array in params]
        self.kept = [list(params), *(list(slot) for slot in slots)]
        for name, arrays in enumerate(self.kept):
            self._check(arrays, "parameter" if name == 0 else f"slot {name - 1}")
        self.addresses = np.zeros((ROWS, len(params)), np.int64)
        for row, arrays in zip((0, 2, 3, 4), self.kept, strict=False):
            _addresses(arrays, self.addresses[row])
        self.chunks = self._cut([array.size for array in params])
        self.gradients: list[Any] = []
        # Where the kernel reads the settings, if they are not handed over: see
        # `Update.__call__`.
        self.settings: Any = None
        self.launches = True
        # The addresses that the device has, and a copy of them.
        self._on_device: Any = None
        self._sent = b""
        if self.cuda:
            self.shift = self._parts()
            self.chunks = upload(self.chunks, params[0], "optimiser")

    @staticmethod
    def _cut(sizes: list[int]) -> Any:
        """Return (parameter, first, last) of every chunk."""
        rows = [
            (t, first, min(size, first + CHUNK))
            for t, size in enumerate(sizes)
            for first in range(0, size, CHUNK)
        ]
        return np.array(rows, np.int64).reshape(-1, 3)

    def _parts(self) -> int:
        """Return how many CUDA blocks share a chunk, as a power of two.

        So many that one pass does it, where there are not blocks enough anyway.
        """
        lengths = self.chunks[:, 2] - self.chunks[:, 1]
        parts = int(lengths.max(initial=1) - 1) // PASS + 1
        return (min(parts, BLOCKS // max(1, len(lengths))) or 1).bit_length() - 1

    def _check(self, arrays: list[Any], what: str) -> None:
        params = self.kept[0]
        if len(arrays) != len(params):
            raise ShapeError(
                f"ParameterTable: {what}: {len(arrays)} arrays for {len(params)} "
                "parameters"
            )
        for t, (array, p) in enumerate(zip(arrays, params, strict=True)):
            if array.dtype != self.kind:
                raise DTypeError(
                    f"ParameterTable: {what} of parameter {t} is {array.dtype}, "
                    f"expected {np.dtype(self.kind)}"
                )
            if array.shape != p.shape or array.strides != p.strides:
                raise ShapeError(
                    f"ParameterTable: {what} of parameter {t} has shape {array.shape} "
                    f"and strides {array.strides}, expected {p.shape} and {p.strides}"
                )
            if not _is_dense(array):
                raise ShapeError(
                    f"ParameterTable: {what} of parameter {t} is a view with gaps "
                    f"(shape {array.shape}, strides {array.strides})"
                )

    def set_gradients(self, gradients: Sequence[Any]) -> None:
        """Set the gradients of the next update.

        Parameters
        ----------
        gradients : sequence of arrays
            One for each parameter, of its shape and dtype. One of other strides than
            its parameter's is copied.

        Raises
        ------
        ShapeError, DTypeError
            If one does not fit.
        """
        strides = self.strides
        if [g.strides for g in gradients] != strides:
            gradients = self._in_layout(gradients)
        dtype = self.kind
        for t, (g, p) in enumerate(zip(gradients, self.kept[0], strict=True)):
            if g.shape != p.shape:
                raise ShapeError(
                    f"ParameterTable: gradient {t} has shape {g.shape}, expected "
                    f"{p.shape}"
                )
            if g.dtype != dtype:
                raise DTypeError(
                    f"ParameterTable: gradient {t} is {g.dtype}, expected "
                    f"{np.dtype(dtype)}"
                )
        # The list keeps the arrays alive until the kernel has read them.
        self.gradients = list(gradients)
        _addresses(self.gradients, self.addresses[1])

    def _in_layout(self, gradients: Sequence[Any]) -> list[Any]:
        """Return the gradients with the strides of their parameters."""
        if len(gradients) != len(self.strides):
            raise ShapeError(
                f"ParameterTable: {len(gradients)} gradients for {len(self.strides)} "
                "parameters"
            )
        result = []
        for g, p in zip(gradients, self.kept[0], strict=True):
            if g.strides != p.strides and (g.shape, g.dtype) == (p.shape, p.dtype):
                with there(p):
                    copy = self.module.empty_like(p)
                    copy[...] = g
                g = copy
            result.append(g)
        return result

    def table(self) -> Any:
        """Return the addresses where the kernel reads them."""
        if not self.cuda:
            return self.addresses
        # The pool hands out the same memory step by step: mostly nothing is new.
        wanted = self.addresses.tobytes()
        recording = current()
        if recording is not None:
            return self._recorded(recording)
        if self._sent != wanted:
            params = self.kept[0]
            # They change with each step of some: the kernel follows on this stream.
            self._on_device = upload(self.addresses, params[0], "optimiser", wait=False)
            self._sent = wanted
        return self._on_device

    def lasting_settings(self, recording: Recording) -> Any:
        """Return memory for the numbers of a rule in a CUDA graph (see `Update`)."""
        return recording.lasting(self.kept[0][0], (SETTINGS,), self.kind)

    def _recorded(self, recording: Recording) -> Any:
        """Return the addresses of a CUDA graph, which stay: copied when it is whole."""
        made = recording.lasting(self.kept[0][0], self.addresses.shape, np.int64)
        addresses = self.addresses.copy()
        recording.after.append(lambda: made.set(addresses))
        return made


def _is_dense(array: Any) -> bool:
    axes = sorted(range(array.ndim), key=lambda axis: -array.strides[axis])
    return bool(array.transpose(axes).flags.c_contiguous)


class Update:
    """An optimiser's rule, compiled to one kernel call over a `ParameterTable`.

    Parameters
    ----------
    function : callable
        A `scalar` function of a module, ``f(p, g, a, b, c, h)``: elements of parameter,
        gradient and kept arrays, and the tuple of settings. Returns the new
        ``(p, a, b, c)``.
    slots : int
        How many of a, b and c there are; the others are 0.
    """

    def __init__(self, function: Callable[..., Any], slots: int) -> None:
        self.__name__ = f"{function.__name__}_{slots}"
        self.__doc__ = function.__doc__
        cpu, gpu = _loops(function, slots, f"_update_{self.__name__}")
        for loop, kind in ((cpu, "cpu"), (gpu, "cuda")):
            loop.__name__ = loop.__qualname__ = f"{self.__name__}_{kind}"
            loop.__module__ = function.__module__
        self.cpu = cpu_kernel(shared=True)(cpu)
        self.cuda = cuda_kernel(gpu)
        self.slots = slots

    def __repr__(self) -> str:
        """Name the rule."""
        return f"<update {self.__name__}>"

    def __call__(self, table: ParameterTable, *settings: float) -> None:
        """Update every parameter of `table` and what is kept for it.

        Parameters
        ----------
        table : ParameterTable
            With gradients set.
        *settings : float
            At most twelve numbers, in the order that the function reads them.

        Notes
        -----
        For CUDA graphs: if ``table.settings`` is an array on the device, the kernel
        reads the numbers there; with ``table.launches`` False nothing is updated, but
        the numbers are written there, for the next replay.
        """
        if len(table.kept) - 1 != self.slots:
            raise ShapeError(
                f"{self.__name__}: the table has {len(table.kept) - 1} kept arrays for "
                f"each parameter, expected {self.slots}"
            )
        if not table.gradients:
            raise ShapeError(f"{self.__name__}: the table's gradients are not set")
        h = tuple(map(table.kind, settings))
        chunks = table.chunks
        if table.cuda:
            h += (table.kind(0),) * (SETTINGS - len(h))
            if not table.launches:
                write_settings_cuda(table.settings, *h, items=1)
                return
            if table.settings is not None:
                h = (table.settings, *h[1:])
            shift = table.shift
            blocks = chunks.shape[0] << shift
            with there(table.kept[0][0]):
                self.cuda(table.table(), chunks, shift, *h, blocks=blocks)
        else:
            self.cpu(table.addresses, chunks, h)


def _loops(f: Callable[..., Any], slots: int, name: str) -> tuple[Any, Any]:
    """Make the loops over chunks, on the CPU and on CUDA.

    What is done to one element becomes this module's `name`: Numba's cache knows the
    functions that a closure refers to by name, or not at all.
    """

    def at(p: Any, g: Any, a: Any, b: Any, c: Any, i: Any, h: Any) -> None:
        like = h[0]
        zero = type(like)(0)
        x = load(a, i, like) if slots > 0 else zero
        y = load(b, i, like) if slots > 1 else zero
        z = load(c, i, like) if slots > 2 else zero
        result = f(load(p, i, like), load(g, i, like), x, y, z, h)
        store(p, i, result[0])
        if slots > 0:
            store(a, i, result[1])
        if slots > 1:
            store(b, i, result[2])
        if slots > 2:
            store(c, i, result[3])

    at.__name__ = at.__qualname__ = name
    at = globals()[name] = scalar(at)

    @inlined
    def at4(
        p: Any, g: Any, a: Any, b: Any, c: Any, i: Any, last: Any, whole: Any, h: Any
    ) -> None:
        like = h[0]
        zero = type(like)(0)
        p0, p1, p2, p3 = take4_at(p, i, last, whole, like)
        g0, g1, g2, g3 = take4_at(g, i, last, whole, like)
        x0, x1, x2, x3 = zero, zero, zero, zero
        y0, y1, y2, y3 = zero, zero, zero, zero
        z0, z1, z2, z3 = zero, zero, zero, zero
        if slots > 0:
            x0, x1, x2, x3 = take4_at(a, i, last, whole, like)
        if slots > 1:
            y0, y1, y2, y3 = take4_at(b, i, last, whole, like)
        if slots > 2:
            z0, z1, z2, z3 = take4_at(c, i, last, whole, like)
        p0, x0, y0, z0 = f(p0, g0, x0, y0, z0, h)
        p1, x1, y1, z1 = f(p1, g1, x1, y1, z1, h)
        p2, x2, y2, z2 = f(p2, g2, x2, y2, z2, h)
        p3, x3, y3, z3 = f(p3, g3, x3, y3, z3, h)
        put4_at(p, i, last, whole, p0, p1, p2, p3)
        if slots > 0:
            put4_at(a, i, last, whole, x0, x1, x2, x3)
        if slots > 1:
            put4_at(b, i, last, whole, y0, y1, y2, y3)
        if slots > 2:
            put4_at(c, i, last, whole, z0, z1, z2, z3)

    @cpu_loop
    def loop(begin: Any, end: Any, table: Any, chunks: Any, h: Any) -> None:
        for k in range(begin, end):
            t = chunks[k, 0]
            p, g, a = table[0, t], table[1, t], table[2, t]
            b, c = table[3, t], table[4, t]
            # Unsigned, so that the loop vectorises.
            for i in range(np.uint64(chunks[k, 1]), np.uint64(chunks[k, 2])):
                at(p, g, a, b, c, i, h)

    def cpu(table: Any, chunks: Any, h: Any) -> None:
        spread(loop, chunks.shape[0], GRAIN, (table, chunks, h))

    def gpu(
        table: Any, chunks: Any, shift: Any, h0: Any, h1: Any, h2: Any, h3: Any,
        h4: Any, h5: Any, h6: Any, h7: Any, h8: Any, h9: Any, h10: Any, h11: Any,
    ) -> None:  # fmt: skip
        # A block takes a part of a chunk: every so many of its vectors.
        h = settings_of((h0, h1, h2, h3, h4, h5, h6, h7, h8, h9, h10, h11))
        k = cuda.blockIdx.x >> shift
        parts = 1 << shift
        t = chunks[k, 0]
        last = np.uint64(chunks[k, 2])
        p, g, a = table[0, t], table[1, t], table[2, t]
        b, c = table[3, t], table[4, t]
        end = quad_end(last, aligned_address(p | g | a | b | c))
        part = cuda.blockIdx.x & (parts - 1)
        thread = part * cuda.blockDim.x + cuda.threadIdx.x
        i = np.uint64(chunks[k, 1]) + quad_at(thread)
        while i < last:
            at4(p, g, a, b, c, i, last, i < end, h)
            i += quad_at(parts * cuda.blockDim.x)

    return cpu, gpu
