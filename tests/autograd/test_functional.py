"""Products with derivatives, whole derivatives, and checkpoints."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

import nnlib
from nnlib.autograd import checkpoint, functional, grad, gradcheck
from nnlib.backend.errors import ArgumentError, DTypeError, Error, ShapeError

try:
    import torch
except ImportError:
    torch = None

needs_torch = pytest.mark.skipif(torch is None, reason="PyTorch is not installed")
RNG = np.random.default_rng(5)
A, B = RNG.standard_normal((2, 3)), RNG.standard_normal(3)


def double(array: Any, requires_grad: bool = False) -> nnlib.Tensor:
    return nnlib.tensor(array, dtype="float64", requires_grad=requires_grad)


def two(a: Any, b: Any) -> Any:
    return (a * b).exp(), (a * a).sum(1)


def scalar(a: Any, b: Any) -> Any:
    return (a * b * b).sum() + (a * a * a).sum()


CALLS = {
    "jacobian": (two, None),
    "vjp": (two, ((2, 3), (2,))),
    "jvp": (two, ((2, 3), (3,))),
    "hessian": (scalar, None),
    "vhp": (scalar, ((2, 3), (3,))),
    "hvp": (scalar, ((2, 3), (3,))),
}


def flat(value: Any) -> list[Any]:
    if isinstance(value, tuple | list):
        return [x for part in value for x in flat(part)]
    return [value.detach().numpy()]


@needs_torch
@pytest.mark.parametrize("name", CALLS)
def test_equal_to_pytorch(name: str) -> None:
    function, shapes = CALLS[name]
    vs = None if shapes is None else [RNG.standard_normal(s) for s in shapes]
    results = []
    for module, make in (
        (functional, double),
        (torch.autograd.functional, torch.tensor),
    ):
        args = [make(A), make(B)]
        if vs is None:
            results.append(getattr(module, name)(function, tuple(args)))
        else:
            made = tuple(make(v) for v in vs)
            results.append(getattr(module, name)(function, tuple(args), made))
    assert isinstance(results[0], tuple)
    for mine, theirs in zip(flat(results[0]), flat(results[1]), strict=True):
        np.testing.assert_allclose(mine, theirs, 1e-12)


def test_one_tensor_stands_for_itself() -> None:
    x = double(B)
    jac = functional.jacobian(lambda x: x * x, x)
    np.testing.assert_allclose(jac.array, np.diag(2 * B))
    assert not jac.requires_grad
    hess = functional.hessian(lambda x: (x * x * x).sum(), x)
    np.testing.assert_allclose(hess.array, np.diag(6 * B))


def test_results_are_differentiable_on_request() -> None:
    x = double(B, requires_grad=True)
    jac = functional.jacobian(lambda x: x * x * x, x, create_graph=True)
    np.testing.assert_allclose(grad(jac.sum(), x)[0].array, 6 * B)
    weight = double(B, requires_grad=True)
    _, product = functional.jvp(
        lambda x: x * x * weight, double(B), double(B), create_graph=True
    )
    np.testing.assert_allclose(grad(product.sum(), weight)[0].array, 2 * B * B)


def test_a_constant_has_zero_derivatives_unless_strict() -> None:
    x, y = double(B), double(B)
    jac = functional.jacobian(lambda x, y: x * 2, (x, y))
    assert jac[1].array.any() == np.False_
    _, product = functional.jvp(lambda x: y, x, double(B))
    assert not product.array.any()
    with pytest.raises(Error, match="vjp: .*does not depend on input 1"):
        functional.vjp(lambda x, y: x.sum(), (x, y), strict=True)


def test_bad_calls() -> None:
    x = double(B)
    with pytest.raises(ShapeError, match=r"vjp: v: expected \[\(3,\)\], got \[\(2,\)"):
        functional.vjp(lambda x: x * 2, x, double([1.0, 2.0]))
    with pytest.raises(ShapeError, match="hessian: the function must return one ele"):
        functional.hessian(lambda x: x * 2, x)
    with pytest.raises(ShapeError, match="jvp: v may be left out only"):
        functional.jvp(lambda x: x * 2, x)
    with pytest.raises(DTypeError, match="vjp: inputs: expected a Tensor.*int"):
        functional.vjp(lambda x: x * 2, 3)


# -- checkpoint ----------------------------------------------------------------------


def block(x: Any, w: Any) -> Any:
    return (x * w).exp() * x


def test_checkpoint_gives_the_same_gradients() -> None:
    results = []
    for run in (block, lambda *a: checkpoint(block, *a)):
        x, w = double(B, True), double(B + 1, True)
        y = run(run(x, w), w * 0.5).sum()
        y.backward()
        results.append((y.item(), x.grad.array, w.grad.array))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def test_checkpoint_reaches_what_the_function_closes_over() -> None:
    x, w = double(B), double(B + 1, True)
    hidden = w * 2
    y = checkpoint(lambda x: (x * hidden * w, x.sum()), x)
    assert not y[1].requires_grad
    (dw,) = grad(y[0].sum(), w)
    np.testing.assert_allclose(dw.array, 4 * B * (B + 1))
    assert w.grad is None


def test_checkpoint_nested_and_twice_differentiable() -> None:
    def inner(x: Any) -> Any:
        return checkpoint(lambda x: x * x * x, x)

    def outer(x: Any) -> Any:
        return checkpoint(lambda x: inner(x) * x, x)

    x = double(B, True)
    assert gradcheck(outer, x)
    assert nnlib.autograd.gradgradcheck(outer, x)


def test_checkpoint_repeats_random_numbers() -> None:
    drop = nnlib.nn.functional.dropout
    x = nnlib.ones(1000, requires_grad=True)
    nnlib.manual_seed(3)
    y = checkpoint(lambda x: drop(x * 2, 0.5), x)
    between = nnlib.rand(1).item()
    y.sum().backward()
    np.testing.assert_allclose(x.grad.array, y.detach().array)
    nnlib.manual_seed(3)
    drop(x, 0.5)
    assert nnlib.rand(1).item() == between


def test_checkpoint_saves_memory() -> None:
    def deep(x: Any) -> Any:
        for _ in range(16):
            x = (x * 0.5).exp()
        return x

    def peak(run: Any) -> int:
        x = nnlib.ones(100_000, requires_grad=True)
        run(x)  # whatever is loaded or compiled at the first call
        tracemalloc.start()
        for _ in range(4):
            y = x
            for _ in range(4):
                y = run(y)
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        y.sum().backward()
        return size

    assert peak(lambda x: checkpoint(deep, x)) < 0.25 * peak(deep)


def test_checkpoint_refuses_what_does_not_repeat() -> None:
    lengths = iter((3, 2))
    x = double(B, True)
    y = checkpoint(lambda x: (x * x)[: next(lengths)], x)
    with pytest.raises(Error, match=r"checkpoint: the second run returned shape \(2,"):
        y.sum().backward()


def test_checkpoint_notices_a_change_of_its_argument() -> None:
    x, w = double(B), double(B, True)
    y = checkpoint(block, x, w)
    x.add_(1)
    with pytest.raises(Error, match="Checkpoint: .*changed in place"):
        y.sum().backward()


def test_checkpoint_without_recording_only_calls() -> None:
    with nnlib.no_grad():
        y = checkpoint(block, double(B, True), double(B))
    assert not y.requires_grad
    assert checkpoint(block, double(B), double(B)).grad_fn is None


@pytest.mark.parametrize("segments", [1, 2, 3, 5])
def test_checkpoint_sequential_gives_the_same_gradients(segments: int) -> None:
    from nnlib.utils.checkpoint import checkpoint_sequential

    layers = nnlib.nn.Sequential(*[nnlib.nn.Linear(3, 3) for _ in range(5)]).double()
    found = []
    for run in (layers, lambda x: checkpoint_sequential(layers, segments, x)):
        x = double(B, True)
        layers.zero_grad()
        run(x).square().sum().backward()
        found.append([x.grad.tolist(), *(p.grad.tolist() for p in layers.parameters())])
    assert found[0] == found[1]
    with pytest.raises(ArgumentError, match="segments: expected 1 to 5 .*, got 6"):
        checkpoint_sequential(layers, 6, x)
