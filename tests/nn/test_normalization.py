"""Normalisation layers against PyTorch, and in themselves."""

from __future__ import annotations

import numpy as np
import pytest
from compare import array, compare, copy_weights, needs_torch, torch

import nnlib
import nnlib.nn.functional as F
from nnlib import nn
from nnlib.backend.errors import ArgumentError, DTypeError, Error, ShapeError

LAYERS = [
    ("BatchNorm1d", (3,), {}, (5, 3)),
    ("BatchNorm1d", (3,), {"momentum": None}, (5, 3, 4)),
    ("BatchNorm2d", (3,), {}, (2, 3, 4, 5)),
    ("BatchNorm2d", (3,), {"affine": False}, (2, 3, 4, 5)),
    ("BatchNorm2d", (3,), {"track_running_stats": False}, (2, 3, 4, 5)),
    ("BatchNorm3d", (2,), {"eps": 1e-3}, (2, 2, 3, 2, 2)),
    ("InstanceNorm1d", (3,), {}, (2, 3, 5)),
    ("InstanceNorm1d", (3,), {}, (3, 5)),
    ("InstanceNorm2d", (3,), {"affine": True}, (2, 3, 4, 5)),
    ("InstanceNorm2d", (3,), {"track_running_stats": True}, (2, 3, 4, 5)),
    ("InstanceNorm3d", (2,), {}, (2, 2, 3, 2, 2)),
    ("GroupNorm", (2, 4), {}, (2, 4, 3, 5)),
    ("GroupNorm", (4, 4), {"affine": False}, (2, 4)),
    ("LayerNorm", (5,), {}, (2, 3, 5)),
    ("LayerNorm", ((3, 5),), {"bias": False}, (2, 3, 5)),
    ("LayerNorm", (5,), {"elementwise_affine": False}, (2, 5)),
    ("RMSNorm", (5,), {}, (2, 3, 5)),
    ("LocalResponseNorm", (3,), {"alpha": 0.1}, (2, 5, 3, 3)),
]


@needs_torch
@pytest.mark.parametrize(("name", "args", "kwargs", "shape"), LAYERS)
def test_equals_pytorch_in_training_and_evaluation(name, args, kwargs, shape):
    rng = np.random.default_rng(0)
    mine = getattr(nn, name)(*args, **kwargs)
    theirs = getattr(torch.nn, name)(*args, **kwargs)
    if name != "GroupNorm" or kwargs.get("affine", True) is False:
        compare(mine, theirs, rng.standard_normal(shape) * 2 + 1)
    else:
        compare(mine, theirs, rng.standard_normal(shape))
    assert list(mine.state_dict()) == list(theirs.state_dict())
    mine.double(), theirs.double()
    copy_weights(mine, theirs)
    for _ in range(2):
        x = rng.standard_normal(shape) * 3 - 1
        mine(nnlib.tensor(x)), theirs(torch.tensor(x))
    for key, value in theirs.state_dict().items():
        np.testing.assert_allclose(array(mine.state_dict()[key]), value, 1e-12)
    mine.eval(), theirs.eval()
    for parameter in (*mine.parameters(), *theirs.parameters()):
        parameter.grad = None
    compare(mine, theirs, rng.standard_normal(shape))


SECOND = {
    "batch_norm": (lambda x, w, b: F.batch_norm(x, None, None, w, b, True), (3, 4, 2)),
    "group_norm": (lambda x, w, b: F.group_norm(x, 2, w, b), (2, 4, 3)),
    "instance_norm": (lambda x, w, b: F.instance_norm(x, None, None, w, b), (2, 4, 3)),
    "layer_norm": (lambda x, w, b: F.layer_norm(x, (4,), w, b), (3, 4)),
    "rms_norm": (lambda x, w, b: F.rms_norm(x, (4,), w, 1e-6) + b, (3, 4)),
    "evaluation": (
        lambda x, w, b: F.batch_norm(x, nnlib.ones(4).double(), w.detach(), w, b),
        (3, 4, 2),
    ),
}


