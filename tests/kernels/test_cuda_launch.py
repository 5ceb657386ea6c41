"""CUDA kernels as far as they go without a GPU: arguments, launches, faults."""

from __future__ import annotations

import numpy as np
import pytest

from nnlib import kernels
from nnlib.backend.errors import DeviceError, DTypeError
from nnlib.kernels.machinery import cache, cuda_kernel, faults, gpu
from nnlib.kernels.machinery.arrays import DeviceArray, array_module, on_cuda
from nnlib.kernels.machinery.compile import Compiled, compile_for, signature_of

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
