"""Every optimiser against PyTorch's over 50 steps, in float64, with its options."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import nnlib
from nnlib import optim

try:
    import torch
except ImportError:
    torch = None

needs_torch = pytest.mark.skipif(torch is None, reason="PyTorch is not installed")

CASES = [
    ("SGD", {"lr": 0.05}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "dampening": 0.3, "maximize": True}),
    ("SGD", {"lr": 0.05, "momentum": 0.8, "nesterov": True, "weight_decay": 0.01}),
    ("Adagrad", {}),
    ("Adagrad", {"lr_decay": 0.1, "weight_decay": 0.1, "maximize": True}),
    ("Adagrad", {"initial_accumulator_value": 0.5, "eps": 1e-6}),
    ("Adadelta", {}),
    ("Adadelta", {"lr": 0.5, "rho": 0.8, "weight_decay": 0.1, "maximize": True}),
    ("RMSprop", {}),
    ("RMSprop", {"momentum": 0.9, "weight_decay": 0.1, "maximize": True}),
    ("RMSprop", {"centered": True}),
    ("RMSprop", {"centered": True, "momentum": 0.5, "alpha": 0.9}),
    ("Adam", {}),
    ("Adam", {"amsgrad": True, "weight_decay": 0.1}),
    ("Adam", {"betas": (0.8, 0.9), "eps": 1e-3, "maximize": True}),
    ("AdamW", {}),
    ("AdamW", {"amsgrad": True, "weight_decay": 0.3, "maximize": True}),
    ("Adamax", {}),
    ("Adamax", {"weight_decay": 0.1, "betas": (0.7, 0.95), "maximize": True}),
    ("NAdam", {}),
    ("NAdam", {"weight_decay": 0.1, "momentum_decay": 0.05}),
    ("NAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("RAdam", {}),
    ("RAdam", {"weight_decay": 0.1, "betas": (0.8, 0.9)}),
    ("RAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("Rprop", {}),
    ("Rprop", {"etas": (0.3, 1.5), "step_sizes": (1e-3, 0.02), "maximize": True}),
    ("ASGD", {}),
    ("ASGD", {"lambd": 0.1, "alpha": 0.5, "t0": 2, "weight_decay": 0.1}),
]
each_case = pytest.mark.parametrize(
    ("name", "options"), CASES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(CASES)]
)
SHAPES = [(3, 4), (5,), (), (2, 1, 3), (0, 2), (9000,)]


@pytest.fixture(autouse=True)
def wide_scalars() -> Any:
    # PyTorch keeps NAdam's scalar state in its default dtype.
    if torch is None:
        yield
        return
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def start() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape) for shape in SHAPES]


def leaves(library: Any, dtype: str = "float64") -> list[Any]:
    kind = getattr(library, dtype)
    return [library.tensor(x).to(kind).requires_grad_() for x in start()]


def gradient(step: int, value: np.ndarray) -> np.ndarray:
    """A gradient that depends on the parameter, as a real one."""
    noise = np.random.default_rng(step).normal(size=value.shape)
    return np.asarray(0.5 * np.sin(3 * value) + 0.3 * noise)


def set_gradients(library: Any, params: list[Any], step: int) -> None:
    for index, p in enumerate(params):
        # Parameter 1 has a gradient only from the fourth step on.
        if index != 1 or step > 3:
            value = np.asarray(p.detach())
            p.grad = library.tensor(gradient(step, value)).to(p.dtype)


def groups(params: list[Any], options: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"params": params[:2]},
        {"params": params[2:], "lr": 0.02, "weight_decay": 0.05},
    ]


@needs_torch
@each_case
def test_fifty_steps_equal_pytorchs(name: str, options: dict[str, Any]) -> None:
    mine, theirs = leaves(nnlib), leaves(torch)
    one = getattr(optim, name)(groups(mine, options), **options)
    two = getattr(torch.optim, name)(groups(theirs, options), **options)
    for step in range(50):
        if step == 30:
            for optimizer in (one, two):
                optimizer.param_groups[0]["lr"] *= 0.5
        set_gradients(nnlib, mine, step)
        set_gradients(torch, theirs, step)
        one.step()
        two.step()
        for a, b in zip(mine, theirs, strict=True):
            np.testing.assert_allclose(
                a.detach().numpy(), b.detach().numpy(), 1e-10, 1e-12
            )
        one.zero_grad()
        two.zero_grad()


@needs_torch
@each_case
def test_state_is_exchanged_with_pytorch(name: str, options: dict[str, Any]) -> None:
    mine, theirs = leaves(nnlib), leaves(torch)
    one = getattr(optim, name)(mine, **options)
    two = getattr(torch.optim, name)(theirs, **options)
    for step in range(4, 8):
        set_gradients(torch, theirs, step)
        two.step()
    with nnlib.no_grad():
        for a, b in zip(mine, theirs, strict=True):
            a.copy_(nnlib.tensor(b.detach().numpy()))
    one.load_state_dict(two.state_dict())
    back = getattr(torch.optim, name)(theirs, **options)
    back.load_state_dict(torch_state(one.state_dict()))
    for step in range(8, 12):
        set_gradients(nnlib, mine, step)
        set_gradients(torch, theirs, step)
        one.step()
        back.step()
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), 1e-10)


def torch_state(state: dict[str, Any]) -> dict[str, Any]:
    """Turn the tensors of a state into PyTorch's, numbers too, as it has them."""

    def convert(name: str, value: Any) -> Any:
        if isinstance(value, nnlib.Tensor):
            return torch.tensor(value.numpy())
        return (
            torch.tensor(float(value)) if name in ("mu_product", "eta", "mu") else value
        )

    states = {
        number: {name: convert(name, value) for name, value in entry.items()}
        for number, entry in state["state"].items()
    }
    return {"state": states, "param_groups": state["param_groups"]}


