"""`vmap` against loops and PyTorch, and derivatives inside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nnlib
from nnlib import nn
from nnlib.autograd.function import Function
from nnlib.backend.errors import Error, ShapeError
from nnlib.func import (
    functional_call,
    grad,
    grad_and_value,
    hessian,
    jacfwd,
    jacrev,
    jvp,
    linearize,
    rules,
    vjp,
    vmap,
)

try:
    import torch
except ImportError:
    torch = None

needs_torch = pytest.mark.skipif(torch is None, reason="PyTorch is not installed")
RNG = np.random.default_rng(11)
X = RNG.standard_normal((5, 3, 4))
Y = RNG.standard_normal((5, 4))
W = RNG.standard_normal((4, 2))
V = RNG.standard_normal(4)
M = X @ X.swapaxes(1, 2) + 3 * np.eye(3)


def double(array: Any) -> nnlib.Tensor:
    return nnlib.tensor(array)


# Each is called with the samples of some arrays; those whose dim is None are shared.
CASES: dict[str, tuple[Any, tuple[Any, ...], tuple[Any, ...]]] = {
    "elementwise": (lambda x, y: (x * y).exp() + x / 2, (X, Y), (0, 0)),
    "shared left": (lambda v, x: v * x, (V, X), (None, 0)),
    "numbers": (lambda y: (y[0] * y).relu() - y[1] ** 2, (Y,), (0,)),
    "sum": (lambda x: x.sum(), (X,), (0,)),
    "sums": (lambda x: x.sum(0) + x.mean(-2, keepdim=True), (X,), (0,)),
    "sum of a number": (lambda y: y[0].sum() + y.sum().mean(), (Y,), (0,)),
    "max": (lambda x: x.amax(1) + x.var(-1), (X,), (0,)),
    "max and place": (lambda x: x.max(1), (X,), (0,)),
    "matrix by shared": (lambda x, w: x @ w, (X, W), (0, None)),
    "shared by matrix": (lambda w, x: w.t() @ x.t(), (W, X), (None, 0)),
    "matrix by matrix": (lambda x, z: x @ z.t(), (X, X), (0, 0)),
    "matrix by vector": (lambda x, y: x @ y, (X, Y), (0, 0)),
    "vector by matrix": (lambda y, w: y @ w, (Y, W), (0, None)),
    "shared matrix by vector": (lambda w, y: w.t() @ y, (W, Y), (None, 0)),
    "dot": (lambda y, v: y @ v, (Y, V), (0, None)),
    "batch by shared": (
        lambda x, w: x.reshape(3, 2, 2) @ w[:2],
        (X, W),
        (0, None),
    ),
    "softmax": (lambda x: x.softmax(-1) + x.log_softmax(0), (X,), (0,)),
    "cumsum": (lambda x: x.cumsum(0), (X,), (0,)),
    "sort": (lambda x: x.sort(-1), (X,), (0,)),
    "reshape": (lambda x: x.reshape(2, 6).t().unsqueeze(1), (X,), (0,)),
    "permute": (lambda x: x.permute(1, 0).flip(0), (X,), (0,)),
    "index": (lambda x: x[1:, ::2] + x[0, 0], (X,), (0,)),
    "advanced index": (lambda x: x[[0, 2]], (X,), (0,)),
    "middle": (lambda x: x * 2, (X,), (1,)),
    "last": (lambda x, y: x + y.sum(), (X, Y), (-1, 1)),
    "expand": (lambda y: y.expand(2, 4) * 1, (Y,), (0,)),
    "where": (lambda x, y: nnlib_or_torch(x).where(x > 0, x, y), (X, Y), (0, 0)),
    "var and mean": (
        lambda x: [y.sum() for y in nnlib_or_torch(x).var_mean(x, 0)],
        (X,),
        (0,),
    ),
    "std and mean": (
        lambda x: sum(nnlib_or_torch(x).std_mean(x)),
        (X,),
        (0,),
    ),
    "smallest and largest": (lambda x: x.aminmax(dim=1), (X,), (0,)),
    "trace": (lambda m: m.trace(), (M,), (0,)),
    "diagonal": (lambda x: x.diagonal(1), (X,), (0,)),
    "differences": (lambda x: x.diff(dim=0), (X,), (0,)),
    "kron": (lambda x, w: nnlib_or_torch(x).kron(x, w), (X, W), (0, None)),
    "addmm": (
        lambda y, x, w: nnlib_or_torch(x).addmm(y[:2], x, w, beta=2, alpha=3),
        (Y, X, W),
        (0, 0, None),
    ),
    "addmv": (
        lambda x, y: nnlib_or_torch(x).addmv(x[:, 0], x, y, alpha=2),
        (X, Y),
        (0, 0),
    ),
    "addr": (
        lambda x, y: nnlib_or_torch(x).addr(x, x[:, 0], y, beta=0.5),
        (X, Y),
        (0, 0),
    ),
    "cosine": (
        lambda x, y: nnlib_or_torch(x).nn.functional.cosine_similarity(x, y, dim=-1),
        (X, Y),
        (0, 0),
    ),
    "clamp": (lambda x: x.clamp(-0.5, 0.5), (X,), (0,)),
    "cat": (
        lambda y, v: nnlib_or_torch(y).cat([y, v, y]),
        (Y, V),
        (0, None),
    ),
    "stack": (
        lambda y, v: nnlib_or_torch(y).stack([y, v], 1),
        (Y, V),
        (0, None),
    ),
    "split": (lambda x: x.split(2, 1), (X,), (0,)),
    "inverse": (lambda m: nnlib_or_torch(m).linalg.inv(m), (M,), (0,)),
    "det": (lambda m: nnlib_or_torch(m).linalg.det(m), (M,), (0,)),
    "norm": (lambda x: x.norm(), (X,), (0,)),
    "outer": (lambda y, v: nnlib_or_torch(y).outer(y, v), (Y, V), (0, None)),
    "einsum": (
        lambda x, w: nnlib_or_torch(x).einsum("ij,jk->ki", x, w),
        (X, W),
        (0, None),
    ),
    "in place": (lambda x, y: (x * 1).add_(y).mul_(2), (X, Y), (0, 0)),
}


LABELS = np.array([[0, 3, 1], [2, 2, 0], [3, 1, 1], [0, -100, 2], [1, 1, 1]])


def functional_of(x: Any) -> Any:
    return nnlib_or_torch(x).nn.functional


for _reduction in ("mean", "sum", "none"):
    CASES |= {
        f"cross_entropy {_reduction}": (
            lambda x, t, r=_reduction: functional_of(x).cross_entropy(
                x, t, reduction=r, label_smoothing=0.1
            ),
            (X, LABELS),
            (0, 0),
        ),
        f"cross_entropy of one {_reduction}": (
            lambda y, t, r=_reduction: functional_of(y).cross_entropy(
                y, t, reduction=r
            ),
            (Y, LABELS[:, 0]),
            (0, 0),
        ),
        f"mse_loss {_reduction}": (
            lambda x, y, r=_reduction: functional_of(x).mse_loss(x[0], y, reduction=r),
            (X, Y),
            (0, 0),
        ),
        f"smooth_l1_loss {_reduction}": (
            lambda x, y, r=_reduction: functional_of(x).smooth_l1_loss(
                x[0], y, reduction=r
            ),
            (X, Y),
            (0, 0),
        ),
    }


def nnlib_or_torch(x: Any) -> Any:
    return nnlib if isinstance(x, nnlib.Tensor) else torch


def arrays(value: Any) -> list[Any]:
    if isinstance(value, nnlib.Tensor) or hasattr(value, "detach"):
        return [value.detach().numpy()]
    return [x for part in value for x in arrays(part)]


def looped(function: Any, args: Any, dims: Any) -> list[Any]:
    size = next(a.shape[d] for a, d in zip(args, dims, strict=True) if d is not None)
    results = []
    for i in range(size):
        sample = [
            double(a if d is None else np.take(a, i, d))
            for a, d in zip(args, dims, strict=True)
        ]
        results.append(arrays(function(*sample)))
    return [np.stack(part) for part in zip(*results, strict=True)]


@pytest.mark.parametrize("name", CASES)
def test_equal_to_a_loop_and_to_pytorch(name: str) -> None:
    function, args, dims = CASES[name]
    tensors = [double(a).requires_grad_(a.dtype.kind == "f") for a in args]
    got = vmap(function, in_dims=dims)(*tensors)
    for mine, want in zip(arrays(got), looped(function, args, dims), strict=True):
        np.testing.assert_allclose(mine, want, 1e-10, 1e-12)
    parts = [got] if isinstance(got, nnlib.Tensor) else list(got)
    total = sum((p * p).sum() for p in parts if p.is_floating_point())
    total.backward()
    if torch is None:
        return
    theirs = [torch.tensor(a, requires_grad=a.dtype.kind == "f") for a in args]
    want = torch.vmap(function, in_dims=dims)(*theirs)
    parts = [want] if isinstance(want, torch.Tensor) else list(want)
    sum((p * p).sum() for p in parts if p.is_floating_point()).backward()
    for mine, ref in zip(tensors, theirs, strict=True):
        if ref.grad is None:
            continue
        np.testing.assert_allclose(mine.grad.array, ref.grad.numpy(), 1e-8, 1e-9)


def test_every_rule_belongs_to_an_operation() -> None:
    def below(cls: type) -> Any:
        yield cls
        for child in cls.__subclasses__():
            yield from below(child)

    names = {
        cls.__name__
        for cls in below(Function)
        if cls.__module__.startswith("nnlib.ops")
    }
    assert sorted(set(rules.RULES) - names) == []


def test_out_dims_trees_and_keywords() -> None:
    def function(pair: Any, scale: Any = None) -> Any:
        return {"sum": pair["a"] + pair["b"], "product": pair["a"] * scale}

    inputs = {"a": double(X), "b": double(V)}
    out = vmap(
        function, in_dims=({"a": 0, "b": None},), out_dims={"sum": 1, "product": 0}
    )(inputs, scale=double(Y))
    np.testing.assert_allclose(out["sum"].array, np.moveaxis(X + V, 0, 1))
    np.testing.assert_allclose(out["product"].array, X * Y[:, None])


def test_nested() -> None:
    outer = vmap(
        lambda x: vmap(lambda row, v: row * v + row.sum(), (0, None))(x, double(V))
    )
    np.testing.assert_allclose(outer(double(X)).array, X * V + X.sum(-1, keepdims=True))
    pairs = vmap(vmap(lambda a, b: a @ b, (None, 0)), (0, None))(double(Y), double(Y))
    np.testing.assert_allclose(pairs.array, Y @ Y.T)


def test_chunks() -> None:
    got = vmap(lambda x: x.sum(0), chunk_size=2)(double(X))
    np.testing.assert_allclose(got.array, X.sum(1))


def test_a_users_own_function_runs_sample_by_sample() -> None:
    shapes = []

    class Cube(Function):
        def forward(self, x: Any) -> Any:
            shapes.append(x.shape)
            self.save_for_backward(x)
            return x**3

        def backward(self, grad: Any) -> Any:
            (x,) = self.saved
            return grad * 3 * x * x

    x = double(Y).requires_grad_()
    vmap(Cube.apply)(x).sum().backward()
    assert shapes == [(4,)] * 5
    np.testing.assert_allclose(x.grad.array, 3 * Y**2)


# -- derivatives -----------------------------------------------------------------------


def loss(w: Any, x: Any, y: Any) -> Any:
    return ((x @ w).tanh().sum(1) - y[:3]).square().mean()


def test_gradients_per_sample() -> None:
    w, x, y = double(W), double(X), double(Y)
    got, values = vmap(grad_and_value(loss), (None, 0, 0))(w, x, y)
    assert got.shape == (5, 4, 2)
    assert not got.requires_grad
    for i in range(5):
        leaf = double(W).requires_grad_()
        value = loss(leaf, double(X[i]), double(Y[i]))
        value.backward()
        np.testing.assert_allclose(got.array[i], leaf.grad.array, 1e-10)
        np.testing.assert_allclose(values.array[i], value.item())


@needs_torch
def test_gradients_per_sample_of_a_network_equal_pytorchs() -> None:
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).to("float64")
    names = dict(net.named_parameters())
    labels = np.array([0, 2, 1, 1, 0])

    def objective(params: Any, x: Any, y: Any) -> Any:
        out = functional_call(net, params, (x,))
        return nn.functional.cross_entropy(out.unsqueeze(0), y.unsqueeze(0))

    params = {name: p.detach() for name, p in names.items()}
    got = vmap(grad(objective), (None, 0, 0))(params, double(Y), double(labels))

    other = torch.nn.Sequential(
        torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3)
    ).double()
    theirs = {name: torch.tensor(p.detach().numpy()) for name, p in names.items()}

    def objective_there(params: Any, x: Any, y: Any) -> Any:
        out = torch.func.functional_call(other, params, (x,))
        return torch.nn.functional.cross_entropy(out.unsqueeze(0), y.unsqueeze(0))

    want = torch.vmap(torch.func.grad(objective_there), (None, 0, 0))(
        theirs, torch.tensor(Y), torch.tensor(labels)
    )
    for name, mine in got.items():
        np.testing.assert_allclose(mine.array, want[name].numpy(), 1e-9, 1e-12)
    assert all(p.grad is None for p in net.parameters())


def test_jacobians_by_rows_and_by_columns_agree() -> None:
    def f(x: Any, y: Any) -> Any:
        return (x.sin() * y).cumsum(0).reshape(2, 2) * x.sum()

    x, y = double(Y[0]), double(Y[1])
    for place in (0, 1, -1):
        rows, columns = jacrev(f, place)(x, y), jacfwd(f, place)(x, y)
        assert columns.shape == (2, 2, 4)
        np.testing.assert_allclose(columns.array, rows.array, 1e-12, 1e-14)
    second = jacfwd(jacrev(lambda x: (x**3).sum()))(x)
    np.testing.assert_allclose(second.array, np.diag(6 * Y[0]), 1e-12)
    batch = vmap(jacfwd(lambda y: y * y.sum()))(double(Y))
    np.testing.assert_allclose(
        batch.array, vmap(jacrev(lambda y: y * y.sum()))(double(Y)).array, 1e-12
    )


def test_linearize_computes_once_and_pushes_often() -> None:
    calls = []

    def f(x: Any, y: Any) -> Any:
        calls.append(1)
        return x * y, x.sum()

    x, y = double(Y[0]), double(Y[1])
    (product, total), push = linearize(f, x, y)
    for v in (x, y):
        first, second = push(v, x)
        np.testing.assert_allclose(first.array, (v * y + x * x).array)
        np.testing.assert_allclose(second.item(), v.sum().item())
    np.testing.assert_allclose(product.array, (x * y).array)
    assert total.item() == x.sum().item()
    assert len(calls) == 1


def test_random_numbers_are_the_same_for_all_samples() -> None:
    x = nnlib.ones(3)
    assert (
        len(set(vmap(lambda x: x * nnlib.rand(()), randomness="same")(x).tolist())) == 1
    )
    with pytest.raises(Error, match="vmap: randomness: .*got 'different'"):
        vmap(lambda x: x, randomness="different")


def test_second_derivatives_in_and_around() -> None:
    y = double(Y)
    got = vmap(hessian(lambda y: (y * y * y).sum()))(y)
    np.testing.assert_allclose(got.array, 6 * Y[:, :, None] * np.eye(4))
    jac = vmap(jacrev(lambda y: y * y.sum()))(y)
    want = Y.sum(1)[:, None, None] * np.eye(4) + Y[:, :, None]
    np.testing.assert_allclose(jac.array, want)
    once = grad(lambda y: vmap(grad(lambda r: (r * r * r).sum()))(y).sum())(y)
    np.testing.assert_allclose(once.array, 6 * Y)
    _, product = vmap(lambda y, v: jvp(lambda y: y * y, (y,), (v,)))(y, y)
    np.testing.assert_allclose(product.array, 2 * Y * Y)
    value, (pulled,) = vmap(lambda y: vjp(lambda y: y * y, y)[1](y))(y), (None,)
    np.testing.assert_allclose(value[0].array, 2 * Y * Y)
    assert pulled is None


def test_derivatives_flow_out() -> None:
    w = double(W).requires_grad_()
    norms = vmap(grad(loss), (None, 0, 0))(w, double(X), double(Y)).square().sum()
    norms.backward()
    assert w.grad is not None
    small = 1e-6
    moved = W.copy()
    moved[0, 0] += small
    after = vmap(grad(loss), (None, 0, 0))(double(moved), double(X), double(Y))
    slope = (after.square().sum().item() - norms.item()) / small
    np.testing.assert_allclose(w.grad.array[0, 0], slope, 1e-4)


def test_grad_forms() -> None:
    def function(tree: Any, factor: Any) -> Any:
        return (tree["a"] * tree["b"][0]).sum() * factor, "more"

    tree = {"a": double(V), "b": [double(V + 1)]}
    (got, scale), more = grad(function, (0, 1), has_aux=True)(tree, double(2.0))
    np.testing.assert_allclose(got["a"].array, 2 * (V + 1))
    np.testing.assert_allclose(got["b"][0].array, 2 * V)
    np.testing.assert_allclose(scale.item(), (V * (V + 1)).sum())
    assert more == "more"
    closed = double(V).requires_grad_()
    assert grad(lambda x: (x * closed).sum())(double(V)).requires_grad


# -- what is refused -------------------------------------------------------------------


def test_refusals() -> None:
    x = double(X)
    with pytest.raises(Error, match=r"vmap: item\(\) .*one sample"):
        vmap(lambda x: x.sum().item())(x)
    with pytest.raises(Error, match="vmap: the truth .*one sample"):
        vmap(lambda x: x if x.sum() > 0 else -x)(x)
    with pytest.raises(Error, match="inside vmap; use nnlib.func.grad"):
        vmap(lambda x: nnlib.autograd.grad(x.sum(), x))(x)
    with pytest.raises(ShapeError, match=r"vmap: batches of different sizes: \[3, 5\]"):
        vmap(lambda x, y: x + y, (1, 0))(x, double(Y))
    with pytest.raises(ShapeError, match=r"vmap: argument 0: shape .* no dimension 7"):
        vmap(lambda x: x, 7)(x)
    with pytest.raises(ShapeError, match="vmap: no argument has a batch"):
        vmap(lambda x: x, None)(x)
    with pytest.raises(ShapeError, match="vmap: the batch is empty"):
        vmap(lambda x: x)(x[:0])
    with pytest.raises(Error, match="add_: a tensor that all samples share"):
        shared = double(V)
        vmap(lambda y: shared.add_(y))(double(Y))
    with pytest.raises(ShapeError, match="grad: the function must return a tensor wi"):
        grad(lambda x: x * 2)(x)
    net = nn.Linear(4, 2)
    with pytest.raises(Error, match="functional_call: Linear: unknown names .'wrong'"):
        functional_call(net, {"wrong": x}, x)
