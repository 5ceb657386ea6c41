"""The pool of threads, forks, the BLAS inside kernels, memory."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest
from processes import run_python

from nnlib import kernels
from nnlib.backend import memory, threads
from nnlib.kernels.machinery import blas, cpu_kernel, num_threads, prange


@cpu_kernel
def count_threads(x):
    for i in prange(x.size):
        x[i] = num_threads()


# -- threads ------------------------------------------------------------------------


@pytest.fixture
def thread_count():
    before = threads.get_num_threads()
    yield before
    threads.set_num_threads(before)


def test_number_of_threads_holds_in_every_python_thread(thread_count):
    threads.set_num_threads(1)
    seen = []

    def work():
        x = np.zeros(4)
        count_threads(x)
        seen.append(x[0])

    work()
    other = threading.Thread(target=work)
    other.start()
    other.join()
    assert seen == [1, 1] and threads.get_num_threads() == 1


@pytest.mark.parametrize("count", [0, -1, 100_000])
def test_number_of_threads_out_of_range(count):
    with pytest.raises(ValueError, match="set_num_threads: expected 1 to"):
        threads.set_num_threads(count)


def test_kernels_in_many_python_threads():
    a = np.random.default_rng(0).standard_normal((60, 50)).astype(np.float32)
    expected = kernels.gemm.matmul(a, a.T)
    wrong = []

    def work():
        for _ in range(50):
            if not np.array_equal(kernels.gemm.matmul(a, a.T), expected):
                wrong.append(1)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


WORKQUEUE = """
import threading
import numpy as np
from nnlib import kernels
from nnlib.backend import threads
a = np.ones((64, 64), np.float32)

def work():
    for _ in range(200):
        kernels.gemm.matmul(a, a)

workers = [threading.Thread(target=work) for _ in range(4)]
[w.start() for w in workers]
[w.join() for w in workers]
print(threads.pool.layer)
"""


def test_workqueue_layer_is_entered_by_one_thread_at_a_time():
    out = run_python(WORKQUEUE, NUMBA_THREADING_LAYER="workqueue")
    assert out.split() == ["workqueue"]


FORK = """
import os, warnings
import numpy as np
from nnlib import kernels
from nnlib.backend import threads
from nnlib.kernels.machinery import cpu_kernel, prange

@cpu_kernel
def fill(x):
    for i in prange(x.size):
        x[i] = 1

a = np.ones((500, 500), np.float32)
if BEFORE:
    kernels.gemm.matmul(a, a)
