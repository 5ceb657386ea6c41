"""Layers and models on CUDA agree with the CPU: outputs and parameters' gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from harness import outputs
from on_device import gradients_of, move, to_host

import nnlib
from nnlib import models, nn

RNG = np.random.default_rng(5)


def floats(*shape: int) -> nnlib.Tensor:
    return nnlib.tensor(RNG.standard_normal(shape))


def symbols(*shape: int, high: int = 7) -> nnlib.Tensor:
    return nnlib.tensor(RNG.integers(0, high, shape))


def packed(*lengths: int, width: int = 4) -> Any:
    sequences = [floats(n, width) for n in lengths]
    return nn.utils.rnn.pack_sequence(sequences, enforce_sorted=False)


class Wrapped(nn.Module):
    """A module called in another way than by its inputs alone."""

    def __init__(self, module: Any, call: Callable[..., Any]) -> None:
        super().__init__()
        self.module = module
        self.call = call

    def forward(self, *inputs: Any) -> Any:
        return self.call(self.module, *inputs)


def summary(module: Any, x: Any) -> Any:
    """Return the padded output and the last states of a recurrent layer."""
    out, state = module(x)
    rows, lengths = nn.utils.rnn.pad_packed_sequence(out, batch_first=True)
    return rows, lengths, state


CASES: dict[str, tuple[Callable[[], Any], tuple[Any, ...]]] = {
    "Linear": (lambda: nn.Linear(4, 3), (floats(2, 5, 4),)),
    "Bilinear": (lambda: nn.Bilinear(4, 3, 2), (floats(5, 4), floats(5, 3))),
    "Conv1d": (lambda: nn.Conv1d(4, 6, 3, padding=1), (floats(2, 4, 9),)),
    "Conv2d": (lambda: nn.Conv2d(3, 8, 3, padding="same"), (floats(2, 3, 9, 8),)),
    "Conv2d strided groups": (
        lambda: nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2),
        (floats(2, 4, 9, 8),),
    ),
    "Conv2d depthwise": (
        lambda: nn.Conv2d(6, 6, 3, padding=1, groups=6),
        (floats(2, 6, 9, 8),),
    ),
    "Conv2d circular": (
        lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"),
        (floats(2, 3, 6, 6),),
    ),
    "Conv3d": (lambda: nn.Conv3d(2, 3, 2, dilation=2), (floats(2, 2, 5, 5, 5),)),
    "ConvTranspose2d": (
        lambda: nn.ConvTranspose2d(4, 3, 4, stride=2, padding=1),
        (floats(2, 4, 5, 5),),
    ),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(5), (floats(4, 5, 3, 3),)),
    "BatchNorm2d in evaluation": (
        lambda: nn.BatchNorm2d(5).eval(),
        (floats(4, 5, 3, 3),),
    ),
    "LayerNorm": (lambda: nn.LayerNorm(6), (floats(3, 4, 6),)),
    "RMSNorm": (lambda: nn.RMSNorm(6), (floats(3, 4, 6),)),
    "GroupNorm": (lambda: nn.GroupNorm(2, 6), (floats(3, 6, 4),)),
    "InstanceNorm2d": (
        lambda: nn.InstanceNorm2d(3, affine=True),
        (floats(2, 3, 4, 4),),
    ),
    "LocalResponseNorm": (lambda: nn.LocalResponseNorm(3), (floats(2, 6, 4, 4),)),
    "Dropout": (lambda: nn.Dropout(0.4), (floats(20, 30),)),
    "Dropout2d": (lambda: nn.Dropout2d(0.4), (floats(4, 6, 5, 5),)),
    "AlphaDropout": (lambda: nn.AlphaDropout(0.4), (floats(20, 30),)),
    "GaussianNoise": (lambda: nn.GaussianNoise(0.4), (floats(20, 30),)),
    "MaskingNoise": (lambda: nn.MaskingNoise(0.4), (floats(20, 30),)),
    "PReLU": (lambda: nn.PReLU(4), (floats(3, 4, 5),)),
    "GaussianAvgPool2d": (lambda: nn.GaussianAvgPool2d(3), (floats(2, 3, 8, 8),)),
    "Upsample": (
        lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
        (floats(2, 3, 4, 4),),
    ),
    "PixelShuffle": (lambda: nn.PixelShuffle(2), (floats(2, 8, 3, 3),)),
    "Embedding": (lambda: nn.Embedding(7, 5, padding_idx=2), (symbols(3, 6),)),
    "Embedding with max_norm": (
        lambda: nn.Embedding(7, 5, max_norm=1.0),
        (symbols(3, 6),),
    ),
    "EmbeddingBag": (
        lambda: nn.EmbeddingBag(7, 5, mode="mean"),
        (symbols(9), nnlib.tensor([0, 4, 6])),
    ),
    "RNN": (lambda: nn.RNN(4, 5), (floats(6, 3, 4),)),
    "RNN relu": (
        lambda: nn.RNN(4, 5, nonlinearity="relu", bidirectional=True),
        (floats(6, 3, 4),),
    ),
    "LSTM": (lambda: nn.LSTM(4, 5, batch_first=True), (floats(3, 6, 4),)),
    "LSTM of two layers": (
        lambda: nn.LSTM(4, 5, num_layers=2, dropout=0.3, bidirectional=True),
        (floats(6, 3, 4),),
    ),
    "LSTM with projections": (lambda: nn.LSTM(4, 6, proj_size=3), (floats(6, 3, 4),)),
    "GRU": (lambda: nn.GRU(4, 5, num_layers=2), (floats(6, 3, 4),)),
    "LSTMCell": (lambda: nn.LSTMCell(4, 5), (floats(3, 4),)),
    "GRUCell": (lambda: nn.GRUCell(4, 5), (floats(3, 4),)),
    "RNNCell": (lambda: nn.RNNCell(4, 5), (floats(3, 4),)),
    "LSTM packed": (
        lambda: Wrapped(nn.LSTM(4, 5, bidirectional=True), summary),
        (packed(3, 6, 1, 4),),
    ),
    "GRU packed": (lambda: Wrapped(nn.GRU(4, 5), summary), (packed(2, 5, 5),)),
    "MultiheadAttention": (
        lambda: Wrapped(
            nn.MultiheadAttention(8, 2, batch_first=True), lambda m, x: m(x, x, x)
        ),
        (floats(3, 5, 8),),
    ),
    "TransformerEncoderLayer": (
        lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        (floats(3, 5, 8),),
    ),
    "Transformer": (
        lambda: nn.Transformer(8, 2, 1, 1, 16, dropout=0.0, batch_first=True),
        (floats(3, 5, 8), floats(3, 4, 8)),
    ),
    "AdaptiveLogSoftmaxWithLoss": (
        lambda: Wrapped(
            nn.AdaptiveLogSoftmaxWithLoss(6, 12, [4, 8]), lambda m, x, y: m(x, y).loss
        ),
        (floats(9, 6), symbols(9, high=12)),
    ),
    "LuongAttention": (
        lambda: nn.LuongAttention(6, 6),
        (floats(3, 6), floats(3, 5, 6)),
    ),
    "BahdanauAttention": (
        lambda: nn.BahdanauAttention(6, 6, 4),
        (floats(3, 6), floats(3, 5, 6)),
    ),
    "lenet5": (lambda: models.get("lenet5"), (floats(2, 1, 28, 28),)),
    "lecture_cnn": (lambda: models.get("lecture_cnn"), (floats(2, 1, 28, 28),)),
    "vgg6": (lambda: models.get("vgg6"), (floats(2, 3, 32, 32),)),
    "resnet20": (lambda: models.get("resnet20"), (floats(4, 3, 32, 32),)),
    "unet": (lambda: models.get("unet"), (floats(1, 1, 32, 32),)),
    "vae": (
        lambda: Wrapped(models.get("vae", [784, 50], 5), lambda m, x: m(x.sigmoid())),
        (floats(5, 784),),
    ),
    "conv_autoencoder": (
        lambda: models.get("conv_autoencoder"),
        (floats(2, 1, 28, 28),),
    ),
    "dcgan_generator": (lambda: models.get("dcgan_generator"), (floats(4, 64),)),
}


def run(case: str, device: str) -> tuple[list[Any], list[Any]]:
    """Return a module's outputs and gradients, of the same weights everywhere."""
    build, inputs = CASES[case]
    nnlib.manual_seed(1)
    module = build().double().to(device)
    nnlib.manual_seed(2)
    given = [
        x.to(device) if hasattr(x, "with_data") else move(x, device) for x in inputs
    ]
    results = [x for x in outputs(module(*given)) if isinstance(x, nnlib.Tensor)]
    assert results
    gradients = list(gradients_of(results, list(module.parameters())))
    buffers = [to_host(x) for x in module.buffers()]
    return [to_host(x) for x in results] + buffers, gradients


