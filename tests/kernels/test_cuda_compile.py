"""Every CUDA kernel compiles for three generations of GPU, without a GPU."""

from __future__ import annotations

import importlib.util
import multiprocessing
import re
import struct
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from numba import types
from numba.np.numpy_support import as_dtype
from registers import CAPABILITIES, all_launches, table

from nnlib.kernels.machinery import compile as compiler
from nnlib.kernels.machinery import gpu as machinery
from nnlib.kernels.machinery import launch_check
from nnlib.kernels.machinery.gpu import cuda

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("numba_cuda") is None, reason="numba-cuda is not installed"
)


@pytest.fixture(scope="module")
def launches():
    return all_launches()


def test_every_kernel_has_a_case(launches):
    names = {name for name, _ in launches}
    missing = sorted(
        name
        for name in machinery.registry
        if name.startswith("nnlib.kernels.") and name not in names
    )
    assert not missing, f"no case in tests/kernels/cases_*.py launches {missing}"


def _copy(x, y, n):
    for i in range(x.shape[0]):
        for j in range(n):
            y[i] += x[i, j]


def test_calling_convention_is_the_one_that_launches_spell_out():
    """The fields of `gpu.pack`, found again in the PTX of a kernel."""
    signature = (types.float32[:, ::1], types.float32[::1], types.int64)
    ptx = compiler.compile_for(_copy, signature, (8, 0), keep=False).ptx
    kinds = re.findall(r"\.param \.(\w+) \S+_param_(\d+)", ptx)
    # (5 + 2 * ndim) fields of 64 bits for each array, then the scalar.
    assert [int(number) for _, number in kinds] == list(range(9 + 7 + 1))
    loaded = dict(re.findall(r"ld\.param\.u64\s+(%rd\d+), \[\S+_param_(\d+)\]", ptx))
    addresses = re.findall(r"cvta\.to\.global\.u64\s+%rd\d+, (%rd\d+)", ptx)
    # The fifth field of each array is its address.
    assert sorted(int(loaded[register]) for register in addresses) == [4, 9 + 4]


_BYTES = {"8": 1, "16": 2, "32": 4, "64": 8}


def _declared(ptx):
    """Return the bytes of each parameter that the PTX of a kernel declares."""
    head = re.search(r"\.entry \S+\((.*?)\)", ptx, re.DOTALL)[1]
    lines = [line.strip() for line in head.split(",") if line.strip()]
    found = [re.fullmatch(r"\.param \.[usfb](\d+) \S+_param_(\d+)", x) for x in lines]
    assert all(found), f"a parameter is no single number: {lines}"
    assert [int(match[2]) for match in found] == list(range(len(lines)))
    return [_BYTES[match[1]] for match in found]


class _Shaped:
    size = itemsize = 4

    def __init__(self, ndim):
        self.shape = self.strides = (4,) * ndim


def _packed(signature):
    """Return the bytes of each argument that a launch with these types packs."""
    args = []
    for kind in signature:
        if isinstance(kind, types.Array):
            args.append(_Shaped(kind.ndim))
        else:
            args.append(np.bool_() if kind == types.boolean else as_dtype(kind).type())
    return [struct.calcsize("=" + kind) for kind, _ in machinery.pack(tuple(args))]


def _reverse(x):
    shared = cuda.shared.array(4, dtype=np.float32)
    shared[cuda.threadIdx.x] = x[cuda.threadIdx.x]
    cuda.syncthreads()
    x[cuda.threadIdx.x] = shared[3 - cuda.threadIdx.x]


def test_shared_arrays_begin_where_vectors_may():
    ptx = compiler.compile_for(_reverse, (types.float32[::1],), (8, 0), keep=False).ptx
    assert re.findall(r"\.shared \.align (\d+) ", ptx) == ["16"]


def _is_double(kind):
    return getattr(kind, "dtype", kind) == types.float64


def find_problems(cc, number):
    """Compile every second launch of the cases for `cc`; return what is wrong."""
    problems = []
    chosen = sorted(all_launches().items(), key=lambda item: item[0])[number::2]
    for (name, text), (kernel, signature) in chosen:
        compiled = compiler.compile_for(kernel, signature, cc, keep=False)
        if _declared(compiled.ptx) != _packed(signature):
            problems.append(f"{name}{text}: {_declared(compiled.ptx)} bytes declared")
        if compiled.spills:
            problems.append(f"{name}{text}: spills {compiled.spills} bytes")
        if ".f64" in compiled.ptx and not any(map(_is_double, signature)):
            problems.append(f"{name}{text}: computes in 64-bit floats")
        if not compiled.cubin.startswith(b"\x7fELF"):
            problems.append(f"{name}{text}: gives no cubin")
        if not 0 < compiled.registers <= 255:
            problems.append(f"{name}{text}: takes {compiled.registers} registers")
    return len(chosen), problems


@pytest.fixture(scope="module")
def found():
    """Compile in two processes, for that is what takes the time."""
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        jobs = [(cc, number) for cc in CAPABILITIES for number in range(2)]
        results = list(pool.map(find_problems, *zip(*jobs, strict=True)))
    return dict(zip(jobs, results, strict=True))


@pytest.mark.parametrize("cc", CAPABILITIES, ids=lambda cc: f"sm_{cc[0]}{cc[1]}")
def test_compiles_without_doubles_or_spills(launches, found, cc):
    (first, problems), (second, others) = (found[cc, number] for number in range(2))
    assert first + second == len(launches)
    assert not problems + others, "\n".join(problems + others)


def test_trial_of_launches_compiles():
    args = launch_check._arguments(np.asarray, True, 1)
    out = np.zeros(4)
    signature = compiler.signature_of((*args, out))
    compiled = compiler.compile_for(launch_check.probe, signature, (8, 0), keep=False)
    assert _declared(compiled.ptx) == _packed(signature)
    assert _packed(signature).count(1) == 1 and _packed(signature).count(4) == 2


def test_table_of_registers(launches):
    lines, spilling = table(launches, ["window_cuda.resample_cuda"], [(9, 0)])
    assert spilling == 0 and len(lines) > 1
    assert "window_cuda.resample_cuda" in lines[1] and "sm_90" in lines[1]