warnings.simplefilter("ignore")
child = os.fork()
if child == 0:
    product = kernels.gemm.matmul(a, a)
    print("ran" if (product == 500).all() else "wrong", flush=True)
    try:
        fill(a[0])
        print("ran", flush=True)
    except RuntimeError as error:
        print(type(error).__name__, error, flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
kernels.gemm.matmul(a, a)
print(threads.pool.layer)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_forked_child_is_told_before_its_first_kernel():
    before = run_python(FORK.replace("BEFORE", "True"))
    if before.endswith("omp\n"):
        # What shares loops out by `spread` goes on alone.
        assert before.startswith("ran\nDeviceError") and "'forkserver'" in before
    assert run_python(FORK.replace("BEFORE", "False")).startswith("ran\nran")


def test_spinning_is_bounded_unless_the_user_decides(monkeypatch):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OPENBLAS_THREAD_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    threads.bound_spinning()
    assert int(os.environ["OPENBLAS_THREAD_TIMEOUT"]) < 20
    assert 1000 <= int(os.environ["GOMP_SPINCOUNT"]) <= 20000
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    monkeypatch.setenv("OPENBLAS_THREAD_TIMEOUT", "26")
    threads.bound_spinning()
    assert "GOMP_SPINCOUNT" not in os.environ
    assert os.environ["OPENBLAS_THREAD_TIMEOUT"] == "26"
    # NumPy's threads, stopped above, come back when they are needed.
    a = np.ones((300, 300))
    assert (a @ a == 300).all()


def test_cores_respect_the_container(monkeypatch):
    monkeypatch.setattr(threads, "_cgroup_cores", lambda: 1.5)
    assert threads.available_cores() <= 2
    monkeypatch.setattr(threads, "_cgroup_cores", lambda: 0.2)
    assert threads.available_cores() == 1


def test_the_number_of_threads_is_found_once(monkeypatch):
    asked = []
    monkeypatch.setattr(threads, "available_cores", lambda: asked.append(1) or 1)
    monkeypatch.setattr(threads.pool, "limit", None)
    monkeypatch.setattr(threads.pool, "cores", None)
    # It reads files of the system: kernels that ask at each call must not wait.
    assert [threads.get_num_threads() for _ in range(3)] == [1, 1, 1]
    assert len(asked) == 1


def test_hardware_threads_of_one_core_count_once(monkeypatch):
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("this system has no affinity")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 3})
    monkeypatch.setattr(threads, "_siblings", lambda number: str(number // 2))
    monkeypatch.setattr(threads, "_cgroup_cores", lambda: float("inf"))
    assert threads.available_cores() == 2


MANY = """
import numpy as np
from nnlib import kernels
from nnlib.backend import threads
threads.set_num_threads(13)
rng = np.random.default_rng(0)
for m, k, n in [(128, 784, 512), (10, 128, 512), (300, 20, 7), (1, 900, 4000)]:
    a = rng.standard_normal((m, k)).astype(np.float32)
    b = rng.standard_normal((n, k)).astype(np.float32)
    bias = rng.standard_normal(n).astype(np.float32)
    c = kernels.gemm.matmul(a, b.T, bias=bias, activation="relu")
    wanted = np.maximum(a.astype(float) @ b.T.astype(float) + bias, 0)
    assert abs(c - wanted).max() < 1e-3
a = rng.standard_normal((5, 90, 80))
b = rng.standard_normal((5, 80, 70))
assert abs(kernels.gemm.matmul(a, b) - a @ b).max() < 1e-11
print(threads.get_num_threads())
"""


def test_more_threads_than_this_machine_has():
    assert run_python(MANY, NUMBA_NUM_THREADS=16).strip() == "13"


# -- BLAS ---------------------------------------------------------------------------

BLAS = """
import numpy as np
from nnlib.kernels.machinery import blas
STEP
from nnlib import kernels
rng = np.random.default_rng(0)
for dtype, tolerance in ((np.float32, 1e-4), (np.float64, 1e-12)):
    a = rng.standard_normal((40, 50)).astype(dtype)
    b = rng.standard_normal((60, 50)).astype(dtype)
    for left, right in ((a, b.T), (a, b.T.copy()), (a.T.copy().T, b.T)):
        got = kernels.gemm.matmul(left, right)
        assert abs(got - left.astype(float) @ right.astype(float)).max() < tolerance
        start = got.copy()
        kernels.gemm.matmul(left, right, got, accumulate=True)
        assert abs(got - 2 * start).max() < 4 * tolerance
print(blas.blas_info().name)
"""


def test_own_blas_leaves_numpys_threads_alone():
    code = """
import os
import numpy as np
from nnlib.kernels.machinery import blas
info = blas.load()
import sys
loaded = "scipy_openblas64" in sys.modules
print(info.name, loaded, os.environ.get("OPENBLAS_NUM_THREADS"))
"""
    assert run_python(code).strip() == "scipy-openblas64 False None"


@pytest.mark.parametrize(
    ("step", "name"),
    [
        ("", "scipy-openblas64"),
        (
            "found = list(blas._candidates())\n"
            "blas._candidates = lambda: iter([f for f in found if 'NumPy' in f[0]])",
            "NumPy's OpenBLAS",
        ),
        ("blas._candidates = lambda: iter(())", "plain loops"),
    ],
)
def test_blas_and_what_stands_in_for_it(step, name, tmp_path):
    if name == "NumPy's OpenBLAS" and not any(c[0] == name for c in blas._candidates()):
        pytest.skip("this NumPy does not carry OpenBLAS")
    out = run_python(BLAS.replace("STEP", step), NNLIB_CACHE_DIR=tmp_path)
    assert out.strip() == name


# -- memory -------------------------------------------------------------------------


def test_memory_figures():
    # What earlier tests left would be taken again.
    memory.empty_cache("cpu")
    stats = memory.memory_stats("cpu")
    assert 0 < stats.used <= stats.peak and stats.held == stats.used
    block = np.ones(8_000_000)
    assert memory.memory_stats("cpu").peak >= stats.used + block.nbytes // 2
    del block
    memory.empty_cache("cpu")


def test_keeping_memory_can_be_switched_off():
    code = "from nnlib.backend import memory; print(memory.keep_freed_memory())"
    assert run_python(code, NNLIB_KEEP_MEMORY="0").strip() == "False"
    assert run_python(code, MALLOC_TRIM_THRESHOLD_="100000").strip() == "False"