def check(case: str, device: str) -> None:
    for mine, theirs in zip(run(case, device), run(case, "cpu"), strict=True):
        assert len(mine) == len(theirs)
        for one, other in zip(mine, theirs, strict=True):
            assert one.shape == other.shape and one.dtype == other.dtype
            scale = max(1.0, float(np.abs(other).max(initial=0)))
            np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-9 * scale)


@pytest.mark.cuda
@pytest.mark.parametrize("case", CASES)
def test_cuda_agrees_with_the_cpu(case: str) -> None:
    check(case, "cuda")
    nnlib.cuda.synchronize()


@pytest.mark.cuda
def test_states_travel_between_devices(tmp_path) -> None:
    nnlib.manual_seed(0)
    model = models.get("lenet5").to("cuda")
    nnlib.save(model.state_dict(), tmp_path / "weights.safetensors")
    other = models.get("lenet5")
    other.load_state_dict(nnlib.load(tmp_path / "weights.safetensors"))
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        np.testing.assert_array_equal(to_host(mine), to_host(theirs))


@pytest.mark.cuda
def test_distributions_draw_on_cuda() -> None:
    d = nnlib.distributions
    mean = nnlib.zeros(4, device="cuda").requires_grad_()
    drawn = d.Normal(mean, 1.0).rsample((1000,))
    assert drawn.device.type == "cuda"
    drawn.sum().backward()
    assert to_host(mean.grad).tolist() == [1000.0] * 4
    classes = d.Categorical(logits=nnlib.zeros(3, device="cuda")).sample((3000,))
    assert np.bincount(to_host(classes), minlength=3).min() > 850


@pytest.mark.cuda
def test_a_transformer_generates_on_cuda_what_it_does_on_the_cpu() -> None:
    nnlib.manual_seed(0)
    model = models.get("transformer_lm", 11).double().eval()
    start = symbols(2, 5, high=11)
    written = to_host(model.generate(start, 8, temperature=0.0))
    model.to("cuda")
    np.testing.assert_array_equal(
        to_host(model.generate(start.to("cuda"), 8, temperature=0.0)), written
    )


@pytest.mark.parametrize("case", list(CASES)[::4])
def test_the_comparison_itself(case: str) -> None:
    """The CPU against itself, so that the tests above can be trusted unseen."""
    check(case, "cpu")
