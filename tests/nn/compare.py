"""Helpers: the same module in nnlib and in PyTorch, with the same weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nnlib

try:
    import torch
except ImportError:
    torch = None

needs_torch = pytest.mark.skipif(torch is None, reason="PyTorch is not installed")


def array(value: Any) -> np.ndarray:
    """Return a Tensor or torch tensor as a NumPy array."""
    return np.asarray(value.detach())


def copy_weights(mine: Any, theirs: Any) -> None:
    """Give the torch module the nnlib module's state."""
    state = {name: torch.tensor(array(x)) for name, x in mine.state_dict().items()}
    theirs.load_state_dict(state)


def compare(mine: Any, theirs: Any, *inputs: Any, rtol: float = 1e-9) -> None:
    """Compare outputs and all gradients, in float64."""
    mine.double()
    theirs.double()
    copy_weights(mine, theirs)
    ours = [_leaf(nnlib, x) for x in inputs]
    peers = [_leaf(torch, x) for x in inputs]
    out, ref = mine(*ours), theirs(*peers)
    np.testing.assert_allclose(array(out), array(ref), rtol, 1e-11)
    seed = np.cos(np.arange(out.numel(), dtype=np.float64)).reshape(tuple(out.shape))
    out.backward(nnlib.tensor(seed))
    ref.backward(torch.tensor(seed))
    pairs = [*zip(ours, peers, strict=True)]
    pairs += zip(mine.parameters(), theirs.parameters(), strict=True)
    for a, b in pairs:
        if a.requires_grad:
            np.testing.assert_allclose(array(a.grad), array(b.grad), rtol, 1e-11)


def _leaf(library: Any, value: Any) -> Any:
    made = library.tensor(value)
    floating = np.asarray(value).dtype.kind == "f"
    return made.requires_grad_() if floating else made
