"""CUDA kernels as far as they go without a GPU: arguments, launches, faults."""

from __future__ import annotations

import ctypes
import struct
import types

import numpy as np
import pytest

from nnlib import kernels
from nnlib.backend.errors import DeviceError, DTypeError
from nnlib.kernels.machinery import cache, cuda_kernel, gpu, launch_check
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

    def __init__(self, shape, dtype, strides=None, address=4096, device=0):
        plain = np.lib.stride_tricks.as_strided(
            np.zeros(1, dtype), shape, strides or np.empty(shape, dtype).strides
        )
        self.shape, self.strides, self.dtype = shape, plain.strides, plain.dtype
        self.ndim, self.size, self.itemsize = plain.ndim, plain.size, plain.itemsize
        self.flags = plain.flags
        self.data = types.SimpleNamespace(ptr=address, device_id=device)

    def reshape(self, size):
        return FakeArray((self.size,), self.dtype)


class FakeCupy:
    """A CUDA machine that takes down what it is asked for."""

    def __init__(self):
        self.loaded, self.launched, self.contexts = [], [], 0
        self.stream, self.statuses, self.kinds = 0, [], ""
        self.capturing = False
        outer = self

        class Entry:
            ptr = 4711

            def __call__(self, grid, block, args):
                outer.launched.append((grid[0], block[0], args))

        class Module:
            def load(self, cubin):
                outer.loaded.append(cubin)

            def get_function(self, name):
                return Entry()

        class Device:
            compute_capability = "90"
            attributes = {"MultiProcessorCount": 4}

            def __init__(self, number=0):
                assert number == 0

            def use(self):
                outer.contexts += 1

        class DriverError(RuntimeError):
            pass

        space = types.SimpleNamespace
        self.cuda = space(
            Device=Device,
            runtime=space(getDevice=lambda: 0, free=lambda pointer: None),
            function=space(Module=Module),
            driver=space(CUDADriverError=DriverError),
            get_current_stream=lambda: space(
                ptr=self.stream, is_capturing=lambda: self.capturing
            ),
        )

    def launch(self, function, bx, by, bz, tx, ty, tz, shared, stream, args, extra):
        """Stand for cuLaunchKernel: read the arguments where it would."""
        assert (by, bz, ty, tz, shared, extra) == (1, 1, 1, 1, 0, None)
        status = self.statuses.pop() if self.statuses else 0
        if status:
            return status
        values = []
        for kind, place in zip(self.kinds, args, strict=True):
            (value,) = struct.unpack(
                kind, ctypes.string_at(place, struct.calcsize(kind))
            )
            values.append(value)
        stream = None if stream is None else stream.value
        self.launched.append((function.value, bx, tx, stream, values))
        return 0


@pytest.fixture
def machine(monkeypatch):
    fake = FakeCupy()
    fake.asked = []

    def compiled(function, signature, cc):
        fake.asked.append((function, str(signature), cc))
        return Compiled("entry", b"cubin", 32, 0, 0, 0)

    monkeypatch.setattr(gpu.backend, "cupy", lambda: fake)
    monkeypatch.setattr(gpu.compiler, "compile_for", compiled)
    runtime, stream = fake.cuda.runtime, fake.cuda.get_current_stream
    calls = runtime.getDevice, stream, fake.launch
    monkeypatch.setattr(gpu.driver, "bindings", lambda: calls)
    # The trial is tested below.
    monkeypatch.setattr(launch_check, "_found", {0: ""})
    return fake


def loop(x, y, n, factor):
    raise AssertionError


def test_launch_packs_arguments_and_loads_once(machine):
    kernel = gpu.CudaKernel(loop, 128)
    x = FakeArray((3, 5), np.float32, address=1 << 40)
    y = FakeArray((5,), np.float32, strides=(8,))
    half = np.float32(0.5)
    machine.kinds = "q" * 17 + "f"
    kernel(x, y, 9, half, items=15)
    kernel(x, y, -7, half, items=10**9)
    machine.stream = 1 << 33
    moved = FakeArray((5,), np.float32, strides=(8,), address=8192)
    kernel(x, moved, 9, np.float32(2), blocks=3, threads=64)
    kernel(x, y, 9, half, items=0)
    with pytest.raises(ValueError, match="4294967297 blocks"):
        kernel(x, y, 9, half, blocks=2**32 + 1)

    def packed(address, number, factor):
        first = [0, 0, 15, 4, 1 << 40, 3, 5, 20, 4]
        return [*first, 0, 0, 5, 4, address, 5, 8, number, factor]

    assert machine.launched == [
        (4711, 1, 128, None, packed(4096, 9, 0.5)),
        (4711, 64, 128, None, packed(4096, -7, 0.5)),
        (4711, 3, 64, 1 << 33, packed(8192, 9, 2.0)),
    ]
    assert machine.loaded == [b"cubin"]
    assert len(machine.asked) == 1 and machine.asked[0][2] == (9, 0)


