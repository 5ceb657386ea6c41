"""States, memory and errors between devices and libraries; attention of many tiles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from on_device import to_host
from training import mlp, numbers, train_some, weights

import nnlib
from nnlib import models, nn

F = nn.functional
OPTIMIZERS = ("SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "NAdam")


@pytest.mark.cuda
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("way", [("cpu", "cuda"), ("cuda", "cpu")])
def test_optimizers_states_travel(name: str, way: tuple[str, str], tmp_path) -> None:
    """Half of a run on one device and half on the other equals a run on one."""
    kind = getattr(nnlib.optim, name)
    options = {"momentum": 0.9} if name in ("SGD", "RMSprop") else {}

    def start(device: str) -> tuple[Any, Any]:
        model = mlp(device)
        return model, kind(model.parameters(), lr=0.01, **options)

    model, optimizer = start(way[0])
    train_some(model, optimizer, way[0])
    path = tmp_path / "state.safetensors"
    nnlib.save({"model": model.state_dict(), "optim": optimizer.state_dict()}, path)
    found = nnlib.load(path)
    other, moved = start(way[1])
    other.load_state_dict(found["model"])
    moved.load_state_dict(found["optim"])
    train_some(other, moved, way[1])
    whole, plain = start("cpu")
    train_some(whole, plain, "cpu", 8)
    for mine, theirs in zip(weights(other), weights(whole), strict=True):
        np.testing.assert_allclose(to_host(mine), to_host(theirs), 1e-7, 1e-9)


@pytest.mark.cuda
def test_loading_goes_where_it_is_told(tmp_path) -> None:
    path = tmp_path / "x.safetensors"
    nnlib.save({"a": numbers(3).to("cuda"), "n": 3}, path)
    assert nnlib.load(path, device="cuda")["a"].is_cuda
    assert not nnlib.load(path, device="cpu")["a"].is_cuda


@pytest.mark.cuda
def test_memory_is_shared_with_cupy_and_pytorch() -> None:
    cupy = pytest.importorskip("cupy")
    x = nnlib.arange(6.0, device="cuda").reshape(2, 3)
    seen = cupy.asarray(x)
    seen += 1
    cupy.cuda.get_current_stream().synchronize()
    assert x.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert nnlib.as_tensor(seen).is_cuda
    mine = nnlib.from_dlpack(cupy.ones(3, "f4"))
    assert mine.is_cuda and mine.tolist() == [1, 1, 1]
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("PyTorch sees no CUDA device")
    theirs = torch.as_tensor(x, device="cuda")
    theirs.mul_(2)
    torch.cuda.synchronize()
    assert x.tolist() == [[2, 4, 6], [8, 10, 12]]
    strided = torch.arange(6, device="cuda").reshape(2, 3).t()
    assert nnlib.from_dlpack(strided).tolist() == strided.tolist()


@pytest.mark.cuda
def test_messages_name_devices() -> None:
    layer = nn.Linear(3, 2)
    with pytest.raises(nnlib.DeviceError, match="cpu.*cuda|cuda.*cpu"):
        layer(nnlib.ones(1, 3, device="cuda"))
    with pytest.raises(nnlib.DeviceError, match="cpu.*cuda|cuda.*cpu"):
        F.cross_entropy(nnlib.ones(2, 3, device="cuda"), nnlib.tensor([0, 1]))
    table = nn.Embedding(3, 2).to("cuda")
    with pytest.raises(nnlib.DeviceError):
        table(nnlib.tensor([0]))
    with pytest.raises(IndexError, match="7"):
        table(nnlib.tensor([7], device="cuda"))
        nnlib.cuda.synchronize()


@pytest.mark.cuda
def test_onnx_programs_run_on_cuda(tmp_path) -> None:
    pytest.importorskip("onnx")
    nnlib.manual_seed(0)
    model = models.get("lenet5").eval()
    x = numbers(2, 1, 28, 28).float()
    path = tmp_path / "model.onnx"
    nnlib.onnx.export(model, x, path)
    program = nnlib.onnx.load(path).to("cuda")
    found = program(x.to("cuda"))
    assert found.is_cuda
    np.testing.assert_allclose(to_host(found), to_host(model(x)), rtol=1e-4, atol=1e-5)


@pytest.mark.cuda
def test_streams_wait_for_each_other() -> None:
    first, second = nnlib.cuda.Stream(), nnlib.cuda.Stream()
    x = numbers(300, 300).to("cuda")
    nnlib.cuda.synchronize()
    with nnlib.cuda.stream(first):
        y = x @ x
        done = nnlib.cuda.Event()
        done.record()
    with nnlib.cuda.stream(second):
        second.wait_event(done)
        z = nnlib.tanh(y) + x
    second.synchronize()
    host = to_host(x)
    np.testing.assert_allclose(to_host(z), np.tanh(host @ host) + host, 1e-6, 1e-8)


@pytest.mark.cuda
@pytest.mark.parametrize("rate", [0.0, 0.3])
@pytest.mark.parametrize("form", ["plain", "causal", "mask", "shared"])
def test_attention_of_many_tiles(form: str, rate: float) -> None:
    """Shapes that fill no tile, heads of several widths, in both floats."""
    for width, features, dtype in ((16, 16, "f4"), (40, 24, "f4"), (100, 128, "f4"),
                                   (64, 33, "f8")):  # fmt: skip
        q, k, v = (
            numbers(2, heads, length, size, seed=size).to(nnlib.as_tensor(
                np.zeros(1, dtype)).dtype)
            for heads, length, size in (
                (4, 131, width),
                (2 if form == "shared" else 4, 90, width),
                (2 if form == "shared" else 4, 90, features),
            )
        )  # fmt: skip
        mask = None
        if form == "mask":
            mask = nnlib.tensor(np.random.default_rng(0).random((2, 1, 131, 90)) < 0.7)
        found = []
        for device in ("cuda", "cpu"):
            nnlib.manual_seed(5)
            args = [x.detach().to(device).requires_grad_() for x in (q, k, v)]
            out = F.scaled_dot_product_attention(
                *args, None if mask is None else mask.to(device), rate,
                form == "causal", enable_gqa=form == "shared",
            )  # fmt: skip
            (out * out.detach().cos()).sum().backward()
            found.append([to_host(out), *(to_host(x.grad) for x in args)])
        rtol, atol = (1e-4, 2e-5) if dtype == "f4" else (1e-8, 1e-9)
        for mine, theirs in zip(*found, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol, atol)
