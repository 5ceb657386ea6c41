"""The one pool of threads, which the kernels and the BLAS inside them share.

The pool is Numba's: GNU OpenMP where it is found, else TBB or Numba's own
``workqueue``. This module decides how many threads it has, keeps idle threads from
spinning for long (a user's NumPy product beside them took 8 ms instead of 0.6 ms
otherwise), keeps a forked child from entering a pool that did not survive the fork, and
lets one Python thread at a time into ``workqueue``, which would end the process.
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from nnlib.backend import memory
from nnlib.backend.errors import ArgumentError, DeviceError

__all__ = [
    "available_cores",
    "get_num_threads",
    "own_settings",
    "pool",
    "set_num_threads",
]

# Iterations an idle OpenMP thread spins before it sleeps: long enough to bridge the gap
# between two kernels of a step, short enough to leave the core to NumPy's threads.
_SPINS = "10000"
# The same for OpenBLAS, as a power of two of clock cycles. Its default, 2**26,
# keeps a core for 20 ms after each of the user's NumPy products: a step of 2.7 ms
# after one took 5.8 ms.
_TIMEOUT = "14"

# Numba compiles under a lock of its own, but the first call of a kernel does more.
compile_lock = threading.RLock()


class _Kernel(Protocol):
    name: str
    # Whether it can do without the pool's threads.
    shared: bool

    def bind(self, call: Callable[..., Any]) -> None:
        """Set what a call of the kernel runs."""


def available_cores() -> int:
    """Return how many cores this process may use: affinity and container limits count.

    Where the system tells (Linux), the two hardware threads of one core count once:
    products of matrices gain nothing from the second.

    Examples
    --------
    >>> available_cores() >= 1
    True
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len({_siblings(number) for number in os.sched_getaffinity(0)})
    else:
        cores = os.cpu_count() or 1
    return max(1, math.ceil(min(cores, _cgroup_cores())))


def _siblings(number: int) -> str:
    """Return a name for the core that hardware thread `number` belongs to."""
    topology = Path(f"/sys/devices/system/cpu/cpu{number}/topology")
    try:
        return (topology / "thread_siblings_list").read_text()
    except OSError:
        return str(number)


def _cgroup_cores() -> float:
    """Return the CPU quota of the control group, in cores (infinite without one)."""
    limit = math.inf
    for name in ("/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us"):
        try:
            fields = Path(name).read_text().split()
            if name.endswith("cpu.max"):
                quota, period = fields[0], fields[1]
            else:
                quota = fields[0]
                period = Path(name).with_name("cpu.cfs_period_us").read_text()
            if quota not in ("max", "-1"):
                limit = min(limit, int(quota) / int(period))
        except (OSError, ValueError, IndexError, ZeroDivisionError):
            continue
    return limit


class Pool:
    """The kernels that use the pool, and its state in this process."""

    def __init__(self) -> None:
        self.layer: str | None = None
        self.limit: int | None = None
        # How many threads there are without a limit, once it is known.
        self.cores: int | None = None
        self._kernels: list[tuple[weakref.ref[Any], Callable[..., Any]]] = []
        self._lock = threading.RLock()
        self._mask = threading.local()
        self._forked = False

    def adopt(self, kernel: _Kernel, dispatcher: Callable[..., Any]) -> None:
        """Give `kernel` the way into the pool that this process needs."""
        with compile_lock:
            self.launch()
            self._kernels.append((weakref.ref(kernel), dispatcher))
            self._bind(kernel, dispatcher)

    def launch(self) -> None:
        """Start the threads, once."""
        if self.layer is not None:
            return
        import numba
        from numba.np.ufunc.parallel import _launch_threads

        _launch_threads()
        self.layer = numba.threading_layer()
        if self.limit is None and get_num_threads() < _ceiling():
            self.limit = get_num_threads()

    def _bind(self, kernel: _Kernel, dispatcher: Callable[..., Any]) -> None:
        call = dispatcher
        if self._forked and not kernel.shared:
            call = _refuse(kernel.name)
        else:
            if self.limit is not None:
                call = self._limited(call)
            if self.layer == "workqueue":
                call = self._locked(call)
        kernel.bind(call)

    def rebind(self) -> None:
        """Renew every kernel's way in, after a change of the settings."""
        for reference, dispatcher in self._kernels:
            kernel = reference()
            if kernel is not None:
                self._bind(kernel, dispatcher)

    def _limited(self, call: Callable[..., Any]) -> Callable[..., Any]:
        import numba

        # Numba keeps the number per Python thread; ours holds for all of them.
        mask = self._mask

        def run(*args: Any) -> Any:
            limit = self.limit
            if getattr(mask, "threads", None) != limit:
                numba.set_num_threads(limit)
                mask.threads = limit
            return call(*args)

        return run

    def _locked(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            with self._lock:
                return call(*args)

        return run

    def after_fork(self) -> None:
        """In a forked child: go on without the pool if it did not survive."""
        if self.layer == "omp":
            self._forked = True
            self.limit = 1
            self.rebind()


def _refuse(name: str) -> Callable[..., Any]:
    def run(*args: Any) -> Any:
        raise DeviceError(
            f"{name}: this process was forked from one that had already run kernels, "
            f"and OpenMP's threads do not survive a fork; start workers with "
            f"multiprocessing.get_context('spawn') or 'forkserver', or fork before the "
            f"first kernel"
        )

    return run


pool = Pool()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=pool.after_fork)

