"""Recurrent layers on CUDA with the product inside the step: what the kernels share.

By cuBLAS a step is two or three launches, each of a few microseconds of work, and of
more of the host's time. Here one kernel makes a step: each block of threads makes the
sums of some units, then their new states. A block's threads are `units` times `slices`:
each multiplies `DEPTH` numbers of a state by its `LANES` times `DEPTH` weights, and the
sums of the slices meet in shared memory, added in the order of the slices: the same
bits on every run. The blocks form groups: a group runs every so many sequences of the
batch, and no two groups have anything to do with one another. The states go from step
to step through a buffer of two halves (`exchange`), of which a step reads one and
writes the other.

The same kernels can run all steps in one launch (`enable`). The weights then stay in
registers, and the blocks of a group wait for one another after each step, at a barrier
of their own. All blocks must be on the device at once, or they would wait for ever: the
launch is a cooperative one, of at most one block for each multiprocessor, and a block
that has waited for seconds lets all go on and leaves an error, which the next
synchronisation raises. This way has run in the simulator and not yet on a GPU, so it is
off until it is turned on.

On each device the first run of a kernel is a trial: the same is made by cuBLAS, and
where the two differ, cuBLAS it is from then on, with a warning.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from nnlib.backend import device as backend
from nnlib.backend import driver
from nnlib.backend.errors import DeviceError
from nnlib.kernels.machinery import array_module, body, cuda, faults, gpu
from nnlib.kernels.recurrent import offsets_of

__all__ = [
    "COLUMNS",
    "DEPTH",
    "HELD",
    "LANES",
    "PARTIALS",
    "ROWS",
    "Plan",
    "arrive",
    "decide",
    "enable",
    "hand_out",
    "hold",
    "launch",
    "run",
    "partial_sum",
    "place_of_thread",
    "plan",
    "products",
    "wait",
    "worth",
]

# Of a thread: numbers of a state, sums that they go to, and both at once.
DEPTH = 16
LANES = 4
HELD = LANES * DEPTH
# Sequences whose sums a block makes before it adds up the slices.
ROWS = 4
# Slices that leave each sum of four lanes and rows a thread of its own.
COLUMNS = LANES * ROWS
_THREADS = 256
PARTIALS = COLUMNS * _THREADS
# Looks at the counter before a block gives up: seconds.
_SPINS = 1 << 22
_FREE = 1 << 30
# Sequences of a block, beyond which cuBLAS makes better products.
_MOST_ROWS = 32


@body
def arrive(counters: Any, group: Any) -> None:
    """Say that the block has written all that the others of its group wait for."""
    cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        cuda.threadfence()
        cuda.atomic.add(counters, np.uint64(group), 1)


@body
def wait(counters: Any, group: Any, target: Any, slots: Any, slot: Any) -> None:
    """Wait until the blocks of the group have arrived, so many times in all."""
    if cuda.threadIdx.x == 0:
        spins = 0
        while cuda.atomic.add(counters, np.uint64(group), 0) < target:
            spins += 1
            if spins == _SPINS:
                cuda.atomic.min(slots, slot, 0)
                cuda.atomic.max(counters, np.uint64(group), _FREE)
        cuda.threadfence()
    cuda.syncthreads()


@body
def place_of_thread(units: Any, groups: Any) -> Any:
    """Return the block's group and number in it, the group's blocks; slice and unit."""
    part = cuda.blockIdx.x // groups
    group = cuda.blockIdx.x - part * groups
    s = cuda.threadIdx.x // units
    return group, part, cuda.gridDim.x // groups, s, cuda.threadIdx.x - s * units


@body
def hold(
    w: Any, weight: Any, output: Any, lane: Any, limit: Any, start: Any, depth: Any,
    across: Any, along: Any,
) -> None:  # fmt: skip
    """Read the thread's weights: those of outputs `output`, `output` + `lane`, ...

    An output has its weights `across` elements from the next, a number of the state
    `along`; beyond `limit` outputs and `depth` numbers they are 0.
    """
    for j in range(LANES):
        held = depth - start if output < limit else 0
        at = np.uint64(output * across + start * along)
        for k in range(DEPTH):
            value = weight.dtype.type(0)
            if k < held:
                value = weight[at]
            at += np.uint64(along)
            w[LANES * k + j] = value
        output += lane


@body
def hand_out(
    exchange: Any, h: Any, hidden: Any, depth: Any, group: Any, groups: Any, begin: Any,
    end: Any,
) -> None:  # fmt: skip
    """Write the states before the first step, and zeros beyond, in both halves."""
    batch = exchange.size // (2 * depth)
    b = group
    while b < batch:
        k = begin + cuda.threadIdx.x
        while k < end:
            value = exchange.dtype.type(0)
            if k < hidden:
                value = h[np.uint64(b * hidden + k)]
            exchange[np.uint64(b * depth + k)] = value
            exchange[np.uint64((batch + b) * depth + k)] = value
            k += cuda.blockDim.x
        b += groups


@body
def two_products(
    exchange: Any, one: Any, two: Any, w: Any, partial: Any, at: Any, wide: Any
) -> None:
    """Leave a thread's part of the sums of two sequences in shared memory."""
    zero = exchange.dtype.type(0)
    a0, a1, a2, a3 = zero, zero, zero, zero
    b0, b1, b2, b3 = zero, zero, zero, zero
    for k in range(DEPTH):
        x = exchange[one + np.uint64(k)]
        y = exchange[two + np.uint64(k)]
        a0 += x * w[LANES * k]
        a1 += x * w[LANES * k + 1]
        a2 += x * w[LANES * k + 2]
        a3 += x * w[LANES * k + 3]
        b0 += y * w[LANES * k]
        b1 += y * w[LANES * k + 1]
        b2 += y * w[LANES * k + 2]
        b3 += y * w[LANES * k + 3]
    partial[at] = a0
    at += wide
    partial[at] = a1
    at += wide
    partial[at] = a2
    at += wide
    partial[at] = a3
    at += wide
    partial[at] = b0
    at += wide
    partial[at] = b1
    at += wide
    partial[at] = b2
    at += wide
    partial[at] = b3


