"""What `import nnlib` gives, what it costs, and CUDA's names where there is none."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import nnlib
from nnlib.autograd.registry import OPS


def test_the_import_is_light() -> None:
    code = (
        "import sys, time; start = time.process_time(); import nnlib; "
        "print(time.process_time() - start, "
        "[m for m in ('numba', 'cupy', 'matplotlib', 'torch') if m in sys.modules])"
    )
    runs = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        seconds, _, loaded = done.stdout.partition(" ")
        assert loaded.strip() == "[]"
        runs.append(float(seconds))
    # Of the processor, which other programs do not add to. The aim is 0.3 s.
    assert min(runs) < 1.0


def test_names_of_dtypes() -> None:
    pairs = {
        "float": "float32",
        "double": "float64",
        "half": "float16",
        "long": "int64",
        "int": "int32",
        "short": "int16",
        "bool": "bool",
    }
    for short, name in pairs.items():
        assert getattr(nnlib, short) == np.dtype(name)
    assert nnlib.bfloat16.itemsize == 2
    assert nnlib.tensor([1], dtype=nnlib.double).dtype == nnlib.float64


def test_older_names_of_tensors() -> None:
    x = nnlib.LongTensor([1, 2])
    assert x.dtype == nnlib.int64 and x.tolist() == [1, 2]
    assert isinstance(x, nnlib.LongTensor) and not isinstance(x, nnlib.FloatTensor)
    assert nnlib.FloatTensor(2, 3).shape == (2, 3)
    assert x.new(2, 3).shape == (2, 3) and x.new(2, 3).dtype == nnlib.int64
    assert nnlib.BoolTensor([True]).dtype == nnlib.bool
    assert not isinstance(np.zeros(1), nnlib.DoubleTensor)


def test_constants() -> None:
    x = nnlib.zeros(2, 2)
    assert x[:, nnlib.newaxis].shape == (2, 1, 2)
    assert x.masked_fill(x == 0, -nnlib.inf).max().item() == -nnlib.inf
    assert round(nnlib.pi + nnlib.e, 5) == 5.85987 and nnlib.nan != nnlib.nan


@pytest.mark.parametrize("order", ["channels_last", "channels_last_3d"])
def test_memory_formats(order: str) -> None:
    form = getattr(nnlib, order)
    assert repr(form) == f"nnlib.{order}"
    shape = (2, 3, 4, 5) if order == "channels_last" else (2, 3, 4, 5, 6)
    x = nnlib.randn(*shape, requires_grad=True)
    last = x.contiguous(memory_format=form)
    assert last.is_contiguous(memory_format=form) and not last.is_contiguous()
    assert not x.is_contiguous(memory_format=form)
    assert last.contiguous(memory_format=form) is last
    assert last.contiguous(memory_format=nnlib.preserve_format) is last
    assert last.contiguous().stride() == x.stride() != last.stride()
    for same in (x.to(memory_format=form), x.clone(memory_format=form), last.clone()):
        assert same.stride() == last.stride() and (same == x).all()
    (last * last).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * x.detach().numpy())
    assert not nnlib.ones(2).is_contiguous(memory_format=form)
    layer = nnlib.nn.Conv2d(3, 4, 3)
    assert layer.to("cpu", memory_format=nnlib.channels_last) is layer
    with pytest.raises(nnlib.DTypeError, match="Module.to: memory_format: expected"):
        layer.to(memory_format=3)


def test_limits_and_common_types_of_dtypes() -> None:
    torch = pytest.importorskip("torch")
    for name in ("float16", "bfloat16", "float32", "float64"):
        mine, theirs = nnlib.finfo(name), torch.finfo(getattr(torch, name))
        for limit in ("min", "max", "eps", "tiny", "bits"):
            assert float(getattr(mine, limit)) == getattr(theirs, limit)
    assert nnlib.finfo().bits == 32
    assert (nnlib.iinfo("uint8").max, nnlib.iinfo(nnlib.int64).min) == (255, -(2**63))
    with pytest.raises(nnlib.DTypeError, match="iinfo: expected an integer dtype, got"):
        nnlib.iinfo("float32")
    with pytest.raises(nnlib.DTypeError, match="finfo: expected a floating dtype, got"):
        nnlib.finfo("int8")
    x, i = nnlib.ones(2), nnlib.tensor([1])
    assert nnlib.result_type(i, 1.5) == nnlib.float32
    assert nnlib.result_type(x, nnlib.tensor(1.0, dtype="float64")) == nnlib.float32
    assert nnlib.promote_types(nnlib.float16, nnlib.bfloat16) == nnlib.float32
    assert nnlib.is_tensor(x) and not nnlib.is_tensor(x.array)
    assert nnlib.is_floating_point(x) and not nnlib.is_floating_point(i)


ROOMS = {
    "autograd", "backend", "cuda", "data", "func", "io", "kernels", "linalg",
    "models", "nn", "ops", "optim", "special", "train", "utils", "viz",
}  # fmt: skip


def test_no_file_of_operations_is_a_name_of_the_package() -> None:
    code = (
        "import nnlib, types; "
        "print(*(x for x in dir(nnlib) if type(getattr(nnlib, x)) is types.ModuleType))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) <= ROOMS
    assert callable(nnlib.einsum)
    assert set(nnlib.ops.__all__) <= set(dir(nnlib))


def test_what_is_functional_alone_is_no_name_of_the_package() -> None:
    torch = pytest.importorskip("torch")
    alone = {name for name in OPS if not hasattr(torch, name)}
    assert {"gelu", "mse_loss", "linear"} <= alone
    assert not alone & set(dir(nnlib))


def test_rooms_are_loaded_when_named() -> None:
    assert nnlib.data.DataLoader is not None
    assert nnlib.__version__
    assert nnlib.vmap is nnlib.func.vmap
    from nnlib.utils.checkpoint import checkpoint
    from nnlib.utils.data import DataLoader

    assert checkpoint is nnlib.autograd.checkpoint
    assert DataLoader is nnlib.data.DataLoader
    # One import is enough for the paths of PyTorch.
    assert nnlib.utils.data.DataLoader is DataLoader
    assert nnlib.utils.checkpoint.checkpoint is checkpoint
    with pytest.raises(
        AttributeError, match="module 'nnlib' has no attribute 'nothing'"
    ):
        _ = nnlib.nothing


def test_seeds_and_threads() -> None:
    first = nnlib.manual_seed(3).initial_seed()
    assert first == nnlib.initial_seed() == 3
    a = nnlib.rand(3)
    nnlib.manual_seed(3)
    assert nnlib.rand(3).tolist() == a.tolist()
    assert nnlib.get_num_threads() >= 1


def test_one_seed_is_for_all_devices() -> None:
    nnlib.manual_seed(4)
    drawn = nnlib.rand(3)
    for seed in (nnlib.cuda.manual_seed, nnlib.cuda.manual_seed_all):
        seed(4)
        assert (nnlib.rand(3) == drawn).all()


@pytest.mark.skipif(nnlib.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_device() -> None:
    assert nnlib.cuda.device_count() == 0
    nnlib.cuda.empty_cache()
    for call in (
        nnlib.cuda.current_device,
        nnlib.cuda.synchronize,
        nnlib.cuda.memory_allocated,
        nnlib.cuda.Stream,
        nnlib.cuda.get_device_name,
    ):
        with pytest.raises(nnlib.DeviceError, match="device 'cuda': .*to mend it"):
            call()
    with pytest.raises(nnlib.DeviceError, match="expected a CUDA device, got cpu"):
        nnlib.cuda.synchronize("cpu")


@pytest.mark.cuda
@pytest.mark.skipif(not nnlib.cuda.is_available(), reason="there is no CUDA device")
def test_cuda_with_a_device() -> None:
    assert nnlib.cuda.device_count() >= 1
    assert nnlib.cuda.get_device_name()
    assert nnlib.cuda.get_device_capability() >= (7, 0)
    with nnlib.cuda.stream(nnlib.cuda.Stream()):
        x = nnlib.ones(1000, device="cuda")
        y = x + x
    nnlib.cuda.synchronize()
    assert y.sum().item() == 2000
    assert nnlib.cuda.memory_allocated() >= 8000
    assert nnlib.cuda.max_memory_allocated() >= nnlib.cuda.memory_allocated()
    free, total = nnlib.cuda.mem_get_info()
    assert 0 < free <= total


@pytest.mark.parametrize("name", ["zeros", "ones", "empty", "full", "rand", "randn"])
def test_tensors_alike_lie_alike(name: str) -> None:
    torch = pytest.importorskip("torch")
    value = (2.0,) if name == "full" else ()

    def strides(lib, x, **options):
        return getattr(lib, f"{name}_like")(x, *value, **options).stride()

    x, y = nnlib.ones(2, 3, 4, 5), torch.ones(2, 3, 4, 5)
    pairs = [(x, y), (x.permute(1, 0, 3, 2), y.permute(1, 0, 3, 2))]
    pairs += [
        (
            x.contiguous(memory_format=nnlib.channels_last),
            y.contiguous(memory_format=torch.channels_last),
        )
    ]
    pairs += [(x[:, :1].expand(2, 6, 4, 5), y[:, :1].expand(2, 6, 4, 5))]
    for mine, theirs in pairs:
        assert strides(nnlib, mine) == strides(torch, theirs)
        for order in ("channels_last", "contiguous_format", "preserve_format"):
            assert strides(nnlib, mine, memory_format=getattr(nnlib, order)) == strides(
                torch, theirs, memory_format=getattr(torch, order)
            )
    with pytest.raises(nnlib.ShapeError, match=f"{name}_like: memory_format: channels"):
        strides(nnlib, nnlib.ones(2), memory_format=nnlib.channels_last)
    with pytest.raises(nnlib.DTypeError, match=f"{name}_like: memory_format: expected"):
        strides(nnlib, x, memory_format="channels_last")