@each_case
def test_state_goes_on_where_it_was(name: str, options: dict[str, Any]) -> None:
    first, second = leaves(nnlib), leaves(nnlib)
    one = getattr(optim, name)(groups(first, options), **options)
    two = getattr(optim, name)(groups(second, options))
    for step in range(5):
        set_gradients(nnlib, first, step)
        one.step()
    state = one.state_dict()
    with nnlib.no_grad():
        for a, b in zip(second, first, strict=True):
            a.copy_(b)
    two.load_state_dict(state)
    twins = copy.deepcopy((second, two))
    pickled = pickle.loads(pickle.dumps((second, two)))
    for params, optimizer in ((first, one), (second, two), twins, pickled):
        for step in range(5, 9):
            set_gradients(nnlib, params, step)
            optimizer.step()
    for copied in (second, twins[0], pickled[0]):
        for a, b in zip(first, copied, strict=True):
            np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())


@each_case
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_narrow_parameters(name: str, options: dict[str, Any], dtype: str) -> None:
    narrow, wide = leaves(nnlib, dtype), leaves(nnlib)
    one = getattr(optim, name)(narrow, **options)
    two = getattr(optim, name)(wide, **options)
    for step in range(4, 10):
        set_gradients(nnlib, narrow, step)
        for a, b in zip(narrow, wide, strict=True):
            with nnlib.no_grad():
                b.copy_(a.detach().double())
            b.grad = a.grad.double()
        one.step()
        two.step()
        tolerance = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 1e-4}[dtype]
        for a, b in zip(narrow, wide, strict=True):
            assert str(a.dtype) == dtype
            np.testing.assert_allclose(
                a.detach().double().numpy(), b.detach().numpy(), tolerance, tolerance
            )
    for entry in one.state.values():
        for value in entry.values():
            if isinstance(value, nnlib.Tensor):
                assert value.dtype == np.float32


@each_case
def test_l1_penalty(name: str, options: dict[str, Any]) -> None:
    mine, other = leaves(nnlib), leaves(nnlib)
    one = getattr(optim, name)(mine, **options, l1=0.1)
    two = getattr(optim, name)(other, **options)
    sign = -1 if options.get("maximize") else 1
    for step in range(4, 7):
        set_gradients(nnlib, mine, step)
        for a, b in zip(mine, other, strict=True):
            b.grad = a.grad + nnlib.tensor(0.1 * sign * np.sign(b.detach().numpy()))
        one.step()
        two.step()
        for a, b in zip(mine, other, strict=True):
            np.testing.assert_allclose(
                a.detach().numpy(), b.detach().numpy(), 1e-9, 1e-12
            )


def test_adam_without_bias_correction() -> None:
    x = nnlib.tensor([1.0, -2.0], dtype="float64", requires_grad=True)
    optimizer = optim.Adam([x], lr=0.1, bias_correction=False)
    value, m, v = np.array([1.0, -2.0]), np.zeros(2), np.zeros(2)
    for _ in range(5):
        x.grad = nnlib.tensor(2 * value)
        optimizer.step()
        g = 2 * value
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        value = value - 0.1 * m / (np.sqrt(v) + 1e-8)
        np.testing.assert_allclose(x.detach().numpy(), value, 1e-12)