_prepared = False


def prepare() -> None:
    """Set the environment up, once, before Numba starts its threads."""
    global _prepared
    if _prepared:
        return
    _prepared = True
    memory.keep_freed_memory()
    import numba

    if not {"NUMBA_THREADING_LAYER", "NUMBA_THREADING_LAYER_PRIORITY"} & set(
        os.environ
    ):
        numba.config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]


# The variables of the environment that nnlib has set in this process.
own_settings: set[str] = set()


def bound_spinning() -> None:
    """Bound the spinning of idle threads: OpenMP's and those of NumPy's OpenBLAS.

    Variables that the user has set are left alone. OpenMP reads its variable when
    libgomp is loaded; OpenBLAS is told anew if NumPy has been imported already.
    """
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & set(os.environ):
        os.environ["GOMP_SPINCOUNT"] = _SPINS
        own_settings.add("GOMP_SPINCOUNT")
    if "OPENBLAS_THREAD_TIMEOUT" in os.environ:
        return
    os.environ["OPENBLAS_THREAD_TIMEOUT"] = _TIMEOUT
    own_settings.add("OPENBLAS_THREAD_TIMEOUT")
    if "numpy" not in sys.modules or sys.platform == "win32":
        return
    for path in numpy_openblas():
        try:
            library = ctypes.CDLL(path)
            library.openblas_read_env()
            # Its threads start again, with the new setting, at the next large product.
            library.blas_thread_shutdown_()
        except (OSError, AttributeError):
            continue


def numpy_openblas() -> list[str]:
    """Return the path of the OpenBLAS inside NumPy's wheel, if it has one."""
    import numpy

    package = Path(numpy.__file__).parent
    found: list[Path] = []
    for place in (package.parent / "numpy.libs", package / ".dylibs"):
        found += place.glob("libscipy_openblas64_*")
    return [str(path) for path in found]


def _ceiling() -> int:
    import numba

    return int(numba.config.NUMBA_NUM_THREADS)


def get_num_threads() -> int:
    """Return how many threads the kernels and the BLAS inside them use.

    Examples
    --------
    >>> get_num_threads() >= 1
    True
    """
    if pool.limit is not None:
        return pool.limit
    if pool.cores is None:
        # Once: it reads files of the system, and kernels ask at every call.
        pool.cores = min(_ceiling(), available_cores())
    return pool.cores


def set_num_threads(threads: int) -> None:
    """Set how many threads the kernels and the BLAS inside them use, process-wide.

    Parameters
    ----------
    threads : int
        From 1 to the number of cores this process may use (``NUMBA_NUM_THREADS``).

    Raises
    ------
    ValueError
        If `threads` is out of that range.

    Examples
    --------
    >>> before = get_num_threads()
    >>> set_num_threads(1)
    >>> get_num_threads()
    1
    >>> set_num_threads(before)
    """
    if not 1 <= threads <= _ceiling():
        raise ArgumentError(
            f"set_num_threads: expected 1 to {_ceiling()} threads (set "
            f"NUMBA_NUM_THREADS before the start for more), got {threads}"
        )
    with compile_lock:
        pool.limit = int(threads)
        pool.rebind()


# At the import of nnlib: the earlier, the less has been loaded and is running.
bound_spinning()
