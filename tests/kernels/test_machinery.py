"""The machinery on the CPU: bodies, cache folder, threads, fork, BLAS, memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from nnlib import kernels
from nnlib.backend import memory, threads
from nnlib.backend.errors import DeviceError, DTypeError
from nnlib.kernels.machinery import (
    CpuKernel,
    blas,
    body,
    cache,
    cpu_kernel,
    cuda_kernel,
    faults,
    gpu,
    num_threads,
    prange,
)
from nnlib.kernels.machinery.arrays import DeviceArray, array_module, on_cuda
from nnlib.kernels.machinery.compile import Compiled, compile_for, signature_of

ROOT = Path(__file__).resolve().parents[2]


# An editable install finds the package by a finder of its own, before any path.
WITHOUT_EDITABLE = """
import sys
sys.meta_path = [f for f in sys.meta_path if "editable" not in repr(f).lower()]
"""


def run_python(code, *, path=None, **environment):
    """Run `code` in a fresh process; return what it printed."""
    env = {**os.environ, **{k: str(v) for k, v in environment.items()}}
    if path is not None:
        env["PYTHONPATH"] = str(path)
        code = WITHOUT_EDITABLE + code
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=path,
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@body
def twice(value):
    return value + value


@cpu_kernel
def twice_each(x, y):
    for i in prange(x.size):
        y[i] = twice(x[i])


@cpu_kernel(parallel=False, reassociate=True)
def total(x):
    result = np.float32(0)
    for i in range(x.size):
        result += x[i]
    return result


@cpu_kernel
def count_threads(x):
    for i in prange(x.size):
        x[i] = num_threads()


@body
def is_nan(value):
    return value != value


def test_body_runs_in_python_and_in_loops():
    assert twice(3) == 6
    x = np.arange(1000, dtype=np.float32)
    y = np.empty_like(x)
    twice_each(x, y)
    assert np.array_equal(y, 2 * x)
    assert repr(twice_each).endswith("twice_each>")


def test_float_flags_keep_nan_and_infinity():
    assert is_nan(np.float32(np.nan)) and not is_nan(np.float32(np.inf))
    assert np.isnan(total(np.array([1, np.nan, 2], np.float32)))
    assert total(np.array([1, np.inf, 2], np.float32)) == np.inf


def test_kernel_of_other_files_is_not_cached():
    twice_each(np.ones(2, np.float32), np.ones(2, np.float32))
    assert twice_each.dispatcher.stats.cache_path is None


# -- the cache folder ---------------------------------------------------------------


PRINT_TWICE = """
import numpy as np
from nnlib.kernels import trial
x = np.ones(4, np.float32)
trial.loop(x)
print(x[0], sum(trial.loop.dispatcher.stats.cache_hits.values()), trial.__file__)
"""
TRIAL_BODY = """
from nnlib.kernels.machinery import body

@body
def step(value):
    return value + np.float32(FACTOR)
"""
TRIAL_LOOP = """
from nnlib.kernels.machinery import cpu_kernel, prange
from nnlib.kernels.trial_body import step

@cpu_kernel
def loop(x):
    for i in prange(x.size):
        x[i] = step(x[i])
