"""Random expression graphs against PyTorch: values, gradients, second derivatives.

A graph is a list of steps drawn from a seed. Each step takes tensors made before (so
that subexpressions are shared), may take views and may change a tensor in place. The
same list runs on both libraries; where PyTorch refuses (a saved value was changed in
place), nnlib may refuse as well, and never gives another number.
"""

from __future__ import annotations

from typing import Any

import counting
import numpy as np
import pytest

import nnlib
from nnlib.backend.errors import Error

try:
    import torch
except ImportError:
    torch = None

pytestmark = pytest.mark.skipif(torch is None, reason="PyTorch is not installed")

GRAPHS, BATCHES = 1500, 15

# Smooth and tame: values stay of order one over thirty steps.
UNARY = {
    "tanh": lambda x: x.tanh(),
    "sin": lambda x: x.sin(),
    "sigmoid": lambda x: x.sigmoid(),
    "exp": lambda x: (-x * x).exp(),
    "sqrt": lambda x: (x * x + 1).sqrt(),
    "log": lambda x: (x * x + 1.5).log(),
    "reciprocal": lambda x: (x * x + 1).reciprocal(),
    "neg": lambda x: -x,
    "scale": lambda x: x * 0.7 + 0.1,
    "softmax": lambda x: x.softmax(-1),
    "square": lambda x: x.tanh() ** 2,
    "abs": lambda x: (x - 0.05).abs(),
    "relu": lambda x: (x + 0.03).relu(),
    "cumsum": lambda x: x.cumsum(0) * 0.4,
    "clone": lambda x: x.clone(),
}
BINARY = {
    "add": lambda x, y: x + y * 0.5,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / (y * y + 1),
    "maximum": lambda x, y: (x - y).relu() + y,
    "matmul": lambda x, y: (x @ y.t() @ y) * 0.1,
    "row": lambda x, y: x + y[0],
    "column": lambda x, y: x * y[:, :1],
    "outer": lambda x, y: x.sum(1, keepdim=True) * y.mean(0, keepdim=True) * 0.3,
    "rsub": lambda x, y: 1 - x * y.tanh(),
}
# Same shape in and out; the first three are views of the argument.
VIEWS = {
    "transposed twice": lambda x: x.t().t(),
    "reshaped": lambda x: x.reshape(-1).reshape(x.shape),
    "flattened": lambda x: x.view(2, -1).view(x.shape),
    "permuted": lambda x: x.flip(0),
}
INPLACE = {
    "mul_": lambda x, y: x.mul_(y),
    "add_": lambda x, y: x.add_(y, alpha=0.5),
    "tanh_": lambda x, y: x.tanh_(),
    "row mul_": lambda x, y: x[0].mul_(y[1]),
    "column add_": lambda x, y: x[:, 1].add_(y[:, 0]),
    "set row": lambda x, y: x.__setitem__(1, y[0] * 0.5),
    "set block": lambda x, y: x.__setitem__((slice(1, 3), slice(None, 2)), y[:2, 2:]),
    "zero_": lambda x, y: x[2:].zero_(),
    "copy_": lambda x, y: x[:2].copy_(y[1:3]),
}
SHAPE = (4, 4)


def draw(rng: np.random.Generator) -> list[tuple[str, str, int, int]]:
    """Draw a graph: (kind, name, first argument, second argument)."""
    steps = []
    for count in range(3, 3 + int(rng.integers(5, 31))):
        kind = str(
            rng.choice(
                ["unary", "binary", "view", "inplace"],
                p=(4, 4, 1, 1.5) / np.sum((4, 4, 1, 1.5)),
            )
        )
        table = {"unary": UNARY, "binary": BINARY, "view": VIEWS, "inplace": INPLACE}
        name = str(rng.choice(list(table[kind])))
        recent = max(0, count - 6)
        steps.append(
            (kind, name, int(rng.integers(recent, count)), int(rng.integers(count)))
        )
    return steps


def run(steps: Any, leaves: list[Any]) -> Any:
    """Run a graph from three leaves; return one number."""
    # Leaves themselves cannot be changed in place.
    values = [leaf * 1 for leaf in leaves]
    for kind, name, first, second in steps:
        x, y = values[first], values[second]
        if kind == "unary":
            values.append(UNARY[name](x))
        elif kind == "binary":
            values.append(BINARY[name](x, y))
        elif kind == "view":
            values.append(VIEWS[name](x))
        else:
            # Half of the time a new tensor, which no step has saved yet; and a tensor
            # cannot be written into itself.
            x = x * 1 if second % 2 else x
            INPLACE[name](x, y.clone())
            values.append(x)
    total = (values[-1] * values[-2]).sum()
    for value in values[-4:]:
        total = total + value.sum() * 0.3
    return total


def derivatives(steps: Any, leaves: list[Any], library: Any) -> list[np.ndarray]:
    """Return value, gradients and the gradients of a number made of gradients."""
    total = run(steps, leaves)
    first = library.autograd.grad(total, leaves, create_graph=True, allow_unused=True)
    norm = sum((g * g).sum() for g in first if g is not None)
    second = library.autograd.grad(norm, leaves, allow_unused=True)
    plain = library.autograd.grad(run(steps, leaves), leaves, allow_unused=True)
    found = [total, *first, *second, *plain]
    return [
        np.zeros(SHAPE)
        if x is None
        else np.broadcast_to(x.detach().numpy(force=True), x.shape)
        for x in found
    ]


@pytest.mark.parametrize("batch", range(BATCHES))
def test_random_graphs(batch: int) -> None:
    refused = compared = 0
    for number in range(GRAPHS // BATCHES):
        counting.count()
        rng = np.random.default_rng((batch, number))
        steps = draw(rng)
        arrays = [rng.standard_normal(SHAPE) for _ in range(3)]
        try:
            want = derivatives(
                steps, [torch.tensor(a, requires_grad=True) for a in arrays], torch
            )
        except RuntimeError as error:
            assert "modified by an inplace operation" in str(error), (steps, error)
            want = None
        try:
            got = derivatives(
                steps, [nnlib.tensor(a, requires_grad=True) for a in arrays], nnlib
            )
        except Error as error:
            known = "changed in place" in str(error) or "take the view again" in str(
                error
            )
            assert known, (steps, error)
            refused += want is not None
            continue
        if want is None:
            continue
        compared += 1
        for mine, theirs in zip(got, want, strict=True):
            scale = max(1.0, float(np.abs(theirs).max()))
            assert np.abs(mine - theirs).max() <= 1e-9 * scale, (batch, number, steps)
    # Refusing what PyTorch allows is safe, and must stay rare.
    assert refused <= 0.1 * GRAPHS / BATCHES
    assert compared >= 0.5 * GRAPHS / BATCHES
