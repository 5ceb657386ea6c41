"""The architectures: published parameter counts, shapes, and PyTorch's results.

The models are written with PyTorch's names, so the same source runs on PyTorch: each is
built twice, given the same weights, and compared forward and backward.
"""

from __future__ import annotations

import importlib
import inspect
import math

import numpy as np
import pytest

import nnlib
from nnlib import models, nn
from nnlib.backend.errors import DTypeError, Error, ShapeError

try:
    import torch
except ImportError:
    torch = None

needs_torch = pytest.mark.skipif(torch is None, reason="PyTorch is not installed")


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


PUBLISHED = {
    # by hand from the paper's table, with a full second convolution
    "LeNet5": (lambda: models.LeNet5(), 61_706),
    "LectureCNN": (lambda: models.LectureCNN(), 122_270),
    # torchvision
    "resnet18": (lambda: models.resnet18(), 11_689_512),
    "resnet34": (lambda: models.resnet34(), 21_797_672),
    "resnet50": (lambda: models.resnet50(), 25_557_032),
    "vgg11": (lambda: models.vgg11(), 132_863_336),
    # table 6 of the paper: 0.27 M, 0.46 M, 0.66 M, 0.85 M
    "resnet20": (lambda: models.resnet_cifar(20), 269_722),
    "resnet32": (lambda: models.resnet_cifar(32), 464_154),
    "resnet44": (lambda: models.resnet_cifar(44), 658_586),
    "resnet56": (lambda: models.resnet_cifar(56), 853_018),
    # table 8 of the paper: 4.2 M, and 0.5 M at width 0.25
    "MobileNet": (lambda: models.MobileNet(), 4_231_976),
    "MobileNet-0.25": (lambda: models.MobileNet(width=0.25), 470_072),
    # the widespread batch-normalised form for RGB and one class
    "UNet": (lambda: models.UNet(3, 1, batch_norm=True), 31_037_633),
    # VGG-16 as it is common for CIFAR
    "vgg16-cifar": (
        lambda: models.vgg16(10, image_size=32, hidden=(), batch_norm=True),
        14_728_266,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_count_is_the_published_one(name):
    make, published = PUBLISHED[name]
    assert count(make()) == published


def test_deeper_vggs_differ_by_their_further_convolutions():
    def features(make):
        model = make(10, image_size=32, hidden=())
        return count(model)

    published = {"11": 132_863_336, "13": 133_047_848, "16": 138_357_544}
    published["19"] = 143_667_240
    base = features(models.vgg11)
    for name, total in published.items():
        assert features(getattr(models, f"vgg{name}")) - base == total - 132_863_336


def test_shapes_through_the_lecture_network():
    shapes, x = [], nnlib.zeros(1, 1, 28, 28)
    for layer in models.LectureCNN(dropout=0.2, batch_norm=True).eval():
        x = layer(x)
        if isinstance(layer, nn.ReLU):
            shapes.append(tuple(x.shape[1:]))
    assert shapes == [(4, 28, 28), (8, 14, 14), (12, 7, 7), (200,)]
    assert tuple(x.shape) == (1, 10)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: models.resnet18(7, width=8), (2, 3, 64, 64)),
        (lambda: models.resnet34(7, width=4, stem="cifar"), (2, 3, 16, 16)),
        (lambda: models.resnet50(7, width=4), (1, 3, 32, 32)),
        (lambda: models.resnet_cifar(56, 7, width=4), (2, 3, 32, 32)),
        (lambda: models.vgg19(7, image_size=32, hidden=(16,)), (1, 3, 32, 32)),
        (lambda: models.MobileNet(7, width=0.25), (1, 3, 64, 64)),
        (lambda: models.AlexNet(7, image_size=40, hidden=16), (2, 3, 40, 40)),
    ],
)
def test_scores_per_class(make, shape):
    assert tuple(make().eval()(nnlib.zeros(*shape)).shape) == (shape[0], 7)


def test_small_mobilenet_ends_four_by_four():
    model = models.MobileNet(10, width=0.125, small_images=True).eval()
    assert tuple(model.features(nnlib.zeros(1, 3, 32, 32)).shape) == (1, 128, 4, 4)


def test_kaiming_keeps_the_variance():
    nnlib.manual_seed(0)
    model = models.resnet18()
    weight = model.layer3[1].conv1.weight
    fan = 256 * 9
    assert weight.std().item() == pytest.approx(math.sqrt(2 / fan), 0.01)
    assert bool((model.bn1.weight == 1).all())
    linear = models.vgg11(10, image_size=32, hidden=(512,)).classifier[0]
    assert linear.weight.std().item() == pytest.approx(0.01, 0.01)
    assert not linear.bias.any()


# -- against PyTorch -----------------------------------------------------------

TWINS = {
    "lenet": [
        ("LeNet5", (), {}, (2, 1, 28, 28)),
        ("LeNet5", (4,), {"in_channels": 3, "activation": "Tanh"}, (2, 3, 28, 28)),
        ("LeNet5", (), {"pool": "AvgPool2d", "activation": "Tanh"}, (1, 1, 28, 28)),
    ],
    "cnn": [
        ("LectureCNN", (), {}, (2, 1, 28, 28)),
        ("LectureCNN", (), {"batch_norm": True}, (3, 1, 28, 28)),
    ],
    "alexnet": [
        ("AlexNet", (5,), {"image_size": 20, "hidden": 16}, (2, 3, 20, 20)),
    ],
    "vgg": [
        (
            "VGG",
            ((4, "M", 8, 8, "M"), 5),
            {"image_size": 10, "hidden": (7,), "dropout": 0.0},
            (2, 3, 10, 10),
        ),
        ("vgg6", (), {}, (2, 3, 32, 32)),
    ],
    "resnet": [
        ("resnet_cifar", (8, 5), {"width": 4}, (2, 3, 12, 12)),
        (
            "resnet_cifar",
            (14, 5),
            {"width": 4, "shortcut": "projection"},
            (2, 3, 9, 9),
        ),
        ("resnet18", (5,), {"width": 4}, (2, 3, 64, 64)),
        ("resnet50", (5,), {"width": 2}, (2, 3, 64, 64)),
    ],
    "mobilenet": [
        ("MobileNet", (5,), {"width": 0.125}, (2, 3, 64, 64)),
        ("MobileNet", (5,), {"width": 0.125, "small_images": True}, (1, 3, 32, 32)),
    ],
    "unet": [
        ("UNet", (3, 2), {"width": 4, "depth": 2}, (2, 3, 12, 8)),
        ("UNet", (), {"width": 2, "depth": 3, "batch_norm": True}, (1, 1, 16, 16)),
    ],
}


