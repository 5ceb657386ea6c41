"""What the kernels of recurrent layers share: steps, parts of a batch, buffers.

The rows of a sequence's data lie step after step: step t has rows ``offsets[t]`` to
``offsets[t + 1]``, the sequences of a batch from the longest to the shortest, as in
PyTorch's PackedSequence. A batch of equal lengths is the same with equal steps.

CPU: the sequences of a batch do not depend on one another. Each thread takes a share of
them (every second one, with two threads) through all steps: one entry into the pool for
a whole sequence, no barrier between steps, and the state stays in the thread's cache.
The weights are packed once (`panels`). After the product of a step one pass over each
row computes the gates, the new state and what is kept (`wide.row_map`).

CUDA: a kernel for each step with the product inside (`persistent`), or at each step a
product by cuBLAS and one element-wise kernel; the same body.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from nnlib.backend import driver, threads
from nnlib.backend.errors import DeviceError
from nnlib.kernels import gemm, panels
from nnlib.kernels.machinery import array_module, body, on_cuda
from nnlib.kernels.machinery.arrays import DeviceArray, home, upload
from nnlib.kernels.panels import panels_of
from nnlib.kernels.vectors import COLUMNS, aligned_empty

__all__ = [
    "Steps",
    "before",
    "contiguous_like",
    "equal_steps",
    "first_rows",
    "given_or_zeros",
    "grow",
    "offsets_of",
    "packed_and_sums",
    "packed_back",
    "padded_rows",
    "parts_for",
    "places_before",
    "row_before",
    "rows_or_zeros",
    "state_gradient",
    "step_rows",
    "steps_of",
]

# Multiplications in all that make a second thread worth its entry.
_GRAIN = 1 << 19
# Sequences of a thread's share: with fewer, the packed weights are read too often.
_SHARE = 4
# Offsets on the devices: of steps of equal size, which a recorded graph reads where
# they lie, so that none goes; and those of packed batches used last, by stream.
_dense: dict[Any, Any] = {}
_packed: dict[Any, Any] = {}
_MOST_PACKED = 64


class Steps(NamedTuple):
    """Where the rows of each step lie.

    Attributes
    ----------
    offsets : numpy.ndarray, shape (steps + 1,), int64
    batch : int
        Rows of the first step.
    total : int
        All rows.
    dense : bool
        Whether all steps have as many rows.
    """

    offsets: Any
    batch: int
    total: int
    dense: bool

    def order(self, reverse: bool) -> list[tuple[int, int, int]]:
        """Return number, first row and end of each step, in the order of running."""
        marks = self.offsets.tolist()
        found = [(t, marks[t], marks[t + 1]) for t in range(len(marks) - 1)]
        return found[::-1] if reverse else found

    def back(self, reverse: bool) -> list[tuple[int, int, int, int]]:
        """Return what the way back needs of each step, in the order of running.

        Returns
        -------
        list of (begin, rows, known, earlier)
            First row and number of rows; first row of the step that ran before on the
            way forward, and how many of the step's sequences it had.
        """
        order = self.order(not reverse)
        found = []
        for k, (_, begin, end) in enumerate(order):
            rows, known, earlier = end - begin, 0, 0
            if k + 1 < len(order):
                _, known, after = order[k + 1]
                earlier = min(rows, after - known)
            found.append((begin, rows, known, earlier))
        return found


def steps_of(batch_sizes: Any) -> Steps:
    """Return the steps of a batch with so many rows at each.

    Examples
    --------
    >>> steps_of([3, 2]).offsets
    array([0, 3, 5])
    """
    sizes = np.asarray(batch_sizes, np.int64)
    offsets = np.zeros(sizes.size + 1, np.int64)
    np.cumsum(sizes, out=offsets[1:])
    batch = int(sizes[0]) if sizes.size else 0
    dense = bool((sizes == batch).all())
    return Steps(offsets, batch, int(offsets[-1]), dense)


def offsets_of(steps: Steps, like: Any) -> Any:
    """Return the offsets of the steps where a CUDA array lies.

    Raises
    ------
    DeviceError
        If a graph is being recorded, and the steps differ in size or their offsets are
        not on the device yet.
    """
    offsets = steps.offsets
    module = array_module(like)
    if type(like) is DeviceArray:
        return module.asarray(offsets)
    if steps.dense:
        key: tuple[Any, ...] = (home(like), offsets.size, steps.batch)
        found = _dense.get(key)
        if found is None:
            found = _dense[key] = upload(offsets, like, "recurrent layer")
        return found
    if driver.capturing():
        raise DeviceError(
            "recurrent layer: a graph cannot be recorded of packed sequences of "
            "different lengths; pad them"
        )
    # New ones come with each batch: nothing waits for the copy, which only kernels of
    # its own stream read.
    key = home(like), module.cuda.get_current_stream().ptr, offsets.tobytes()
    found = _packed.get(key)
    if found is None:
        if len(_packed) >= _MOST_PACKED:
            _packed.clear()
        found = _packed[key] = upload(offsets, like, "recurrent layer", wait=False)
    return found


def parts_for(steps: Steps, work: int) -> int:
    """Return into how many shares to cut the batch; `work` is that of one row."""
    most = min(steps.batch // _SHARE, steps.total * work // _GRAIN)
    return max(1, min(threads.get_num_threads(), most))


@body
def step_rows(offsets: Any, t: int, part: int, parts: int) -> int:
    """Return how many rows of step t belong to a part: `part`, `part` + `parts`, ..."""
    result: int = (offsets[t + 1] - offsets[t] - part + parts - 1) // parts
    return result


@body
def row_before(offsets: Any, t: int, b: int, reverse: bool) -> int:
    """Return the row of sequence `b` at the step that ran before t, or -1."""
    if reverse:
        if t + 2 < offsets.size and b < offsets[t + 2] - offsets[t + 1]:
            result: int = offsets[t + 1] + b
            return result
        return -1
    return offsets[t - 1] + b if t > 0 else -1


def padded_rows(rows: int, columns: int, dtype: Any) -> Any:
    """Return uninitialised rows as wide as the panels that are written to them."""
    width = panels_of(columns, dtype) * COLUMNS[dtype.itemsize]
    return aligned_empty((rows, width), dtype)


def packed_and_sums(h: Any, weight: Any, steps: Steps) -> tuple[Any, Any]:
    """Return the packed weight, and rows for its products with the states `h`.

    A single step is not worth the packing: its product is made here, and no panel is
    left to be multiplied.
    """
    dtype = h.dtype
    if steps.offsets.size == 2:
        return no_panels(dtype), gemm.matmul(h, weight.T)
    rows = padded_rows(steps.batch, weight.shape[0], dtype)
    return panels.pack(weight, True), rows


def packed_back(weight: Any, steps: Steps) -> Any:
    """Return the weight packed for the way back; no panel for a single step."""
    if steps.offsets.size == 2:
        return no_panels(weight.dtype)
    return panels.pack(weight, False)


def no_panels(dtype: Any) -> Any:
    """Return a packed weight without a panel."""
    return np.empty((0, 0, COLUMNS[dtype.itemsize]), dtype)


def state_gradient(rows: Any, grads: Any, weight: Any, steps: Steps, add: bool) -> Any:
    """Return the gradient of the states before from what a kernel left in `rows`.

    After a single step its product is still to be made; `add` keeps what is there.
    """
    hidden = weight.shape[1]
    if steps.offsets.size > 2:
        return rows[:, :hidden]
    out = np.ascontiguousarray(rows[:, :hidden]) if add else None
    return gemm.matmul(grads, weight, out, accumulate=add)


def grow(x: Any, columns: int) -> Any:
    """Return a copy of `x` in padded rows."""
    rows = padded_rows(x.shape[0], columns, x.dtype)
    rows[:, :columns] = x
    return rows


def before(state: Any, steps: Steps, x: Any, reverse: bool) -> Any:
    """Return for every row of `x` the row of the same sequence that ran before it.

    Parameters
    ----------
    state : array, shape (batch, H)
        What stands before a sequence's first step.
    steps : Steps
    x : array, shape (total, H)
    reverse : bool
        Whether the steps run backwards.
    """
    module = array_module(x)
    if on_cuda(x):
        both = module.concatenate((x, state))
        places = places_before(steps, reverse)
        return both[upload(places, x, "recurrent layer", wait=False)]
    found = module.empty(x.shape, x.dtype)
    last = None
    for _, begin, end in steps.order(reverse):
        count = end - begin
        known = 0 if last is None else min(count, last[1] - last[0])
        if last is not None:
            found[begin : begin + known] = x[last[0] : last[0] + known]
        found[begin + known : end] = state[known:count]
        last = (begin, end)
    return found


def places_before(steps: Steps, reverse: bool) -> Any:
    """Return where `before` finds each row: in the rows of `x`, and `state` below them.

    Examples
    --------
    >>> places_before(steps_of([2, 1]), False)
    array([3, 4, 0])
    >>> places_before(steps_of([2, 1]), True)
    array([2, 4, 3])
    """
    offsets = steps.offsets
    sizes = np.diff(offsets)
    t = np.repeat(np.arange(sizes.size), sizes)
    b = np.arange(steps.total) - offsets[t]
    earlier = np.append(sizes[1:], 0) if reverse else np.append(0, sizes[:-1])
    begin = np.append(offsets[1:-1], 0) if reverse else np.append(0, offsets[:-2])
    return np.where(b < earlier[t], begin[t] + b, steps.total + b)


def rows_or_zeros(x: Any, like: Any) -> tuple[Any, int, int]:
    """Return `x`, its address and the bytes from row to row; one row of zeros if None.

    The array is returned to be held as long as the address is used.
    """
    if x is None:
        zeros = np.zeros(like.shape[1], like.dtype)
        return zeros, zeros.ctypes.data, 0
    if x.strides[1] != x.itemsize:
        x = np.ascontiguousarray(x)
    return x, x.ctypes.data, x.strides[0]


def given_or_zeros(x: Any, like: Any) -> Any:
    """Return `x` contiguous, or zeros if it is None (CUDA)."""
    module = array_module(like)
    return module.zeros_like(like) if x is None else module.ascontiguousarray(x)


def first_rows(x: Any, count: int) -> Any:
    """Return the first rows of `x`; `x` itself if these are all."""
    return x if x.shape[0] == count else x[:count]


def contiguous_like(x: Any) -> Any:
    """Return `x` if it is contiguous, else a new array of its shape (CUDA)."""
    return x if x.flags.c_contiguous else array_module(x).empty(x.shape, x.dtype)


@functools.lru_cache(maxsize=64)
def equal_steps(steps: int, batch: int) -> Steps:
    """Return so many steps of `batch` rows each."""
    return steps_of([batch] * steps)