def test_memory_that_kernels_cannot_take_as_it_is() -> None:
    wide = nnlib.zeros(4, 6, dtype="float64")
    gaps = wide[:, ::2].detach().requires_grad_()
    turned = nnlib.tensor(np.ones((3, 2)).T).detach().requires_grad_()
    turned = nnlib.from_numpy(np.ones((3, 2)).T).requires_grad_()
    optimizer = optim.SGD([gaps, turned], lr=1.0, momentum=0.5)
    for _ in range(2):
        gaps.grad = nnlib.from_numpy(np.arange(12.0).reshape(3, 4).T)
        turned.grad = nnlib.tensor(np.arange(6.0).reshape(2, 3))
        optimizer.step()
    want = -2.5 * np.arange(12.0).reshape(3, 4).T
    np.testing.assert_allclose(gaps.detach().numpy(), want)
    np.testing.assert_allclose(wide.numpy()[:, ::2], want)
    assert not wide.numpy()[:, 1::2].any()
    np.testing.assert_allclose(
        turned.detach().numpy(), 1 - 2.5 * np.arange(6.0).reshape(2, 3)
    )


def test_parameters_that_move_are_followed() -> None:
    layer = nnlib.nn.Linear(3, 2)
    optimizer = optim.Adam(layer.parameters(), lr=0.1)
    for dtype in ("float32", "float64", "float16", "float32"):
        layer.to(dtype)
        layer(nnlib.ones(4, 3, dtype=dtype)).sum().backward()
        before = layer.weight.detach().clone()
        optimizer.step()
        assert float((layer.weight.detach() - before).abs().min()) > 0.05
        entry = optimizer.state[layer.weight]
        assert entry["exp_avg"].dtype == {"float16": "float32"}.get(dtype, dtype)
        optimizer.zero_grad()


def test_a_step_counts_as_a_change_in_place() -> None:
    x = nnlib.ones(3, requires_grad=True)
    optimizer = optim.SGD([x], lr=0.1)
    y = (x * x).sum()
    x.grad = nnlib.ones(3)
    optimizer.step()
    with pytest.raises(nnlib.Error, match="changed in place"):
        y.backward()


def test_closure_hooks_and_zero_grad() -> None:
    x = nnlib.tensor([2.0], requires_grad=True)
    optimizer = optim.SGD([x], lr=0.25)
    log: list[str] = []
    optimizer.register_step_pre_hook(lambda *args: log.append("before"))
    handle = optimizer.register_step_post_hook(lambda *args: log.append("after"))

    def closure() -> Any:
        optimizer.zero_grad()
        loss = (x * x).sum()
        loss.backward()
        return loss

    with nnlib.no_grad():
        assert optimizer.step(closure).item() == 4
    assert x.item() == 1 and log == ["before", "after"]
    handle.remove()
    optimizer.zero_grad(set_to_none=False)
    assert x.grad is not None and x.grad.item() == 0
    optimizer.step()
    optimizer.zero_grad()
    assert x.grad is None and log[-1] == "before"
    optimizer.step()
    assert x.item() == 1


@pytest.mark.parametrize("change", ["zero_grad", "clip_norm", "clip_value"])
def test_a_changed_gradient_is_noticed_by_the_graph_that_saved_it(change: str) -> None:
    x = nnlib.tensor([2.0, 3.0], requires_grad=True)
    (x * x * x).sum().backward(create_graph=True)
    assert x.grad is not None
    penalty = (x.grad * x.grad).sum()
    if change == "zero_grad":
        optim.SGD([x]).zero_grad(set_to_none=False)
    elif change == "clip_norm":
        nnlib.nn.utils.clip_grad_norm_([x], 0.1)
    else:
        nnlib.nn.utils.clip_grad_value_([x], 0.1)
    with pytest.raises(nnlib.Error, match="changed in place"):
        penalty.backward()


def test_groups() -> None:
    a, b, c = (nnlib.ones(2, requires_grad=True) for _ in range(3))
    optimizer = optim.SGD([("a", a), ("b", b)], lr=0.1)
    assert optimizer.param_groups[0]["param_names"] == ["a", "b"]
    optimizer.add_param_group({"params": c, "lr": 1.0})
    assert optimizer.param_groups[1]["params"][0] is c
    assert [g["lr"] for g in optimizer.param_groups] == [0.1, 1.0]
    assert "Parameter Group 1" in repr(optimizer)
    for x in (a, b, c):
        x.grad = nnlib.ones(2)
    optimizer.step()
    np.testing.assert_allclose(c.detach().numpy(), 0)
    np.testing.assert_allclose(a.detach().numpy(), 0.9)


