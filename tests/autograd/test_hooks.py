"""Hooks on tensors, and kept gradients of intermediate results."""

from __future__ import annotations

from typing import Any

import pytest

import nnlib
from nnlib.autograd import grad
from nnlib.backend.errors import DTypeError, Error, ShapeError


def leaf(*values: float) -> nnlib.Tensor:
    return nnlib.tensor(values, requires_grad=True)


def test_a_hook_sees_and_replaces_a_gradient() -> None:
    x = leaf(1.0, 2.0)
    y = x * 3
    seen: list[Any] = []
    x.register_hook(lambda g: seen.append(("x", g.tolist())))
    y.register_hook(lambda g: seen.append(("y", g.tolist())))
    y.register_hook(lambda g: g * 10)
    (y * y).sum().backward()
    assert seen == [("y", [6.0, 12.0]), ("x", [180.0, 360.0])]
    assert x.grad.tolist() == [180.0, 360.0]


def test_a_kept_gradient_is_what_the_hooks_made_of_it() -> None:
    y = leaf(1.0) * 3
    y.retain_grad()
    y.register_hook(lambda g: g * 10)
    y.sum().backward()
    assert y.grad.tolist() == [10.0]


def test_hooks_run_in_order_and_can_be_removed() -> None:
    x = leaf(1.0)
    first = x.register_hook(lambda g: g + 1)
    x.register_hook(lambda g: g * 2)
    (x * 3).sum().backward()
    assert x.grad.item() == 8.0
    first.remove()
    first.remove()
    x.grad = None
    (x * 3).sum().backward()
    assert x.grad.item() == 6.0
    with x.register_hook(lambda g: g * 0):
        pass
    x.grad = None
    (x * 3).sum().backward()
    assert x.grad.item() == 6.0


def test_hooks_under_grad_and_create_graph() -> None:
    x = leaf(2.0)
    x.register_hook(lambda g: g * 2)
    y = x * x
    y.register_hook(lambda g: g * 3)
    (dx,) = grad((y * x).sum(), x, create_graph=True)
    # d(y x)/dx with the way through y weighted by 3, all of it by 2.
    assert dx.item() == 2 * (3 * 2 * 4 + 4)
    assert dx.requires_grad


def test_a_hook_that_returns_another_shape() -> None:
    x = leaf(1.0, 2.0)
    x.register_hook(lambda g: g.sum())
    with pytest.raises(ShapeError, match=r"hook: expected .*\(2,\), got \(\)"):
        (x * 2).sum().backward()
    y = leaf(1.0, 2.0)
    z = y * 2
    z.register_hook(lambda g: g.sum())
    with pytest.raises(ShapeError, match=r"hook: expected .*\(2,\), got \(\)"):
        z.sum().backward()
    with pytest.raises(Error, match="register_hook: this tensor does not require"):
        nnlib.ones(1).register_hook(print)


def test_retain_grad() -> None:
    x = leaf(1.0, 2.0)
    y = x * 3
    y.retain_grad()
    y.retain_grad()
    z = (y * y).sum()
    z.backward(retain_graph=True)
    assert y.grad.tolist() == [6.0, 12.0]
    assert x.grad.tolist() == [18.0, 36.0]
    z.backward()
    assert x.grad.tolist() == [36.0, 72.0]
    assert y.grad.tolist() == [12.0, 24.0]


def test_post_accumulate_hook_sees_the_sum() -> None:
    x = leaf(1.0)
    seen = []
    handle = x.register_post_accumulate_grad_hook(lambda t: seen.append(t.grad.item()))
    (x * 3 + x * 4).sum().backward()
    (x * 1).sum().backward()
    handle.remove()
    (x * 1).sum().backward()
    assert seen == [7.0, 8.0]
    with pytest.raises(Error, match="only leaves accumulate"):
        (x * 1).register_post_accumulate_grad_hook(print)


def test_a_kept_gradient_is_that_of_the_changed_value() -> None:
    x = leaf(1.0, 1.0)
    y = x * 3
    y.retain_grad()
    y.mul_(2)
    (y * 5).sum().backward()
    assert y.grad.tolist() == [5.0, 5.0]
    base = x * 1
    view = base[:1]
    base.retain_grad()
    view.retain_grad()
    view.mul_(4)
    (base * 7).sum().backward()
    assert base.grad.tolist() == [7.0, 7.0]
    assert view.grad is None


def test_a_hook_keeps_the_dtype() -> None:
    x = leaf(1.0)
    with x.register_hook(lambda g: g.double()):
        with pytest.raises(DTypeError, match="float32, got float64"):
            (x * 3).sum().backward()
    y = x * 3
    y.register_hook(lambda g: g.double())
    with pytest.raises(DTypeError, match="hook: expected a gradient of dtype float32"):
        y.sum().backward()


def test_a_backward_inside_a_hook() -> None:
    x, w = leaf(2.0), leaf(5.0)

    def inner(factor: Any) -> None:
        # A hook runs as the pass does: not recorded.
        assert not nnlib.is_grad_enabled()
        with nnlib.enable_grad():
            (w * factor).sum().backward()

    x.register_hook(lambda g: inner(w))
    y = x * x
    y.register_hook(lambda g: inner(3))
    y.sum().backward()
    assert x.grad.item() == 4.0
    assert w.grad.item() == 13.0
