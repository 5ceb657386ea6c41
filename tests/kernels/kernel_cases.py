"""What a case of a CUDA kernel is, and what its arrays do in place of a GPU.

``CASES`` of ``cases_<family>.py`` lists `Case`s. Each runs one public kernel function
on arrays that ``put`` has placed, and returns the arrays to compare. From it come: the
value on the CPU, the value of the CUDA loops in Numba's simulator, the signatures to
compile for CUDA, and the value on a real GPU.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pkgutil
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import block_threads
import numpy as np

import nnlib.kernels
from nnlib.backend.random import RecordedSeed
from nnlib.kernels.machinery import compile as compiler
from nnlib.kernels.machinery import gpu as machinery
from nnlib.kernels.machinery.arrays import DeviceArray

HERE = Path(__file__).parent


class Case(NamedTuple):
    """One call of a public kernel function.

    Attributes
    ----------
    name : str
        Shown by the tests.
    run : callable
        ``run(rng, put)`` makes NumPy arrays with `rng`, hands each to ``put`` (which
        returns it, or a copy on the device), calls the function and returns the array
        or arrays to compare. Keep it small: the simulator takes 0.1 ms per thread.
    rtol, atol : float
        How near the CUDA loops must come to the CPU's.
    """

    name: str
    run: Callable[[np.random.Generator, Callable[[Any], Any]], Any]
    rtol: float = 1e-5
    atol: float = 1e-6


def load_families() -> None:
    """Import every family, so that its kernels are registered."""
    for module in pkgutil.iter_modules(nnlib.kernels.__path__):
        importlib.import_module(f"nnlib.kernels.{module.name}")


def all_cases() -> dict[str, Case]:
    """Return every case, by family and name."""
    cases = {}
    for path in sorted(HERE.glob("cases_*.py")):
        family = path.stem.removeprefix("cases_")
        spec = importlib.util.spec_from_file_location(f"nnlib_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for case in module.CASES:
            name = f"{family}: {case.name}"
            assert name not in cases, f"two cases are called {name}"
            cases[name] = case
    return cases


def results(case: Case, put: Callable[[Any], Any]) -> list[np.ndarray]:
    """Run `case` and return its arrays."""
    with _strict_numpy():
        value = case.run(np.random.default_rng(20), put)
    arrays = value if isinstance(value, tuple | list) else [value]
    return [to_host(a) for a in arrays]


def to_host(array: Any) -> np.ndarray:
    """Return an array of the CPU or of the device as a plain NumPy array."""
    if isinstance(array, DeviceArray):
        return array.view(np.ndarray)
    return np.asarray(array.get() if hasattr(array, "get") else array)


@contextlib.contextmanager
def _strict_numpy() -> Iterator[None]:
    """Let NumPy refuse an array of the fake device as it refuses one of CuPy."""

    def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if args and isinstance(args[0], DeviceArray):
                raise TypeError("Implicit conversion to a NumPy array is not allowed")
            return function(*args, **kwargs)

        call.unguarded = function
        return call

    with contextlib.ExitStack() as stack:
        for name in ("array", "asarray", "ascontiguousarray"):
            function = getattr(np, name)
            stack.callback(setattr, np, name, function)
            setattr(np, name, guarded(function))
        yield


def compare(case: Case, actual: list[np.ndarray], expected: list[np.ndarray]) -> None:
    """Fail unless the arrays agree within the case's tolerance."""
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        assert a.shape == e.shape and a.dtype == e.dtype, (a.shape, e.shape, a.dtype)
        wide = np.complex128 if a.dtype.kind == "c" else np.float64
        if a.dtype.kind in "iub":
            np.testing.assert_array_equal(a, e)
        else:
            np.testing.assert_allclose(
                a.astype(wide), e.astype(wide), rtol=case.rtol, atol=case.atol
            )


def recorded_seed(seed: int, start: int, put: Callable[[Any], Any]) -> RecordedSeed:
    """Return a seed as operations hand it over while a CUDA graph is recorded."""
    made = RecordedSeed(seed)
    made.start, made.memory = start, put(np.zeros(2, np.uint64))
    nnlib.kernels.random_keys.write_key(made.memory, seed, start)
    return made