def test_a_group_that_grows_is_noticed() -> None:
    a, b = (nnlib.ones(2, requires_grad=True) for _ in range(2))
    optimizer = optim.SGD([a], lr=0.5)
    a.grad, b.grad = nnlib.ones(2), nnlib.ones(2)
    optimizer.step()
    optimizer.param_groups[0]["params"].append(b)
    optimizer.step()
    assert a.tolist() == [0, 0] and b.tolist() == [0.5, 0.5]


def test_bad_arguments() -> None:
    x = nnlib.ones(2, requires_grad=True)
    bad: list[tuple[Any, type[Exception], str]] = [
        (lambda: optim.SGD([]), nnlib.Error, "SGD: params: expected at least one"),
        (lambda: optim.SGD(x), nnlib.DTypeError, "got a single Tensor; put it into"),
        (lambda: optim.SGD({x}), nnlib.DTypeError, "a set has no order"),
        (lambda: optim.SGD([3]), nnlib.DTypeError, "parameter 0: expected a Tensor"),
        (lambda: optim.SGD([x * 2]), nnlib.Error, "only leaves can be optimised"),
        (
            lambda: optim.SGD([nnlib.tensor([1])]),
            nnlib.DTypeError,
            "expected a floating dtype, got int64",
        ),
        (lambda: optim.SGD([x, x]), nnlib.Error, r"parameter 1 \(shape \(2,\)\) is in"),
        (lambda: optim.SGD([x], lr=-1), nnlib.Error, "SGD: lr: expected at least 0"),
        (lambda: optim.SGD([x], nesterov=True), nnlib.Error, "nesterov: needs a mom"),
        (lambda: optim.Adam([x], betas=(1, 0.9)), nnlib.Error, "Adam: betas: expected"),
        (lambda: optim.Adam([x], eps=-1), nnlib.Error, "Adam: eps: expected at least"),
        (lambda: optim.Adam([x], l1=-1), nnlib.Error, "Adam: l1: expected at least 0"),
        (lambda: optim.Adadelta([x], rho=2), nnlib.Error, "rho: expected 0 to 1"),
        (lambda: optim.Rprop([x], etas=(1, 2)), nnlib.Error, "Rprop: etas: expected 0"),
        (
            lambda: optim.Rprop([x], etas=0.5),
            nnlib.DTypeError,
            "Rprop: etas: .* a pair",
        ),
        (
            lambda: optim.Rprop([x], step_sizes=(2, 1)),
            nnlib.Error,
            "Rprop: step_sizes: expected 0 <= smallest <= largest",
        ),
        (lambda: optim.ASGD([x], lr=-1), nnlib.Error, "ASGD: lr: expected at least 0"),
        (
            lambda: optim.Adam([{"params": [x], "lr": float("nan")}]),
            nnlib.Error,
            "lr: expected at least 0, got nan",
        ),
    ]
    for call, error, message in bad:
        with pytest.raises(error, match=message):
            call()


def test_states_that_do_not_fit() -> None:
    x, y = nnlib.ones(2, requires_grad=True), nnlib.ones(3, requires_grad=True)
    optimizer = optim.Adam([x])
    x.grad = nnlib.ones(2)
    optimizer.step()
    state = optimizer.state_dict()
    with pytest.raises(nnlib.ShapeError, match=r"exp_avg: expected shape \(3,\)"):
        optim.Adam([y]).load_state_dict(state)
    with pytest.raises(nnlib.Error, match="group 0: expected 2 parameters, got 1"):
        optim.Adam([x, y]).load_state_dict(state)
    with pytest.raises(nnlib.Error, match="expected 2 parameter groups, got 1"):
        optim.Adam([{"params": [x]}, {"params": [y]}]).load_state_dict(state)
    with pytest.raises(nnlib.DTypeError, match="expected a mapping with 'state'"):
        optim.Adam([x]).load_state_dict({})


def test_gradients_that_do_not_fit() -> None:
    x = nnlib.ones(2, requires_grad=True)
    optimizer = optim.SGD([x], lr=0.1)
    x._grad = nnlib.ones(3)
    with pytest.raises(nnlib.ShapeError, match="SGD.step: group 0, parameter 0: expec"):
        optimizer.step()
    x._grad = nnlib.ones(2, dtype="float64")
    with pytest.raises(nnlib.DTypeError, match="expected a gradient of dtype float32"):
        optimizer.step()
