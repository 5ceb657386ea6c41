"""Random optimisers against PyTorch: options, groups, missing gradients, schedules."""

from __future__ import annotations

from typing import Any

import counting
import numpy as np
import pytest

import nnlib

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

CASES = 40
STEPS = 12
# For each option the values it may have; absent options keep their default.
OPTIONS: dict[str, dict[str, list[Any]]] = {
    "SGD": {"momentum": [0.5, 0.9], "dampening": [0.2], "weight_decay": [0.1]},
    "Adagrad": {"lr_decay": [0.1], "eps": [1e-3], "initial_accumulator_value": [0.3]},
    "Adadelta": {"rho": [0.5], "eps": [1e-3], "weight_decay": [0.1]},
    "RMSprop": {"alpha": [0.5], "momentum": [0.9], "centered": [True], "eps": [1e-2]},
    "Adam": {"betas": [(0.5, 0.9)], "amsgrad": [True], "weight_decay": [0.1]},
    "AdamW": {"betas": [(0.5, 0.9)], "amsgrad": [True], "weight_decay": [0.5, 0.0]},
    "Adamax": {"betas": [(0.5, 0.9)], "eps": [1e-3], "weight_decay": [0.1]},
    "NAdam": {"momentum_decay": [0.1], "decoupled_weight_decay": [True]},
    "RAdam": {"betas": [(0.5, 0.8)], "decoupled_weight_decay": [True]},
    "Rprop": {"etas": [(0.3, 1.5)], "step_sizes": [(1e-3, 0.1)]},
    "ASGD": {"lambd": [0.1], "alpha": [0.5], "t0": [3.0], "weight_decay": [0.1]},
}
SCHEDULES: list[tuple[str, tuple[Any, ...]]] = [
    ("StepLR", (3, 0.5)),
    ("ExponentialLR", (0.8,)),
    ("CosineAnnealingLR", (7,)),
    ("LinearLR", (0.2, 1.0, 6)),
    ("PolynomialLR", (9, 2.0)),
]


def draw_options(rng: np.random.Generator, name: str) -> dict[str, Any]:
    chosen: dict[str, Any] = {"lr": float(10 ** rng.uniform(-3, -0.5))}
    for option, values in OPTIONS[name].items():
        if rng.random() < 0.5:
            chosen[option] = values[rng.integers(len(values))]
    if rng.random() < 0.3:
        chosen["maximize"] = True
    return chosen


def draw_values(rng: np.random.Generator) -> list[np.ndarray]:
    count = rng.integers(1, 5)
    shapes = [tuple(rng.integers(0, 6, rng.integers(0, 4))) for _ in range(count)]
    return [np.asarray(rng.normal(size=shape)) for shape in shapes]


@pytest.fixture(autouse=True)
def wide_scalars() -> Any:
    # PyTorch keeps NAdam's scalar state in its default dtype.
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def build(library: Any, values: Any, name: str, plan: Any) -> tuple[Any, ...]:
    options, group_options, split, schedule = plan
    params = [library.tensor(x).requires_grad_() for x in values]
    groups = [{"params": params[:split]}, {"params": params[split:], **group_options}]
    groups = [group for group in groups if group["params"]]
    optimizer = getattr(library.optim, name)(groups, **options)
    kind, arguments = schedule
    scheduler = getattr(library.optim.lr_scheduler, kind)(optimizer, *arguments)
    return params, optimizer, scheduler


@pytest.mark.parametrize("name", OPTIONS)
def test_random_runs(name: str) -> None:
    for case in range(CASES):
        counting.count()
        rng = np.random.default_rng([case, *map(ord, name)])
        values = draw_values(rng)
        plan = (
            draw_options(rng, name),
            draw_options(rng, name),
            rng.integers(len(values) + 1),
            SCHEDULES[rng.integers(len(SCHEDULES))],
        )
        # PyTorch's Adagrad does not look at this option of a group.
        plan[1].pop("initial_accumulator_value", None)
        sides = [build(library, values, name, plan) for library in (nnlib, torch)]
        for step in range(STEPS):
            present = rng.random(len(values)) < 0.8
            noise = [np.asarray(rng.normal(size=x.shape)) for x in values]
            for library, (params, optimizer, scheduler) in zip(
                (nnlib, torch), sides, strict=True
            ):
                optimizer.zero_grad()
                for p, there, value in zip(params, present, noise, strict=True):
                    if there:
                        p.grad = library.tensor(value)
                optimizer.step()
                scheduler.step()
            for mine, theirs in zip(sides[0][0], sides[1][0], strict=True):
                np.testing.assert_allclose(
                    mine.detach().numpy(),
                    theirs.detach().numpy(),
                    1e-9,
                    1e-11,
                    err_msg=f"{name}, case {case}, step {step}: {plan}",
                )
