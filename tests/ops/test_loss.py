"""What losses and activations do at the edges."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import nnlib
import nnlib.nn.functional as F
from nnlib import kernels
from nnlib.backend.errors import ArgumentError, BoundsError
from nnlib.kernels.machinery import faults
from nnlib.kernels.machinery.arrays import DeviceArray
from nnlib.ops import labels, loss


@pytest.mark.parametrize("function", [F.cross_entropy, F.nll_loss])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_mean_over_ignored_targets_is_0_with_a_warning(
    function: Any, weighted: bool
) -> None:
    x = nnlib.tensor(np.ones((2, 3)), requires_grad=True)
    target = nnlib.tensor([-100, -100])
    weight = nnlib.tensor(np.ones(3)) if weighted else None
    with pytest.warns(UserWarning, match="every target is ignored") as caught:
        value = function(x, target, weight)
    assert caught[0].filename == __file__
    assert value.item() == 0
    value.backward()
    np.testing.assert_array_equal(x.grad.numpy(), 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert function(x, target, weight, reduction="sum").item() == 0
        assert function(x, target, reduction="none").tolist() == [0, 0]


@pytest.mark.parametrize("function", [F.cross_entropy, F.nll_loss])
def test_an_ignored_row_does_not_matter_even_if_it_is_nan(function: Any) -> None:
    x = nnlib.tensor([[0.0, 1.0], [np.nan, np.nan]], requires_grad=True)
    value = function(x, nnlib.tensor([1, -100]))
    assert np.isfinite(value.item())
    value.backward()
    assert np.isfinite(x.grad.numpy()).all()


def test_a_nan_logit_makes_the_loss_nan() -> None:
    x = nnlib.tensor([[0.0, np.nan], [0.0, 1.0]])
    value = F.cross_entropy(x, nnlib.tensor([0, 0]), reduction="none")
    assert np.isnan(value.tolist()).tolist() == [True, False]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_classes(dtype: str) -> None:
    rng = np.random.default_rng(0)
    x = nnlib.tensor(rng.standard_normal((6, 4)), dtype=dtype, requires_grad=True)
    weight = nnlib.tensor([1.0, 2.0, 0.5, 1.0], dtype=dtype)
    target = nnlib.tensor(rng.integers(0, 4, 6))
    value = F.cross_entropy(x, target, weight, label_smoothing=0.1)
    assert value.dtype == x.dtype
    value.backward()
    assert x.grad.dtype == x.dtype
    wide = x.detach().to("float64").requires_grad_()
    want = F.cross_entropy(wide, target, weight.to("float64"), label_smoothing=0.1)
    want.backward()
    assert abs(float(value.item()) - want.item()) < 0.02
    got = x.grad.to("float64").numpy()
    np.testing.assert_allclose(got, wide.grad.numpy(), 0.02, 0.01)


IN_PLACE: list[tuple[str, tuple[Any, ...]]] = [
    ("relu", ()),
    ("leaky_relu", (0.2,)),
    ("elu", (0.5,)),
    ("selu", ()),
    ("celu", (0.5,)),
    ("hardtanh", (-0.5, 0.5)),
    ("threshold", (0.1, 2.0)),
]


@pytest.mark.parametrize(("name", "args"), IN_PLACE)
def test_in_place_forms(name: str, args: tuple[Any, ...]) -> None:
    start = np.array([-2.0, -0.3, 0.4, 3.0])
    plain = nnlib.tensor(start, requires_grad=True)
    want = getattr(F, name)(plain * 1, *args)
    (want * want).sum().backward()
    for call in (
        lambda x: getattr(F, name)(x, *args, inplace=True),
        lambda x: getattr(F, f"{name}_")(x, *args),
    ):
        leaf = nnlib.tensor(start, requires_grad=True)
        x = leaf * 1
        assert call(x) is x
        np.testing.assert_array_equal(x.detach().numpy(), want.detach().numpy())
        (x * x).sum().backward()
        np.testing.assert_allclose(leaf.grad.numpy(), plain.grad.numpy())


@pytest.mark.parametrize("name", ["relu6", "hardsigmoid", "hardswish", "silu", "mish"])
def test_the_inplace_argument(name: str) -> None:
    x = nnlib.tensor([-2.0, 0.3, 7.0])
    want = getattr(F, name)(x).tolist()
    assert getattr(F, name)(x, inplace=True) is x
    assert x.tolist() == want


def test_integers() -> None:
    x = nnlib.tensor([-3, 0, 9])
    assert F.relu(x).tolist() == [0, 0, 9] and F.relu(x).dtype == x.dtype
    assert F.relu6(x).dtype == F.hardtanh(x).dtype == x.dtype
    assert F.hardtanh(x).tolist() == [-1, 0, 1]
    assert F.softmax(x, 0).dtype == nnlib.tensor(0.0).dtype
    assert F.softmax(x, 0, dtype="float64").dtype == np.float64


def test_exposed_at_the_top_as_in_pytorch() -> None:
    for name in ("relu", "relu_", "softmax", "log_softmax", "selu", "celu", "prelu"):
        assert hasattr(nnlib, name)
    for name in ("gelu", "mse_loss", "cross_entropy", "dropout"):
        assert not callable(getattr(nnlib, name, None))
        assert not hasattr(nnlib.Tensor, name)
    assert nnlib.tensor([-1.0]).relu_().item() == 0


def on_device(array: Any) -> Any:
    return np.asarray(array).view(DeviceArray)


def test_bad_labels_on_a_device_are_told_at_the_next_synchronisation() -> None:
    bad = on_device([[1, 2], [12, -1]])
    assert labels.check_labels("nll_loss", bad, 10, -100)
    with pytest.raises(
        BoundsError, match=r"nll_loss: target\[1, 0\] is 12, expected 0 <= class < 10"
    ):
        faults.check()
    labels.check_labels("nll_loss", on_device([1, -100]), 10, -100)
    faults.check()


def test_bad_values_on_a_device_are_told_at_the_next_synchronisation() -> None:
    bad = on_device([0.5, np.nan, 2.0])
    loss.check_values("kl_div", "target", bad, lambda x: x >= 0, "a probability")
    with pytest.raises(
        ArgumentError, match=r"kl_div: target\[1\] is nan, expected a pro"
    ):
        faults.check()


def test_bad_labels_on_a_device_do_not_read_out_of_bounds() -> None:
    safe, factor = labels.label_factors(
        "nll_loss", on_device([1, 12, -100]), 3, -100, None, np.dtype(np.float64)
    )
    assert safe.tolist() == [1, 0, 0]
    assert factor[[0, 2]].tolist() == [1, 0] and np.isnan(factor[1])
    with pytest.raises(BoundsError):
        faults.check()
    assert kernels.machinery.faults is faults
