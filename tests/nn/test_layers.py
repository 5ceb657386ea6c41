"""Every layer, activation and loss against PyTorch's, values and gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from compare import array, compare, needs_torch, torch

import nnlib
from nnlib import nn
from nnlib.backend.errors import DTypeError

rng = np.random.default_rng(0)
X = rng.normal(size=(6, 5)) * 2
IMAGE = rng.normal(size=(2, 3, 4, 5))
PROBABLE = 1 / (1 + np.exp(-X))
TARGET = rng.normal(size=(6, 5))
BITS = (rng.random((6, 5)) < 0.5).astype(np.float64)
SIGNS = BITS * 2 - 1
CLASSES = np.array([0, 4, 2, 2, 1, 3])
COUNTS = rng.integers(0, 5, size=(6, 5)).astype(np.float64)
WEIGHT = np.array([0.5, 1.0, 2.0, 1.5, 0.2])
LABELS = np.where(BITS > 0, np.arange(5)[::-1], -1)
LOG = np.log(PROBABLE / PROBABLE.sum(1, keepdims=True))
TWO = PROBABLE / 3
PAIR = rng.normal(size=(6, 5))
ONE_SIGN = np.array([1.0, -1, 1, 1, -1, -1])

LAYERS: dict[str, tuple[Callable[[Any], Any], tuple[Any, ...]]] = {
    "linear": (lambda m: m.Linear(5, 3), (X,)),
    "linear-no-bias": (lambda m: m.Linear(5, 7, bias=False), (X,)),
    "linear-1d": (lambda m: m.Linear(5, 3), (X[0],)),
    "linear-4d": (lambda m: m.Linear(5, 2), (IMAGE,)),
    "bilinear": (lambda m: m.Bilinear(5, 3, 4), (X, rng.normal(size=(6, 3)))),
    "bilinear-no-bias": (lambda m: m.Bilinear(5, 5, 2, bias=False), (X, PAIR)),
    "identity": (lambda m: m.Identity(3, a=2), (X,)),
    "flatten": (lambda m: m.Flatten(), (IMAGE,)),
    "flatten-some": (lambda m: m.Flatten(0, 2), (IMAGE,)),
    "unflatten": (lambda m: m.Unflatten(1, (5, 1)), (X,)),
    "softmax2d": (lambda m: m.Softmax2d(), (IMAGE,)),
    "softmax2d-one": (lambda m: m.Softmax2d(), (IMAGE[0],)),
    "dropout-off": (lambda m: m.Dropout(0.5).eval(), (X,)),
}

ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "ReLU": lambda m: m.ReLU(),
    "ReLU6": lambda m: m.ReLU6(),
    "LeakyReLU": lambda m: m.LeakyReLU(0.2),
    "PReLU": lambda m: m.PReLU(),
    "PReLU-5": lambda m: m.PReLU(5, init=0.1),
    "ELU": lambda m: m.ELU(0.7),
    "CELU": lambda m: m.CELU(0.7),
    "SELU": lambda m: m.SELU(),
    "GELU": lambda m: m.GELU(),
    "GELU-tanh": lambda m: m.GELU("tanh"),
    "SiLU": lambda m: m.SiLU(),
    "Mish": lambda m: m.Mish(),
    "Softplus": lambda m: m.Softplus(2.0, 3.0),
    "Softsign": lambda m: m.Softsign(),
    "Hardtanh": lambda m: m.Hardtanh(-0.5, 1.5),
    "Hardsigmoid": lambda m: m.Hardsigmoid(),
    "Hardswish": lambda m: m.Hardswish(),
    "Hardshrink": lambda m: m.Hardshrink(0.7),
    "Softshrink": lambda m: m.Softshrink(0.7),
    "Tanhshrink": lambda m: m.Tanhshrink(),
    "Threshold": lambda m: m.Threshold(0.3, -1.0),
    "Sigmoid": lambda m: m.Sigmoid(),
    "LogSigmoid": lambda m: m.LogSigmoid(),
    "Tanh": lambda m: m.Tanh(),
    "Softmax": lambda m: m.Softmax(dim=0),
    "Softmax-last": lambda m: m.Softmax(-1),
    "LogSoftmax": lambda m: m.LogSoftmax(1),
    "GLU": lambda m: m.GLU(0),
    "RReLU": lambda m: m.RReLU(0.1, 0.3).eval(),
    "Softmin": lambda m: m.Softmin(1),
}


def losses(options: dict[str, Any]) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    def weighted(name: str, **more: Any) -> Callable[[Any], Any]:
        def build(m: Any) -> Any:
            library = torch if m is not nn else nnlib
            kept = {
                key: library.tensor(value) if isinstance(value, np.ndarray) else value
                for key, value in {**options, **more}.items()
            }
            return getattr(m, name)(**kept)

        return build

    return {
        "MSE": (weighted("MSELoss"), (X, TARGET)),
        "L1": (weighted("L1Loss"), (X, TARGET)),
        "SmoothL1": (weighted("SmoothL1Loss", beta=0.5), (X, TARGET)),
        "Huber": (weighted("HuberLoss", delta=0.7), (X, TARGET)),
        "NLL": (weighted("NLLLoss", ignore_index=2), (LOG, CLASSES)),
        "NLL-weight": (weighted("NLLLoss", weight=WEIGHT), (LOG, CLASSES)),
        "CE": (weighted("CrossEntropyLoss"), (X, CLASSES)),
        "CE-options": (
            weighted(
                "CrossEntropyLoss", weight=WEIGHT, ignore_index=2, label_smoothing=0.1
            ),
            (X, CLASSES),
        ),
        "CE-probabilities": (weighted("CrossEntropyLoss"), (X, np.exp(LOG))),
        "BCE": (weighted("BCELoss", weight=WEIGHT), (PROBABLE, BITS)),
        "BCELogits": (weighted("BCEWithLogitsLoss"), (X, BITS)),
        "BCELogits-weight": (
            weighted("BCEWithLogitsLoss", weight=WEIGHT, pos_weight=WEIGHT + 1),
            (X, BITS),
        ),
        "KLDiv": (weighted("KLDivLoss"), (LOG, np.exp(LOG[::-1]).copy())),
        "KLDiv-log": (weighted("KLDivLoss", log_target=True), (LOG, LOG[::-1].copy())),
        "MultiMargin": (weighted("MultiMarginLoss"), (X, CLASSES)),
        "MultiMargin-2": (
            weighted("MultiMarginLoss", p=2, margin=0.5, weight=WEIGHT),
            (X, CLASSES),
        ),
        "MultiLabel": (weighted("MultiLabelMarginLoss"), (X, LABELS)),
        "MultiLabelSoft": (
            weighted("MultiLabelSoftMarginLoss", weight=WEIGHT),
            (X, BITS),
        ),
        "HingeEmbedding": (weighted("HingeEmbeddingLoss", margin=2.0), (X, SIGNS)),
        "SoftMargin": (weighted("SoftMarginLoss"), (X, SIGNS)),
        "CosineEmbedding": (
            weighted("CosineEmbeddingLoss", margin=0.1),
            (X, PAIR, ONE_SIGN),
        ),
        "MarginRanking": (
            weighted("MarginRankingLoss", margin=0.2),
            (X[:, 0].copy(), PAIR[:, 0].copy(), ONE_SIGN),
        ),
        "Triplet": (weighted("TripletMarginLoss", swap=True), (X, PAIR, TARGET)),
        "Triplet-distance": (
            weighted("TripletMarginWithDistanceLoss", margin=0.3),
            (X, PAIR, TARGET),
        ),
        "Poisson": (weighted("PoissonNLLLoss", full=True), (X / 3, COUNTS)),
        "Gaussian": (weighted("GaussianNLLLoss", full=True), (X, TARGET, PROBABLE)),
    }


DISTANCES: dict[str, Callable[[Any], Any]] = {
    "CosineSimilarity": lambda m: m.CosineSimilarity(),
    "PairwiseDistance": lambda m: m.PairwiseDistance(3.0, keepdim=True),
}


@needs_torch
@pytest.mark.parametrize("case", LAYERS)
def test_layers(case: str) -> None:
    build, inputs = LAYERS[case]
    compare(build(nn), build(torch.nn), *inputs)


@needs_torch
@pytest.mark.parametrize("case", ACTIVATIONS)
def test_activations(case: str) -> None:
    build = ACTIVATIONS[case]
    # PyTorch keeps some of these two's constants in float32.
    rtol = 1e-6 if case in ("CELU", "Hardsigmoid") else 1e-9
    for inputs in (X, np.moveaxis(IMAGE, 3, 1)):
        compare(build(nn), build(torch.nn), inputs, rtol=rtol)


@needs_torch
@pytest.mark.parametrize("case", DISTANCES)
def test_distances(case: str) -> None:
    compare(DISTANCES[case](nn), DISTANCES[case](torch.nn), X, PAIR)


@needs_torch
@pytest.mark.filterwarnings("ignore:reduction")
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("case", losses({}))
def test_losses(case: str, reduction: str) -> None:
    build, inputs = losses({"reduction": reduction})[case]
    mine, theirs = build(nn), build(torch.nn)
    mine.double()
    theirs.double()
    ours = [nnlib.tensor(x) for x in inputs]
    peers = [torch.tensor(x) for x in inputs]
    ours[0].requires_grad_()
    peers[0].requires_grad_()
    out, ref = mine(*ours), theirs(*peers)
    np.testing.assert_allclose(array(out), array(ref), 1e-9, 1e-12)
    out.sum().backward()
    ref.sum().backward()
    np.testing.assert_allclose(array(ours[0].grad), array(peers[0].grad), 1e-9, 1e-12)
    assert list(mine.state_dict()) == list(theirs.state_dict())


@needs_torch
def test_kl_batchmean() -> None:
    compare(
        nn.KLDivLoss("batchmean"), torch.nn.KLDivLoss(reduction="batchmean"), LOG, TWO
    )


def test_hinge_and_exponential_have_no_counterpart() -> None:
    x, y = nnlib.tensor(X), nnlib.tensor(SIGNS)
    want = np.maximum(0, 1 - X * SIGNS)
    np.testing.assert_allclose(nn.HingeLoss()(x, y).item(), want.mean())
    squared = nn.HingeLoss(squared=True, reduction="sum")(x, nnlib.tensor(BITS))
    np.testing.assert_allclose(squared.item(), (want**2).sum())
    np.testing.assert_allclose(nn.Exponential()(x).numpy(), np.exp(X))


def test_dropout_drops_in_training_only() -> None:
    nnlib.manual_seed(0)
    layer, ones = nn.Dropout(0.25), nnlib.ones(100, 100)
    out = layer(ones).numpy()
    assert set(np.unique(out).round(4)) == {0.0, np.float32(1 / 0.75).round(4)}
    assert abs((out == 0).mean() - 0.25) < 0.02
    assert layer.eval()(ones).numpy().min() == 1
    nnlib.manual_seed(0)
    np.testing.assert_array_equal(layer.train()(ones).numpy(), out)


def test_alpha_dropout_keeps_mean_and_variance() -> None:
    nnlib.manual_seed(0)
    x = nnlib.randn(300, 300)
    out = nn.AlphaDropout(0.2)(x).numpy()
    assert abs(out.mean()) < 0.02 and abs(out.std() - 1) < 0.02
    assert nn.AlphaDropout(0.2).eval()(x) is x


def test_inplace_activation_changes_its_input() -> None:
    x = nnlib.tensor([-1.0, 2.0])
    out = nn.ReLU(inplace=True)(x)
    assert out is x and x.tolist() == [0.0, 2.0]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.Linear(2.5, 1), nnlib.DTypeError, "in_features: expected an int"),
        (lambda: nn.Linear(2, -1), nnlib.ShapeError, "out_features: expected at least"),
        (lambda: nn.Softmax2d()(nnlib.ones(2, 3)), nnlib.ShapeError, "Softmax2d: inp"),
        (lambda: nn.Bilinear(0, 1, 1), nnlib.ShapeError, "in1_features: expected at"),
        (lambda: nn.Dropout(1.5), nnlib.Error, "Dropout: p: expected a probability"),
        (lambda: nn.GELU("x"), nnlib.Error, "approximate: expected 'none' or 'tanh'"),
        (lambda: nn.Hardtanh(2, 1), nnlib.Error, "expected min_val < max_val"),
        (lambda: nn.MSELoss("avg"), nnlib.Error, "MSELoss: reduction: expected one of"),
        (lambda: nn.MSELoss("batchmean"), nnlib.Error, "got 'batchmean'"),
        (lambda: nn.MultiMarginLoss(3), nnlib.Error, "p: expected 1 or 2, got 3"),
        (
            lambda: nn.Linear(4, 2)(nnlib.ones(5, 3)),
            nnlib.ShapeError,
            "linear: .*3 features.*4",
        ),
        (
            lambda: nn.Unflatten(3, (1, 2))(nnlib.ones(2)),
            nnlib.BoundsError,
            "unflatten: dim 3 is out of range",
        ),
        (
            lambda: nn.Linear(4, 2)(None),
            nnlib.DTypeError,
            "linear: input: expected a Tensor, got NoneType",
        ),
        (
            lambda: nn.Sequential(nn.Flatten(), nn.ReLU())(input=[[1.0]]),
            nnlib.DTypeError,
            "flatten: input: expected a Tensor, got list",
        ),
        (
            lambda: nn.CrossEntropyLoss()(None, nnlib.tensor([0])),
            nnlib.DTypeError,
            "cross_entropy: input: expected a Tensor, got NoneType",
        ),
        (
            lambda: nn.MSELoss()(nnlib.ones(2), [1.0, 1.0]),
            nnlib.DTypeError,
            "mse_loss: target: expected a Tensor, got list",
        ),
        (lambda: nn.Dropout(2.0), nnlib.ArgumentError, "Dropout: p: expected"),
    ],
)
def test_bad_arguments(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_the_errors_of_a_model_of_ones_own_are_pythons() -> None:
    class Broken(nn.Module):
        def forward(self, x: Any) -> Any:
            return x.nothing

    with pytest.raises(AttributeError, match="nothing"):
        Broken()(None)
    with pytest.raises(AttributeError, match="nothing"):
        nn.Sequential(Broken())(nnlib.ones(1))


def test_sizes_and_probabilities_that_are_no_numbers():
    with pytest.raises(DTypeError, match="Unflatten: sizes: expected a tuple of ints"):
        nn.Unflatten(1, 6)
    for layer in (nn.Dropout, nn.Dropout2d, nn.AlphaDropout, nn.MaskingNoise):
        with pytest.raises(DTypeError, match="p: expected a number, got None"):
            layer(None)