"""


@pytest.fixture
def copy(tmp_path):
    """Return a copy of the package with a kernel whose body is in another file."""
    tree = tmp_path / "tree"
    skip = shutil.ignore_patterns("__pycache__", "data", "files")
    shutil.copytree(ROOT / "nnlib", tree / "nnlib", ignore=skip)
    shutil.copytree(ROOT / "kernels", tree / "nnlib" / "kernels", ignore=skip)
    # The public face is not needed, and not copied whole.
    (tree / "nnlib" / "__init__.py").write_text("")
    (tree / "nnlib" / "kernels" / "trial.py").write_text(TRIAL_LOOP)
    return tree


def _write_body(tree, factor):
    text = "import numpy as np\n" + TRIAL_BODY.replace("FACTOR", str(factor))
    (tree / "nnlib" / "kernels" / "trial_body.py").write_text(text)


def test_cache_hits_and_never_runs_stale_code(copy, tmp_path):
    def run():
        out = run_python(PRINT_TWICE, path=copy, NNLIB_CACHE_DIR=tmp_path / "cache")
        value, hits, place = out.split()
        assert place.startswith(str(copy))
        return float(value), int(hits)

    _write_body(copy, 1)
    assert run() == (2.0, 0)
    assert run() == (2.0, 1)
    _write_body(copy, 2)
    assert run() == (3.0, 0)
    assert len(list((tmp_path / "cache" / "kernels").iterdir())) == 2


def test_unwritable_cache_is_said_once_and_gone_without(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    code = """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from nnlib import kernels
    import numpy as np
    a = np.ones((3, 3), np.float32)
    kernels.gemm.matmul(a, a)
    b = np.ones((100, 100), np.float32)
    kernels.gemm.matmul(b, b)
