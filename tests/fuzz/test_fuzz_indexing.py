"""Random indices, assignments, gathers and scatters against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from against_torch import agree

CASES = 500


def shape_of(rng: np.random.Generator, least: int = 1, most: int = 4) -> Any:
    return tuple(int(n) for n in rng.integers(1, 5, rng.integers(least, most + 1)))


def values(rng: np.random.Generator, shape: Any) -> np.ndarray:
    x = np.asarray(rng.standard_normal(shape))
    return x if rng.random() < 0.7 else x.astype(np.float32)


def basic_part(rng: np.random.Generator, length: int) -> Any:
    """Draw an integer or a slice, now and then out of range."""
    if rng.random() < 0.4:
        return int(rng.integers(-length, length + (rng.random() < 0.03)))
    low, high = (int(n) for n in rng.integers(-length - 1, length + 2, 2))
    start = None if rng.random() < 0.3 else low
    stop = None if rng.random() < 0.3 else high
    return slice(start, stop, int(rng.integers(1, 3)))


def draw_index(rng: np.random.Generator, shape: Any, advanced: bool) -> list[Any]:
    """Draw an index; arrays stand for tensors."""
    parts: list[Any] = []
    place = 0
    ellipsis = False
    wide = tuple(int(n) for n in rng.integers(1, 4, rng.integers(0, 3)))
    while place < len(shape) and rng.random() < 0.85:
        style = rng.random()
        if style < 0.12:
            parts.append(None)
        elif style < 0.2 and not ellipsis:
            parts.append(Ellipsis)
            ellipsis = True
            place += int(rng.integers(0, len(shape) - place + 1))
        elif advanced and style < 0.55:
            cut = wide[int(rng.integers(0, len(wide) + 1)) :]
            parts.append(rng.integers(-shape[place], shape[place], cut))
            place += 1
        elif advanced and style < 0.62:
            spans = min(int(rng.integers(1, 3)), len(shape) - place)
            if ellipsis:
                break
            mask = rng.random(shape[place : place + spans]) < 0.6
            parts.append(mask)
            place += spans
        else:
            length = min(shape[place:]) if ellipsis else shape[place]
            parts.append(basic_part(rng, length))
            place += 1
    return parts


def fits(parts: list[Any], shape: Any) -> bool:
    """Tell whether NumPy can broadcast the index arrays of `parts`."""
    arrays = []
    for part in parts:
        if isinstance(part, np.ndarray):
            arrays += list(part.nonzero()) if part.dtype == bool else [part]
    try:
        np.broadcast_arrays(*arrays)
    except ValueError:
        return False
    return True


def convert(lib: Any, parts: list[Any]) -> Any:
    made = [lib.tensor(p) if isinstance(p, np.ndarray) else p for p in parts]
    return made[0] if len(made) == 1 else tuple(made)


@pytest.mark.parametrize("advanced", [False, True], ids=["basic", "advanced"])
def test_reading(advanced: bool) -> None:
    rng = np.random.default_rng(37 + advanced)
    done = 0
    for _ in range(CASES):
        x = values(rng, shape_of(rng))
        parts = draw_index(rng, x.shape, advanced)
        done += agree(
            f"x[{parts}]",
            lambda lib, x, p=parts: x[convert(lib, p)] * 1,
            [x],
            order=rng,
        )
    assert done > CASES * 0.6


def region_shape(x: np.ndarray, parts: list[Any]) -> Any:
    torch = pytest.importorskip("torch")
    try:
        return tuple(torch.tensor(x)[convert(torch, parts)].shape)
    except (IndexError, RuntimeError, ValueError):
        return None


def repeats(parts: list[Any]) -> bool:
    """Tell whether an assignment may write an element twice."""
    return any(isinstance(p, np.ndarray) and p.dtype != bool for p in parts)


@pytest.mark.parametrize("advanced", [False, True], ids=["basic", "advanced"])
def test_assignment(advanced: bool) -> None:
    rng = np.random.default_rng(41 + advanced)
    done = 0
    for _ in range(CASES):
        x = values(rng, shape_of(rng))
        parts = draw_index(rng, x.shape, advanced)
        region = region_shape(x, parts)
        if region is None:
            continue
        shape = tuple(1 if rng.random() < 0.2 else n for n in region)
        shape = shape[int(rng.integers(0, 2)) :] if rng.random() < 0.3 else shape
        value = values(rng, shape)
        if advanced:
            # PyTorch casts the value for plain indices only.
            value = value.astype(x.dtype)
        if repeats(parts):
            # Which of several values stays is not said: give all the same.
            value = np.full((), 2.5, value.dtype)

        def call(lib: Any, x: Any, value: Any, p: Any = parts) -> Any:
            y = x * 1
            y[convert(lib, p)] = value
            return y * y

        done += agree(
            f"x[{parts}] = {value.shape}",
            call,
            [x, value],
            order=rng,
            grad=not repeats(parts),
        )
    assert done > CASES * 0.5


def test_index_put() -> None:
    rng = np.random.default_rng(43)
    for _ in range(CASES // 3):
        x = rng.standard_normal(shape_of(rng, 1, 3))
        count = int(rng.integers(1, x.ndim + 1))
        wide = tuple(int(n) for n in rng.integers(1, 4, rng.integers(1, 3)))
        keys = [rng.integers(-n, n, wide) for n in x.shape[:count]]
        value = rng.standard_normal(wide + x.shape[count:])
        agree(
            f"index_put of {keys}",
            lambda lib, x, v, k=keys: lib.index_put(
                x, tuple(lib.tensor(i) for i in k), v, accumulate=True
            ),
            [x, value],
            order=rng,
        )


def along(name: str, dim: int) -> Any:
    """Return a call with (input, index, index vector, values, rows of values)."""
    calls: dict[str, Any] = {
        "gather": lambda lib, x, i, line, s, r: lib.gather(x, dim, i),
        "take_along_dim": lambda lib, x, i, line, s, r: lib.take_along_dim(
            x, x.argsort(dim), dim
        ),
        "index_select": lambda lib, x, i, line, s, r: lib.index_select(x, dim, line),
        "take": lambda lib, x, i, line, s, r: lib.take(x, i),
        "scatter_add": lambda lib, x, i, line, s, r: lib.scatter_add(x, dim, i, s),
        "index_add": lambda lib, x, i, line, s, r: lib.index_add(
            x, dim, line, r, alpha=2
        ),
        "scatter_value": lambda lib, x, i, line, s, r: lib.scatter(x, dim, i, 1.5),
        "index_fill": lambda lib, x, i, line, s, r: lib.index_fill(x, dim, line, 1.5),
        "index_fill_dim": lambda lib, x, i, line, s, r: lib.index_fill(
            x, dim, line, s.sum()
        ),
        "scatter": lambda lib, x, i, line, s, r: lib.scatter(x, dim, i, s),
        "index_copy": lambda lib, x, i, line, s, r: lib.index_copy(x, dim, line, s),
        "scatter_multiply": lambda lib, x, i, line, s, r: lib.scatter(
            x.detach(), dim, i, s.detach(), reduce="multiply"
        ),
    }
    kind, _, include = name.removeprefix("reduce_").partition("_")
    if name.startswith("reduce_"):
        keywords = {"reduce": kind, "include_self": include == "all"}
        return lambda lib, x, i, line, s, r: lib.scatter_reduce(
            x, dim, i, s, **keywords
        )
    return calls[name]


REDUCTIONS = [
    f"reduce_{kind}_{include}"
    for kind in ("sum", "prod", "mean", "amax", "amin")
    for include in ("all", "new")
]


def test_along_a_dimension() -> None:
    rng = np.random.default_rng(47)
    for _ in range(CASES):
        shape = shape_of(rng, 1, 3)
        x = values(rng, shape)
        dim = int(rng.integers(-len(shape), len(shape)))
        smaller = [int(rng.integers(1, n + 1)) for n in shape]
        smaller[dim] = int(rng.integers(1, 6))
        high = shape[dim] + (rng.random() < 0.03)
        index = rng.integers(0, high, smaller)
        line = rng.integers(0, high, int(rng.integers(1, 6)))
        source = list(shape)
        source[dim] = len(line)
        src = values(rng, smaller).astype(x.dtype)
        rows = values(rng, source).astype(x.dtype)
        name = str(
            rng.choice(
                "gather take_along_dim index_select take scatter_add index_add "
                "scatter_value index_fill index_fill_dim".split()
            )
        )
        if rng.random() < 0.4:
            name = str(rng.choice(REDUCTIONS))
        grad = name not in ("index_fill_dim",) or len(set(line.tolist())) == len(line)
        agree(
            f"{name}(dim={dim}, {index.tolist()}, {line.tolist()})",
            along(name, dim),
            [x, index, line, src, rows],
            order=rng,
            grad=grad,
        )


def test_scatter_and_copy_without_repetition() -> None:
    rng = np.random.default_rng(53)
    for _ in range(CASES // 2):
        shape = shape_of(rng, 1, 3)
        dim = int(rng.integers(-len(shape), len(shape)))
        x = values(rng, shape)
        index = np.argsort(rng.random(shape), axis=dim)
        src = values(rng, shape).astype(x.dtype)
        cut = [slice(0, int(rng.integers(1, n + 1))) for n in shape]
        line = rng.permutation(shape[dim])
        style = rng.random()
        name = "index_copy" if style < 0.4 else "scatter"
        if style < 0.2:
            # PyTorch's gradient fails where the source is longer than the index.
            index, src, name = index[tuple(cut)], src[tuple(cut)], "scatter"
        elif style > 0.8:
            name = "scatter_multiply"
        agree(
            f"{name} {shape} {dim}",
            along(name, dim),
            [x, index, line, src, src],
            order=rng,
        )


MASKED: dict[str, Any] = {
    "masked_select": lambda lib, x, mask: lib.masked_select(x, mask),
    "masked_scatter": lambda lib, x, mask: lib.masked_scatter(x, mask, x * 2),
    "nonzero": lambda lib, x, mask: lib.nonzero(mask),
}


def test_masks() -> None:
    rng = np.random.default_rng(59)
    for _ in range(CASES // 2):
        shape = shape_of(rng, 0, 3)
        x = values(rng, shape)
        mask = np.asarray(rng.random(shape) < 0.5)
        if shape and rng.random() < 0.3:
            mask = np.asarray(mask[0])
        style = rng.random()
        if style < 0.4:
            name = "masked_select"
        elif style < 0.7:
            name = "masked_scatter"
        else:
            name = "nonzero"
        agree(
            f"{name} of {x.shape}, {mask.tolist()}",
            MASKED[name],
            [x, mask],
            order=rng,
        )


def test_chains_of_changes_in_place() -> None:
    """Views of views, changed in place, then used: gradients as PyTorch's."""
    rng = np.random.default_rng(61)
    for number in range(CASES // 2):
        shape = shape_of(rng, 2, 3)
        x, w = values(rng, shape), rng.standard_normal(())
        w = w.astype(x.dtype)
        steps = [
            (int(rng.integers(6)), draw_index(rng, shape, False), int(rng.integers(3)))
            for _ in range(3)
        ]

        def call(lib: Any, x: Any, w: Any, steps: Any = tuple(steps)) -> Any:
            y = x * 1
            for kind, parts, form in steps:
                view = y[convert(lib, parts)] if parts else y
                if form == 1:
                    view = view.reshape(view.shape).unsqueeze(0)
                elif form == 2 and view.ndim > 1:
                    view = view.transpose(0, 1)
                if kind == 0:
                    view.mul_(2)
                elif kind == 1:
                    view.mul_(w)
                elif kind == 2:
                    view.add_(w)
                elif kind == 3:
                    view.zero_()
                elif kind == 4:
                    view.copy_(w * 3)
                else:
                    view[...] = w
            return y * y

        agree(f"chain {number} {shape} {steps}", call, [x, w], order=rng)
