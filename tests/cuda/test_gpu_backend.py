"""Transfers, streams, memory, random bits, other libraries, errors on CUDA."""

from __future__ import annotations

import numpy as np
import pytest

import nnlib
from nnlib import nn

pytestmark = pytest.mark.cuda

DTYPES = ("float16 bfloat16 float32 float64 uint8 int8 int16 int32 int64 bool").split()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4)])
def test_round_trip(dtype, shape):
    x = nnlib.tensor(np.arange(np.prod(shape, dtype=int)).reshape(shape) % 2).to(dtype)
    there = x.to("cuda")
    assert there.is_cuda and there.dtype == x.dtype and there.shape == x.shape
    assert there.device == "cuda" and there.to("cuda") is there
    back = there.cpu()
    assert back.device == "cpu" and back.dtype == x.dtype
    np.testing.assert_array_equal(back.array, x.array)


def test_non_contiguous_and_non_blocking():
    x = nnlib.arange(24.0).reshape(4, 6)
    for view in (x.t(), x[:, ::2], x[1:].t()[::2], x.expand(3, 4, 6)):
        assert view.to("cuda").cpu().tolist() == view.tolist()
        there = x.to("cuda", non_blocking=True)
        nnlib.cuda.synchronize()
        assert there.cpu().tolist() == x.tolist()
    y = x.cuda()
    assert y.t()[::2].cpu().tolist() == x.t()[::2].tolist()


def test_made_on_the_device_and_read_from_it():
    assert nnlib.tensor([1.5, 2.5], device="cuda").tolist() == [1.5, 2.5]
    assert nnlib.tensor(3, device="cuda").item() == 3
    assert "cuda" in repr(nnlib.zeros(2, device="cuda"))
    assert bool(nnlib.ones(1, device="cuda"))
    assert float(nnlib.full((), 2.5, device="cuda")) == 2.5
    with pytest.raises((TypeError, nnlib.DeviceError)):
        nnlib.ones(2, device="cuda").numpy()


def test_gradients_follow_a_transfer():
    x = nnlib.ones(3, requires_grad=True)
    y = (x.to("cuda") * nnlib.tensor([1.0, 2.0, 3.0], device="cuda")).sum()
    y.backward()
    assert x.grad.device == "cpu" and x.grad.tolist() == [1, 2, 3]


def test_tensors_of_two_devices_are_refused():
    a, b = nnlib.ones(3), nnlib.ones(3, device="cuda")
    for call in (lambda: a + b, lambda: b @ a, lambda: nnlib.where(b > 0, a, b)):
        with pytest.raises(nnlib.DeviceError, match="cpu.*cuda|cuda.*cpu"):
            call()
    with pytest.raises(nnlib.DeviceError, match="CUDA device"):
        nnlib.ones(1, device="cuda:99")


def test_random_numbers_equal_those_of_the_cpu():
    for draw in (
        lambda d: nnlib.rand(1001, device=d),
        lambda d: nnlib.rand(1001, device=d, dtype="float64"),
        lambda d: nnlib.randint(-5, 1000, (1001,), device=d),
        lambda d: nnlib.randperm(1001, device=d),
        lambda d: nnlib.bernoulli(nnlib.full((1001,), 0.3, device=d)),
        lambda d: nn.functional.dropout(nnlib.ones(1001, device=d), 0.4),
    ):
        found = []
        for device in ("cpu", "cuda"):
            nnlib.manual_seed(11)
            found.append(draw(device).cpu().array)
        np.testing.assert_array_equal(*found)
    nnlib.manual_seed(1)
    normal = nnlib.randn(1001, device="cuda").cpu().array
    nnlib.manual_seed(1)
    np.testing.assert_allclose(normal, nnlib.randn(1001).array, 1e-5, 1e-6)


