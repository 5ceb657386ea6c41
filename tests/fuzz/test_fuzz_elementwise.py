"""Random element-wise operations against PyTorch.

Shapes that broadcast or do not, dtypes in any pair, numbers and tensors without
dimensions, ties, zeros, infinities and NaN, any memory layout, empty tensors.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import against_torch
import numpy as np
import pytest

CASES = 14
PAIRS = 34
UNARY = (
    "abs acos acosh asin asinh atan atanh ceil cos cosh digamma erf erfc erfinv exp "
    "exp2 expm1 floor frac isfinite isinf isnan lgamma log log10 log1p log2 "
    "logical_not logit nan_to_num neg reciprocal round rsqrt sigmoid sign sin sinc "
    "sinh sqrt square tan tanh trunc"
).split()
# What PyTorch defines on fewer dtypes, or with a value of its own for bool.
FLOATS_ONLY = {"frac", "logit"}
NO_BOOL = {"abs", "ceil", "floor", "neg", "round", "sign", "square", "trunc"}
# PyTorch's sign of NaN is 0; here it stays NaN, and so does the gradient of abs.
FINITE = {"abs", "sign"}
BINARY = (
    "add sub mul div floor_divide remainder fmod pow maximum minimum fmax fmin atan2 "
    "hypot logaddexp logaddexp2 copysign eq ne lt le gt ge logical_and logical_or "
    "logical_xor"
).split()
OPERATORS: dict[str, Callable[..., Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
    "<": operator.lt,
    "==": operator.eq,
    ">=": operator.ge,
}
SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, np.inf, -np.inf, np.nan])


def agree(what: str, call: Any, arrays: list[Any], **options: Any) -> None:
    """Compare a call; NumPy turns arrays without dimensions into numbers."""
    against_torch.agree(what, call, [np.asarray(x) for x in arrays], **options)


def seed(name: str) -> np.random.Generator:
    return np.random.default_rng([ord(letter) for letter in name])


def draw_shape(rng: np.random.Generator) -> tuple[int, ...]:
    """Draw a shape of up to four dimensions, now and then an empty one."""
    shape = rng.integers(1, 5, rng.integers(0, 5))
    if shape.size and rng.random() < 0.06:
        shape[rng.integers(shape.size)] = 0
    return tuple(int(n) for n in shape)


def related_shape(rng: np.random.Generator, shape: Any) -> tuple[int, ...]:
    """Draw a shape that broadcasts with `shape`; rarely one that does not."""
    other = [1 if rng.random() < 0.3 else n for n in shape]
    other = other[int(rng.integers(0, len(other) + 1)) :]
    if rng.random() < 0.2:
        other = [int(rng.integers(1, 4)), *other]
        if len(other) <= len(shape) and rng.random() < 0.7:
            other[0] = 1
    return tuple(other)


def draw(rng: np.random.Generator, shape: Any, kinds: str = "dfib") -> np.ndarray:
    """Draw an array of a random dtype; ties, zeros and non-finite values occur."""
    kind = rng.choice(list(kinds))
    if kind == "b":
        return np.asarray(rng.random(shape) < 0.5)
    if kind in "ilu":
        low = 0 if kind == "u" else -4
        dtype = {"i": np.int64, "l": np.int32, "u": np.uint8}[kind]
        return np.asarray(rng.integers(low, 5, shape)).astype(dtype)
    x = np.asarray(rng.standard_normal(shape) * rng.choice([0.5, 2.0, 20.0]))
    if rng.random() < 0.3:
        x = np.round(x)
    if rng.random() < 0.3:
        x = np.where(rng.random(shape) < 0.3, rng.choice(SPECIAL, shape), x)
    return x.astype(np.float64 if kind == "d" else np.float32)


@pytest.mark.parametrize("name", UNARY)
def test_unary(name: str) -> None:
    rng = seed(name)
    kinds = "dddfffiilb"
    if name in NO_BOOL:
        kinds = kinds.replace("b", "")
    if name in FLOATS_ONLY:
        kinds = "df"
    for number in range(CASES):
        x = draw(rng, draw_shape(rng), kinds)
        if name in FINITE:
            x = np.nan_to_num(x, posinf=3, neginf=-3)
        if name == "acosh" and x.dtype.kind == "f":
            x = abs(x) + 1
        if name == "digamma":
            # PyTorch's gradient is finite at the poles.
            x = np.where((x < 0) & (x == np.floor(x)), abs(x), x)
        style = number % 3
        if style == 0 and x.ndim:
            agree(
                f"x[..., ::2].{name}()",
                lambda lib, x: getattr(x[..., ::2], name)(),
                [x],
            )
        else:
            agree(name, lambda lib, x: getattr(lib, name)(x), [x], order=rng)


@pytest.mark.parametrize("name", BINARY)
def test_binary(name: str) -> None:
    rng = seed(name)
    kinds = "ddffilu" if name in ("sub", "hypot", "atan2", "logaddexp") else "ddffilub"
    if name in ("hypot", "logaddexp", "logaddexp2"):
        kinds = "df"
    if name == "atan2":
        # PyTorch negates its uint8 argument in the gradient, and wraps around.
        kinds = "ddffil"
    if name == "pow":
        # PyTorch's gradient subtracts 1 from a bool exponent, which it then refuses.
        kinds = "ddffilu"
    if name in ("floor_divide", "remainder", "fmod"):
        kinds = "ddffil"
    for _ in range(PAIRS):
        shape = draw_shape(rng)
        x = draw(rng, shape, kinds)
        y = draw(rng, related_shape(rng, shape), kinds)
        if name == "pow" and y.dtype.kind in "iu":
            y = abs(y)
        if name in ("floor_divide", "remainder", "fmod"):
            # How inf and NaN divide with a rest is each library's own affair.
            x, y = np.nan_to_num(x, posinf=9, neginf=-9), np.nan_to_num(y, posinf=7)
        if name == "copysign":
            # PyTorch's gradient divides by the value.
            x = np.nan_to_num(x, posinf=9, neginf=-9)
        agree(
            name,
            lambda lib, x, y: getattr(lib, name)(x, y),
            [x, y],
            grad=name != "floor_divide",
            order=rng,
        )


@pytest.mark.parametrize("symbol", OPERATORS)
def test_operators_with_numbers(symbol: str) -> None:
    rng = seed(symbol)
    function = OPERATORS[symbol]
    for number in range(PAIRS):
        x = draw(rng, draw_shape(rng), "ddffil")
        scalar = rng.choice([2, 3, 1, 0.5, 2.5, -1.5, 4])
        scalar = int(scalar) if scalar == int(scalar) else float(scalar)
        if symbol in ("//", "%", "**"):
            x = np.nan_to_num(x, posinf=9, neginf=-9)
        if symbol == "**":
            x = np.clip(x, -6, 6)
            scalar = abs(scalar)
        if number % 2:
            agree(
                f"x {symbol} {scalar}",
                lambda lib, x, s=scalar: function(x, s),
                [x],
                grad=symbol != "//",
                order=rng,
            )
        else:
            if symbol in ("//", "%"):
                x = np.where(x == 0, 1, x)
            if symbol == "**" and x.dtype.kind == "i":
                x = abs(x)
            agree(
                f"{scalar} {symbol} x",
                lambda lib, x, s=scalar: function(s, x),
                [x],
                # PyTorch has no gradient of a number's remainder.
                grad=symbol not in ("//", "%"),
                order=rng,
            )


@pytest.mark.parametrize("name", ["bitwise_and", "bitwise_or", "bitwise_xor"])
def test_bitwise(name: str) -> None:
    rng = seed(name)
    for _ in range(PAIRS):
        shape = draw_shape(rng)
        x, y = draw(rng, shape, "iulb"), draw(rng, related_shape(rng, shape), "iulb")
        agree(name, lambda lib, x, y: getattr(lib, name)(x, y), [x, y], grad=False)


@pytest.mark.parametrize("name", ["any", "all"])
def test_any_all(name: str) -> None:
    rng = seed(name)
    for _ in range(PAIRS):
        x = draw(rng, draw_shape(rng), "dib")
        if x.ndim == 0 or rng.random() < 0.3:
            call = lambda lib, x: getattr(lib, name)(x)  # noqa: E731
        else:
            dim, keepdim = int(rng.integers(-x.ndim, x.ndim)), bool(rng.random() < 0.5)
            call = lambda lib, x, d=dim, k=keepdim: getattr(lib, name)(  # noqa: E731
                x, d, k
            )
        agree(name, call, [x], grad=False, order=rng)


def test_where() -> None:
    rng = seed("where")
    for _ in range(2 * PAIRS):
        shape = draw_shape(rng)
        condition = draw(rng, related_shape(rng, shape), "b")
        x, y = draw(rng, shape), draw(rng, related_shape(rng, shape))
        if rng.random() < 0.3:
            number = rng.choice([2.0, -1.5])
            agree(
                f"where(c, x, {number})",
                lambda lib, c, x, n=float(number): lib.where(c, x, n),
                [condition, x],
                order=rng,
            )
        else:
            agree("where", lambda lib, *a: lib.where(*a), [condition, x, y], order=rng)


def test_masked_fill() -> None:
    rng = seed("masked_fill")
    for _ in range(PAIRS):
        shape = draw_shape(rng)
        x, mask = draw(rng, shape, "df"), draw(rng, related_shape(rng, shape), "b")
        value = float(rng.choice([0.0, -np.inf, 3.5]))
        agree(
            "masked_fill",
            lambda lib, x, m, v=value: x.masked_fill(m, v),
            [x, mask],
            order=rng,
        )


def test_clamp() -> None:
    rng = seed("clamp")
    for number in range(3 * PAIRS):
        shape = draw_shape(rng)
        x = draw(rng, shape, "ddffi")
        if number % 3 == 0:
            low, high = draw(rng, shape, "d"), draw(rng, shape, "d")
            low, high = np.nan_to_num(low), np.nan_to_num(high)
            x = x.astype(np.float64)
            call = lambda lib, x, a, b: lib.clamp(x, a, b)  # noqa: E731
            agree("clamp(x, low, high)", call, [x, low, high], order=rng)
            continue
        bounds = {"min": float(rng.integers(-2, 2)), "max": float(rng.integers(-1, 3))}
        if number % 3 == 1:
            bounds = {name: int(bound) for name, bound in bounds.items()}
        if rng.random() < 0.5:
            bounds.pop("min" if rng.random() < 0.5 else "max")
        agree(
            f"clamp({bounds})",
            lambda lib, x, b=bounds: lib.clamp(x, **b),
            [x],
            order=rng,
        )


@pytest.mark.parametrize("name", ["lerp", "addcmul", "addcdiv"])
def test_three_tensors(name: str) -> None:
    rng = seed(name)
    for _ in range(PAIRS):
        shape = draw_shape(rng)
        kind = rng.choice(["d", "f"])
        x, y, z = (np.nan_to_num(draw(rng, shape, kind), posinf=3.0) for _ in range(3))
        x = np.clip(x, -50, 50).astype(x.dtype)
        y = np.clip(y, -50, 50).astype(y.dtype)
        z = np.clip(z, 0.1, 50).astype(z.dtype)
        agree(name, lambda lib, *a: getattr(lib, name)(*a), [x, y, z], order=rng)


IN_PLACE: dict[str, Callable[[Any, Any], Any]] = {
    "add_": lambda x, y: x.add_(y),
    "sub_": lambda x, y: x.sub_(y, alpha=2),
    "mul_": lambda x, y: x.mul_(y),
    "div_": lambda x, y: x.div_(y),
    "+=": operator.iadd,
    "*=": operator.imul,
    "exp_": lambda x, y: x.exp_(),
    "clamp_": lambda x, y: x.clamp_(-1, 1).add_(y),
    "sigmoid_": lambda x, y: x.sigmoid_(),
    "masked_fill_": lambda x, y: x.masked_fill_(y > 0, 2.0),
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place(name: str) -> None:
    rng = seed(name)
    function = IN_PLACE[name]
    for number in range(CASES):
        shape = draw_shape(rng)
        x, y = draw(rng, shape, "d"), draw(rng, related_shape(rng, shape), "df")
        x, y = np.clip(x, -5, 5), np.clip(y, -5, 5)

        def call(lib: Any, x: Any, y: Any, view: bool = bool(number % 2)) -> Any:
            z = x * 1
            if view and z.ndim:
                # A float32 sum would be rounded otherwise than PyTorch's.
                whole = y.double().sum()
                function(z[..., ::2], y[..., ::2] if y.shape == z.shape else whole)
            else:
                function(z, y)
            return z

        agree(name, call, [x, y], order=rng)


@pytest.mark.parametrize("name", ["exp", "sqrt", "tanh", "sigmoid", "abs", "log1p"])
def test_half_precision(name: str) -> None:
    rng = seed("half" + name)
    for _ in range(CASES):
        shape = draw_shape(rng)
        x = abs(np.asarray(rng.standard_normal(shape))).astype(np.float16)
        y = np.asarray(rng.standard_normal(related_shape(rng, shape)))
        kind = rng.choice([np.float16, np.float32])
        agree(
            f"{name} of float16, plus {np.dtype(kind)}",
            lambda lib, x, y: getattr(lib, name)(x + 0.25) * y,
            [x, y.astype(kind)],
            order=rng,
        )