print([str(w.message) for w in caught if "nnlib" in str(w.message)])
"""
    said = run_python(code, NNLIB_CACHE_DIR=blocked)
    assert said.count("cannot be written") == 1 and "NNLIB_CACHE_DIR" in said


def test_empty_cache_setting_switches_the_cache_off(monkeypatch):
    monkeypatch.setenv("NNLIB_CACHE_DIR", "")
    assert cache.user_cache_dir() is None


def test_old_folders_are_removed(tmp_path):
    for name, age in (("old", 40), ("recent", 3), ("current", 90)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "kernel.nbc").write_text("")
        seconds = os.stat(folder).st_mtime - age * 24 * 3600
        os.utime(folder, (seconds, seconds))
    cache._remove_stale(tmp_path / "current")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["current", "recent"]


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
a = np.ones((100, 100), np.float32)
if BEFORE:
    kernels.gemm.matmul(a, a)
warnings.simplefilter("ignore")
child = os.fork()
if child == 0:
    try:
        kernels.gemm.matmul(a, a)
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
        assert before.startswith("DeviceError") and "'forkserver'" in before
    assert run_python(FORK.replace("BEFORE", "False")).startswith("ran")


def test_spinning_is_bounded_unless_the_user_decides(monkeypatch):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OPENBLAS_THREAD_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    threads.bound_spinning()
    assert int(os.environ["OPENBLAS_THREAD_TIMEOUT"]) < 20
    assert 1000 <= int(os.environ["GOMP_SPINCOUNT"]) <= 3000
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


# -- CUDA, as far as it goes without one --------------------------------------------


def test_arrays_choose_their_target():
    x = np.ones(3)
    assert not on_cuda(x) and array_module(x) is np
    fake = x.view(DeviceArray)
    assert on_cuda(fake) and type(array_module(fake).zeros(3)) is DeviceArray


def test_signatures():
    x = np.ones((2, 3), np.float32)
    text = str(signature_of((x, x.T, True, 7, np.float32(1), np.uint64(3))))
    assert (
        "2, 'C'" in text
        and "2, 'A'" in text
        and "bool, int64, float32, uint64" in (text)
    )
    with pytest.raises(DTypeError, match="x.dtype.type"):
        signature_of((x, 0.5))


def test_names_of_kernels_are_unique():
    def one(x):
        x[0] = 1

    kernel = cuda_kernel(one)
    try:
        with pytest.raises(ValueError, match="already"):
            cuda_kernel(one)
    finally:
        del gpu.registry[kernel.name]


class FakeArray:
    """As much of a CuPy array as a launch looks at."""

    def __init__(self, shape, dtype, strides=None, address=4096):
        plain = np.lib.stride_tricks.as_strided(
            np.zeros(1, dtype), shape, strides or np.empty(shape, dtype).strides
        )
        self.shape, self.strides, self.dtype = shape, plain.strides, plain.dtype
        self.ndim, self.size, self.itemsize = plain.ndim, plain.size, plain.itemsize
        self.flags = plain.flags
        self.data = type("Memory", (), {"ptr": address})()


class FakeCupy:
    """A driver that takes down what it is asked for."""

    def __init__(self):
        self.loaded, self.launched = [], []
        outer = self

        class Module:
            def load(self, cubin):
                outer.loaded.append(cubin)

            def get_function(self, name):
                return lambda *args: outer.launched.append((name, *args))

        class Device:
            compute_capability = "90"
            attributes = {"MultiProcessorCount": 4}

            def __init__(self, number):
                assert number == 0

        class Space:
            pass

        self.cuda = Space()
        self.cuda.Device = Device
        self.cuda.runtime = Space()
        self.cuda.runtime.getDevice = lambda: 0
        self.cuda.function = Space()
        self.cuda.function.Module = Module


def test_launch_packs_arguments_and_loads_once(monkeypatch):
    fake = FakeCupy()
    asked = []

    def compiled(function, signature, cc):
        asked.append((function, str(signature), cc))
        return Compiled("entry", b"cubin", 32, 0, 0, 0)

    monkeypatch.setattr(gpu.backend, "cupy", lambda: fake)
    monkeypatch.setattr(gpu.compiler, "compile_for", compiled)

    def loop(x, y, n, factor):
        raise AssertionError

    kernel = gpu.CudaKernel(loop, 128)
    x = FakeArray((3, 5), np.float32, address=1 << 40)
    y = FakeArray((5,), np.float32, strides=(8,))
    half = np.float32(0.5)
    kernel(x, y, 9, half, items=15)
    kernel(x, y, 9, half, items=10**9)
    kernel(x, y, 9, half, blocks=3, threads=64)
    kernel(x, y, 9, half, items=0)
    packed = [0, 0, 15, 4, 1 << 40, 3, 5, 20, 4, 0, 0, 5, 4, 4096, 5, 8, 9, half]
    assert fake.launched == [
        ("entry", (1, 1, 1), (128, 1, 1), packed),
        ("entry", (64, 1, 1), (128, 1, 1), packed),
        ("entry", (3, 1, 1), (64, 1, 1), packed),
    ]
    assert fake.loaded == [b"cubin"] and len(asked) == 1 and asked[0][2] == (9, 0)
    kernel(x, FakeArray((5,), np.float64), 9, half, items=15)
    assert len(asked) == 2


def test_cubins_are_kept_and_torn_files_are_not_used(tmp_path, monkeypatch):
    pytest.importorskip("numba_cuda")
    monkeypatch.setattr(cache, "folder", lambda: tmp_path)
    function = kernels.activation.relu.cuda
    x = np.ones(4, np.float32)
    signature = signature_of((x, x, np.float32(0)))
    first = compile_for(function, signature, (8, 0))
    assert first.ptx and first.cubin[:4] == b"\x7fELF"
    again = compile_for(function, signature, (8, 0))
    assert again.ptx == "" and again.cubin == first.cubin
    assert again.registers == first.registers > 0
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-100])
    assert compile_for(function, signature, (8, 0)).ptx != ""


def test_cuda_kernel_without_cuda_says_why():
    from nnlib.backend import device

    if device.is_available():
        pytest.skip("there is a CUDA device")
    x = np.ones(3, np.float32)
    with pytest.raises(DeviceError, match="to mend it"):
        kernels.activation.relu.cuda(x, x, np.float32(0), items=3)


def test_faults_are_told_at_the_next_synchronisation():
    labels = np.array([1, 7, -2], np.int64).view(DeviceArray)
    slots, slot = faults.open_slot(
        labels, lambda position, value: IndexError(f"label {value} at {position}")
    )
    _, other = faults.open_slot(labels, lambda position, value: IndexError("none"))
    assert slot != other
    slots[slot] = min(slots[slot], 2)
    slots[slot] = min(slots[slot], 1)
    with pytest.raises(IndexError, match="label 7 at 1"):
        faults.check()
    faults.check()
    assert (slots == np.iinfo(np.int64).max).all()


def test_kernel_objects_are_typed():
    assert isinstance(twice_each, CpuKernel)
    assert isinstance(kernels.activation.relu.cuda, gpu.CudaKernel)