def test_streams_and_events():
    stream = nnlib.cuda.Stream()
    begin = nnlib.cuda.Event(enable_timing=True)
    with nnlib.cuda.stream(stream):
        assert nnlib.cuda.current_stream().ptr == stream.ptr
        begin.record()
        x = nnlib.rand(512, 512, device="cuda")
        y = nnlib.relu(x @ x - 100.0)
        done = nnlib.cuda.Event(enable_timing=True)
        done.record()
    done.synchronize()
    stream.synchronize()
    expected = np.maximum(x.cpu().array @ x.cpu().array - 100.0, 0)
    np.testing.assert_allclose(y.cpu().array, expected, 1e-3, 1e-3)


def test_memory_figures_and_giving_back():
    nnlib.cuda.empty_cache()
    before = nnlib.cuda.memory_allocated()
    x = nnlib.zeros(1 << 20, device="cuda")
    assert nnlib.cuda.memory_allocated() >= before + x.nbytes
    assert nnlib.cuda.memory_reserved() >= nnlib.cuda.memory_allocated()
    size = x.nbytes
    del x
    assert nnlib.cuda.memory_allocated() < before + size
    nnlib.cuda.empty_cache()


def test_too_much_memory_says_what_was_asked():
    _, total = nnlib.cuda.mem_get_info()
    with pytest.raises(Exception, match="(?i)memory"):
        nnlib.zeros(total, device="cuda")
    assert nnlib.ones(3, device="cuda").sum().item() == 3


def test_a_training_loop_does_not_grow():
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)).to("cuda")
    optimizer = nnlib.optim.Adam(model.parameters())
    x = nnlib.rand(128, 64, device="cuda")
    seen = []
    for _ in range(30):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        seen.append(nnlib.cuda.memory_allocated())
    assert seen[-1] <= seen[5]


@pytest.mark.parametrize(
    "wait",
    [
        nnlib.Tensor.item,
        bool,
        nnlib.Tensor.cpu,
        lambda loss: nnlib.cuda.synchronize(),
        lambda loss: nnlib.backend.device.synchronize("cuda"),
    ],
)
@pytest.mark.parametrize("aside", [False, True])
def test_bad_labels_are_told_at_the_next_synchronisation(wait, aside):
    logits = nnlib.zeros(4, 3, device="cuda")
    target = nnlib.tensor([0, 1, 7, 2], device="cuda")
    nnlib.cuda.synchronize()
    other = nnlib.cuda.Stream() if aside else nnlib.cuda.current_stream()
    with nnlib.cuda.stream(other):
        loss = nn.functional.cross_entropy(logits, target)
    with pytest.raises(IndexError, match="7"):
        wait(loss)
    assert nnlib.ones(2, device="cuda").sum().item() == 2


def test_dlpack_and_cuda_array_interface():
    x = nnlib.arange(6.0, device="cuda").reshape(2, 3)
    again = nnlib.from_dlpack(x)
    assert again.is_cuda and again.tolist() == x.tolist()
    facts = x.__cuda_array_interface__
    assert facts["shape"] == (2, 3) and facts["data"][0] == x.array.data.ptr
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("PyTorch sees no CUDA device")
    theirs = torch.from_dlpack(x)
    theirs += 1
    torch.cuda.synchronize()
    assert x[0].tolist() == [1, 2, 3]
    assert nnlib.from_dlpack(torch.ones(3, device="cuda")).tolist() == [1, 1, 1]


def test_modules_and_checkpoints_move(tmp_path):
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    before = {k: v.tolist() for k, v in model.state_dict().items()}
    model.to("cuda")
    assert all(p.is_cuda and p.is_leaf for p in model.parameters())
    path = tmp_path / "model.safetensors"
    nnlib.save(model.state_dict(), path)
    other = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    other.load_state_dict(nnlib.load(path))
    assert {k: v.tolist() for k, v in other.state_dict().items()} == before
    model.to("cpu")
    assert {k: v.tolist() for k, v in model.state_dict().items()} == before
