"""Batch normalisation folded into the layer before it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compare import needs_torch, torch

import nnlib
from nnlib import nn
from nnlib.nn.utils import fuse_conv_bn_eval, fuse_linear_bn_eval

RNG = np.random.default_rng(8)
CASES: list[tuple[Any, Any, tuple[int, ...], dict[str, Any]]] = [
    (lambda: nn.Conv1d(3, 4, 2), lambda: nn.BatchNorm1d(4), (2, 3, 6), {}),
    (
        lambda: nn.Conv2d(4, 6, 3, groups=2, bias=False),
        lambda: nn.BatchNorm2d(6, affine=False),
        (2, 4, 5, 5),
        {},
    ),
    (
        lambda: nn.ConvTranspose2d(3, 4, 2, stride=2),
        lambda: nn.BatchNorm2d(4),
        (2, 3, 3, 3),
        {"transpose": True},
    ),
    (
        lambda: nn.ConvTranspose1d(4, 6, 2, groups=2),
        lambda: nn.BatchNorm1d(6),
        (2, 4, 3),
        {"transpose": True},
    ),
    (
        lambda: nn.ConvTranspose2d(3, 3, 2, groups=3, bias=False),
        lambda: nn.BatchNorm2d(3),
        (2, 3, 3, 3),
        {"transpose": True},
    ),
    (lambda: nn.Linear(5, 4), lambda: nn.BatchNorm1d(4), (3, 5), {}),
    (lambda: nn.Linear(5, 4, bias=False), lambda: nn.BatchNorm1d(4), (3, 5), {}),
]


def prepared(layer: Any, bn: Any) -> tuple[Any, Any]:
    for tensor in [*bn.parameters(), bn.running_mean, bn.running_var]:
        with nnlib.no_grad():
            tensor.copy_(nnlib.from_numpy(RNG.uniform(0.3, 2, tuple(tensor.shape))))
    return layer.eval(), bn.eval()


@pytest.mark.parametrize(("layer", "bn", "shape", "options"), CASES)
def test_one_layer_does_what_two_did(
    layer: Any, bn: Any, shape: Any, options: Any
) -> None:
    first, second = prepared(layer(), bn())
    fuse = fuse_linear_bn_eval if isinstance(first, nn.Linear) else fuse_conv_bn_eval
    fused = fuse(first, second, **options)
    x = nnlib.from_numpy(RNG.standard_normal(shape).astype(np.float32))
    want = second(first(x)).detach().numpy()
    np.testing.assert_allclose(fused(x).detach().numpy(), want, rtol=1e-4, atol=1e-5)
    assert type(fused) is type(first) and fused.weight is not first.weight
    assert all(p.requires_grad for p in fused.parameters())


@needs_torch
def test_the_weights_are_pytorchs() -> None:
    shapes = [(4, 3, 2, 2), (4,), (4,), (4,), None, (4,), (4,)]
    values = [1e-3 if s is None else RNG.uniform(0.1, 2, s) for s in shapes]
    mine = [nnlib.tensor(v) if hasattr(v, "shape") else v for v in values]
    theirs = [torch.tensor(v) if hasattr(v, "shape") else v for v in values]
    mine = nn.utils.fuse_conv_bn_weights(*mine)
    for a, b in zip(mine, torch.nn.utils.fuse_conv_bn_weights(*theirs), strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-6)


def test_errors() -> None:
    conv, bn = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)
    with pytest.raises(nnlib.ArgumentError, match="must be in evaluation mode"):
        fuse_conv_bn_eval(conv, bn)
    untracked = nn.BatchNorm2d(2, track_running_stats=False)
    with pytest.raises(nnlib.ArgumentError, match="bn has no running statistics"):
        fuse_conv_bn_eval(conv.eval(), untracked.eval())
    with pytest.raises(
        nnlib.ArgumentError, match="linear gives 3 features, bn takes 2"
    ):
        fuse_linear_bn_eval(nn.Linear(2, 3).eval(), nn.BatchNorm1d(2).eval())
    with pytest.raises(nnlib.ArgumentError, match="conv gives 2 channels, bn takes 1"):
        fuse_conv_bn_eval(conv.eval(), nn.BatchNorm2d(1).eval())
    turned = nn.ConvTranspose2d(2, 2, 1).eval()
    with pytest.raises(nnlib.ArgumentError, match="transpose: expected True for a Con"):
        fuse_conv_bn_eval(turned, bn.eval())
