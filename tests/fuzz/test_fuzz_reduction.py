"""Random reductions, scans and sorts against PyTorch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from against_torch import agree

CASES = 110
SUMS = ["sum", "mean", "nansum", "nanmean", "prod"]
EXTREMES = ["max", "min", "amax", "amin", "argmax", "argmin"]


def draw_shape(rng: np.random.Generator, least: int = 0, most: int = 4) -> Any:
    """Draw a shape, now and then with an empty dimension."""
    shape = rng.integers(1, 5, rng.integers(least, most + 1))
    if shape.size and rng.random() < 0.06:
        shape[rng.integers(shape.size)] = 0
    return tuple(int(n) for n in shape)


def draw(rng: np.random.Generator, shape: Any, kinds: str = "dfib") -> np.ndarray:
    """Draw an array; small integers bring ties, some floats are NaN or zero."""
    kind = rng.choice(list(kinds))
    if kind == "i":
        return rng.integers(-3, 4, shape)
    if kind == "b":
        return np.asarray(rng.random(shape) < 0.5)
    x = np.asarray(rng.standard_normal(shape))
    if rng.random() < 0.2:
        x = np.where(rng.random(shape) < 0.3, 0.0, x)
    return x.astype(np.float64 if kind == "d" else np.float32)


def draw_dim(rng: np.random.Generator, ndim: int) -> int:
    """Draw a dimension, rarely one that does not exist."""
    if rng.random() < 0.03:
        return ndim + 1
    span = max(ndim, 1)
    return int(rng.integers(-span, span))


def draw_dims(rng: np.random.Generator, ndim: int) -> Any:
    """Draw one, several or no dimensions."""
    if ndim == 0 or rng.random() < 0.4:
        return draw_dim(rng, ndim)
    count = int(rng.integers(1, ndim + 1))
    dims = rng.permutation(ndim)[:count]
    return tuple(int(d - ndim * (rng.random() < 0.5)) for d in dims)


@pytest.mark.parametrize("name", SUMS)
def test_sums(name: str) -> None:
    rng = np.random.default_rng(len(name) * 7 + 1)
    for _ in range(CASES):
        x = draw(rng, draw_shape(rng))
        if name.startswith("nan") and x.dtype.kind == "f":
            x = np.where(rng.random(x.shape) < 0.2, np.nan, x).astype(x.dtype)
        keepdim = bool(rng.random() < 0.5)
        style = rng.random()
        if style < 0.25:
            call = lambda lib, x: getattr(lib, name)(x)  # noqa: E731
            what = name
        else:
            dim = draw_dim(rng, x.ndim) if name == "prod" else draw_dims(rng, x.ndim)
            call = lambda lib, x, d=dim, k=keepdim: getattr(lib, name)(  # noqa: E731
                x, d, keepdim=k
            )
            what = f"{name}(dim={dim}, keepdim={keepdim})"
        agree(what, call, [x], order=rng)


@pytest.mark.parametrize("name", ["var", "std", "var_mean", "std_mean"])
def test_moments(name: str) -> None:
    rng = np.random.default_rng(len(name) * 11 + 2)
    for _ in range(CASES):
        x = draw(rng, draw_shape(rng, 1), "d")
        if x.size and np.ptp(x) == 0:
            continue
        dim = draw_dims(rng, x.ndim) if rng.random() < 0.8 else None
        if np.max(dim or 0) >= x.ndim:
            continue
        options = {
            "correction": int(rng.integers(0, 3)),
            "keepdim": bool(rng.random() < 0.5),
        }
        agree(
            f"{name}(dim={dim}, {options})",
            lambda lib, x, d=dim, o=options: getattr(lib, name)(x, dim=d, **o),
            [x],
            order=rng,
            grad=_has_slope(name, x, dim, options["correction"]),
        )


def _has_slope(name: str, x: np.ndarray, dim: Any, correction: int) -> bool:
    """Tell whether the slope is no matter of convention."""
    count = x.size / max(np.sum(x, axis=dim).size, 1)
    flat = bool(x.size and (np.std(x, axis=dim) < 1e-12).any())
    return count > correction and not (name.startswith("std") and flat)


@pytest.mark.parametrize("name", EXTREMES)
def test_extremes(name: str) -> None:
    rng = np.random.default_rng(len(name) * 13 + 3)
    for _ in range(CASES):
        x = draw(rng, draw_shape(rng), "dfi" if name.startswith("arg") else "dfib")
        keepdim = bool(rng.random() < 0.5)
        if rng.random() < 0.25:
            what = name
            call = lambda lib, x: getattr(lib, name)(x)  # noqa: E731
        else:
            several = name.startswith("am")
            dim = draw_dims(rng, x.ndim) if several else draw_dim(rng, x.ndim)
            what = f"{name}(dim={dim}, keepdim={keepdim})"
            call = lambda lib, x, d=dim, k=keepdim: getattr(lib, name)(  # noqa: E731
                x, d, keepdim=k
            )
        agree(what, call, [x], order=rng)


def test_truth_and_counts() -> None:
    rng = np.random.default_rng(17)
    for _ in range(2 * CASES):
        x = draw(rng, draw_shape(rng))
        name = str(rng.choice(["any", "all", "count_nonzero"]))
        dim = draw_dims(rng, x.ndim) if rng.random() < 0.7 else None
        if name == "count_nonzero":
            call = lambda lib, x, d=dim: lib.count_nonzero(x, d)  # noqa: E731
        elif dim is None:
            call = lambda lib, x, n=name: getattr(lib, n)(x)  # noqa: E731
        else:
            call = lambda lib, x, n=name, d=dim: getattr(lib, n)(  # noqa: E731
                x, d, keepdim=True
            )
        agree(f"{name}(dim={dim})", call, [x], grad=False, order=rng)


def test_norms_and_logsumexp() -> None:
    rng = np.random.default_rng(19)
    for _ in range(2 * CASES):
        shape = tuple(int(n) for n in rng.integers(1, 5, rng.integers(1, 4)))
        x = rng.standard_normal(shape)
        x = np.where(np.abs(x) < 0.05, 0.3, x)
        dim = draw_dims(rng, x.ndim)
        keepdim = bool(rng.random() < 0.5)
        if rng.random() < 0.4:
            agree(
                f"logsumexp({dim})",
                lambda lib, x, d=dim, k=keepdim: lib.logsumexp(x, d, k),
                [x * 5],
                order=rng,
            )
            continue
        p = [2.0, 1.0, 3.0, 2.5, math.inf, -math.inf, 0.0, "fro"][rng.integers(8)]
        if p == "fro" and isinstance(dim, tuple) and len(dim) > 2:
            # PyTorch takes the Frobenius norm over at most two dimensions.
            p = 2.0
        agree(
            f"norm(p={p}, dim={dim}, keepdim={keepdim})",
            lambda lib, x, p=p, d=dim, k=keepdim: lib.norm(x, p, d, k),
            [x],
            order=rng,
        )


@pytest.mark.parametrize("name", ["cumsum", "cumprod", "logcumsumexp", "cummax"])
def test_scans(name: str) -> None:
    rng = np.random.default_rng(len(name) * 17 + 5)
    for _ in range(CASES):
        kinds = "d" if name == "logcumsumexp" else "dfi"
        x = draw(rng, draw_shape(rng), kinds)
        dim = draw_dim(rng, x.ndim)
        chosen = "cummin" if name == "cummax" and rng.random() < 0.5 else name
        agree(
            f"{chosen}({dim})",
            lambda lib, x, d=dim, n=chosen: getattr(lib, n)(x, d),
            [x],
            order=rng,
        )


def test_diff() -> None:
    rng = np.random.default_rng(23)
    for _ in range(CASES):
        x = draw(rng, draw_shape(rng, 1), "di")
        # PyTorch does not look at `dim` where n is 0.
        n, dim = int(rng.integers(0, 4)), int(rng.integers(-x.ndim, x.ndim))
        agree(
            f"diff(n={n}, dim={dim})",
            lambda lib, x, n=n, d=dim: lib.diff(x, n, d),
            [x],
            order=rng,
        )


@pytest.mark.parametrize("name", ["sort", "topk", "kthvalue", "median", "nanmedian"])
def test_orders(name: str) -> None:
    rng = np.random.default_rng(len(name) * 19 + 7)
    for _ in range(CASES):
        x = draw(rng, draw_shape(rng), "dfi")
        distinct = x.size == len(np.unique(x))
        if x.dtype.kind == "f" and rng.random() < 0.2 and name != "kthvalue":
            x = np.where(rng.random(x.shape) < 0.2, np.nan, x).astype(x.dtype)
            distinct = False
        dim = draw_dim(rng, x.ndim)
        up = bool(rng.random() < 0.5)
        length = x.shape[dim] if x.ndim and -x.ndim <= dim < x.ndim else 1
        k = int(rng.integers(1, length + 1)) if length else 1
        calls: dict[str, Any] = {
            "sort": lambda lib, x: lib.sort(x, stable=True, dim=dim, descending=up),  # noqa: B023
            "topk": lambda lib, x: lib.topk(x, k, dim, up),  # noqa: B023
            "kthvalue": lambda lib, x: lib.kthvalue(x, k, dim, up),  # noqa: B023
            "median": lambda lib, x: lib.median(x, dim, up),  # noqa: B023
            "nanmedian": lambda lib, x: lib.nanmedian(x, dim, up),  # noqa: B023
        }
        agree(
            f"{name}(dim={dim}, k={k}, {up})",
            calls[name],
            [x],
            grad=distinct,
            values_only=not distinct and name != "sort",
            order=rng,
        )


def test_distinct_values() -> None:
    rng = np.random.default_rng(29)
    for _ in range(2 * CASES):
        x = draw(rng, draw_shape(rng, 1), "ib")
        options = {"return_inverse": True, "return_counts": True}
        if x.dtype.kind == "i" and rng.random() < 0.4:
            options["dim"] = int(rng.integers(-x.ndim, x.ndim))
            if not x.size:
                continue
        name = "unique" if rng.random() < 0.5 else "unique_consecutive"
        agree(
            f"{name}({options})",
            lambda lib, x, n=name, o=options: getattr(lib, n)(x, **o),
            [x],
            grad=False,
            order=rng,
        )
