"""`gradcheck` and `gradgradcheck` themselves: they find what is wrong and say it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nnlib
from nnlib.autograd import Function, GradcheckError, gradcheck, gradgradcheck
from nnlib.backend.errors import DTypeError, Error


def leaf(*shape: int) -> nnlib.Tensor:
    values = np.random.default_rng(1).uniform(0.5, 1.5, shape)
    return nnlib.tensor(values, requires_grad=True)


class OneEntry(Function):
    """Wrong in a single entry of its gradient."""

    def forward(self, x: Any) -> Any:
        self.save_for_backward(x)
        return x * x

    def backward(self, grad: Any) -> Any:
        (x,) = self.saved
        out = grad * 2 * x
        if isinstance(out, np.ndarray):
            out[1, 2] *= 1.001
        return out


class HiddenInput(Function):
    """Saves something computed from its input: wrong only in the second order."""

    def forward(self, x: Any) -> Any:
        self.save_for_backward(3 * x * x)
        return x**3

    def backward(self, grad: Any) -> Any:
        (slope,) = self.saved
        return grad * slope


def test_a_single_wrong_entry_is_named() -> None:
    with pytest.raises(
        GradcheckError,
        match=r"gradcheck: OneEntry: output 0 by input 0, entry \(1, 2\) \(1 of 12 "
        r"entries differ\): analytic .*, numeric ",
    ):
        gradcheck(OneEntry.apply, leaf(3, 4))
    assert not gradcheck(OneEntry.apply, leaf(3, 4), raise_exception=False)


def test_a_wrong_entry_of_a_large_input_is_named() -> None:
    class Large(OneEntry):
        def backward(self, grad: Any) -> Any:
            out = super().backward(grad)
            out[7, 7] *= 2
            return out

    with pytest.raises(GradcheckError, match=r"Large: .* entry \(7, 7\)"):
        gradcheck(Large.apply, leaf(20, 30))


def test_the_second_order_has_its_own_errors() -> None:
    x = leaf(3)
    assert gradcheck(HiddenInput.apply, x)
    with pytest.raises(GradcheckError, match="gradgradcheck: HiddenInput: "):
        gradgradcheck(HiddenInput.apply, x)


def test_nested_inputs_several_outputs_and_large_ones() -> None:
    def function(pair: Any, c: Any, scale: float) -> Any:
        a, b = pair
        return a * b * scale, [(a / c).sum(0)]

    inputs = ([leaf(20, 10), leaf(10)], nnlib.tensor(2.0, dtype="float64"), 1.5)
    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs)
    assert gradcheck(lambda x: x.sum(), leaf())


def test_nothing_is_changed() -> None:
    x = leaf(2, 3)
    before = x.tolist()
    gradcheck(lambda x: x * x, x)
    assert x.tolist() == before
    assert x.grad is None


def test_no_gradient_where_there_should_be_one() -> None:
    with pytest.raises(GradcheckError, match="analytic 0, numeric"):
        gradcheck(lambda x: (x * 2).detach(), leaf(2))
    assert gradcheck(lambda x: x.floor(), leaf(2))


def test_what_is_not_deterministic() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(GradcheckError, match="differs between two evaluations"):
        gradcheck(lambda x: x * rng.random(), leaf(2))


def test_a_recorded_backward_pass_may_round_otherwise_but_no_more() -> None:
    class TwoWays(nnlib.autograd.Function):
        """A slope by two ways: one is taken where the pass is recorded."""

        apart = 1e-12

        def forward(self, x: Any) -> Any:
            self.save_for_backward(x)
            return x * x

        def backward(self, grad: Any) -> Any:
            (x,) = self.saved
            recorded = isinstance(grad, nnlib.Tensor)
            return grad * x * (2 + self.apart if recorded else 2)

    assert gradgradcheck(TwoWays.apply, leaf(3))
    TwoWays.apart = 1e-3
    with pytest.raises(GradcheckError, match="output 0 is another when it is recorded"):
        gradgradcheck(TwoWays.apply, leaf(3))


def test_bad_calls() -> None:
    with pytest.raises(DTypeError, match="input 0: finite differences need float64"):
        gradcheck(lambda x: x, nnlib.ones(2, requires_grad=True))
    with pytest.raises(Error, match="no input requires a gradient"):
        gradcheck(lambda x: x, nnlib.ones(2))
    wide = nnlib.tensor(1.0, dtype="float64").expand(3).requires_grad_()
    with pytest.raises(Error, match="input 0: its elements share memory"):
        gradcheck(lambda x: x * 2, wide)
