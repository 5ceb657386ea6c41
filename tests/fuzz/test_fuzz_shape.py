"""Random changes of shape, joins, cuts, rearrangements and padding against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from against_torch import agree

CASES = 900


def shape_of(rng: np.random.Generator, least: int = 0, most: int = 4) -> Any:
    shape = rng.integers(1, 5, rng.integers(least, most + 1))
    shape = np.where(rng.random(shape.shape) < 0.25, 1, shape)
    if shape.size and rng.random() < 0.04:
        shape[rng.integers(shape.size)] = 0
    return tuple(int(n) for n in shape)


def values(rng: np.random.Generator, shape: Any) -> np.ndarray:
    kind = rng.random()
    if kind < 0.15:
        return rng.integers(-9, 9, shape)
    x = np.asarray(rng.standard_normal(shape))
    return x if kind < 0.7 else x.astype(np.float32)


def dim_of(rng: np.random.Generator, ndim: int) -> int:
    span = max(ndim, 1)
    if rng.random() < 0.03:
        return span + 1
    return int(rng.integers(-span, span))


def some_dims(rng: np.random.Generator, ndim: int, least: int = 0) -> tuple[int, ...]:
    count = int(rng.integers(least, ndim + 1)) if ndim >= least else 0
    return tuple(int(d) for d in rng.permutation(ndim)[:count])


def factors(rng: np.random.Generator, size: int) -> tuple[int, ...]:
    """Split `size` into random factors."""
    parts = [1] * int(rng.integers(1, 4))
    for prime in (2, 2, 2, 2, 3, 3, 3):
        if size and size % prime == 0:
            parts[int(rng.integers(len(parts)))] *= prime
            size //= prime
    parts.append(size)
    if rng.random() < 0.4 and 0 not in parts:
        parts[int(rng.integers(len(parts)))] = -1
    return tuple(int(p) for p in parts)


Call = Callable[..., Any]


def reshape(rng: Any, x: Any) -> Call:
    shape = factors(rng, x.size) if rng.random() < 0.9 else (7, -1)
    return lambda lib, x: lib.reshape(x, shape)


def permute(rng: Any, x: Any) -> Call:
    dims = tuple(int(d) for d in rng.permutation(x.ndim))
    return lambda lib, x: lib.permute(x, dims).reshape(-1)


def transpose(rng: Any, x: Any) -> Call:
    a, b = dim_of(rng, x.ndim), dim_of(rng, x.ndim)
    return lambda lib, x: lib.transpose(x, a, b).flatten()


def flatten(rng: Any, x: Any) -> Call:
    a, b = dim_of(rng, x.ndim), dim_of(rng, x.ndim)
    return lambda lib, x: lib.flatten(x, a, b)


def squeeze(rng: Any, x: Any) -> Call:
    dims = some_dims(rng, x.ndim)
    if rng.random() < 0.3:
        return lambda lib, x: lib.squeeze(x)
    return lambda lib, x: lib.squeeze(x, dims)


def unsqueeze(rng: Any, x: Any) -> Call:
    dim = dim_of(rng, x.ndim + 1)
    return lambda lib, x: lib.unsqueeze(x, dim)


def expand(rng: Any, x: Any) -> Call:
    lead = tuple(int(n) for n in rng.integers(1, 4, rng.integers(0, 3)))
    rest = []
    for n in x.shape:
        keep = -1 if rng.random() < 0.5 else n
        rest.append(int(rng.integers(1, 4)) if n == 1 else keep)
    return lambda lib, x: x.expand((*lead, *rest))


def repeat(rng: Any, x: Any) -> Call:
    counts = [int(n) for n in rng.integers(0, 4, x.ndim + int(rng.integers(0, 2)))]
    if rng.random() < 0.5:
        return lambda lib, x: x.repeat(*counts) if counts else lib.tile(x, (2,))
    return lambda lib, x: lib.tile(x, tuple(counts[1:]))


def repeat_interleave(rng: Any, x: Any) -> Call:
    if not x.ndim:
        # PyTorch refuses these.
        return lambda lib, x: lib.repeat_interleave(x.reshape(1), 2)
    dim = dim_of(rng, x.ndim)
    if rng.random() < 0.4 or not x.ndim or dim >= x.ndim:
        count = int(rng.integers(0, 4))
        flat = rng.random() < 0.4
        return lambda lib, x: lib.repeat_interleave(x, count, None if flat else dim)
    counts = [int(n) for n in rng.integers(0, 4, x.shape[dim])]
    return lambda lib, x: lib.repeat_interleave(
        x, lib.tensor(counts, dtype=lib.int64), dim
    )


def movedim(rng: Any, x: Any) -> Call:
    source = some_dims(rng, x.ndim)
    to = tuple(int(d) for d in rng.permutation(x.ndim)[: len(source)])
    return lambda lib, x: lib.movedim(x, source, to)


def narrow(rng: Any, x: Any) -> Call:
    dim = dim_of(rng, x.ndim)
    start, length = int(rng.integers(-4, 4)), int(rng.integers(0, 4))
    return lambda lib, x: lib.narrow(x, dim, start, length)


def select(rng: Any, x: Any) -> Call:
    dim, place = dim_of(rng, x.ndim), int(rng.integers(-4, 4))
    return lambda lib, x: lib.select(x, dim, place)


def unflatten(rng: Any, x: Any) -> Call:
    dim = dim_of(rng, x.ndim)
    length = x.shape[dim] if -x.ndim <= dim < x.ndim else 1
    parts = factors(rng, length)
    return lambda lib, x: lib.unflatten(x, dim, parts)


def cat(rng: Any, x: Any) -> Call:
    dim = dim_of(rng, x.ndim)
    times = int(rng.integers(1, 4))
    cut = int(rng.integers(0, 3))

    def call(lib: Any, x: Any) -> Any:
        parts = [x] * times
        if x.ndim and -x.ndim <= dim < x.ndim and cut <= x.shape[dim]:
            parts.append(lib.narrow(x, dim, 0, cut))
        if times == 3:
            parts.append(x.to(lib.float64))
        return lib.cat(parts, dim)

    return call


def stack(rng: Any, x: Any) -> Call:
    dim = dim_of(rng, x.ndim + 1)
    name = str(rng.choice(["stack", "hstack", "vstack", "dstack", "column_stack"]))
    if name == "stack":
        return lambda lib, x: lib.stack([x, x * 2], dim)
    return lambda lib, x: getattr(lib, name)([x, x * 2])


def cuts(rng: Any, x: Any) -> Call:
    dim = dim_of(rng, x.ndim)
    count = int(rng.integers(1, 5))
    name = str(rng.choice(["split", "chunk", "tensor_split", "unbind"]))
    if name == "unbind":
        return lambda lib, x: lib.unbind(x, dim)
    if name == "tensor_split" and rng.random() < 0.5:
        places = tuple(int(n) for n in rng.integers(-3, 5, rng.integers(0, 4)))
        return lambda lib, x: lib.tensor_split(x, places, dim)
    if name == "split" and rng.random() < 0.5:
        length = x.shape[dim] if -x.ndim <= dim < x.ndim else 1
        sizes = [count, length - count]
        return lambda lib, x: lib.split(x, sizes, dim)
    return lambda lib, x: getattr(lib, name)(x, count, dim)


def flips(rng: Any, x: Any) -> Call:
    dims = some_dims(rng, x.ndim)
    name = str(rng.choice(["flip", "fliplr", "flipud"]))
    if name == "flip":
        return lambda lib, x: lib.flip(x, dims)
    return lambda lib, x: getattr(lib, name)(x)


def roll(rng: Any, x: Any) -> Call:
    dims = some_dims(rng, x.ndim)
    shifts = tuple(int(n) for n in rng.integers(-5, 6, len(dims)))
    if not dims:
        return lambda lib, x: lib.roll(x, 2)
    return lambda lib, x: lib.roll(x, shifts, dims)


def rot90(rng: Any, x: Any) -> Call:
    k, dims = int(rng.integers(-5, 6)), some_dims(rng, x.ndim, 2)[:2]
    return lambda lib, x: lib.rot90(x, k, dims)


def triangle(rng: Any, x: Any) -> Call:
    name, k = str(rng.choice(["tril", "triu"])), int(rng.integers(-4, 5))
    return lambda lib, x: getattr(lib, name)(x, k)


def diagonals(rng: Any, x: Any) -> Call:
    offset = int(rng.integers(-4, 5))
    a, b = dim_of(rng, x.ndim), dim_of(rng, x.ndim)
    style = rng.random()
    if style < 0.3:
        return lambda lib, x: lib.diag(x, offset)
    if style < 0.6 and x.ndim:
        a, b = dim_of(rng, x.ndim + 1), dim_of(rng, x.ndim + 1)
        return lambda lib, x: lib.diag_embed(x, offset, a, b)
    if style < 0.65:
        return lambda lib, x: lib.trace(x)
    # A diagonal beyond the matrix is empty, with or without an error.
    offset = int(np.clip(offset, -1, 1))
    return lambda lib, x: lib.diagonal(x, offset, a, b)


def pad(rng: Any, x: Any) -> Call:
    pairs = int(rng.integers(0, x.ndim + 1))
    widths = [int(n) for n in rng.integers(-2, 4, 2 * pairs)]
    number = float(rng.integers(0, 3))
    return lambda lib, x: lib.nn.functional.pad(x, widths, value=number)


def pad_mode(rng: Any, x: Any) -> Call:
    mode = str(rng.choice(["reflect", "replicate", "circular"]))
    pairs = int(rng.integers(1, 3))
    widths = [int(n) for n in rng.integers(0, 4, 2 * pairs)]

    def call(lib: Any, x: Any) -> Any:
        # PyTorch takes these modes for batched images only, and no empty ones.
        x = x if x.numel() else lib.ones(2, 3) * x.sum()
        image = x.reshape(1, 1, *x.shape)[(slice(None),) * 2]
        while image.ndim < 2 + pairs:
            image = image.unsqueeze(-1)
        image = image.reshape(1, -1, *image.shape[image.ndim - pairs :])
        return lib.nn.functional.pad(image * 1.0, widths, mode=mode)

    return call


def windows(rng: Any, x: Any) -> Call:
    dim = dim_of(rng, x.ndim)
    size, step = int(rng.integers(0, 5)), int(rng.integers(1, 4))
    return lambda lib, x: x.unfold(dim, size, step)


MAKERS = [
    reshape, permute, transpose, flatten, squeeze, unsqueeze, expand, repeat,
    repeat_interleave, movedim, narrow, select, unflatten, cat, stack, cuts, flips,
    roll, rot90, triangle, diagonals, pad, pad_mode, windows,
]  # fmt: skip


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_against_pytorch(make: Callable[..., Call]) -> None:
    rng = np.random.default_rng(sum(map(ord, make.__name__)))
    done = 0
    for number in range(CASES // len(MAKERS) + 4):
        x = values(rng, shape_of(rng))
        what = f"{make.__name__} (case {number})"
        done += agree(what, make(rng, x), [x], order=rng)
    assert done


def test_chains_of_views() -> None:
    """Several changes of shape after one another, then the gradient."""
    rng = np.random.default_rng(31)
    chosen = [permute, transpose, flatten, squeeze, unsqueeze, expand, narrow, reshape]
    for number in range(150):
        x = values(rng, shape_of(rng, 1, 3))
        shape, steps, probe = x.shape, [], x
        for _ in range(3):
            step = chosen[int(rng.integers(len(chosen)))](rng, probe)
            steps.append(step)
            try:
                import torch

                probe = step(torch, torch.tensor(probe)).numpy()
            except Exception:  # noqa: BLE001 - the chain ends with an error
                break

        def call(lib: Any, x: Any, steps: Any = tuple(steps)) -> Any:
            for step in steps:
                x = step(lib, x)
            return x

        agree(f"chain {number} from {shape}", call, [x], order=rng)