@body
def products(
    exchange: Any, half: Any, w: Any, partial: Any, first: Any, count: Any, group: Any,
    groups: Any, start: Any, depth: Any,
) -> None:  # fmt: skip
    """Leave a thread's part of the sums of up to `ROWS` sequences in shared memory."""
    threads = cuda.blockDim.x
    for r in range(0, min(ROWS, count - first), 2):
        other = min(first + r + 1, count - 1)
        one = np.uint64((half + group + (first + r) * groups) * depth + start)
        two = np.uint64((half + group + other * groups) * depth + start)
        at = np.uint64(LANES * r * threads + cuda.threadIdx.x)
        two_products(exchange, one, two, w, partial, at, np.uint64(threads))


@body
def partial_sum(partial: Any, at: Any, units: Any, slices: Any) -> Any:
    """Add up the parts of one sum, in the order of the slices."""
    total = partial[at]
    for _ in range(1, slices):
        at += units
        total += partial[at]
    return total


class Plan(NamedTuple):
    """How a launch shares the work out.

    Attributes
    ----------
    units, slices : int
        Threads of a block: so many in one direction and in the other.
    parts, groups : int
        Blocks: of a group, and groups.
    depth : int
        Numbers of a state in the buffer, with the padding.
    """

    units: int
    slices: int
    parts: int
    groups: int
    depth: int


