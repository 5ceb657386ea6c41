"""`backward` and `grad`: values, orders, what is kept and what is refused."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

import nnlib
from nnlib.autograd import Function, grad
from nnlib.backend.errors import DTypeError, Error, ShapeError


def leaf(*values: float, dtype: Any = "float64") -> nnlib.Tensor:
    return nnlib.tensor(values, dtype=dtype, requires_grad=True)


def test_gradients_add_up_over_paths_and_calls() -> None:
    x = leaf(1.0, 2.0)
    y = x * x
    (y + y * x + x).backward(nnlib.tensor([1.0, 1.0], dtype="float64"))
    expected = 2 * x.array + 3 * x.array**2 + 1
    np.testing.assert_allclose(x.grad.array, expected)
    (x * 5).backward(nnlib.tensor([1.0, 1.0], dtype="float64"))
    np.testing.assert_allclose(x.grad.array, expected + 5)


def test_the_users_gradient_stays_as_it_is() -> None:
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    seed = nnlib.tensor([1.0, 10.0], dtype="float64")
    # The same array reaches both leaves twice.
    ((x + y) + (x + y)).backward(seed)
    assert seed.tolist() == [1.0, 10.0]
    assert x.grad.tolist() == y.grad.tolist() == [2.0, 20.0]
    x.grad.array[0] = 77
    assert y.grad.tolist() == [2.0, 20.0]


def test_a_result_that_someone_else_holds_is_not_added_to() -> None:
    kept = np.array([5.0, 6.0])

    class Constant(Function):
        def forward(self, x: Any) -> Any:
            return x * kept

        def backward(self, grad: Any) -> Any:
            return kept

    x = leaf(1.0, 2.0)
    (Constant.apply(x) + Constant.apply(x) + Constant.apply(x)).sum().backward()
    assert kept.tolist() == [5.0, 6.0]
    assert x.grad.tolist() == [15.0, 18.0]


def test_a_gradient_that_nobody_else_holds_is_not_copied() -> None:
    made: list[Any] = []

    class Fresh(Function):
        def forward(self, x: Any) -> Any:
            return x * 2

        def backward(self, grad: Any) -> Any:
            result = grad * 2
            made.append(result.ctypes.data)
            return result

    x, y = leaf(*range(1000)), leaf(*range(1000))
    Fresh.apply(x).sum().backward()
    assert x.grad.array.ctypes.data == made[0]
    # The second gradient is added to the first in place.
    (Fresh.apply(y) + Fresh.apply(y)).sum().backward()
    assert y.grad.array.ctypes.data in made[1:]


def test_third_order() -> None:
    x = leaf(2.0)
    y = (x * x * x * x).sum()
    (first,) = grad(y, x, create_graph=True)
    (second,) = grad(first.sum(), x, create_graph=True)
    (third,) = grad(second.sum(), x)
    assert (first.item(), second.item(), third.item()) == (32.0, 48.0, 48.0)
    assert not third.requires_grad
    assert x.grad is None


def test_create_graph_through_backward() -> None:
    x = leaf(3.0)
    (x * x).sum().backward(create_graph=True)
    penalty = (x.grad * x.grad).sum()
    x.grad = None
    penalty.backward()
    assert x.grad.item() == 24.0


def test_gradients_under_create_graph_are_memory_of_their_own() -> None:
    x, y = leaf(3.0, 4.0), leaf(5.0, 6.0)
    (x + y).sum().backward(create_graph=True)
    with nnlib.no_grad():
        x.grad.mul_(10)
    assert x.grad.tolist() == [10.0, 10.0]
    assert y.grad.tolist() == [1.0, 1.0]


def test_a_mixed_second_derivative() -> None:
    x, y = leaf(2.0), leaf(5.0)
    (dx,) = grad((x * x * y).sum(), x, create_graph=True)
    assert grad(dx.sum(), y)[0].item() == 4.0


def test_grad_of_a_non_leaf_and_of_the_output_itself() -> None:
    x = leaf(2.0)
    y = x * x
    z = y * y
    dy, dz = grad(z.sum(), (y, z), retain_graph=True, allow_unused=True)[:2]
    assert dy.item() == 8.0
    assert dz.item() == 1.0
    assert grad(z, (z, y, x), nnlib.tensor([1.0]))[2].item() == 32.0


def test_unused_inputs() -> None:
    x, y = leaf(2.0), leaf(3.0)
    z = (x * x).sum()
    with pytest.raises(Error, match="autograd.grad: input 1 was not used"):
        grad(z, (x, y), retain_graph=True)
    assert grad(z, (x, y), retain_graph=True, allow_unused=True)[1] is None
    assert grad(z, (x, y), materialize_grads=True)[1].tolist() == [0.0]


def test_grad_runs_only_what_leads_to_the_inputs() -> None:
    ran = []

    class Spy(Function):
        def forward(self, x: Any, *, name: str) -> Any:
            self.label = name
            return x * 1

        def backward(self, grad: Any) -> Any:
            ran.append(self.label)
            return grad

    class Needs(Function):
        def forward(self, x: Any, y: Any) -> Any:
            return x + y

        def backward(self, grad: Any) -> Any:
            ran.append(self.needs_input_grad)
            return grad, grad

    x, y = leaf(1.0), leaf(1.0)
    z = Needs.apply(Spy.apply(x, name="x"), Spy.apply(y, name="y"))
    grad(z, x, retain_graph=True)
    assert ran == [(True, False), "x"]
    z.backward()
    assert sorted(map(str, ran[2:])) == ["(True, True)", "x", "y"]


def test_inputs_of_backward() -> None:
    x, y = leaf(2.0), leaf(3.0)
    z = x * y
    w = (z * z).sum()
    w.backward(inputs=[x, z])
    assert y.grad is None
    assert x.grad.item() == 36.0
    assert z.grad.item() == 12.0


def test_several_roots() -> None:
    x = leaf(2.0)
    nnlib.autograd.backward([(x * x).sum(), (3 * x).sum()])
    assert x.grad.item() == 7.0


def test_no_dimensions_give_arrays_not_scalars() -> None:
    x = nnlib.tensor(3.0, requires_grad=True)
    y = x * x + x * x
    (y * y).backward()
    assert isinstance(x.grad.array, np.ndarray)
    assert x.grad.dtype == nnlib.float32
    (dx,) = grad(x * x + x, x)
    assert isinstance(dx.array, np.ndarray)


# -- what is kept, and for how long ------------------------------------------------


def test_a_second_backward_says_how_to_keep_the_graph() -> None:
    x = leaf(2.0)
    y = x * x
    y.sum().backward()
    with pytest.raises(Error, match="Mul: backward a second time.*retain_graph=True"):
        y.backward()
    assert x.grad.item() == 4.0


def test_retain_graph() -> None:
    x = leaf(2.0)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == 8.0


def test_two_losses_on_a_part_that_saved_nothing() -> None:
    x, y = leaf(2.0), leaf(3.0)
    z = x + y
    (z * z).sum().backward()
    (z * z * z).sum().backward()
    assert x.grad.item() == 10.0 + 75.0


def test_saved_memory_is_freed_as_the_pass_goes() -> None:
    alive: list[int] = []

    class Witness(Function):
        def forward(self, x: Any) -> Any:
            mine = np.array(x)
            references.append(weakref.ref(mine))
            self.save_for_backward(mine)
            return x * 2

        def backward(self, grad: Any) -> Any:
            alive.append(sum(r() is not None for r in references))
            return grad * 2

    references: list[Any] = []
    gc.disable()
    try:
        y = x = leaf(1.0, 1.0)
        for _ in range(5):
            y = Witness.apply(y)
        y.sum().backward()
    finally:
        gc.enable()
    assert alive == [5, 4, 3, 2, 1]
    assert not any(r() is not None for r in references)
    assert x.grad.tolist() == [32.0, 32.0]


def test_a_graph_is_freed_without_the_garbage_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        x = leaf(1.0, 2.0)
        y = nnlib.exp(x) * x
        y.retain_grad()
        z = (y / x).sum()
        nodes = [weakref.ref(t.grad_fn) for t in (y, z)]
        tensors = [weakref.ref(t) for t in (y, z)]
        twin = y.detach()
        z.backward()
        del y, z
        assert [r() for r in nodes + tensors] == [None] * 4
        assert twin.tolist()
    finally:
        gc.enable()


def test_a_detached_twin_does_not_keep_the_graph() -> None:
    x = leaf(1.0, 2.0)
    y = x * x
    node = weakref.ref(y.grad_fn)
    twin = y.detach()
    del y
    assert node() is None
    assert twin.tolist() == [1.0, 4.0]


def test_ten_thousand_operations() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(10_000):
        y = y * 1.0001 + 0.0
    y.sum().backward()
    np.testing.assert_allclose(x.grad.item(), 1.0001**10_000, rtol=1e-9)
    (dx,) = grad(_long(x, 3000).sum(), x, create_graph=True)
    dx.sum().backward()


def _long(x: nnlib.Tensor, count: int) -> nnlib.Tensor:
    y = x
    for _ in range(count):
        y = y * x
    return y


def test_a_graph_of_a_hundred_thousand_nodes_is_freed_without_recursion() -> None:
    y = leaf(1.0)
    for _ in range(100_000):
        y = -y
    del y


# -- what is refused ---------------------------------------------------------------


def test_backward_on_a_non_scalar() -> None:
    with pytest.raises(
        ShapeError, match=r"Tensor.backward: .*scalar.*shape \(2,\).*gradient="
    ):
        (leaf(1.0, 2.0) * 2).backward()


def test_backward_without_history() -> None:
    with pytest.raises(Error, match="Tensor.backward: .*no history"):
        nnlib.tensor(1.0).backward()
    with pytest.raises(Error, match="autograd.grad: input 0 does not require"):
        grad((leaf(1.0) * 1).sum(), nnlib.tensor(1.0))


def test_a_gradient_of_another_shape() -> None:
    with pytest.raises(ShapeError, match=r"gradient: expected shape \(2,\), got \(3,"):
        (leaf(1.0, 2.0) * 2).backward(nnlib.tensor([1.0, 2.0, 3.0]))
    with pytest.raises(ShapeError, match="1 outputs, but 2 gradients"):
        grad(leaf(1.0) * 2, leaf(1.0), [nnlib.tensor([1.0])] * 2)


def test_a_saved_input_changed_in_place() -> None:
    x, y = leaf(1.0, 2.0), nnlib.tensor([1.0, 2.0], dtype="float64")
    z = x * y
    y.add_(1)
    with pytest.raises(Error, match="Mul: .*shape.*changed in place.*clone"):
        z.sum().backward()


def test_a_saved_input_changed_through_a_detached_twin() -> None:
    x, y = leaf(1.0, 2.0), nnlib.tensor([1.0, 2.0], dtype="float64")
    z = x * y
    y.detach().add_(1)
    with pytest.raises(Error, match="Mul: .*changed in place"):
        z.sum().backward()


@pytest.mark.parametrize("change", ["itself", "twin", "earlier twin"])
def test_a_saved_output_changed_in_place(change: str) -> None:
    x = leaf(1.0, 2.0)
    y = nnlib.exp(x)
    twin = y.detach()
    z = (y * 2).sum()
    if change == "itself":
        y.add_(1)
    elif change == "twin":
        y.detach().add_(1)
    else:
        twin.add_(1)
    with pytest.raises(Error, match="Exp: .*changed in place"):
        z.backward()


def test_a_change_before_saving_is_no_change() -> None:
    x, y = leaf(1.0, 2.0), nnlib.tensor([1.0, 2.0], dtype="float64")
    y.add_(1)
    y.detach().mul_(2)
    (x * y).sum().backward()
    assert x.grad.tolist() == [4.0, 6.0]


class Wrong(Function):
    def forward(self, x: Any, *, result: Any) -> Any:
        self.result = result
        return x * 1

    def backward(self, grad: Any) -> Any:
        return self.result


@pytest.mark.parametrize(
    ("result", "error", "pattern"),
    [
        (np.ones(3), ShapeError, r"Wrong.backward: .*shape \(3,\).* \(2,\)"),
        (np.ones(2, np.float32), DTypeError, "Wrong.backward: .*float32.*float64"),
        ("no", DTypeError, "Wrong.backward: expected an array.*str"),
        ((), Error, "Wrong.backward: returned 0 gradients, forward has 1"),
    ],
)
def test_a_wrong_gradient_names_the_operation(
    result: Any, error: type[Exception], pattern: str
) -> None:
    with pytest.raises(error, match=pattern):
        Wrong.apply(leaf(1.0, 2.0), result=result).sum().backward()


def test_an_exception_inside_backward_leaves_everything_as_it_was() -> None:
    class Bomb(Function):
        def forward(self, x: Any) -> Any:
            self.save_for_backward(x)
            return x * 2

        def backward(self, grad: Any) -> Any:
            if armed:
                raise ZeroDivisionError("boom")
            (x,) = self.saved
            return grad * 2 + x * 0

    x = leaf(1.0, 2.0)
    y = Bomb.apply(x)
    z = y.sum()
    armed = True
    for create_graph in (False, True):
        with pytest.raises(ZeroDivisionError):
            z.backward(retain_graph=True, create_graph=create_graph)
        assert nnlib.is_grad_enabled()
        assert x.grad is None
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        np.ones(1) / np.zeros(1)
    armed = False
    z.backward()
    assert x.grad.tolist() == [2.0, 2.0]
