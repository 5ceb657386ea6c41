"""Random matrix products, einsum and linear algebra against PyTorch."""

from __future__ import annotations

from typing import Any

import against_torch
import numpy as np
import pytest

from nnlib.autograd.registry import OPS

LETTERS = "abcdefgh"


def agree(what: str, call: Any, arrays: list[Any], **options: Any) -> None:
    """Compare a call; NumPy turns arrays without dimensions into numbers."""
    against_torch.agree(what, call, [np.asarray(x) for x in arrays], **options)


def length(rng: np.random.Generator, large: bool) -> int:
    """Draw a length: mostly small, now and then zero."""
    if rng.random() < 0.04:
        return 0
    return int(rng.integers(1, 40 if large else 6))


def draw(rng: np.random.Generator, shape: Any, kind: str) -> np.ndarray:
    """Draw an array of dtype `kind`: d, f or i."""
    if kind == "i":
        return rng.integers(-3, 4, shape)
    x = np.asarray(rng.standard_normal(shape))
    return x if kind == "d" else x.astype(np.float32)


def operands(rng: np.random.Generator) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Draw two shapes for matmul; rarely two that do not fit."""
    large = rng.random() < 0.3
    m, k, n = (length(rng, large) for _ in range(3))
    lead = [int(rng.integers(1, 4)) for _ in range(rng.integers(0, 3))]
    left, right = (
        [1 if rng.random() < 0.3 else b for b in lead][int(rng.integers(0, 3)) :]
        for _ in range(2)
    )
    a, b = (*left, m, k), (*right, k, n)
    if rng.random() < 0.2:
        a = (k,)
    if rng.random() < 0.2:
        b = (k,)
    if rng.random() < 0.04:
        b = (*b[:-1], b[-1] + 1) if len(b) == 1 else (*b[:-2], b[-2] + 1, b[-1])
    return a, b


@pytest.mark.parametrize("kind", "dfi")
def test_matmul(kind: str) -> None:
    rng = np.random.default_rng(ord(kind))
    for _ in range(130):
        a, b = operands(rng)
        x, y = draw(rng, a, kind), draw(rng, b, kind)
        agree("matmul", lambda lib, x, y: x @ y, [x, y], order=rng)


def test_matmul_of_slices() -> None:
    rng = np.random.default_rng(5)
    for _ in range(60):
        m, k, n = (int(rng.integers(1, 30)) for _ in range(3))
        step, back = int(rng.integers(1, 4)), bool(rng.random() < 0.5)
        x, y = draw(rng, (m * step, k), "d"), draw(rng, (n, k * step), "d")

        def call(lib: Any, x: Any, y: Any, s: int = step, flip: bool = back) -> Any:
            a, b = x[::s], y[:, ::s].transpose(0, 1)
            return (a.flip(0) if flip else a) @ b

        agree(f"slices of step {step}", call, [x, y])


def test_linear() -> None:
    rng = np.random.default_rng(6)
    for _ in range(120):
        large = rng.random() < 0.4
        features, out = length(rng, large), length(rng, large)
        lead = [length(rng, large) for _ in range(rng.integers(0, 3))]
        kind = "df"[rng.integers(2)]
        arrays = [draw(rng, (*lead, features), kind), draw(rng, (out, features), kind)]
        if rng.random() < 0.6:
            arrays.append(draw(rng, (out,), kind))
        agree("linear", linear, arrays, order=rng)


def linear(lib: Any, *args: Any) -> Any:
    if lib.__name__ == "torch":
        return lib.nn.functional.linear(*args)
    return OPS["linear"].function(*args)


NAMED = {
    "mm": ((2, 2), lambda m, k, n: ((m, k), (k, n))),
    "mv": ((2, 1), lambda m, k, n: ((m, k), (k,))),
    "bmm": ((3, 3), lambda m, k, n: ((3, m, k), (3, k, n))),
    "dot": ((1, 1), lambda m, k, n: ((k,), (k,))),
    "outer": ((1, 1), lambda m, k, n: ((m,), (n,))),
    "inner": ((2, 3), lambda m, k, n: ((m, k), (2, n, k))),
    "kron": ((2, 2), lambda m, k, n: ((m, k), (n, 2))),
}


@pytest.mark.parametrize("name", NAMED)
def test_named_products(name: str) -> None:
    rng = np.random.default_rng(len(name) + ord(name[0]))
    for _ in range(25):
        m, k, n = (length(rng, False) for _ in range(3))
        a, b = NAMED[name][1](m, k, n)
        kind = "df"[rng.integers(2)]
        x, y = draw(rng, a, kind), draw(rng, b, kind)
        agree(name, lambda lib, x, y: getattr(lib, name)(x, y), [x, y], order=rng)


@pytest.mark.parametrize("name", ["addmm", "baddbmm", "addmv"])
def test_added_products(name: str) -> None:
    rng = np.random.default_rng(len(name))
    for _ in range(25):
        m, k, n = (length(rng, False) for _ in range(3))
        shapes = {
            "addmm": ((m, n), (m, k), (k, n)),
            "baddbmm": ((2, m, n), (2, m, k), (2, k, n)),
            "addmv": ((m,), (m, k), (k,)),
        }[name]
        arrays = [draw(rng, shape, "d") for shape in shapes]
        beta, alpha = float(rng.choice([0, 1, 0.5])), float(rng.choice([1, -2]))
        agree(
            f"{name}(beta={beta}, alpha={alpha})",
            lambda lib, *a, b=beta, c=alpha: getattr(lib, name)(*a, beta=b, alpha=c),
            arrays,
            order=rng,
        )


def draw_equation(rng: np.random.Generator) -> tuple[str, list[tuple[int, ...]]]:
    """Draw an equation of one to three operands, with the shapes for it."""
    letters = LETTERS[: rng.integers(1, 6)]
    sizes = {letter: int(rng.integers(1, 4)) for letter in letters}
    dots = [int(rng.integers(1, 4)) for _ in range(rng.integers(0, 3))]
    terms, shapes, dotted = [], [], False
    for _ in range(rng.integers(1, 4)):
        term = list(rng.choice(list(letters), rng.integers(0, 4)))
        shape = [sizes[letter] for letter in term]
        if rng.random() < 0.3:
            place = int(rng.integers(0, len(term) + 1))
            own = [1 if rng.random() < 0.2 else d for d in dots]
            own = own[int(rng.integers(0, len(own) + 1)) :]
            term.insert(place, "...")
            shape[place:place] = own
            dotted = True
        terms.append("".join(term))
        shapes.append(tuple(shape))
    equation = ",".join(terms)
    if rng.random() < 0.8:
        used = sorted({x for x in equation if x.isalpha()})
        kept = [x for x in rng.permutation(used) if rng.random() < 0.6] if used else []
        equation += "->" + ("..." if dotted else "") + "".join(kept)
    return equation, shapes


def test_einsum() -> None:
    rng = np.random.default_rng(7)
    for _ in range(220):
        equation, shapes = draw_equation(rng)
        arrays = [draw(rng, shape, "d") for shape in shapes]
        agree(
            f"einsum({equation!r})",
            lambda lib, *a, e=equation: lib.einsum(e, *a),
            arrays,
            order=rng,
        )


def test_tensordot() -> None:
    rng = np.random.default_rng(8)
    for _ in range(50):
        sizes = [int(rng.integers(1, 4)) for _ in range(rng.integers(0, 3))]
        a = [*sizes, *(int(rng.integers(1, 4)) for _ in range(rng.integers(0, 3)))]
        b = [*sizes, *(int(rng.integers(1, 4)) for _ in range(rng.integers(0, 3)))]
        order_a, order_b = rng.permutation(len(a)), rng.permutation(len(b))
        dims = tuple(
            [int(np.flatnonzero(order == i)[0]) for i in range(len(sizes))]
            for order in (order_a, order_b)
        )
        x = draw(rng, [a[i] for i in order_a], "d")
        y = draw(rng, [b[i] for i in order_b], "d")
        agree(
            f"tensordot(dims={dims})",
            lambda lib, x, y, d=dims: lib.tensordot(x, y, d),
            [x, y],
            order=rng,
        )


SQUARE = ["inv", "det", "slogdet", "matrix_power", "solve", "cholesky", "eigvalsh"]


@pytest.mark.parametrize("name", [*SQUARE, "svdvals", "pinv", "matrix_norm", "qr"])
def test_linalg(name: str) -> None:
    rng = np.random.default_rng(ord(name[0]) + len(name))
    for _ in range(14):
        lead = [int(rng.integers(1, 3)) for _ in range(rng.integers(0, 3))]
        n = int(rng.integers(1, 5))
        m = n if name in SQUARE else int(rng.integers(1, 5))
        x = rng.standard_normal((*lead, n, m))
        if name in SQUARE:
            x = x + 3 * np.eye(n)
        arrays = [x, rng.standard_normal((*lead, n, 2))] if name == "solve" else [x]

        def call(lib: Any, x: Any, *rest: Any) -> Any:
            if name == "cholesky":
                x = x @ x.transpose(-1, -2)
            if name == "eigvalsh":
                x = x + x.transpose(-1, -2)
            if name == "matrix_power":
                rest = (3,)
            if name == "slogdet":
                return lib.linalg.slogdet(x).logabsdet
            return getattr(lib.linalg, name)(x, *rest)

        agree(f"linalg.{name}", call, arrays, order=rng)
