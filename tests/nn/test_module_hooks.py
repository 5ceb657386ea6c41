"""Hooks around forward and backward."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compare import array, needs_torch, torch

import nnlib
from nnlib import nn


def test_forward_hooks_see_and_change() -> None:
    layer = nn.Identity()
    log: list[Any] = []
    first = layer.register_forward_pre_hook(lambda m, args: (args[0] * 2,))
    layer.register_forward_hook(lambda m, args, out: log.append(args[0].item()))
    layer.register_forward_hook(lambda m, args, out: out + 1)
    assert layer(nnlib.tensor(3.0)).item() == 7 and log == [6]
    first.remove()
    assert layer(nnlib.tensor(3.0)).item() == 4


def test_keywords_order_and_errors() -> None:
    class Fail(nn.Module):
        def forward(self, x: Any, *, fail: bool = False) -> Any:
            if fail:
                raise ValueError("no")
            return x

    log: list[str] = []
    module = Fail()
    module.register_forward_pre_hook(
        lambda m, args, kwargs: log.append(f"second {kwargs}"), with_kwargs=True
    )
    module.register_forward_pre_hook(lambda m, args: log.append("first"), prepend=True)
    module.register_forward_hook(
        lambda m, args, out: log.append(f"always {out}"), always_call=True
    )
    with pytest.raises(ValueError, match="no"):
        module(1, fail=True)
    assert log == ["first", "second {'fail': True}", "always None"]


@needs_torch
@pytest.mark.filterwarnings("ignore:Full backward hook")
def test_backward_hooks_give_pytorchs_gradients() -> None:
    def run(lib: Any, layers: Any) -> list[Any]:
        seen: list[Any] = []
        model = layers.Sequential(layers.Linear(3, 4), layers.Tanh())
        with lib.no_grad():
            for p in model.parameters():
                p.copy_(lib.linspace(-1, 1, p.numel()).reshape(p.shape))

        def hook(module: Any, grad_in: Any, grad_out: Any) -> Any:
            seen.append([*grad_in, *grad_out])
            return (grad_in[0] * 2,)

        model[1].register_full_backward_hook(hook)
        model[1].register_full_backward_pre_hook(lambda m, grads: (grads[0] * 3,))
        model[0].register_full_backward_hook(
            lambda m, grad_in, grad_out: seen.append([grad_in[0], *grad_out])
        )
        x = lib.linspace(0, 1, 6).reshape(2, 3)
        model(x).sum().backward()
        return [*seen, [model[0].weight.grad]]

    for mine, theirs in zip(run(nnlib, nn), run(torch, torch.nn), strict=True):
        for a, b in zip(mine, theirs, strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                np.testing.assert_allclose(array(a), array(b), 1e-5, 1e-6)


def test_backward_hooks_are_not_run_without_recording() -> None:
    layer = nn.Linear(2, 2)
    layer.register_full_backward_hook(lambda *args: pytest.fail("called"))
    with nnlib.no_grad():
        layer(nnlib.ones(1, 2))


def test_hooks_of_a_copy_from_another_process_are_not_replaced() -> None:
    module = nn.Linear(1, 1)
    seen: list[str] = []
    handle = module.register_forward_hook(lambda *args: seen.append("old"))
    # Numbers of hooks are handed out from 1 in every process.
    module._forward_hooks = {handle.id + 1: module._forward_hooks[handle.id]}
    module.register_forward_hook(lambda *args: seen.append("new"))
    module(nnlib.ones(1, 1))
    assert seen == ["old", "new"]