@pytest.mark.parametrize("name", SECOND)
def test_second_derivatives(name):
    call, shape = SECOND[name]
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(shape), rng.uniform(0.5, 2, 4), rng.random(4)]
    leaves = [nnlib.tensor(x, requires_grad=True) for x in inputs]
    if name == "evaluation":
        leaves[1] = leaves[1].detach()
    nnlib.autograd.gradgradcheck(call, leaves)


def test_large_means_do_not_cancel():
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((64, 5, 7, 9)) + 10000).astype("f4")
    want = x.astype("f8")
    for dims, call in (
        ((0, 2, 3), lambda t: F.batch_norm(t, None, None, training=True, eps=0)),
        ((2, 3), lambda t: F.instance_norm(t, eps=0)),
        ((3,), lambda t: F.layer_norm(t, 9, eps=0)),
    ):
        away = want - want.mean(dims, keepdims=True)
        ref = away / np.sqrt((away**2).mean(dims, keepdims=True))
        # The mean itself has a rounding error of half of 2^-10.
        np.testing.assert_allclose(array(call(nnlib.tensor(x))), ref, 0, 2e-3)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_keeps_statistics_in_single(dtype):
    layer = nn.BatchNorm2d(3)
    x = np.random.default_rng(0).standard_normal((8, 3, 5, 5)).astype("f4") + 1.001
    t = nnlib.tensor(x).to(dtype).requires_grad_()
    y = layer(t)
    y.sum().backward()
    assert y.dtype.name == t.grad.dtype.name == dtype
    assert layer.weight.grad.dtype.name == "float32"
    want = array(t).astype("f8").mean((0, 2, 3)) * 0.1
    np.testing.assert_allclose(array(layer.running_mean), want, 1e-5)


def test_momentum_none_is_the_mean_of_all_batches():
    layer = nn.BatchNorm1d(2, momentum=None)
    batches = np.random.default_rng(0).standard_normal((4, 5, 2)).astype("f4")
    for x in batches:
        layer(nnlib.tensor(x))
    want = batches.mean(1).mean(0)
    np.testing.assert_allclose(array(layer.running_mean), want, 1e-5)


def test_a_network_of_images_stays_channels_last():
    x = nnlib.from_numpy(np.ones((2, 8, 8, 4), "f4").transpose(0, 3, 1, 2))
    for layer in (nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4)):
        y = layer(x).array
        assert y.transpose(0, 2, 3, 1).flags.c_contiguous


def test_empty_batch():
    x = nnlib.zeros(0, 3, 4, 4, requires_grad=True)
    instance = nn.InstanceNorm2d(3, affine=True)
    for layer in (nn.BatchNorm2d(3), nn.GroupNorm(3, 3), nn.LayerNorm(4), instance):
        y = layer(x)
        assert tuple(y.shape) == (0, 3, 4, 4)
        y.sum().backward()
        for vector in (layer.weight, layer.bias):
            assert not vector.grad.array.any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nn.BatchNorm2d(3)(nnlib.ones(2, 3)), "BatchNorm2d: input: expected 4"),
        (
            lambda: nn.BatchNorm2d(3)(nnlib.ones(2, 4, 2, 2)),
            "BatchNorm2d: input has 4 channels, expected num_features = 3",
        ),
        (
            lambda: nn.BatchNorm1d(3)(nnlib.ones(1, 3)),
            "batch_norm: input: expected more than one value per channel in training",
        ),
        (lambda: nn.GroupNorm(3, 4), "GroupNorm: num_groups: 3 does not divide"),
        (lambda: nn.LayerNorm(4)(nnlib.ones(2, 3)), "layer_norm: normalized_shape"),
        (lambda: nn.BatchNorm2d(0), "num_features: expected at least 1, got 0"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ShapeError, match=message):
        call()