def in_torch(name):
    """Return the classes of nnlib.models.<name>, made of PyTorch's layers."""

    def source(module):
        text = inspect.getsource(importlib.import_module(f"nnlib.models.{module}"))
        for mine, theirs in (
            ("from nnlib import nn", "from torch import nn"),
            ("from nnlib.autograd.tensor import", "from torch import"),
            ("from nnlib.ops import", "from torch import"),
            ("from nnlib.models.initial import kaiming\n", ""),
        ):
            text = text.replace(mine, theirs)
        return compile(text, module, "exec", dont_inherit=True)

    found = {"__name__": f"twin_{name}"}
    exec(source("initial"), found)
    exec(source(name), found)
    return found


def array(value):
    return np.asarray(value.detach())


@needs_torch
@pytest.mark.parametrize(
    ("module", "name", "args", "options", "shape"),
    [(module, *case) for module, cases in TWINS.items() for case in cases],
)
@pytest.mark.parametrize("training", [True, False])
def test_model_equals_pytorch(module, name, args, options, shape, training):
    nnlib.manual_seed(1)

    def build(maker, layers):
        return maker(
            *args,
            **{
                key: getattr(layers, value) if key in ("activation", "pool") else value
                for key, value in options.items()
            },
        )

    mine = build(getattr(models, name), nn).double()
    theirs = build(in_torch(module)[name], torch.nn).double()
    theirs.load_state_dict(
        {key: torch.tensor(array(value)) for key, value in mine.state_dict().items()}
    )
    # Dropout draws other numbers there: off, while the rest trains.
    for model, layers in ((mine, nn), (theirs, torch.nn)):
        model.train(training)
        for layer in model.modules():
            if isinstance(layer, layers.Dropout):
                layer.eval()
    x = np.random.default_rng(2).standard_normal(shape)
    ours = nnlib.tensor(x).requires_grad_()
    peer = torch.tensor(x, requires_grad=True)
    out, ref = mine(ours), theirs(peer)
    scale = np.abs(array(ref)).max()
    np.testing.assert_allclose(array(out), array(ref), 1e-8, 1e-9 * scale)
    out.square().mean().backward()
    ref.square().mean().backward()
    pairs = {"input": (ours, peer)} | {
        key: (a, b)
        for (key, a), b in zip(
            mine.named_parameters(), theirs.parameters(), strict=True
        )
    }
    for key, (a, b) in pairs.items():
        grad, wanted = array(a.grad), array(b.grad)
        scale = max(np.abs(wanted).max(), 1e-3)
        np.testing.assert_allclose(grad, wanted, 1e-7, 1e-8 * scale, err_msg=key)
    for key, value in theirs.named_buffers():
        if value.dtype.is_floating_point:
            found = array(mine.state_dict()[key])
            np.testing.assert_allclose(found, array(value), 1e-9, 1e-12, err_msg=key)


@needs_torch
def test_resnet_has_the_names_of_torchvision():
    names = list(models.resnet50(width=2).state_dict())
    for name in (
        "conv1.weight",
        "bn1.running_var",
        "layer1.0.downsample.0.weight",
        "layer1.0.downsample.1.num_batches_tracked",
        "layer4.2.conv3.weight",
        "fc.bias",
    ):
        assert name in names


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: models.resnet_cifar(21), ShapeError, r"6 n \+ 2, got 21"),
        (lambda: models.resnet18(stem="tiny"), Error, "'tiny'"),
        (lambda: models.resnet18(shortcut="A"), Error, "'A'"),
        (lambda: models.ResNet(models.BasicBlock, ()), ShapeError, "depths"),
        (lambda: models.VGG(["N"]), Error, "'N'"),
        (lambda: models.vgg11(image_size=16), ShapeError, "too small for 5 pools"),
        (lambda: models.AlexNet(image_size=14), ShapeError, "at least 15, got 14"),
        (lambda: models.MobileNet(width=0.01), ShapeError, "at least 1/32"),
        (lambda: models.MobileNet(width=float("nan")), ShapeError, "1/32, got nan"),
        (lambda: models.ResNet(models.BasicBlock, 3), ShapeError, "stage, got 3"),
        (lambda: models.LectureCNN(channels=(4, 8)), ShapeError, "expected three"),
        (lambda: models.UNet(depth=0), ShapeError, "at least 1, got 0"),
        (lambda: models.UNet(width=2.5), DTypeError, "width: expected an integer"),
        (
            lambda: models.UNet(width=2, depth=2)(nnlib.zeros(1, 1, 6, 8)),
            ShapeError,
            r"divisible by 4, got \(1, 1, 6, 8\)",
        ),
    ],
)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_one_image_without_a_batch():
    model = models.UNet(width=2, depth=2).eval()
    image = nnlib.randn(1, 8, 12)
    assert nnlib.allclose(model(image), model(image[None])[0], atol=1e-6)