def test_launch_follows_shapes_strides_and_types(machine):
    kernel = gpu.CudaKernel(loop, 128)
    half = np.float32(0.5)
    machine.kinds = "q" * 17 + "f"
    y = FakeArray((5,), np.float32)
    for shape, strides in (((3, 5), None), ((5, 3), None), ((3, 5), (4, 12))):
        kernel(FakeArray(shape, np.float32, strides), y, 9, half, items=15)
    found = [values[5:9] for *_, values in machine.launched]
    assert found == [[3, 5, 20, 4], [5, 3, 12, 4], [3, 5, 4, 12]]
    # Strides that are not contiguous make another type; another shape does not.
    assert len(machine.asked) == 2
    x = FakeArray((3, 5), np.float32)
    kernel(x, FakeArray((5,), np.float64), 9, half, items=15)
    assert len(machine.asked) == 3
    machine.kinds = "q" * 17 + "d"
    kernel(x, y, 9, np.float64(0.5), items=15)
    machine.kinds = "q" * 16 + "?f"
    kernel(x, y, True, half, items=15)
    assert len(machine.asked) == 5 and machine.launched[-1][-1][16:] == [True, 0.5]
    with pytest.raises(DTypeError, match="x.dtype.type"):
        kernel(x, y, 9, 0.5, items=15)


def test_flat_launch_sees_elements_in_memory_order(machine):
    kernel = gpu.CudaKernel(loop, 128)
    machine.kinds = "q" * 14
    x, y = FakeArray((2, 3), np.float32), FakeArray((2, 3), np.float32, (4, 8))
    y.transpose = lambda axes: FakeArray((3, 2), np.float32)
    kernel(x, y, items=6, flat=True)
    one = [0, 0, 6, 4, 4096, 6, 4]
    assert machine.launched == [(4711, 1, 128, None, one + one)]
    assert "32, 1, 'C'" in machine.asked[0][1] and "32, 2" not in machine.asked[0][1]


def test_launch_errors_are_raised_and_a_context_is_made(machine):
    kernel = gpu.CudaKernel(loop, 128)
    machine.kinds = "q" * 7
    x = FakeArray((3,), np.float32)
    machine.statuses = [201]
    kernel(x, items=3)
    assert machine.contexts == 1 and len(machine.launched) == 1
    machine.statuses = [700]
    with pytest.raises(machine.cuda.driver.CUDADriverError, match="700"):
        kernel(x, items=3)
    kernel(x, items=3)
    assert len(machine.launched) == 2


def test_launch_refuses_arrays_of_another_device(machine):
    kernel = gpu.CudaKernel(loop, 128)
    here, there = FakeArray((3,), "f4"), FakeArray((3,), "f4", device=1)
    with pytest.raises(DeviceError, match="loop: an array is on cuda:1, .* is cuda:0"):
        kernel(here, there, items=3)
    assert not machine.launched


def test_launch_through_cupy(machine, monkeypatch):
    monkeypatch.setattr(launch_check, "_found", {0: "something is wrong"})
    kernel = gpu.CudaKernel(loop, 128)
    half = np.float32(0.5)
    x = FakeArray((3, 5), np.float32, address=1 << 40)
    y = FakeArray((5,), np.float32, strides=(8,))
    kernel(x, y, 9, half, items=15)
    kernel(x, y, 9, half, blocks=3, threads=64)
    packed = [0, 0, 15, 4, 1 << 40, 3, 5, 20, 4, 0, 0, 5, 4, 4096, 5, 8, 9, half]
    assert machine.launched == [(1, 128, packed), (3, 64, packed)]
    kernel(x, x, 9, half, items=15, flat=True)
    assert machine.launched[2][2][:7] == [0, 0, 15, 4, 4096, 15, 4]
    assert launch_check.report() == {0: "through CuPy: something is wrong"}


# -- the trial that decides how kernels are launched ---------------------------------


class HostArray(np.ndarray):
    """A host array with what is asked of a CuPy array."""

    @property
    def data(self):
        return types.SimpleNamespace(ptr=self.ctypes.data, device_id=0)

    def get(self):
        return np.array(self)


