"""Numbers that a dtype cannot hold, and other arguments no operation can use."""

from __future__ import annotations

import math

import numpy as np
import pytest

import nnlib
from nnlib.backend.errors import ArgumentError, DTypeError, ShapeError

BYTES = nnlib.zeros(2, dtype="uint8")
WHOLE = nnlib.zeros(2, dtype="int64")
MASK = nnlib.tensor([True, False])
FIRST = nnlib.tensor([0])


def assign(x, value):
    x.clone()[0] = value


TOO_LARGE = {
    "full: fill_value: nan": lambda: nnlib.full((2,), math.nan, dtype="int64"),
    "full_like: fill_value: -9": lambda: nnlib.full_like(BYTES, -9),
    "fill_: value: nan": lambda: WHOLE.clone().fill_(math.nan),
    "fill_: value: 300": lambda: BYTES.clone().fill_(300),
    "masked_fill: value: -9": lambda: BYTES.masked_fill(MASK, -9),
    "where: other: -9": lambda: nnlib.where(MASK, BYTES, -9),
    "where: input: 300": lambda: nnlib.where(MASK, 300, BYTES),
    "index_fill: value: 300": lambda: BYTES.index_fill(0, FIRST, 300),
    "scatter: value: -9": lambda: BYTES.scatter(0, FIRST, -9),
    "index assignment: value: -9": lambda: assign(BYTES, -9),
    "index assignment: value: inf": lambda: assign(WHOLE, math.inf),
    "pad: value: -9": lambda: nnlib.nn.functional.pad(BYTES, (1, 1), value=-9),
}


@pytest.mark.parametrize("message", TOO_LARGE)
def test_a_number_that_the_dtype_cannot_hold_is_named(message):
    with pytest.raises(DTypeError, match=f"{message} is out of the range of u?int"):
        TOO_LARGE[message]()


def test_integers_take_no_fractions_for_factors():
    square = nnlib.ones(2, 2, dtype="int64")
    for name in ("addmm", "addmv", "baddbmm"):
        operands = {"addmv": (WHOLE, square, WHOLE)}.get(name, (square,) * 3)
        if name == "baddbmm":
            operands = tuple(x.unsqueeze(0) for x in operands)
        for factors in ({"alpha": 0.5}, {"beta": 0.5}):
            with pytest.raises(DTypeError, match=f"{name}: beta, alpha: expected int"):
                getattr(nnlib, name)(*operands, **factors)
    with pytest.raises(DTypeError, match="addcmul: value: expected an integer"):
        nnlib.addcmul(WHOLE, WHOLE, WHOLE, value=0.5)
    with pytest.raises(DTypeError, match="lerp: input: expected a floating dtype"):
        nnlib.lerp(WHOLE, WHOLE, 0.5)


def test_distances_of_integers_name_themselves():
    rows = nnlib.ones(2, 2, dtype="int64")
    with pytest.raises(DTypeError, match="cdist: x1: expected a floating dtype"):
        nnlib.cdist(rows, rows)
    with pytest.raises(DTypeError, match="dist: input - other: expected a floating"):
        nnlib.dist(rows, rows)
    assert nnlib.dist(rows, rows * 1.0).item() == 0


def test_arguments_without_a_meaning():
    for bad in (math.inf, math.nan):
        with pytest.raises(ArgumentError, match="arange: expected finite numbers"):
            nnlib.arange(0, bad, 2)
    with pytest.raises(ShapeError, match="roll: dims: a tensor of shape"):
        nnlib.roll(nnlib.tensor(1.0), 1, 0)
    with pytest.raises(ArgumentError, match="isclose: expected rtol and atol"):
        nnlib.isclose(nnlib.ones(1), nnlib.ones(1), rtol=-1)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_nextafter_knows_the_neighbours_of_each_dtype(dtype: str) -> None:
    step = nnlib.finfo(dtype).eps
    one, two = nnlib.ones(2, dtype=dtype), nnlib.full((2,), 2.0, dtype=dtype)
    up, down = nnlib.nextafter(one, two), nnlib.nextafter(one, -two)
    assert up.dtype == down.dtype == one.dtype
    assert (up.double() - 1).tolist() == [step] * 2
    assert (down.double() - 1).tolist() == [-step / 2] * 2


