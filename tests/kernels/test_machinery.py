"""The machinery on the CPU: bodies, loops, the cache folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numba
import numpy as np
import pytest
from processes import run_python

from nnlib.kernels.machinery import body, cache, cpu_kernel, prange

ROOT = Path(__file__).resolve().parents[2]


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


@pytest.mark.parametrize("kept", [0, 300])
@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
def test_a_damaged_cache_file_is_written_anew(copy, tmp_path, suffix, kept):
    def run():
        out = run_python(PRINT_TWICE, path=copy, NNLIB_CACHE_DIR=tmp_path / "cache")
        return int(out.split()[1])

    _write_body(copy, 1)
    assert run() == 0
    for path in (tmp_path / "cache").rglob(f"*.{suffix}"):
        path.write_bytes(path.read_bytes()[:kept])
    assert (run(), run()) == (0, 1)


def test_a_cache_folder_that_vanishes_is_gone_without(tmp_path):
    code = f"""
import shutil, warnings
import numpy as np
from nnlib import kernels
from nnlib.kernels.machinery import cache
cache.folder()
shutil.rmtree({str(tmp_path / "cache")!r})
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    print(kernels.activation.relu(np.ones(2)))
print([str(w.message) for w in caught if "not kept" in str(w.message)])
"""
    said = run_python(code, NNLIB_CACHE_DIR=tmp_path / "cache")
    assert "[1. 1.]" in said and "cannot be written" in said


def test_empty_cache_setting_switches_the_cache_off(monkeypatch):
    monkeypatch.setenv("NNLIB_CACHE_DIR", "")
    assert cache.user_cache_dir() is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("ENABLE_AVX", 0), ("CPU_NAME", "generic"), ("CPU_FEATURES", "+sse2")],
)
def test_settings_for_less_than_this_processor_are_seen(monkeypatch, name, value):
    monkeypatch.setattr(numba.config, "ENABLE_AVX", 1)
    monkeypatch.setattr(numba.config, "CPU_NAME", None)
    monkeypatch.setattr(numba.config, "CPU_FEATURES", None)
    whole = cache._processor_hash()
    assert cache.compiles_for_host()
    monkeypatch.setattr(numba.config, name, value)
    assert not cache.compiles_for_host()
    assert cache._processor_hash() != whole


def test_old_folders_are_removed(tmp_path):
    for name, age in (("old", 40), ("recent", 3), ("current", 90)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "kernel.nbc").write_text("")
        seconds = os.stat(folder).st_mtime - age * 24 * 3600
        os.utime(folder, (seconds, seconds))
    cache._remove_stale(tmp_path / "current")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["current", "recent"]
