"""Operators of tensors with tensors, numbers and NumPy arrays, on either side."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nnlib
from nnlib.backend.errors import DTypeError, Error, ShapeError

BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
IN_PLACE = {
    "+=": operator.iadd,
    "-=": operator.isub,
    "*=": operator.imul,
    "/=": operator.itruediv,
    "//=": operator.ifloordiv,
    "%=": operator.imod,
    "**=": operator.ipow,
}
BITS = {
    "&": operator.and_,
    "|": operator.or_,
    "^": operator.xor,
    "<<": operator.lshift,
    ">>": operator.rshift,
}
LEFT = np.array([3.5, -2.0, 1.25])
RIGHT = np.array([2.0, 4.0, 0.5])


def values(x: Any) -> np.ndarray:
    assert isinstance(x, nnlib.Tensor)
    return x.detach().numpy()


@pytest.mark.parametrize("symbol", BINARY)
def test_both_sides(symbol: str) -> None:
    function = BINARY[symbol]
    left = abs(LEFT) if symbol == "**" else LEFT
    x, y = nnlib.tensor(left), nnlib.tensor(RIGHT)
    want = function(left, RIGHT)
    np.testing.assert_allclose(values(function(x, y)), want)
    np.testing.assert_allclose(values(function(x, RIGHT)), want)
    np.testing.assert_allclose(values(function(left, y)), want)
    np.testing.assert_allclose(values(function(x, 2.5)), function(left, 2.5))
    np.testing.assert_allclose(values(function(2.5, y)), function(2.5, RIGHT))
    np.testing.assert_allclose(
        values(function(np.float64(2.5), y)), function(2.5, RIGHT)
    )


@pytest.mark.parametrize("symbol", IN_PLACE)
def test_in_place(symbol: str) -> None:
    function = IN_PLACE[symbol]
    left = abs(LEFT)
    x = before = nnlib.tensor(left)
    memory = x.array
    x = function(x, nnlib.tensor(RIGHT))
    assert x is before
    assert x.array is memory
    np.testing.assert_allclose(values(x), function(left.copy(), RIGHT))


@pytest.mark.parametrize("symbol", BITS)
def test_bits(symbol: str) -> None:
    function = BITS[symbol]
    a, b = np.array([6, 5, 12]), np.array([3, 1, 2])
    want = function(a, b)
    assert values(function(nnlib.tensor(a), nnlib.tensor(b))).tolist() == want.tolist()
    assert values(function(nnlib.tensor(a), 2)).tolist() == function(a, 2).tolist()
    assert values(function(9, nnlib.tensor(b))).tolist() == function(9, b).tolist()
    with pytest.raises(DTypeError, match="expected integers or bool"):
        function(nnlib.ones(2), 1)


def test_unary() -> None:
    x = nnlib.tensor([-1.5, 2.5])
    assert values(-x).tolist() == [1.5, -2.5]
    assert +x is x
    assert values(abs(x)).tolist() == [1.5, 2.5]
    assert values(round(x)).tolist() == [-2.0, 2.0]
    assert values(~nnlib.tensor([True, False])).tolist() == [False, True]
    assert values(~nnlib.tensor([0, 5])).tolist() == [-1, -6]


def test_matmul_operators() -> None:
    a, b = np.arange(6.0).reshape(2, 3), np.arange(6.0).reshape(3, 2)
    x, y = nnlib.tensor(a), nnlib.tensor(b)
    for got in (x @ y, x @ b, a @ y):
        np.testing.assert_allclose(values(got), a @ b)
    square = before = nnlib.tensor(a @ b)
    square @= square
    assert square is before


def test_numpy_functions_call_the_operations() -> None:
    x = nnlib.tensor([1.0, 4.0], requires_grad=True)
    y = np.sqrt(x)
    assert isinstance(y, nnlib.Tensor)
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.5, 0.25]


def test_equality_with_what_is_no_number() -> None:
    x = nnlib.ones(2)
    assert (x == None) is False  # noqa: E711
    assert (x != None) is True  # noqa: E711
    assert (x == "text") is False
    assert len({x, x}) == 1


@pytest.mark.parametrize("symbol", ["+", "-", "*", "/", "<", "%"])
def test_what_is_no_number_is_refused(symbol: str) -> None:
    told = "^[a-z]+: other: expected a Tensor or a number, got NoneType"
    with pytest.raises(DTypeError, match=told):
        BINARY[symbol](nnlib.ones(2), None)
    with pytest.raises(ShapeError, match="do not broadcast"):
        BINARY[symbol](nnlib.ones(2), nnlib.ones(3))


def test_promotion() -> None:
    i, f, b = nnlib.tensor([1, 2]), nnlib.ones(2), nnlib.tensor([True, False])
    d = nnlib.ones(2, dtype="float64")
    assert (i + f).dtype == np.float32
    assert (i + 1.5).dtype == np.float32
    assert (i / 2).dtype == np.float32
    assert (i // 2).dtype == np.int64
    assert (b + 1).dtype == np.int64
    assert (b + b).dtype == np.bool_
    assert (f + d).dtype == np.float64
    assert (f + nnlib.tensor(1.0, dtype="float64")).dtype == np.float32
    assert (f.half() + f.bfloat16()).dtype == np.float32
    assert (f.half() * 2.5).dtype == np.float16
    assert (f.bfloat16() * i).dtype.name == "bfloat16"
    assert (f.bfloat16() > 0.5).dtype == np.bool_


def test_division_by_zero() -> None:
    x = nnlib.tensor([1.0, -1.0, 0.0])
    assert (x / 0).tolist()[:2] == [float("inf"), float("-inf")]
    assert bool((x / 0)[2].isnan())
    for symbol in ("//", "%"):
        with pytest.raises(Error, match="integer division by zero"):
            BINARY[symbol](nnlib.tensor([1, 2]), 0)


def test_ties_share_the_gradient() -> None:
    x = nnlib.tensor([1.0, 2.0], requires_grad=True)
    y = nnlib.tensor([1.0, 0.0], requires_grad=True)
    nnlib.maximum(x, y).sum().backward()
    assert x.grad is not None
    assert y.grad is not None
    assert x.grad.tolist() == [0.5, 1.0]
    assert y.grad.tolist() == [0.5, 0.0]


def test_memory_is_kept_only_for_gradients_that_are_wanted() -> None:
    x, y = nnlib.ones(3, requires_grad=True), nnlib.ones(3)
    product = x * y
    assert product.grad_fn is not None
    assert [value is None for value in product.grad_fn.saved] == [True, False]


@pytest.mark.parametrize("symbol", ["+", "-", "*", "/"])
def test_large_operands(symbol: str) -> None:
    function = BINARY[symbol]
    rng = np.random.default_rng(0)
    a, b = rng.random((600, 500)) + 1, rng.random((600, 500)) + 1
    x, y = nnlib.tensor(a, requires_grad=True), nnlib.tensor(b, requires_grad=True)
    np.testing.assert_array_equal(values(function(x, y)), function(a, b))
    np.testing.assert_array_equal(values(function(x, y[0])), function(a, b[0]))
    np.testing.assert_array_equal(values(function(x, 3)), function(a, 3))
    np.testing.assert_array_equal(values(function(3, x)), function(3, a))
    with pytest.raises(ShapeError, match="do not broadcast"):
        function(x, y[:, 1:])
