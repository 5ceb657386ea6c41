"""The padding layers against PyTorch, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

import nnlib
from nnlib import nn
from nnlib.backend.errors import ArgumentError, DTypeError, ShapeError

RNG = np.random.default_rng(5)
KINDS = ("Constant", "Zero", "Reflection", "Replication", "Circular")


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_values_gradients_and_repr_equal_pytorchs(kind: str, dims: int) -> None:
    torch = pytest.importorskip("torch")
    value = (1.5,) if kind == "Constant" else ()
    for padding in (2, tuple(int(x) for x in RNG.integers(0, 3, 2 * dims))):
        mine = getattr(nn, f"{kind}Pad{dims}d")(padding, *value)
        theirs = getattr(torch.nn, f"{kind}Pad{dims}d")(padding, *value)
        assert repr(mine) == repr(theirs)
        for lead in ((2,), (2, 3)):
            x = RNG.normal(size=(*lead, 3, 4, 5)[: len(lead) + dims])
            ours = nnlib.tensor(x, requires_grad=True)
            peer = torch.tensor(x, requires_grad=True)
            out, want = mine(ours), theirs(peer)
            np.testing.assert_array_equal(out.detach().numpy(), want.detach().numpy())
            (out * out).sum().backward()
            (want * want).sum().backward()
            np.testing.assert_allclose(ours.grad.numpy(), peer.grad.numpy())


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"ZeroPad2d: padding: expected 4 widths, got"):
        nn.ZeroPad2d((1, 2))
    with pytest.raises(ShapeError, match="ReflectionPad1d: input: expected 2 or 3 dim"):
        nn.ReflectionPad1d(1)(nnlib.ones(3))
    with pytest.raises(
        DTypeError, match=r"pad: pad: expected a tuple of ints, got \(1"
    ):
        nn.functional.pad(nnlib.ones(3), (1.5, 2))
    with pytest.raises(DTypeError, match="pad: pad: expected a tuple of ints, got 1"):
        nn.functional.pad(nnlib.ones(3), 1)
    with pytest.raises(DTypeError, match="pad: input: expected a Tensor, got list"):
        nn.functional.pad([1.0], (1, 1))
    with pytest.raises(ArgumentError, match="value: not used by the mode 'reflect'"):
        nn.functional.pad(nnlib.ones(1, 3), (1, 1), "reflect", 2.0)


def test_widths_are_integers() -> None:
    assert nn.ZeroPad2d(np.int64(1)).padding == (1, 1, 1, 1)
    for padding in (1.5, None, "12", (1, 2.5, 3, 4)):
        with pytest.raises(
            DTypeError, match="ZeroPad2d: padding: expected an int or 4"
        ):
            nn.ZeroPad2d(padding)