def test_gradient_of_integers_at_places_and_by_numbers_of_numpy() -> None:
    places = nnlib.tensor([0.0, 0.5, 1.0])
    (slopes,) = nnlib.gradient(nnlib.tensor([1, 2, 4]), spacing=[places])
    assert slopes.tolist() == [2, 3, 4]
    (slopes,) = nnlib.gradient(nnlib.tensor([1.0, 2.0, 4.0]), spacing=np.float32(2))
    assert slopes.tolist() == [0.5, 0.75, 1]
    with pytest.raises(DTypeError, match="gradient: spacing: expected a number or a"):
        nnlib.gradient(nnlib.ones(3), spacing=[[0.0, 1.0, 2.0]])


@pytest.mark.parametrize(
    ("dtype", "value", "power"),
    [("float64", 1.0, 200), ("float32", 2.0**-100, 140), ("float16", 2.0**-20, 30)],
)
def test_ldexp_where_the_power_alone_is_out_of_range(dtype, value, power) -> None:
    x = nnlib.tensor([value], dtype=dtype, requires_grad=True)
    out = nnlib.ldexp(x, nnlib.tensor([power]))
    assert out.dtype == x.dtype
    assert out.item() == value * 2.0**power
    assert nnlib.ldexp(out.detach(), -power).item() == value
    out.sum().backward()
    assert x.grad.item() == (2.0**power if dtype == "float64" else math.inf)


def test_ldexp_of_few_by_many() -> None:
    x = nnlib.tensor([[1.0], [3.0]], dtype="float64", requires_grad=True)
    powers = nnlib.tensor([-1, 0, 3], dtype="int8")
    assert nnlib.ldexp(x, powers).tolist() == [[0.5, 1, 8], [1.5, 3, 24]]
    assert nnlib.autograd.gradcheck(lambda x: nnlib.ldexp(x, powers), (x,))
    assert nnlib.autograd.gradgradcheck(lambda x: nnlib.ldexp(x, powers) ** 2, (x,))
    assert nnlib.ldexp(nnlib.tensor([3]), powers).dtype == nnlib.float32
    small = nnlib.tensor([1e-200], dtype="float64", requires_grad=True)
    (slope,) = nnlib.autograd.grad(nnlib.frexp(small)[0], small, create_graph=True)
    assert slope.item() == 2.0**664
    with pytest.raises(ShapeError, match="ldexp: shapes"):
        nnlib.ldexp(nnlib.ones(2), nnlib.tensor([1, 2, 3]))


def test_addbmm_takes_what_fits_and_names_itself() -> None:
    left, right = nnlib.ones(3, 2, 4), nnlib.ones(3, 4, 2)
    with pytest.raises(ShapeError, match="^addbmm: "):
        nnlib.addbmm(nnlib.zeros(7, 2, 2), left, right)
    with pytest.raises(ShapeError, match="^addbmm: "):
        nnlib.addbmm(nnlib.zeros(2, 2), left, nnlib.ones(3, 5, 2))
    with pytest.raises(DTypeError, match="^addbmm: "):
        nnlib.addbmm(nnlib.zeros(2, 2), left, right.double())
    start = nnlib.ones(2, requires_grad=True)
    out = nnlib.addbmm(start, left, right, beta=0)
    assert out.tolist() == [[12, 12], [12, 12]]
    out.sum().backward()
    assert start.grad.tolist() == [0, 0]
    empty = nnlib.addbmm(nnlib.ones(2, 2), nnlib.ones(0, 2, 4), nnlib.ones(0, 4, 2))
    assert empty.tolist() == [[1, 1], [1, 1]]
