"""Callables of two CUDA graphs, kernels in the simulator; see `replayed.py`."""

from __future__ import annotations

from typing import Any

import pytest
from replayed import gpu_at_hand  # noqa: F401 - a fixture

import nnlib
from nnlib import nn


@pytest.mark.parametrize("kind", [nn.Linear, None])
def test_graphed_callables(kind):
    nnlib.manual_seed(1)
    weight = nnlib.rand(3, 2, device="cuda")
    modules = [nn.Linear(3, 2, bias=False).to("cuda") for _ in range(2)]
    modules[1].load_state_dict(modules[0].state_dict())
    calls = modules if kind else [lambda x: (x @ weight, x * 2)] * 2
    sample = nnlib.ones(2, 3, device="cuda").requires_grad_()
    graphed = nnlib.cuda.make_graphed_callables(calls[1], (sample,))
    for factor in (1.0, 2.0):
        found = []
        for call in (calls[0], graphed):
            x = nnlib.full((2, 3), factor, device="cuda").requires_grad_()
            y = call(x)
            y = y if kind else y[0] * y[1][:, :2]
            (y * y).backward(nnlib.ones(2, 2, device="cuda"))
            found.append([y.tolist(), x.grad.tolist()])
        assert found[0] == found[1]
    if kind:
        # Gradients of parameters have been added up.
        assert modules[1].weight.grad.tolist() == modules[0].weight.grad.tolist()
        assert graphed is modules[1]
        graphed.eval()
        assert graphed(nnlib.ones(5, 3, device="cuda")).shape == (5, 2)
        graphed.train()
    with pytest.raises(nnlib.ShapeError, match="argument 0: expected float32 of shape"):
        graphed(nnlib.ones(5, 3, device="cuda"))
    with pytest.raises(nnlib.ShapeError, match="expected 1 arguments, got 2"):
        graphed(sample, sample)
    with pytest.raises(nnlib.DTypeError, match="expected a tuple, got Tensor"):
        nnlib.cuda.make_graphed_callables(calls[0], sample)
    with pytest.raises(
        nnlib.DeviceError, match="argument 0: expected a tensor on CUDA"
    ):
        nnlib.cuda.make_graphed_callables(calls[0], (nnlib.ones(2, 3),))


def test_graphed_callables_of_one_pool_leave_each_other_s_memory():
    x = nnlib.rand(3, device="cuda").requires_grad_()

    def call(x: Any) -> Any:
        return (x * 2) * (x * 3)

    pool = nnlib.cuda.graph_pool_handle()
    calls = nnlib.cuda.make_graphed_callables((call, call), ((x,), (x,)), pool=pool)
    given = [nnlib.full((3,), n, device="cuda").requires_grad_() for n in (1.0, 2.0)]
    found = [call(x) for call, x in zip(calls, given, strict=True)]
    for y in reversed(found):
        y.backward(nnlib.ones(3, device="cuda"))
    assert [x.grad.tolist() for x in given] == [[12.0] * 3, [24.0] * 3]


def test_graphed_callables_notice_other_parameters():
    module = nn.Linear(3, 2, bias=False).to("cuda")
    x = nnlib.ones(2, 3, device="cuda")
    nnlib.cuda.make_graphed_callables(module, (x,))
    module.load_state_dict(module.state_dict())
    assert module(x).shape == (2, 2)
    module.weight.data = nnlib.zeros(2, 3, device="cuda")
    with pytest.raises(nnlib.DeviceError, match="parameter lies elsewhere"):
        module(x)
