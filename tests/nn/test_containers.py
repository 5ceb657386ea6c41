"""Sequential, ModuleList, ModuleDict, ParameterList, ParameterDict."""

from __future__ import annotations

from collections import OrderedDict

import pytest

import nnlib
from nnlib import nn


def names(module: nn.Module) -> list[str]:
    return [name for name, _ in module.named_children()]


def test_sequential_as_a_list() -> None:
    a, b, c, d = nn.ReLU(), nn.Tanh(), nn.Sigmoid(), nn.Identity()
    model = nn.Sequential(a, b)
    assert model.append(c) is model and len(model) == 3
    model.insert(1, d)
    assert list(model) == [a, d, b, c] and names(model) == ["0", "1", "2", "3"]
    assert model[-1] is c and list(model[1:3]) == [d, b]
    model[1] = c
    assert model[1] is c
    del model[1]
    assert list(model) == [a, b, c] and names(model) == ["0", "1", "2"]
    assert model.pop() is c
    assert list(model + nn.Sequential(d)) == [a, b, d]
    model += nn.Sequential(d)
    model.extend([c])
    assert list(model) == [a, b, d, c]
    del model[:2]
    assert list(model) == [d, c]


def test_sequential_with_names() -> None:
    model = nn.Sequential(OrderedDict(first=nn.Linear(2, 3), act=nn.ReLU()))
    assert list(model.state_dict()) == ["first.weight", "first.bias"]
    assert isinstance(model.act, nn.ReLU) and names(model[:1]) == ["first"]
    del model[0]
    assert names(model) == ["act"]


def test_bad_members() -> None:
    model = nn.Sequential(nn.ReLU())
    with pytest.raises(nnlib.DTypeError, match="append: expected a Module, got int"):
        model.append(3)
    with pytest.raises(IndexError, match="index 5 is out of range for 1 modules"):
        _ = model[5]
    with pytest.raises(nnlib.DTypeError, match="expected an integer or a slice"):
        _ = model["a"]
    with pytest.raises(nnlib.DTypeError, match="'1': expected a Module or None"):
        nn.Sequential(nn.ReLU(), 3)
    modules = nn.ModuleList([nn.ReLU()])
    with pytest.raises(nnlib.DTypeError, match="extend: expected a Module"):
        modules.extend([nn.Tanh(), 1])
    assert len(modules) == 1


def test_module_list_and_dict() -> None:
    layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
    assert [name for name, _ in layers.named_parameters()][0] == "0.weight"
    assert isinstance(layers[1:], nn.ModuleList) and len(layers + [nn.ReLU()]) == 4
    table = nn.ModuleDict({"a": nn.ReLU()})
    table["b"] = nn.Tanh()
    table.update([("c", nn.Identity())])
    assert list(table) == ["a", "b", "c"] and "b" in table and len(table) == 3
    assert isinstance(table.pop("a"), nn.ReLU) and list(table.keys()) == ["b", "c"]
    table.clear()
    assert not len(table)


def test_parameter_containers() -> None:
    values = nn.ParameterList([nnlib.ones(2), nn.Parameter(nnlib.zeros(3))])
    values.append(nnlib.ones(1))
    assert [name for name, _ in values.named_parameters()] == ["0", "1", "2"]
    assert len(values[:2]) == 2 and values[-1].shape == (1,)
    values[0] = nnlib.zeros(4)
    assert values[0].requires_grad and "(0): Parameter of shape 4" in repr(values)
    with pytest.raises(nnlib.DTypeError, match="ParameterList: expected a Parameter"):
        values.append(3)
    table = nn.ParameterDict({"w": nnlib.ones(2, 2)})
    table["b"] = nnlib.zeros(2)
    assert list(table) == ["w", "b"] and list(table.state_dict()) == ["w", "b"]
    assert table.get("x") is None and table.pop("b").shape == (2,)
