"""Module: registration, names, modes, moves, copies."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from compare import needs_torch, torch

import nnlib
from nnlib import nn
from nnlib.nn import Module, Parameter


class Block(Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.scale = Parameter(nnlib.ones(2))
        self.register_buffer("seen", nnlib.zeros(()))
        self.register_buffer("scratch", nnlib.zeros(2), persistent=False)

    def forward(self, x: Any) -> Any:
        return self.layer(x) * self.scale


def test_names_in_order_of_registration() -> None:
    model = nn.Sequential(Block(), nn.ReLU())
    names = [name for name, _ in model.named_parameters()]
    assert names == ["0.scale", "0.layer.weight", "0.layer.bias"]
    assert [name for name, _ in model.named_buffers()] == ["0.seen", "0.scratch"]
    assert [name for name, _ in model.named_modules()] == ["", "0", "0.layer", "1"]
    assert [name for name, _ in model.named_children()] == ["0", "1"]
    assert list(model.state_dict()) == [
        "0.scale",
        "0.seen",
        "0.layer.weight",
        "0.layer.bias",
    ]
    assert len(list(model.parameters(recurse=False))) == 0
    prefixed = [name for name, _ in model.named_parameters(prefix="net")]
    assert prefixed[0] == "net.0.scale"


def test_a_tied_parameter_is_given_once() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    assert len(list(model.parameters())) == 3
    twice = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    assert twice.count("1.weight") == 1 and len(twice) == 4
    assert len(model.state_dict()) == 4
    model.double()
    assert model[0].weight is model[1].weight
    assert model[1].weight.dtype == np.float64
    twin = copy.deepcopy(model)
    assert twin[0].weight is twin[1].weight and twin[0].weight is not model[0].weight


def test_assignment_replaces_and_removes() -> None:
    block = Block()
    block.scale = None
    assert "scale" not in dict(block.named_parameters()) and block.scale is None
    block.scale = Parameter(nnlib.zeros(2))
    assert "scale" in dict(block.named_parameters())
    del block.scale
    assert not hasattr(block, "scale")
    block.seen = nnlib.ones(())
    assert block.state_dict()["seen"].item() == 1
    block.layer = nn.Identity()
    assert isinstance(block.layer, nn.Identity)
    block.plain = 3
    block.plain = nn.ReLU()
    assert "plain" in dict(block.named_children())
    assert "layer" in dir(block)


def test_bad_registrations_say_what_is_wrong() -> None:
    block = Block()
    with pytest.raises(nnlib.DTypeError, match="parameter 'scale': expected a Param"):
        block.scale = 3
    with pytest.raises(nnlib.DTypeError, match="sub-module 'layer': expected a Module"):
        block.layer = 3
    with pytest.raises(nnlib.DTypeError, match="buffer 'seen': expected a Tensor"):
        block.seen = 3
    with pytest.raises(nnlib.DTypeError, match="expected a Parameter or None, got Ten"):
        block.register_parameter("extra", nnlib.ones(2))
    with pytest.raises(nnlib.Error, match="holds no dot, got 'a.b'"):
        block.register_buffer("a.b", nnlib.ones(2))
    with pytest.raises(nnlib.Error, match="an attribute 'forward' already"):
        block.register_buffer("forward", nnlib.ones(2))
    with pytest.raises(AttributeError, match="'Block' has no attribute 'missing'"):
        _ = block.missing

    class Early(Module):
        def __init__(self) -> None:
            self.layer = nn.ReLU()

    with pytest.raises(nnlib.Error, match=r"call super\(\).__init__\(\) before"):
        Early()
    with pytest.raises(nnlib.Error, match="Module: forward is not defined"):
        Module()(1)


def test_lookup_by_dotted_name() -> None:
    model = nn.Sequential(Block())
    assert model.get_submodule("0.layer") is model[0].layer
    assert model.get_submodule("") is model
    assert model.get_parameter("0.layer.bias") is model[0].layer.bias
    assert model.get_buffer("0.seen") is model[0].seen
    with pytest.raises(AttributeError, match="Sequential has no sub-module '7'"):
        model.get_submodule("7.layer")
    with pytest.raises(AttributeError, match="Linear has no parameter 'gain'"):
        model.get_parameter("0.layer.gain")


def test_modes_and_apply() -> None:
    model = nn.Sequential(Block(), nn.Dropout())
    assert model.eval() is model and not model[1].training
    assert model.train() is model and model[0].layer.training
    seen: list[str] = []
    model.apply(lambda module: seen.append(type(module).__name__))
    assert seen == ["Linear", "Block", "Dropout", "Sequential"]
    with pytest.raises(nnlib.DTypeError, match="train: mode: expected a bool"):
        model.train(1)
    model.requires_grad_(False)
    assert not any(p.requires_grad for p in model.parameters())


def test_moves_keep_the_parameters_and_their_gradients() -> None:
    block = Block()
    before = block.layer.weight
    block(nnlib.ones(4, 3)).sum().backward()
    block.double()
    assert block.layer.weight is before and before.dtype == np.float64
    assert before.grad is not None and before.grad.dtype == np.float64
    assert block.seen.dtype == np.float64
    assert block.half().layer.bias.dtype == np.float16
    assert block.bfloat16().layer.bias.dtype == nnlib.bfloat16
    assert block.to(nnlib.float32).float().scale.dtype == np.float32
    assert block.to("cpu", nnlib.float64).cpu().scale.dtype == np.float64
    block.register_buffer("count", nnlib.tensor(3))
    assert block.float().count.dtype == np.int64
    with pytest.raises(nnlib.DTypeError, match="expected a floating dtype, got int64"):
        block.to(nnlib.int64)
    if not nnlib.cuda.is_available():
        with pytest.raises(nnlib.DeviceError, match="device 'cuda'"):
            block.cuda()


def test_zero_grad() -> None:
    block = Block()
    block(nnlib.ones(4, 3)).sum().backward()
    block.zero_grad(set_to_none=False)
    assert float(block.scale.grad.abs().sum()) == 0
    block.zero_grad()
    assert block.scale.grad is None


@pytest.mark.parametrize(
    "way", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_copies(way: Any) -> None:
    model = nn.Sequential(Block(), nn.Dropout(0.3)).eval()
    twin = way(model)
    x = nnlib.ones(2, 3)
    np.testing.assert_array_equal(model(x).detach().numpy(), twin(x).detach().numpy())
    assert not twin[1].training and twin[1].p == 0.3
    with nnlib.no_grad():
        twin[0].scale.add_(1)
    assert float(model[0].scale[0]) == 1
    assert [n for n, _ in twin.named_parameters()] == [
        n for n, _ in model.named_parameters()
    ]


@needs_torch
def test_representation_equals_pytorchs() -> None:
    def build(lib: Any) -> Any:
        return lib.Sequential(
            lib.Flatten(),
            lib.Linear(4, 8, bias=False),
            lib.LeakyReLU(0.2, inplace=True),
            lib.ModuleList([lib.Bilinear(2, 3, 4), lib.Softmax(dim=1)]),
            lib.ModuleDict({"a": lib.GELU("tanh"), "b": lib.PReLU(3)}),
            lib.Dropout(0.25),
            lib.ELU(),
            lib.Hardtanh(-2.0, 2.0),
            lib.Softplus(),
            lib.Identity(),
            lib.CrossEntropyLoss(),
        )

    assert repr(build(nn)) == repr(build(torch.nn))


def test_the_call_adds_little() -> None:
    import timeit

    layer = nn.Identity()
    direct = min(timeit.repeat(lambda: layer.forward(1), number=2000, repeat=5))
    called = min(timeit.repeat(lambda: layer(1), number=2000, repeat=5))
    assert (called - direct) / 2000 < 2e-6