def plan(batch: int, outputs: int, depth: int, least: int) -> Plan | None:
    """Return how to share the work out, or None if it does not fit.

    Parameters
    ----------
    batch : int
        Sequences.
    outputs : int
        Units, or groups of `LANES` of them, of which a thread makes the sums.
    depth : int
        Numbers that go into a sum.
    least : int
        Slices at least.
    """
    slices = max(-(-depth // DEPTH), least)
    units = min(_THREADS // slices, outputs)
    if not units:
        return None
    parts = -(-outputs // units)
    room = _room()
    if parts > room and _state["together"]:
        return None
    rows = -(-batch // min(batch, max(1, room // parts)))
    if rows > _MOST_ROWS:
        return None
    return Plan(-(-outputs // parts), slices, parts, -(-batch // rows), slices * DEPTH)


# Whether a launch runs all steps; what to take for the verdict of all trials.
_state: dict[str, bool | None] = {"together": False, "verdict": None}


def enable(enabled: bool = True) -> bool:
    """Let a launch run all steps, or one each; return what was before."""
    before = _state["together"]
    _state["together"] = bool(enabled)
    return bool(before)


def decide(verdict: bool | None) -> None:
    """Use these kernels (True) or cuBLAS (False) without a trial; None: as the trials.

    For measurements and tests.
    """
    _state["verdict"] = verdict


def worth(weight: Any, steps: Any) -> bool:
    """Tell whether to try: single precision, and more than one step."""
    return bool(weight.dtype == np.float32 and steps.offsets.size > 2)


def _room() -> int:
    """Return how many blocks can run at once."""
    if gpu.tests_launcher is not None:
        return 2
    return _processors(backend.cupy().cuda.runtime.getDevice())


@functools.cache
def _processors(number: int) -> int:
    return int(backend.cupy().cuda.Device(number).attributes["MultiProcessorCount"])


_functions: dict[Any, Any] = {}
# Whether a kernel's trial on a device went well.
_verdicts: dict[Any, bool] = {}


def run(
    kernel: Any, layout: Plan | None, given: tuple[Any, ...], options: tuple[Any, ...],
    steps: Any, reverse: bool, written: int, plain: Callable[[], None],
) -> None:  # fmt: skip
    """Run a layer in one direction by a kernel of this kind, or another way.

    Parameters
    ----------
    kernel : CudaKernel
    layout : Plan or None
        None if the kernel cannot do it.
    given : tuple of contiguous arrays
    options : tuple
        Numbers that the kernel takes after the arrays.
    steps : Steps
    reverse : bool
    written : int
        How many of the last of the arrays the kernel writes.
    plain : callable
        Does the same on the same arrays step by step.
    """
    if layout is None:
        plain()
        return
    if gpu.tests_launcher is not None:
        launch(kernel, layout, given, options, steps, reverse)
        return
    number = backend.cupy().cuda.runtime.getDevice()
    key = kernel.name, number, _state["together"]
    verdict = _state["verdict"]
    if verdict is None:
        verdict = _verdicts.get(key)
    if verdict is None and driver.capturing():
        # A trial waits for the device, which would break the recording.
        verdict = False
    if verdict is None:
        copies = tuple([x.copy() for x in given])
        problem = "wrong"
        try:
            launch(kernel, layout, copies, options, steps, reverse)
        except Exception as error:  # noqa: BLE001 - any failure: cuBLAS
            problem = f"failed ({type(error).__name__}: {error})"
        plain()
        pairs = zip(copies[-written:], given[-written:], strict=True)
        verdict = problem == "wrong" and all(_agree(x, y) for x, y in pairs)
        _verdicts[key] = verdict
        if not verdict:
            warnings.warn(
                f"{kernel.name}: {problem} in its trial on this GPU, and left out from "
                "now on; please report it",
                RuntimeWarning,
                stacklevel=2,
            )
    elif verdict:
        launch(kernel, layout, given, options, steps, reverse)
    else:
        plain()


def _agree(found: Any, expected: Any) -> bool:
    """Tell whether two arrays are the same but for rounding."""
    x, y = found.get().astype(np.float64), expected.get().astype(np.float64)
    finite = np.isfinite(y)
    if not (np.isfinite(x) == finite).all():
        return False
    x, y = x[finite], y[finite]
    return bool(np.linalg.norm(x - y) <= 1e-3 * np.linalg.norm(y) + 1e-6)


def launch(
    kernel: Any, layout: Plan, given: tuple[Any, ...], options: tuple[Any, ...],
    steps: Any, reverse: bool,
) -> None:  # fmt: skip
    """Launch a kernel of this kind: once for each step, or once."""
    module = array_module(given[0])
    offsets = offsets_of(steps, given[0])
    exchange = module.empty(2 * steps.batch * layout.depth, given[0].dtype)
    args = (
        *[x.reshape(-1) for x in given], *options, offsets, reverse, layout.units,
        layout.groups, exchange,
    )  # fmt: skip
    blocks, threads = layout.parts * layout.groups, layout.units * layout.slices
    count = steps.offsets.size - 1
    forward = kernel.__name__.startswith("forward")
    if not _state["together"]:
        # The counters and slots are not looked at.
        args += (module.empty(1, np.int32), offsets, 0)
        # On the way forward the first states must be there before the first step;
        # backwards a last round hands out the gradients of what was first.
        rounds = [(0, 0, True)] if forward else []
        rounds += [(k, k + 1, k == 0 and not forward) for k in range(count)]
        if not forward:
            rounds.append((count, count + 1, False))
        for since, until, fresh in rounds:
            kernel(*args, since, until, fresh, blocks=blocks, threads=threads)
        return
    counters = module.zeros(layout.groups, np.int32)
    args += (counters, *faults.open_slot(offsets, _stuck))
    args += (0, count if forward else count + 1, True)
    if gpu.tests_launcher is not None:
        kernel(*args, blocks=blocks, threads=threads)
        return
    _loaded(kernel, args)(
        (blocks, 1, 1),
        (threads, 1, 1),
        gpu.numbers(args),
        enable_cooperative_groups=True,
    )


def _loaded(kernel: Any, args: tuple[Any, ...]) -> Any:
    """Return the kernel as CuPy's function, loaded on the current device."""
    cupy = backend.cupy()
    number = cupy.cuda.runtime.getDevice()
    found = _functions.get((kernel.name, number))
    if found is None:
        found, _ = kernel.load(cupy, args, number)
        _functions[kernel.name, number] = found
    return found


def _stuck(position: int, value: int) -> Exception:
    return DeviceError("recurrent layer: the blocks of a launch waited in vain")