def test_equal_bits_from_run_to_run():
    x = nnlib.randn(8, 24, 33, 31)
    layer = nn.BatchNorm2d(24)
    results = []
    for _ in range(2):
        layer.zero_grad()
        leaf = x.clone().requires_grad_()
        y = layer(leaf)
        (y * y * y).sum().backward()
        grads = [leaf.grad, layer.weight.grad, layer.bias.grad]
        results.append([array(v).tobytes() for v in (y, *grads)])
    assert results[0] == results[1]


@needs_torch
@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_16_bit_rows_go_with_float32_weights(name, kind):
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal((4, 6)) / 50, rng.standard_normal(6)
    found = []
    for lib in (nnlib, torch):
        leaf = lib.tensor(x).to(getattr(lib, kind)).requires_grad_()
        weight = lib.tensor(w).to(lib.float32).requires_grad_()
        y = getattr(lib.nn.functional, name)(leaf, (6,), weight)
        (y.float() ** 2).sum().backward()
        assert str(y.dtype).removeprefix("torch.") == kind
        assert str(weight.grad.dtype).removeprefix("torch.") == "float32"
        found.append([array(v.float()) for v in (y, leaf.grad, weight.grad)])
    for mine, its in zip(*found, strict=True):
        np.testing.assert_allclose(mine, its, 2e-2, 2e-2 * abs(its).max())


@needs_torch
def test_rms_norm_of_16_bit_floats_adds_the_epsilon_of_float32():
    x = np.array([[0.01, 0.02]])
    mine = F.rms_norm(nnlib.tensor(x).bfloat16(), (2,))
    its = torch.nn.functional.rms_norm(torch.tensor(x).bfloat16(), (2,))
    np.testing.assert_array_equal(array(mine.float()), its.float().numpy())


@needs_torch
@pytest.mark.parametrize("op", ["batch_norm", "group_norm", "instance_norm"])
def test_any_number_of_dimensions(op):
    x = np.random.default_rng(0).standard_normal((2, 4, 2, 1, 3, 2))
    args = {"batch_norm": (None, None, None, None, True), "group_norm": (2,)}
    want = getattr(torch.nn.functional, op)(torch.tensor(x), *args.get(op, ()))
    got = getattr(F, op)(nnlib.tensor(x), *args.get(op, ()))
    np.testing.assert_allclose(array(got), want.numpy(), 1e-10, 1e-12)


def test_batch_norm_refuses_numbers_it_cannot_use():
    x = nnlib.randn(4, 3)
    for eps in (-1.0, float("nan")):
        with pytest.raises(ArgumentError, match="eps: expected at least 0"):
            nn.BatchNorm1d(3, eps=eps)(x)
    with pytest.raises(DTypeError, match="eps and momentum: expected numbers, got 1e-"):
        nn.BatchNorm1d(3, momentum="fast")(x)


def test_states_of_old_networks_have_no_count():
    layer = nn.Sequential(nn.BatchNorm2d(3))
    state = layer.state_dict()
    del state["0.num_batches_tracked"]
    assert layer.load_state_dict(state) == ([], [])
    del state["0.running_mean"]
    with pytest.raises(Error, match=r"missing: 0\.running_mean$"):
        layer.load_state_dict(state)


@needs_torch
@pytest.mark.parametrize("name", ["BatchNorm1d", "InstanceNorm1d"])
@pytest.mark.parametrize("training", [True, False])
def test_statistics_switched_off_later(name, training):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 3, 5)) + 2
    mine = getattr(nn, name)(3, track_running_stats=True).double()
    theirs = getattr(torch.nn, name)(3, track_running_stats=True).double()
    for layer, value in ((mine, nnlib.tensor(x)), (theirs, torch.tensor(x))):
        layer(value + 1)
        layer.train(training).track_running_stats = False
    np.testing.assert_allclose(
        array(mine(nnlib.tensor(x))), array(theirs(torch.tensor(x))), 1e-10
    )
    for key, value in theirs.state_dict().items():
        np.testing.assert_allclose(array(mine.state_dict()[key]), value, 1e-12)
