"""Pretrained models: stored outputs come back, gradients are PyTorch's, they train."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import zoo

import nnlib
import nnlib.nn.functional as F

pytest.importorskip("onnx")


@pytest.mark.parametrize("name", zoo.MODELS)
def test_stored_outputs_come_back(name: str) -> None:
    model = nnlib.onnx.load(zoo.folder(name) / "model.onnx")
    assert not model.training
    for inputs, expected in zoo.samples(name):
        with nnlib.no_grad():
            found = model(*inputs)
        found = found if isinstance(found, tuple) else (found,)
        for a, b in zip(found, expected, strict=True):
            scale = float(np.abs(b).max())
            np.testing.assert_allclose(a.numpy(), b, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("name", zoo.MODELS)
def test_it_trains_after_import(name: str) -> None:
    model = nnlib.onnx.load(zoo.folder(name) / "model.onnx").train()
    inputs, expected = zoo.samples(name)[0]
    nnlib.manual_seed(0)
    scale = float(np.abs(expected[0]).max())
    target = nnlib.from_numpy(expected[0]) * 0.5 + 0.1 * scale
    rate = {"mnist-8": 1e-4, "dtln-1": 1e-3}.get(name, 1e-5)
    optimizer = nnlib.optim.Adam(model.parameters(), lr=rate)
    losses = []
    for _ in range(2 if name == "super-resolution-10" else 3):
        optimizer.zero_grad()
        out = model(*inputs)
        out = out[0] if isinstance(out, tuple) else out
        loss = F.mse_loss(out / scale, target / scale)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(p.grad is not None for _, p in model.named_parameters()) or (
        name == "dtln-1"
    )


def _compare(model: Any, twin: dict[str, Any], inputs: Any, run: Any) -> None:
    """Compare output and all gradients with PyTorch's for the same weights."""
    torch = pytest.importorskip("torch")
    out = model(inputs)
    weights = np.random.default_rng(0).normal(size=out.shape).astype(np.float32)
    (out * nnlib.from_numpy(weights)).sum().backward()
    wanted = run(torch.from_numpy(inputs), twin)
    (wanted * torch.from_numpy(weights)).sum().backward()
    np.testing.assert_allclose(
        out.detach().numpy(), wanted.detach().numpy(), rtol=1e-4, atol=1e-3
    )
    for name, parameter in model.named_parameters():
        a, b = parameter.grad.numpy(), twin[name].grad.numpy()
        # Units within rounding of 0 may be on in one and off in the other.
        assert np.linalg.norm(a - b) < 3e-3 * np.linalg.norm(b), name


def _torch_weights(model: Any) -> dict[str, Any]:
    torch = pytest.importorskip("torch")
    return {
        name: torch.tensor(p.detach().numpy(), requires_grad=True)
        for name, p in model.named_parameters()
    }


def test_gradients_of_mnist_are_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    model = nnlib.onnx.load(zoo.folder("mnist-8") / "model.onnx")

    def run(x: Any, w: dict[str, Any]) -> Any:
        f = torch.nn.functional
        y = f.relu(f.conv2d(x, w["Parameter5"], padding=2) + w["Parameter6"])
        y = f.max_pool2d(y, 2)
        y = f.relu(f.conv2d(y, w["Parameter87"], padding=2) + w["Parameter88"])
        y = f.max_pool2d(y, 3).reshape(1, 256)
        return y @ w["Parameter193"].reshape(256, 10) + w["Parameter194"]

    image = zoo.samples("mnist-8")[0][0][0] / 255
    _compare(model, _torch_weights(model), image, run)


def test_gradients_of_squeezenet_are_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    path = zoo.folder("squeezenet1.0-deepcompressed-13") / "model.onnx"
    # The softmax at its end would leave gradients of 1e-9 to compare.
    scores = nnlib.onnx.load(path).value_names[-2]
    model = nnlib.onnx.load(path, outputs=scores)

    def run(x: Any, w: dict[str, Any]) -> Any:
        f = torch.nn.functional

        def conv(name: str, y: Any, **options: Any) -> Any:
            return f.relu(f.conv2d(y, w[f"{name}_w"], w[f"{name}_b"], **options))

        y = conv("conv1", x, stride=2)
        y = f.max_pool2d(y, 3, 2, ceil_mode=True)
        for number in range(2, 10):
            squeezed = conv(f"fire{number}_conv1x1_1", y)
            y = torch.cat(
                (
                    conv(f"fire{number}_conv1x1_2", squeezed),
                    conv(f"fire{number}_conv3x3_2", squeezed, padding=1),
                ),
                1,
            )
            if number in (4, 8):
                y = f.max_pool2d(y, 3, 2, ceil_mode=True)
        return conv("conv_final", y, padding=1).mean((2, 3))

    image = zoo.samples("squeezenet1.0-deepcompressed-13")[0][0][0]
    _compare(model, _torch_weights(model), image, run)
