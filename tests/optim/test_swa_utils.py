"""Averages of weights and their schedule against PyTorch's."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest

import nnlib
from nnlib import nn, optim
from nnlib.optim import swa_utils

try:
    import torch
except ImportError:
    torch = None

needs_torch = pytest.mark.skipif(torch is None, reason="PyTorch is not installed")

RULES: dict[str, Any] = {
    "default": lambda m: {},
    "ema": lambda m: {"multi_avg_fn": m.get_ema_multi_avg_fn(0.8)},
    "ema-single": lambda m: {"avg_fn": m.get_ema_avg_fn(0.3)},
    "swa": lambda m: {"multi_avg_fn": m.get_swa_multi_avg_fn()},
    "swa-single": lambda m: {"avg_fn": m.get_swa_avg_fn()},
    "own": lambda m: {"avg_fn": lambda a, b, n: a * 0.5 + b / (n + 2)},
}


def model_of(library: Any) -> Any:
    layers = library.nn
    return layers.Sequential(
        layers.Conv2d(2, 4, 3), layers.BatchNorm2d(4), layers.Tanh(), layers.Flatten()
    )


def batches(seed: int, count: int = 4) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((3, 2, 6, 6), np.float32) for _ in range(count)]


def state_of(module: Any) -> dict[str, Any]:
    return {name: np.asarray(value) for name, value in module.state_dict().items()}


def assert_same(mine: Any, theirs: Any) -> None:
    one, two = state_of(mine), state_of(theirs)
    assert one.keys() == two.keys()
    for name, value in one.items():
        np.testing.assert_allclose(value, two[name], 1e-5, 1e-6, err_msg=name)


def train(library: Any, start: Any, rule: str, buffers: bool) -> Any:
    model = model_of(library)
    model.load_state_dict(
        {name: library.from_numpy(value.copy()) for name, value in start.items()}
    )
    utils = library.optim.swa_utils
    average = utils.AveragedModel(model, use_buffers=buffers, **RULES[rule](utils))
    optimizer = library.optim.SGD(model.parameters(), lr=0.1)
    for data in batches(0):
        optimizer.zero_grad()
        (model(library.from_numpy(data)) ** 2).mean().backward()
        optimizer.step()
        average.update_parameters(model)
    return model, average


@needs_torch
@pytest.mark.parametrize("buffers", [False, True])
@pytest.mark.parametrize("rule", RULES)
def test_averages_equal_pytorchs(rule: str, buffers: bool) -> None:
    if buffers and rule in ("default", "swa"):
        pytest.skip("PyTorch does not average integers equally")
    start = state_of(model_of(nnlib))
    one, mine = train(nnlib, start, rule, buffers)
    two, theirs = train(torch, start, rule, buffers)
    assert_same(one, two)
    assert_same(mine, theirs)
    for library, averaged in ((nnlib, mine), (torch, theirs)):
        loader = [library.from_numpy(data) for data in batches(1)]
        library.optim.swa_utils.update_bn(loader, averaged)
    assert_same(mine, theirs)


def test_equal_average_is_the_mean() -> None:
    model = nn.Linear(3, 2)
    average = swa_utils.AveragedModel(model)
    seen = []
    for value in range(5):
        with nnlib.no_grad():
            model.weight.fill_(float(value**2))
        seen.append(model.weight.detach().numpy().copy())
        average.update_parameters(model)
    np.testing.assert_allclose(
        average.module.weight.detach().numpy(), np.mean(seen, 0), 1e-6
    )
    assert average.n_averaged.item() == 5
    assert average(nnlib.ones(1, 3)).shape == (1, 2)


def test_integer_buffers_are_averaged_too() -> None:
    model = nn.BatchNorm1d(2)
    average = swa_utils.AveragedModel(model, use_buffers=True)
    for _ in range(3):
        model(nnlib.randn(4, 2))
        average.update_parameters(model)
    assert average.module.num_batches_tracked.item() == 1
    mean = average.module.running_mean.numpy()
    assert not np.array_equal(mean, model.running_mean.numpy())


def test_the_model_is_copied_and_left_alone() -> None:
    model = model_of(nnlib)
    before = copy.deepcopy(state_of(model))
    average = swa_utils.AveragedModel(
        model, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.5)
    )
    for _ in range(2):
        average.update_parameters(model)
    assert_same(average.module, model)
    for name, value in state_of(model).items():
        np.testing.assert_array_equal(value, before[name])
    assert all(p.grad_fn is None for p in average.parameters())


def test_state_dict_goes_on_where_it_was() -> None:
    model = model_of(nnlib)
    rule = {"multi_avg_fn": swa_utils.get_ema_multi_avg_fn(0.9)}
    one = swa_utils.AveragedModel(model, **rule)
    one.update_parameters(model)
    two = swa_utils.AveragedModel(model_of(nnlib), **rule)
    two.load_state_dict(one.state_dict())
    with nnlib.no_grad():
        model[0].weight.add_(1.0)
    one.update_parameters(model)
    two.update_parameters(model)
    for name, value in state_of(one).items():
        np.testing.assert_array_equal(value, state_of(two)[name])


def test_update_bn_restores_modes_and_momenta() -> None:
    model = model_of(nnlib).eval()
    model[1].momentum = 0.25
    model[2].train()
    swa_utils.update_bn([(nnlib.from_numpy(x), 0) for x in batches(2)], model)
    assert [module.training for module in model] == [False, False, True, False]
    assert model[1].momentum == 0.25
    assert model[1].num_batches_tracked.item() == 4
    model[0](nnlib.zeros(1, 2, 3, 3))
    with pytest.raises(RuntimeError, match="stop"):
        swa_utils.update_bn(failing(), model)
    assert model[1].momentum == 0.25 and not model.training
    with pytest.raises(nnlib.Error, match="update_bn: loader"):
        swa_utils.update_bn([], model)
    swa_utils.update_bn([], nn.Linear(1, 1))


def failing() -> Any:
    yield nnlib.zeros(2, 2, 6, 6)
    raise RuntimeError("stop")


SCHEDULES = {
    "cos": {},
    "linear": {"anneal_strategy": "linear", "anneal_epochs": 7},
    "at-once": {"anneal_epochs": 0},
    "one": {"anneal_epochs": 1},
}


def rates(library: Any, options: dict[str, Any], swa_lr: Any) -> list[Any]:
    groups = [
        {"params": [library.ones(2, requires_grad=True)]},
        {"params": [library.ones(3, requires_grad=True)], "lr": 0.25},
    ]
    optimizer = library.optim.SGD(groups, lr=0.1)
    before = library.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    utils = library.optim.swa_utils
    schedule = utils.SWALR(optimizer, swa_lr, **options)
    found = []
    for epoch in range(30):
        found.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        (before if epoch < 5 else schedule).step()
    return found


@needs_torch
@pytest.mark.parametrize("swa_lr", [0.05, [0.05, 0.4]])
@pytest.mark.parametrize("case", SCHEDULES)
def test_swalr_equals_pytorchs(case: str, swa_lr: Any) -> None:
    options = SCHEDULES[case]
    mine, theirs = rates(nnlib, options, swa_lr), rates(torch, options, swa_lr)
    np.testing.assert_allclose(mine, theirs, 1e-12)


def test_swalr_state_is_plain_and_goes_on() -> None:
    found = []
    for _ in range(2):
        optimizer = optim.SGD([nnlib.zeros(1, requires_grad=True)], lr=1.0)
        found.append((optimizer, swa_utils.SWALR(optimizer, 0.1, 6)))
    (first, one), (second, two) = found
    for _ in range(4):
        one.step()
    second.load_state_dict(first.state_dict())
    two.load_state_dict(json.loads(json.dumps(one.state_dict())))
    for _ in range(4):
        one.step()
        two.step()
        assert one.get_last_lr() == two.get_last_lr()


def test_errors_name_the_argument() -> None:
    model = nn.Linear(2, 2)
    rules = swa_utils.get_ema_avg_fn(), swa_utils.get_ema_multi_avg_fn()
    with pytest.raises(nnlib.ArgumentError, match="avg_fn, multi_avg_fn"):
        swa_utils.AveragedModel(model, avg_fn=rules[0], multi_avg_fn=rules[1])
    for make in (swa_utils.get_ema_avg_fn, swa_utils.get_ema_multi_avg_fn):
        with pytest.raises(nnlib.ArgumentError, match="decay: expected 0 to 1, got 2"):
            make(2)
    average = swa_utils.AveragedModel(model)
    for other in (nn.Linear(2, 3), nn.Linear(2, 2, bias=False)):
        with pytest.raises(nnlib.ShapeError, match="update_parameters: .*bias"):
            average.update_parameters(other)
    assert average.n_averaged.item() == 0
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(nnlib.ArgumentError, match="anneal_strategy"):
        swa_utils.SWALR(optimizer, 0.1, anneal_strategy="exp")
    with pytest.raises(nnlib.ArgumentError, match="anneal_epochs"):
        swa_utils.SWALR(optimizer, 0.1, -1)
    with pytest.raises(nnlib.ShapeError, match="swa_lr"):
        swa_utils.SWALR(optimizer, [0.1, 0.2])