def _read(fields):
    """Make the arguments of `launch_check.probe` from the fields of a launch."""
    fields, args = list(fields), []
    for kind in (
        (2, "f4"),
        None,
        (1, "f8"),
        None,
        None,
        (3, "i8"),
        *[None] * 3,
        (1, "f8"),
    ):
        if kind is None:
            args.append(fields.pop(0))
            continue
        ndim, dtype = kind
        nulls, numbers = fields[:2], fields[2 : 5 + 2 * ndim]
        del fields[: 5 + 2 * ndim]
        size, itemsize, address, *rest = numbers
        shape, strides = rest[:ndim], rest[ndim:]
        assert nulls == [0, 0] and itemsize == np.dtype(dtype).itemsize
        assert size == np.prod(shape)
        extent = itemsize + sum(
            (n - 1) * s for n, s in zip(shape, strides, strict=True)
        )
        memory = (ctypes.c_char * extent).from_address(address)
        flat = np.frombuffer(memory, dtype)
        args.append(np.lib.stride_tricks.as_strided(flat, shape, strides))
    assert not fields
    return args


@pytest.fixture
def trial(machine, monkeypatch):
    """A machine that runs the trial's kernel from the memory of its arguments."""
    formats = [
        kind for kind, _ in gpu.pack(launch_check._arguments(np.asarray, True, 1))
    ]
    machine.kinds = [*formats, *"qqqqqqq"]
    machine.changed = lambda values: values

    class Stream:
        ptr = 0
        is_capturing = staticmethod(lambda: machine.capturing)

        def __init__(self, ptr=0, **kwargs):
            self.ptr = ptr or 1 << 20

        def __enter__(self):
            self.before, machine.stream = machine.stream, self.ptr
            return self

        def __exit__(self, *error):
            machine.stream = self.before

    def current():
        stream = Stream()
        stream.ptr = machine.stream
        return stream

    def run(threads, blocks, values):
        values = _read(values)
        for i in range(threads * blocks):
            grid = types.SimpleNamespace(grid=lambda axis, i=i: i)
            monkeypatch.setattr(launch_check, "cuda", grid)
            launch_check.probe(*values)

    def direct(function, bx, by, bz, tx, *rest):
        if tx > 1024:
            return 0 if machine.deaf else 1
        status = machine.launch(function, bx, by, bz, tx, *rest)
        run(tx, bx, machine.changed(machine.launched[-1][-1]))
        return status

    class Entry:
        ptr = 4711

        def __call__(self, grid, block, args):
            run(block[0], grid[0], args)

    machine.deaf = False
    machine.cuda.Stream = Stream
    machine.cuda.get_current_stream = current
    machine.asarray = lambda x: np.array(x).view(HostArray)
    machine.cuda.function.Module.get_function = lambda self, name: Entry()
    calls = [machine.cuda.runtime.getDevice, current, direct]
    monkeypatch.setattr(gpu.driver, "bindings", lambda: calls)
    machine.calls = calls
    launch_check._found.clear()
    return machine


def test_trial_passes(trial):
    assert launch_check.direct(0)
    assert launch_check.report() == {0: "straight by the driver"}
    streams = [stream for _, _, _, stream, _ in trial.launched]
    assert streams == [None, None, 1 << 20, 1 << 20]
    # It is not made again.
    assert launch_check.direct(0) and len(trial.launched) == 4


@pytest.mark.parametrize("place", [7, 9, 20, 35, 38])
def test_trial_finds_wrong_arguments(trial, place):
    def changed(values):
        values = list(values)
        values[place] += 1
        return values

    trial.changed = changed
    assert not launch_check.direct(0)
    assert launch_check.report()[0].startswith("through CuPy: ")


def test_trial_finds_other_troubles(trial, monkeypatch):
    trial.capturing = True
    assert not launch_check.direct(0) and not launch_check.report()
    trial.capturing = False
    trial.deaf = True
    assert not launch_check.direct(0)
    assert launch_check.report()[0].endswith("an error of the driver was not told")
    launch_check._found.clear()
    trial.deaf, trial.calls[2] = False, None
    assert not launch_check.direct(0)
    assert launch_check.report()[0].endswith("has no cuLaunchKernel")
    launch_check._found.clear()
    trial.calls[2] = lambda *call: 999
    assert not launch_check.direct(0)
    assert "the trial failed: DriverError" in launch_check.report()[0]
    launch_check._found.clear()
    monkeypatch.setenv("NNLIB_DIRECT_LAUNCH", "0")
    assert not launch_check.direct(0)


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
