"""L-BFGS against PyTorch's, step by step."""

from __future__ import annotations

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


def rosenbrock(x: Any, y: Any) -> Any:
    return ((1 - x) ** 2).sum() + 100 * ((y - x**2) ** 2).sum()


def minimise(library: Any, steps: int, **options: Any) -> tuple[list[Any], Any]:
    x = library.tensor([-1.5, 0.5], dtype=library.float64, requires_grad=True)
    y = library.tensor([[2.0, 2.0]], dtype=library.float64, requires_grad=True)
    optimizer = library.optim.LBFGS([x, y], **options)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = rosenbrock(x, y)
        loss.backward()
        return loss

    trace = []
    for _ in range(steps):
        loss = optimizer.step(closure).item()
        trace.append([loss, *np.asarray(x.detach()), *np.asarray(y.detach()).ravel()])
    return trace, optimizer


@needs_torch
@pytest.mark.parametrize(
    "options",
    [
        {"line_search_fn": "strong_wolfe"},
        {"line_search_fn": "strong_wolfe", "history_size": 3, "max_iter": 5},
        {"line_search_fn": "strong_wolfe", "lr": 0.1, "max_eval": 7},
        {"lr": 0.01, "max_iter": 4},
    ],
)
def test_iterates_equal_pytorchs(options: dict[str, Any]) -> None:
    mine, one = minimise(nnlib, 6, **options)
    theirs, two = minimise(torch, 6, **options)
    np.testing.assert_allclose(mine, theirs, 1e-6, 1e-9)
    counts = [list(optimizer.state.values())[0] for optimizer in (one, two)]
    for name in ("n_iter", "func_evals"):
        assert counts[0][name] == counts[1][name]


def test_it_finds_the_minimum() -> None:
    trace, _ = minimise(nnlib, 10, line_search_fn="strong_wolfe")
    np.testing.assert_allclose(trace[-1][1:], 1, 1e-3)


def test_state_goes_on_where_it_was() -> None:
    x = nnlib.tensor([2.0, -1.0], dtype="float64", requires_grad=True)
    optimizers = [optim.LBFGS([x], max_iter=3, lr=0.1) for _ in range(2)]

    def run(optimizer: Any, steps: int) -> None:
        def closure() -> Any:
            optimizer.zero_grad()
            loss = (x**4).sum() + (x * x).sum()
            loss.backward()
            return loss

        for _ in range(steps):
            optimizer.step(closure)

    run(optimizers[0], 2)
    state, here = optimizers[0].state_dict(), x.detach().clone()
    optimizers[1].load_state_dict(state)
    run(optimizers[1], 3)
    there = x.detach().numpy().copy()
    with nnlib.no_grad():
        x.copy_(here)
    run(optimizers[0], 3)
    np.testing.assert_allclose(x.detach().numpy(), there, 1e-12)


def test_penalties_are_part_of_the_loss() -> None:
    x = nnlib.tensor([2.0, -1.0], dtype="float64", requires_grad=True)
    optimizer = optim.LBFGS([x], line_search_fn="strong_wolfe", weight_decay=1.0, l1=1)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = ((x - 3) ** 2).sum() / 2
        loss.backward()
        return loss

    optimizer.step(closure)
    np.testing.assert_allclose(x.detach().numpy(), 1.0, 1e-4)


def test_bad_arguments() -> None:
    x = nnlib.ones(2, requires_grad=True)
    with pytest.raises(nnlib.Error, match="expected None or 'strong_wolfe', got 'x'"):
        optim.LBFGS([x], line_search_fn="x")
    with pytest.raises(nnlib.Error, match="LBFGS.step: closure"):
        optim.LBFGS([x]).step()
    with pytest.raises(nnlib.Error, match="one parameter group only"):
        optim.LBFGS([{"params": [x]}, {"params": []}])
