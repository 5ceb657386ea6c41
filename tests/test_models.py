"""The architectures: published parameter counts, shapes, and PyTorch's results.

The models are written with PyTorch's names, so the same source runs on PyTorch: each is
built twice, given the same weights, and compared forward and backward.
"""

from __future__ import annotations

import importlib
import inspect

import numpy as np
import pytest

import nnlib
from nnlib import models, nn
from nnlib.backend.errors import ShapeError

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
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_count_is_the_published_one(name):
    make, published = PUBLISHED[name]
    assert count(make()) == published


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: models.AlexNet(7, image_size=40, hidden=16), (2, 3, 40, 40)),
    ],
)
def test_scores_per_class(make, shape):
    assert tuple(make().eval()(nnlib.zeros(*shape)).shape) == (shape[0], 7)


# -- against PyTorch -----------------------------------------------------------

TWINS = {
    "lenet": [
        ("LeNet5", (), {}, (2, 1, 28, 28)),
        ("LeNet5", (4,), {"in_channels": 3, "activation": "Tanh"}, (2, 3, 28, 28)),
        ("LeNet5", (), {"pool": "AvgPool2d", "activation": "Tanh"}, (1, 1, 28, 28)),
    ],
    "alexnet": [
        ("AlexNet", (5,), {"image_size": 20, "hidden": 16}, (2, 3, 20, 20)),
    ],
}


def in_torch(name):
    """Return the classes of nnlib.models.<name>, made of PyTorch's layers."""

    def source(module):
        text = inspect.getsource(importlib.import_module(f"nnlib.models.{module}"))
        for mine, theirs in (
            ("from nnlib import Tensor, nn", "from torch import Tensor, nn"),
            ("from nnlib import nn", "from torch import nn"),
            ("import nnlib\n", "import torch\n"),
            ("nnlib.cat", "torch.cat"),
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


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: models.AlexNet(image_size=14), ShapeError, "at least 15, got 14"),
    ],
)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()
