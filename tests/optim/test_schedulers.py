"""Schedules against PyTorch's over 200 steps, and their state."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nnlib
from nnlib import optim

try:
    import torch
except ImportError:
    torch = None

needs_torch = pytest.mark.skipif(torch is None, reason="PyTorch is not installed")

STEPS = 200


def optimizers(library: Any, name: str = "SGD") -> Any:
    groups = [
        {"params": [library.ones(2, requires_grad=True)]},
        {"params": [library.ones(3, requires_grad=True)], "lr": 0.25},
    ]
    return getattr(library.optim, name)(groups, lr=0.1)


CASES: dict[str, Callable[[Any, Any], Any]] = {
    "step": lambda m, o: m.StepLR(o, 7, 0.8),
    "multistep": lambda m, o: m.MultiStepLR(o, [3, 20, 20, 150], 0.5),
    "constant": lambda m, o: m.ConstantLR(o, 0.25, 12),
    "linear": lambda m, o: m.LinearLR(o, 0.1, 0.9, 40),
    "exponential": lambda m, o: m.ExponentialLR(o, 0.98),
    "polynomial": lambda m, o: m.PolynomialLR(o, 120, 1.7),
    "cosine": lambda m, o: m.CosineAnnealingLR(o, 30, 0.001),
    "restarts": lambda m, o: m.CosineAnnealingWarmRestarts(o, 7, 2, 0.001),
    "restarts-even": lambda m, o: m.CosineAnnealingWarmRestarts(o, 13),
    "lambda": lambda m, o: m.LambdaLR(o, [lambda t: 0.9**t, lambda t: 1 / (t + 1)]),
    "multiplicative": lambda m, o: m.MultiplicativeLR(o, lambda t: 1 - 1 / (t + 5)),
    "onecycle": lambda m, o: m.OneCycleLR(o, 0.5, total_steps=STEPS),
    "onecycle-linear": lambda m, o: m.OneCycleLR(
        o, [0.5, 1.0], epochs=10, steps_per_epoch=20, anneal_strategy="linear",
        three_phase=True, pct_start=0.4,
    ),  # fmt: skip
    "cyclic": lambda m, o: m.CyclicLR(o, 0.01, 0.3, 11, 17),
    "cyclic-2": lambda m, o: m.CyclicLR(o, [0.01, 0.1], 0.3, 9, mode="triangular2"),
    "cyclic-exp": lambda m, o: m.CyclicLR(
        o, 0.01, 0.3, 9, mode="exp_range", gamma=0.99
    ),
    "cyclic-own": lambda m, o: m.CyclicLR(
        o, 0.01, 0.3, 9, scale_fn=lambda x: 1 / x, cycle_momentum=False
    ),
    "chained": lambda m, o: m.ChainedScheduler(
        [m.LinearLR(o, 0.1, 1.0, 20), m.ExponentialLR(o, 0.97)]
    ),
    "sequential": lambda m, o: m.SequentialLR(
        o,
        [m.LinearLR(o, 0.1, 1.0, 20), m.CosineAnnealingLR(o, 50), m.StepLR(o, 9)],
        [20, 80],
    ),
}  # fmt: skip


def run(library: Any, build: Callable[[Any, Any], Any], name: str) -> list[Any]:
    optimizer = optimizers(library, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler = build(library.optim.lr_scheduler, optimizer)
        values = []
        for _ in range(STEPS):
            for group in optimizer.param_groups:
                momentum = group.get("betas", (group.get("momentum"),))[0]
                values.append([group["lr"], momentum])
            assert scheduler.get_last_lr() == [g["lr"] for g in optimizer.param_groups]
            scheduler.step()
    return values


@needs_torch
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_values_equal_pytorchs(case: str, name: str) -> None:
    mine, theirs = run(nnlib, CASES[case], name), run(torch, CASES[case], name)
    np.testing.assert_allclose(mine, theirs, 1e-12, 1e-15)


@pytest.mark.parametrize("case", CASES)
def test_state_goes_on_where_it_was(case: str) -> None:
    schedulers = []
    for _ in range(2):
        optimizer = optimizers(nnlib)
        schedulers.append((optimizer, CASES[case](optim.lr_scheduler, optimizer)))
    (first, one), (second, two) = schedulers
    for _ in range(33):
        one.step()
    state = one.state_dict()
    if case != "lambda":
        state = json.loads(json.dumps(state))
    second.load_state_dict(first.state_dict())
    two.load_state_dict(state)
    for _ in range(60):
        one.step()
        two.step()
        rates = [[g["lr"] for g in x.param_groups] for x in (first, second)]
        assert rates[0] == rates[1]


@needs_torch
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mode": "max", "threshold_mode": "abs", "threshold": 0.05, "cooldown": 3},
        {"factor": 0.5, "patience": 2, "min_lr": [0.05, 0.01], "threshold": 0.1},
    ],
)
def test_plateau(options: dict[str, Any]) -> None:
    metrics = np.random.default_rng(0).normal(size=STEPS).cumsum() / 5 + 3
    values = []
    for library in (nnlib, torch):
        optimizer = optimizers(library)
        scheduler = library.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **options)
        rates = []
        for metric in metrics:
            scheduler.step(library.tensor(float(metric)))
            rates.append([group["lr"] for group in optimizer.param_groups])
        values.append(rates)
    np.testing.assert_allclose(values[0], values[1], 1e-12)


def test_warm_up() -> None:
    rates: dict[str, list[float]] = {}
    for decay in ("constant", "linear", "cosine", "inverse_sqrt"):
        optimizer = optim.SGD([nnlib.ones(1, requires_grad=True)], lr=2.0)
        scheduler = optim.lr_scheduler.WarmupLR(optimizer, 4, 12, decay)
        rates[decay] = []
        for _ in range(12):
            rates[decay].append(optimizer.param_groups[0]["lr"])
            scheduler.step()
        assert rates[decay][:4] == [0.5, 1.0, 1.5, 2.0]
    assert rates["constant"][-1] == 2.0
    assert rates["linear"][7] == 1.0 and rates["linear"][-1] == 0.0
    assert math.isclose(rates["cosine"][7], 1.0)
    assert math.isclose(rates["inverse_sqrt"][-1], 2.0 * math.sqrt(4 / 12))


def test_a_schedule_of_ones_own() -> None:
    class Halving(optim.lr_scheduler.LRScheduler):
        def get_lr(self) -> list[float]:
            return [lr * 0.5**self.last_epoch for lr in self.base_lrs]

    optimizer = optimizers(nnlib)
    scheduler = Halving(optimizer)
    scheduler.step()
    assert scheduler.get_last_lr() == [0.05, 0.125]


def test_bad_arguments() -> None:
    sched, optimizer = optim.lr_scheduler, optimizers(nnlib, "Adagrad")
    with pytest.raises(nnlib.DTypeError, match="StepLR: optimizer: expected an Optim"):
        sched.StepLR(3, 2)
    for bad in (0, 1.5, True, "2", float("inf")):
        with pytest.raises(
            nnlib.Error, match="step_size: expected an integer of at le"
        ):
            sched.StepLR(optimizer, bad)
    for good in (1.0, np.int64(1)):  # PyTorch's tutorials write 1.0
        sched.StepLR(optimizer, good)
    with pytest.raises(nnlib.Error, match="Adagrad has neither momentum nor betas"):
        sched.OneCycleLR(optimizer, 0.1, 10)
    with pytest.raises(nnlib.Error, match="expected total_steps, or both epochs"):
        sched.OneCycleLR(optimizer, 0.1, cycle_momentum=False)
    with pytest.raises(nnlib.ShapeError, match="max_lr: expected one value for each"):
        sched.OneCycleLR(optimizer, [0.1], 10, cycle_momentum=False)
    cycle = sched.OneCycleLR(optimizer, 0.1, 2, cycle_momentum=False)
    cycle.step()
    cycle.step()
    with pytest.raises(nnlib.Error, match="step 3 is beyond the 2 steps"):
        cycle.step()
    with pytest.raises(nnlib.Error, match="expected 1 for 2 schedulers, got 0"):
        sched.SequentialLR(optimizer, [cycle, cycle], [])
    plateau = sched.ReduceLROnPlateau(optimizer)
    with pytest.raises(nnlib.Error, match="number 0 is a ReduceLROnPlateau"):
        sched.ChainedScheduler([plateau])
    with pytest.raises(nnlib.Error, match="belongs to another optimizer"):
        sched.ChainedScheduler([cycle, sched.StepLR(optimizers(nnlib, "Adagrad"), 1)])
    with pytest.raises(nnlib.Error, match="factor: expected at least 0 and below 1"):
        sched.ReduceLROnPlateau(optimizer, factor=1.0)
    with pytest.raises(nnlib.Error, match="group 0 needs an 'initial_lr'"):
        sched.StepLR(optimizers(nnlib, "Adagrad"), 2, last_epoch=3)
