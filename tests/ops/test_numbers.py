"""Numbers that a dtype cannot hold, and other arguments no operation can use."""

from __future__ import annotations

import math

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
