"""Arguments and defaults are PyTorch's, for every name that both libraries have."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from compare import needs_torch, torch

from nnlib import nn, optim
from nnlib.nn import init, utils

# Arguments that PyTorch keeps for old callers or for its own machinery.
DROPPED = {
    "capturable", "differentiable", "foreach", "fused", "reduce", "size_average",
    "epoch", "min_value", "max_value",
}  # fmt: skip
# Defaults that PyTorch gives as None or as another number of the same meaning.
SAME_MEANING = {
    ("Parameter", "data"),
    ("Transformer", "activation"),
    ("TransformerDecoderLayer", "activation"),
    ("TransformerEncoderLayer", "activation"),
}


def public(mine: Any, theirs: Any) -> list[tuple[str, Any, Any]]:
    names = getattr(mine, "__all__", None) or dir(mine)
    return [
        (name, getattr(mine, name), getattr(theirs, name))
        for name in names
        if name[0] != "_" and hasattr(theirs, name) and callable(getattr(mine, name))
    ]


def arguments(function: Any) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(function).parameters)


def rooms() -> list[tuple[str, Any, Any]]:
    if torch is None:
        return []
    return [
        (f"{room}.{name}", a, b)
        for room, mine, theirs in (
            ("nn", nn, torch.nn),
            ("optim", optim, torch.optim),
            ("lr_scheduler", optim.lr_scheduler, torch.optim.lr_scheduler),
            ("init", init, torch.nn.init),
            ("utils", utils, torch.nn.utils),
            ("Module", ModuleNames(nn.Module), ModuleNames(torch.nn.Module)),
        )
        for name, a, b in public(mine, theirs)
    ]


class ModuleNames:
    """The public methods of a Module class, as attributes."""

    def __init__(self, kind: Any) -> None:
        for name in dir(kind):
            # PyTorch's own annotations of `to` are overloads.
            if not name.startswith("_") and name not in ("forward", "to", "state_dict"):
                setattr(self, name, getattr(kind, name))


@needs_torch
@pytest.mark.parametrize(
    ("name", "mine", "theirs"), rooms(), ids=[name for name, _, _ in rooms()]
)
def test_arguments_are_pytorchs(name: str, mine: Any, theirs: Any) -> None:
    ours, peers = arguments(mine), arguments(theirs)
    for argument, parameter in peers.items():
        if argument in DROPPED or parameter.kind in (
            inspect.Parameter.VAR_POSITIONAL,
            inspect.Parameter.VAR_KEYWORD,
        ):
            continue
        assert argument in ours, f"{name}: {argument} is missing"
        default = ours[argument].default
        if (name.split(".")[-1], argument) in SAME_MEANING:
            continue
        assert default == parameter.default, f"{name}: {argument}"
