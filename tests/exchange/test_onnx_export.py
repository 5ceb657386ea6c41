"""Export: checked by the format's own checker, equal in onnxruntime, and back again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnlib
import nnlib.nn.functional as F
from nnlib import models, nn
from nnlib.onnx import OnnxError

pytest.importorskip("onnx")


def agree(model: Any, *examples: Any, free: bool = True, **options: Any) -> Any:
    """Export, and compare nnlib, onnxruntime and the import, at two batch sizes."""
    runtime = pytest.importorskip("onnxruntime")
    names = [f"x{n}" for n in range(len(examples))]
    axes = dict.fromkeys(names, {0: "batch"}) if free else None
    made = nnlib.onnx.export(
        model, examples, input_names=names, dynamic_axes=axes, **options
    )
    session = runtime.InferenceSession(
        made.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    back = nnlib.onnx.load(made)
    model.eval()
    batches = [examples]
    if free:
        batches.append(tuple(nnlib.cat([x, x, x]) for x in examples))
    for batch in batches:
        with nnlib.no_grad():
            wanted, again = flat(model(*batch)), flat(back(*batch))
        found = session.run(
            None, {n: x.numpy() for n, x in zip(names, batch, strict=True)}
        )
        for a, b, c in zip(wanted, found, again, strict=True):
            scale = max(float(np.abs(a.numpy()).max()), 1.0)
            np.testing.assert_allclose(b, a.numpy(), rtol=1e-4, atol=1e-5 * scale)
            np.testing.assert_allclose(
                c.numpy(), a.numpy(), rtol=1e-4, atol=1e-5 * scale
            )
    state = model.state_dict()
    kept = {k for k in state if not k.endswith("num_batches_tracked")}
    assert set(back.state_dict()) <= kept
    for key, value in back.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), state[key].numpy())
    return made


def flat(out: Any) -> list[Any]:
    if isinstance(out, tuple | list):
        return [x for item in out for x in flat(item)]
    return [out]


MODELS = {
    "MLP": lambda: (models.MLP([64, 16, 10], dropout=0.5), (2, 1, 8, 8)),
    "LeNet5": lambda: (models.LeNet5(pool=nn.AvgPool2d), (1, 1, 28, 28)),
    "LectureCNN": lambda: (models.LectureCNN(batch_norm=True), (1, 1, 28, 28)),
    "AlexNet": lambda: (models.AlexNet(hidden=16), (1, 3, 32, 32)),
    "VGG": lambda: (models.vgg6(), (1, 3, 32, 32)),
    "ResNet": lambda: (
        models.ResNet(models.BasicBlock, [1, 1], 10, width=8, shortcut="pad"),
        (2, 3, 32, 32),
    ),
    "ResNet bottleneck": lambda: (
        models.ResNet(models.Bottleneck, [1, 1], 10, width=8, stem="cifar"),
        (2, 3, 8, 8),
    ),
    "MobileNet": lambda: (
        models.MobileNet(10, width=0.25, small_images=True),
        (1, 3, 32, 32),
    ),
    "UNet": lambda: (models.UNet(), (1, 1, 16, 16)),
}


@pytest.mark.parametrize("name", MODELS)
def test_models(name: str) -> None:
    model, shape = MODELS[name]()
    agree(model, nnlib.randn(*shape))


@pytest.mark.parametrize("opset", [13, 17, 21])
def test_activations(opset: int) -> None:
    layers = [nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Mish(), nn.ELU(), nn.CELU()]
    layers += [
        nn.LeakyReLU(),
        nn.PReLU(),
        nn.Softplus(2),
        nn.Softplus(3, 0.5),
        nn.Hardswish(),
        nn.Tanh(),
    ]
    layers += [nn.Hardsigmoid(), nn.LogSigmoid(), nn.Softsign(), nn.Tanhshrink()]
    layers += [nn.Hardtanh(), nn.Softshrink(), nn.Threshold(-0.1, 0.2), nn.SELU()]
    layers += [nn.LayerNorm(8), nn.GLU(), nn.Softmax(-1), nn.LogSoftmax(-1)]
    agree(
        nn.Sequential(nn.Linear(4, 8), *layers),
        nnlib.randn(3, 4),
        opset_version=opset,
    )


def test_layers_of_images() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding="same"),
        nn.GroupNorm(2, 8),
        nn.InstanceNorm2d(8),
        nn.MaxPool2d(3, 2, 1, ceil_mode=True),
        nn.Conv2d(8, 4, 3, stride=2, padding=1, groups=2),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1, output_padding=1),
        nn.PixelShuffle(2),
        nn.AvgPool2d(3, 2, 1),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
    )
    agree(model, nnlib.randn(2, 3, 13, 10))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)
        self.norm = nn.LayerNorm(16)

    def forward(self, x: Any) -> Any:
        n, length, width = x.shape
        parts = self.qkv(self.norm(x)).reshape(n, length, 3, 2, 8)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
        share = F.softmax(q @ k.transpose(-1, -2) / 8**0.5, -1)
        return x + self.out((share @ v).transpose(1, 2).reshape(n, length, width))


def test_attention_by_hand() -> None:
    agree(Attention(), nnlib.randn(2, 5, 16))


@pytest.mark.parametrize("kind", ["RNN", "RNN relu", "LSTM", "GRU"])
@pytest.mark.parametrize("twice", [False, True])
def test_recurrent_layers(kind: str, twice: bool) -> None:
    options: dict[str, Any] = {"nonlinearity": "relu"} if "relu" in kind else {}
    layer = getattr(nn, kind[:4].strip())(
        3, 4, 2, batch_first=True, bidirectional=twice, bias=not twice, **options
    )
    made = agree(layer, nnlib.randn(2, 5, 3))
    assert sum(node.op_type == kind[:4].strip() for node in made.graph.node) == 2


def test_recurrent_layers_of_any_length() -> None:
    layer = nn.LSTM(3, 4, bidirectional=True)
    axes = {"x": {0: "time", 1: "batch"}}
    made = nnlib.onnx.export(
        layer, nnlib.randn(5, 2, 3), input_names=["x"], dynamic_axes=axes
    )
    back = nnlib.onnx.load(made)
    for shape in ((5, 2, 3), (7, 1, 3), (2, 4, 3)):
        x = nnlib.randn(*shape)
        y, (h, c) = layer(x)
        for a, b in zip((y, h, c), back(x), strict=True):
            np.testing.assert_allclose(
                a.detach().numpy(), b.detach().numpy(), rtol=1e-4, atol=1e-5
            )


def test_attention_layers() -> None:
    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv = nn.Linear(8, 24)

        def forward(self, x: Any, mask: Any) -> Any:
            n, length, _ = x.shape
            parts = self.qkv(x).reshape(n, length, 3, 2, 4)
            q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
            attend = F.scaled_dot_product_attention
            return attend(q, k, v, is_causal=True), attend(q, k, v, mask)

    mask = nnlib.zeros(2, 1, 1, 5)
    mask[0, :, :, 3:] = -np.inf
    agree(Layer(), nnlib.randn(2, 5, 8), mask)


class Odds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(nnlib.randn(5, 3))

    def forward(self, x: Any) -> Any:
        y = x * 2
        y += 1
        y.relu_()
        z = y[:, 1:3, ..., None].flip(1)
        tied = F.linear(F.linear(x, self.table.T), self.table)
        pads = F.pad(x, (1, 2), value=3.0).clamp(-1, 1)
        best = y.max(1)
        steps = nnlib.where(x > 0, x.cumsum(1), -x)
        spread = x.var(1), x.std((1, 2)), x.topk(2).values
        return (
            spread,
            z.sum((1, 2)),
            best.values,
            best.indices,
            tied,
            pads,
            steps,
            x.norm(),
        )


def test_views_writes_and_several_outputs() -> None:
    agree(Odds(), nnlib.randn(3, 4, 5))


def test_the_file_is_written_and_training_goes_on(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5)).train()
    model[1].eval()
    path = tmp_path / "model.onnx"
    nnlib.onnx.export(model, nnlib.zeros(1, 3), path, output_names=["scores"])
    assert model.training and model[0].training and not model[1].training
    back = nnlib.onnx.load(path)
    assert back.input_names == ("input",) and back.output_names == ("scores",)
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]
    other = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5))
    other.load_state_dict(back.state_dict())


def test_what_cannot_be_written_is_named() -> None:
    class Odd(nn.Module):
        def __init__(self, run: Any) -> None:
            super().__init__()
            self.run = run

        def forward(self, x: Any) -> Any:
            return self.run(x)

    bad: list[tuple[Any, str]] = [
        (lambda x: nnlib.linalg.qr(x)[0], "no counterpart in ONNX is known for QR"),
        (lambda x: x * x.sum().item(), r"item\(\) of a tensor"),
        (
            lambda x: nn.utils.rnn.pack_padded_sequence(x, x[:, 0].long()).data,
            r"numpy\(\) of a tensor",
        ),
        (lambda x: x if x.sum() > 0 else -x, "the truth of a tensor"),
        (lambda x: nnlib.eye(x.shape[0]) @ x, "dynamic axis"),
        (lambda x: sum(x[n] for n in range(len(x))), "dynamic axis"),
    ]
    for run, message in bad:
        with pytest.raises(OnnxError, match=message):
            nnlib.onnx.export(Odd(run), nnlib.ones(2, 3), dynamic_axes={"input": [0]})
    with pytest.raises(nnlib.ArgumentError, match="opset_version: expected 13 to 21"):
        nnlib.onnx.export(Odd(abs), nnlib.ones(2), opset_version=9)
    with pytest.raises(nnlib.DTypeError, match="expected Tensors, got ndarray"):
        nnlib.onnx.export(Odd(abs), np.ones(2))
    with pytest.raises(nnlib.ArgumentError, match="has no dimension 3"):
        nnlib.onnx.export(Odd(abs), nnlib.ones(2), dynamic_axes={"input": [3]})
    with pytest.raises(nnlib.ArgumentError, match="no input or output 'image'; there"):
        nnlib.onnx.export(Odd(abs), nnlib.ones(2), dynamic_axes={"image": [0]})
    made = nnlib.onnx.export(
        Odd(abs),
        nnlib.ones(2),
        export_params=True,
        do_constant_folding=True,
        dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}},
    )
    assert made.graph.output[0].type.tensor_type.shape.dim[0].dim_param == "batch"


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.TransformerEncoderLayer(16, 2, 24, batch_first=True)
        self.decode = nn.TransformerDecoderLayer(
            16, 2, 24, batch_first=True, norm_first=True, activation="gelu"
        )

    def forward(self, source: Any, target: Any) -> Any:
        return self.decode(target, self.encode(source))


def test_transformer_layers() -> None:
    agree(Decoder(), nnlib.randn(2, 5, 16), nnlib.randn(2, 3, 16))