def put_on_cpu(array: Any) -> Any:
    """Place an array for the CPU loops."""
    return np.array(array)


def put_on_fake_device(array: Any) -> Any:
    """Place an array where `simulator` or `recorder` stands for the GPU."""
    return to_host(array).copy().view(DeviceArray)


@contextlib.contextmanager
def _in_place_of_gpu(launcher: Callable[[machinery.Launch], None]) -> Iterator[None]:
    machinery.tests_launcher = launcher
    try:
        yield
    finally:
        machinery.tests_launcher = None


@contextlib.contextmanager
def recorder() -> Iterator[list[tuple[machinery.CudaKernel, tuple[Any, ...]]]]:
    """Take down the kernels launched inside and their signatures; nothing runs."""
    seen: list[tuple[machinery.CudaKernel, tuple[Any, ...]]] = []

    def note(launch: machinery.Launch) -> None:
        seen.append((launch.kernel, compiler.signature_of(launch.args)))

    with _in_place_of_gpu(note):
        yield seen


class _KernelCuda:
    """`cuda` inside of a simulated kernel, for bodies of any module.

    The simulator replaces the name in the kernel's own module only.
    """

    def __getattr__(self, name: str) -> Any:
        kernel = importlib.import_module("numba.cuda.simulator.kernel")
        return getattr(kernel._get_kernel_context(), name)


def _lend_cuda(cuda: Any) -> None:
    inside = _KernelCuda()
    for name, module in list(sys.modules.items()):
        if name.startswith("nnlib.kernels.") and vars(module).get("cuda") is cuda:
            module.cuda = inside


def _has_gaps(value: Any) -> bool:
    return isinstance(value, np.ndarray) and not value.flags.c_contiguous


@contextlib.contextmanager
def _threads_in_turns() -> Iterator[None]:
    """Let a block's threads run in turns, which takes a tenth of the time."""
    runner = importlib.import_module("numba.cuda.simulator.kernel")
    api = importlib.import_module("numba.cuda.simulator.kernelapi")
    with mock.patch.object(runner, "BlockManager", block_threads.Block):
        with mock.patch.object(api.FakeCUDAShared, "array", block_threads.shared_array):
            yield


@contextlib.contextmanager
def _bodies_in_simulator() -> Iterator[None]:
    """Let bodies of other modules than the kernel's call ``cuda`` as well."""
    runner = importlib.import_module("numba.cuda.simulator.kernel")
    original = runner.swapped_cuda_module
    persistent = importlib.import_module("nnlib.kernels.persistent")
    blocks = importlib.import_module("nnlib.kernels.attention_blocks")
    others = (persistent.arrive, blocks.add_scores)

    @contextlib.contextmanager
    def swapped(function: Any, fake: Any) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for other in (function, *others):
                stack.enter_context(original(other, fake))
            yield

    runner.swapped_cuda_module = swapped
    try:
        yield
    finally:
        runner.swapped_cuda_module = original


@contextlib.contextmanager
def simulator() -> Iterator[set[str]]:
    """Run launches in Numba's simulator; yields the names of the kernels that ran."""
    assert os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
    ran: set[str] = set()

    def simulate(launch: machinery.Launch) -> None:
        compiler.signature_of(launch.args)  # refuses what a GPU would refuse
        cuda = compiler.use_cuda_module(launch.kernel.function)
        _lend_cuda(cuda)
        args = [
            a.view(np.ndarray) if isinstance(a, DeviceArray) else a for a in launch.args
        ]
        kernel = cuda.jit(launch.kernel.function)
        # The simulator takes no array with gaps or turned axes.
        whole = [np.ascontiguousarray(a) if _has_gaps(a) else a for a in args]
        # A GPU warns of no division by zero. The simulator's threads begin with an
        # error state of their own: so the warnings are kept back, not the state set.
        with warnings.catch_warnings(), _bodies_in_simulator():
            warnings.simplefilter("ignore", RuntimeWarning)
            kernel[launch.blocks, launch.threads](*whole)
        for given, copy in zip(args, whole, strict=True):
            if copy is not given:
                given[...] = copy
        ran.add(launch.kernel.name)

    with _in_place_of_gpu(simulate), _threads_in_turns():
        yield ran
