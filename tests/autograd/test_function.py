"""Functions of the user's own: on arrays, and as for PyTorch on Tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nnlib
from nnlib.autograd import Function, grad, gradcheck, gradgradcheck, once_differentiable
from nnlib.backend.errors import Error


class Cube(Function):
    def forward(self, x: Any) -> Any:
        self.save_for_backward(x)
        return x**3

    def backward(self, grad: Any) -> Any:
        (x,) = self.saved
        return grad * 3 * x * x


class TorchCube(Function):
    @staticmethod
    def forward(ctx: Any, x: Any, factor: float) -> Any:
        assert isinstance(x, nnlib.Tensor)
        assert not nnlib.is_grad_enabled()
        ctx.save_for_backward(x)
        ctx.factor = factor
        return x * x * x * factor

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        assert isinstance(grad, nnlib.Tensor)
        assert ctx.needs_input_grad == (True, False)
        (x,) = ctx.saved_tensors
        return grad * 3 * x * x * ctx.factor, None


class SplitCube(Function):
    @staticmethod
    def forward(x: Any) -> Any:
        return x * x * x, x * x

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        (x,) = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, cubic: Any, square: Any) -> Any:
        (x,) = ctx.saved_tensors
        return cubic * 3 * x * x + square * 2 * x


class TorchExp(Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        out = nnlib.exp(x)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (out,) = ctx.saved_tensors
        return grad * out


def leaf(*shape: int, dtype: str = "float64") -> nnlib.Tensor:
    values = np.random.default_rng(0).uniform(0.5, 1.5, shape)
    return nnlib.tensor(values, dtype=dtype, requires_grad=True)


@pytest.mark.parametrize(
    "call",
    [
        Cube.apply,
        lambda x: TorchCube.apply(x, 2.0),
        SplitCube.apply,
        TorchExp.apply,
        lambda x: SplitCube.apply(x)[1],
    ],
    ids=["arrays", "tensors", "setup_context", "saved output", "one of two"],
)
def test_first_and_second_derivative(call: Any) -> None:
    x = leaf(2, 3)
    assert gradcheck(call, x)
    assert gradgradcheck(call, x)
    call(x)[0].sum().backward()
    assert x.grad.shape == (2, 3)


class MinMax(Function):
    """Two outputs and their places, which have no gradient."""

    def forward(self, x: Any) -> Any:
        low, high = x.argmin(), x.argmax()
        self.shape, self.places = x.shape, (low, high)
        return x[low], x[high], np.array([low, high])

    def backward(self, low: Any, high: Any, _: Any) -> Any:
        out = np.zeros(self.shape)
        out[self.places[0]] += low
        out[self.places[1]] += high
        return out


def test_several_outputs_used_or_not() -> None:
    x = nnlib.tensor([3.0, 1.0, 2.0], dtype="float64", requires_grad=True)
    low, high, places = MinMax.apply(x)
    assert not places.requires_grad
    assert places.tolist() == [1, 0]
    high.backward(retain_graph=True)
    assert x.grad.tolist() == [1.0, 0.0, 0.0]
    x.grad = None
    (low * 10 + high).backward()
    assert x.grad.tolist() == [1.0, 10.0, 0.0]
    del low, high


class Two(Function):
    def forward(self, x: Any) -> Any:
        self.set_materialize_grads(False)
        return x * 2, x * 3

    def backward(self, a: Any, b: Any) -> Any:
        assert a is None
        return b * 3


def test_gradients_that_are_not_materialised() -> None:
    x = leaf(2)
    Two.apply(x)[1].sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]


class Marked(Function):
    def forward(self, x: Any) -> Any:
        rounded = np.floor(x)
        self.mark_non_differentiable(rounded)
        return x - rounded, rounded

    def backward(self, grad: Any, _: Any) -> Any:
        return grad


class TorchMarked(Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        sign = nnlib.tensor(np.sign(x.array))
        ctx.mark_non_differentiable(sign)
        return sign

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return None


def test_outputs_without_gradient() -> None:
    part, rounded = Marked.apply(leaf(2))
    assert part.requires_grad
    assert not rounded.requires_grad
    assert not TorchMarked.apply(leaf(2)).requires_grad


class Nothing(Function):
    def forward(self, x: Any, y: Any) -> Any:
        return x + y

    def backward(self, grad: Any) -> Any:
        return grad, None


def test_none_is_no_gradient() -> None:
    x, y = leaf(2), leaf(2)
    Nothing.apply(x, y).sum().backward()
    assert x.grad is not None
    assert y.grad is None


class Fused(Function):
    def forward(self, x: Any) -> Any:
        self.save_for_backward(x)
        return x * x

    @once_differentiable("square(x)")
    def backward(self, grad: Any) -> Any:
        (x,) = self.saved
        assert isinstance(x, np.ndarray)
        return grad * 2 * x


def test_a_derivative_that_ends_names_the_alternative() -> None:
    x = leaf(2)
    (dx,) = grad(Fused.apply(x).sum(), x, create_graph=True)
    np.testing.assert_allclose(dx.detach().array, 2 * x.detach().array)
    with pytest.raises(Error, match=r"Fused: .*no second derivative; use square\(x\)"):
        grad(dx.sum(), x)
    # It is refused only where it is asked for.
    y = leaf(2)
    (dx, dy) = grad((Fused.apply(x) + y * y * y).sum(), (x, y), create_graph=True)
    assert grad(dy.sum(), y)[0].shape == (2,)


class TorchFused(Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Any) -> Any:
        (x,) = ctx.saved_tensors
        return grad * 2 * x


def test_the_bare_decorator_as_in_pytorch() -> None:
    x = leaf(2)
    assert gradcheck(TorchFused.apply, x)
    (dx,) = grad(TorchFused.apply(x).sum(), x, create_graph=True)
    np.testing.assert_allclose(dx.detach().array, 2 * x.detach().array)
    with pytest.raises(Error, match="TorchFused: .*no second derivative"):
        dx.sum().backward()


def test_changing_an_input_is_refused() -> None:
    class Dirty(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.mark_dirty(x)

    with pytest.raises(Error, match="Dirty: mark_dirty: .*return a new tensor"):
        Dirty.apply(leaf(2))


class Same(Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return x

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return -grad


def test_reversing_the_gradient_of_the_identity() -> None:
    x = leaf(3)
    y = Same.apply(x)
    assert y is not x
    (y * 2).sum().backward()
    assert x.grad.tolist() == [-2.0] * 3


def test_undefined_methods_say_so() -> None:
    class Half(Function):
        def forward(self, x: Any) -> Any:
            return x * 1

    with pytest.raises(Error, match="Half: backward is not defined"):
        Half.apply(leaf(2)).sum().backward()
    with pytest.raises(Error, match="forward is not defined"):
        type("Empty", (Function,), {}).apply(leaf(2))


def test_sixteen_bit_floats() -> None:
    x = leaf(4, dtype="float16")
    y = Cube.apply(x)
    assert y.dtype == nnlib.float16
    y.sum().backward()
    assert x.grad.dtype == nnlib.float16
    np.testing.assert_allclose(
        x.grad.array, 3 * x.detach().array.astype(float) ** 2, 1e-2
    )


def test_raw_arrays_give_raw_arrays() -> None:
    assert isinstance(Cube.apply(np.ones(2)), np.ndarray)
    assert isinstance(TorchExp.apply(np.ones(2)), np.ndarray)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sixteen_bits_keep_sixteen_bits_and_their_history(dtype: str) -> None:
    x = nnlib.tensor([0.5, 1.0], dtype=dtype, requires_grad=True)
    y = nnlib.exp(x)
    assert [value.dtype.name for value in y.grad_fn._saved] == [dtype]
    (first,) = grad(y.sum(), x, create_graph=True)
    (second,) = grad(first.sum(), x)
    assert second.dtype.name == dtype
    np.testing.assert_allclose(second.array.astype(float), np.exp([0.5, 1.0]), 1e-2)
    z = Cube.apply(x)
    assert z.grad_fn._saved[0] is x.array
