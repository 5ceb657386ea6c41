"""Random configurations of pooling, normalisation and resizing against PyTorch.

Each draws shapes, arguments, dtype and memory layout, and compares values, gradients
and, for some, second derivatives.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import counting
import numpy as np
import pytest

import nnlib
import nnlib.nn.functional as F

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

ROUNDS = 45
LENIENT = ("avg_pool3d", "lp_pool3d")
Rng = np.random.Generator
Call = tuple[list[np.ndarray], dict[str, Any]]
Draw = Callable[[Rng], Call]


def one_of(rng: Rng, *values: Any) -> Any:
    return values[rng.integers(len(values))]


def optional(rng: Rng, **kwargs: Any) -> dict[str, Any]:
    """Keep each argument with probability one half."""
    return {key: value for key, value in kwargs.items() if rng.random() < 0.5}


def image(rng: Rng, rank: int, low: int = 1, high: int = 9) -> np.ndarray:
    """Draw (N, C, *spatial) or (C, *spatial), sometimes with many equal values."""
    lead = [int(rng.integers(0, 4)), int(rng.integers(1, 6))]
    if rng.random() < 0.1:
        # Several vectors of channels, and a rest.
        lead[1] = one_of(rng, 16, 39, 83)
    high = high if rank < 3 else 6
    shape = [*lead, *rng.integers(low, high + 1, rank).tolist()]
    x = rng.standard_normal(shape) * 2
    if rng.random() < 0.3:
        x = np.maximum(x.round(), 0)
    return x if rng.random() < 0.8 or not lead[0] else x[0]


def each(rng: Rng, rank: int, low: int, high: int) -> Any:
    if rank == 1 or rng.random() < 0.5:
        return int(rng.integers(low, high + 1))
    return tuple(rng.integers(low, high + 1, rank).tolist())


def windows(rng: Rng, rank: int, dilated: bool) -> dict[str, Any]:
    kernel = each(rng, rank, 1, 4)
    sizes = kernel if isinstance(kernel, tuple) else (kernel,) * rank
    padding = tuple(int(rng.integers(0, k // 2 + 1)) for k in sizes)
    kwargs = optional(
        rng, stride=each(rng, rank, 1, 3), padding=padding, ceil_mode=True
    )
    if dilated and rng.random() < 0.4 and "padding" not in kwargs:
        kwargs["dilation"] = each(rng, rank, 1, 3)
    return {"kernel_size": kernel, **kwargs}


def max_pool(rank: int) -> Draw:
    def draw(rng: Rng) -> Call:
        kwargs = windows(rng, rank, True)
        return [image(rng, rank, 3)], kwargs | optional(rng, return_indices=True)

    return draw


def avg_pool(rank: int) -> Draw:
    def draw(rng: Rng) -> Call:
        kwargs = windows(rng, rank, False)
        kwargs |= optional(rng, count_include_pad=False)
        if rank > 1 and rng.random() < 0.3:
            kwargs["divisor_override"] = int(rng.integers(1, 9))
        return [image(rng, rank, 3)], kwargs

    return draw


def lp_pool(rank: int) -> Draw:
    def draw(rng: Rng) -> Call:
        kwargs = windows(rng, rank, False)
        kwargs.pop("padding", None)
        power = one_of(rng, 1.0, 2.0, 3.0, float("inf"))
        x = image(rng, rank, 3)
        # A negative sum has no third root.
        return [np.abs(x) if power == 3 else x], kwargs | {"norm_type": power}

    return draw


def adaptive(rank: int, indices: bool) -> Draw:
    def draw(rng: Rng) -> Call:
        size = each(rng, rank, 1, 7)
        if rank > 1 and isinstance(size, tuple) and rng.random() < 0.3:
            size = (None, *size[1:])
        kwargs = optional(rng, return_indices=True) if indices else {}
        return [image(rng, rank)], kwargs | {"output_size": size}

    return draw


def interpolate(rng: Rng) -> Call:
    rank = int(rng.integers(1, 4))
    x = image(rng, rank)
    x = x if x.ndim == rank + 2 else x[None]
    smooth = {1: ["linear"], 2: ["bilinear", "bicubic"], 3: ["trilinear"]}[rank]
    mode = one_of(rng, "nearest", "nearest-exact", "area", *smooth, *smooth)
    kwargs: dict[str, Any] = {"mode": mode}
    if mode in smooth:
        kwargs |= optional(rng, align_corners=bool(rng.integers(2)))
    if rng.random() < 0.5:
        kwargs["size"] = each(rng, rank, 1, 9)
    else:
        kwargs["scale_factor"] = one_of(rng, 1.0, 1.5, 2.0, 3.0, 2.4)
        kwargs |= optional(rng, recompute_scale_factor=True)
    return [x], kwargs


def shuffle(down: bool) -> Draw:
    def draw(rng: Rng) -> Call:
        r = int(rng.integers(1, 4))
        n, c, h, w = rng.integers(1, 4, 4).tolist()
        if down:
            return [rng.standard_normal((n, c, h * r, w * r))], {"downscale_factor": r}
        return [rng.standard_normal((n, c * r * r, h, w))], {"upscale_factor": r}

    return draw


def channel_norm(low: int, groups: bool = False) -> Draw:
    """Draw input of at least `low` dimensions, a weight and a bias."""

    def draw(rng: Rng) -> Call:
        shape = rng.integers(2, 6, rng.integers(low, 6)).tolist()
        shape[0] = int(rng.integers(2, 4))
        kwargs = optional(rng, eps=1e-3)
        if groups:
            count = int(rng.integers(1, 4))
            shape[1] = count * int(rng.integers(1, 4))
            kwargs["num_groups"] = count
        x = rng.standard_normal(shape) * 3 + rng.choice([0.0, 5.0])
        return [x, rng.random(shape[1]), rng.standard_normal(shape[1])], kwargs

    return draw


def row_norm(rng: Rng) -> Call:
    shape = rng.integers(1, 6, rng.integers(1, 5)).tolist()
    shape[-1] += 1
    last = shape[-int(rng.integers(1, len(shape) + 1)) :]
    x, w, b = (rng.standard_normal(s) for s in (shape, last, last))
    return [x, w, b], {"normalized_shape": tuple(last), "eps": one_of(rng, 1e-5, 1e-3)}


def response(rng: Rng) -> Call:
    shape = rng.integers(1, 7, rng.integers(3, 6)).tolist()
    kwargs = optional(rng, alpha=0.2, beta=0.5, k=2.0)
    return [rng.standard_normal(shape)], kwargs | {"size": int(rng.integers(1, 6))}


# How the functions with vectors are called.
CALLS: dict[str, Callable[..., Any]] = {
    "batch_norm": lambda f, x, w, b, **kwargs: f.batch_norm(
        x, None, None, w, b, True, **kwargs
    ),
    "instance_norm": lambda f, x, w, b, **kwargs: f.instance_norm(
        x, None, None, w, b, **kwargs
    ),
    "group_norm": lambda f, x, w, b, **kwargs: f.group_norm(
        x, weight=w, bias=b, **kwargs
    ),
    "layer_norm": lambda f, x, w, b, **kwargs: f.layer_norm(
        x, weight=w, bias=b, **kwargs
    ),
    "rms_norm": lambda f, x, w, b, **kwargs: f.rms_norm(x, weight=w, **kwargs) + b,
}


def call(name: str, functions: Any, args: Any, kwargs: Any) -> Any:
    if name in CALLS:
        return CALLS[name](functions, *args, **kwargs)
    return getattr(functions, name)(*args, **kwargs)


DRAWS: dict[str, Draw] = {
    "batch_norm": channel_norm(2),
    "instance_norm": channel_norm(3),
    "group_norm": channel_norm(2, True),
    "layer_norm": row_norm,
    "rms_norm": row_norm,
    "local_response_norm": response,
    **{f"max_pool{rank}d": max_pool(rank) for rank in (1, 2, 3)},
    **{f"avg_pool{rank}d": avg_pool(rank) for rank in (1, 2, 3)},
    **{f"lp_pool{rank}d": lp_pool(rank) for rank in (1, 2, 3)},
    **{f"adaptive_avg_pool{rank}d": adaptive(rank, False) for rank in (1, 2, 3)},
    **{f"adaptive_max_pool{rank}d": adaptive(rank, True) for rank in (1, 2, 3)},
    "interpolate": interpolate,
    "pixel_shuffle": shuffle(False),
    "pixel_unshuffle": shuffle(True),
}


def laid_out(rng: Rng, array: np.ndarray) -> np.ndarray:
    """Return the array in another memory layout."""
    kind = rng.integers(4)
    if kind == 0 or array.ndim < 2:
        return array
    if kind == 1:
        return np.asfortranarray(array)
    if kind == 2:
        return np.repeat(array, 2, axis=-1)[..., ::2]
    return np.ascontiguousarray(np.moveaxis(array, 1, -1)).transpose(
        0, array.ndim - 1, *range(1, array.ndim - 1)
    )


def derivatives(
    framework: Any, out: Any, inputs: list[Any], weights: Any, second: bool
) -> list[Any]:
    """Return the gradients of ``(out * weights).sum()``; or those of their squares."""
    grad = framework.autograd.grad
    total = (
        (out * weights).sum() + (out * out).sum() if second else (out * weights).sum()
    )
    first = grad(total, inputs, create_graph=second, allow_unused=True)
    if not second:
        return list(first)
    squares = [(g * g).sum() for g in first if g is not None]
    return list(grad(sum(squares[1:], squares[0]), inputs, allow_unused=True))


def compare(name: str, seed: int) -> bool:
    """Compare one call; tell whether both gave a result."""
    rng = np.random.default_rng([seed, *name.encode()])
    args, kwargs = DRAWS[name](rng)
    double = rng.random() < 0.7
    dtype = np.float64 if double else np.float32
    rtol, atol = (1e-7, 1e-8) if double else (2e-4, 2e-4)
    args = [array.astype(dtype) for array in args]
    mine = [nnlib.from_numpy(laid_out(rng, x)).requires_grad_() for x in args]
    theirs = [torch.tensor(x).requires_grad_() for x in args]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            want = call(name, torch.nn.functional, theirs, kwargs)
    except (RuntimeError, ValueError):
        # PyTorch refuses some empty batches, and for volumes alone a kernel that
        # ceil_mode lets reach beyond the input.
        if any(0 in x.shape for x in args) or name in LENIENT:
            return False
        with pytest.raises(nnlib.backend.errors.Error):
            call(name, F, mine, kwargs)
        return False
    got = call(name, F, mine, kwargs)
    if isinstance(want, tuple):
        np.testing.assert_array_equal(got[1].numpy(), want[1].numpy())
        got, want = got[0], want[0]
    assert tuple(got.shape) == tuple(want.shape)
    assert got.dtype.name == str(want.dtype).removeprefix("torch.")
    np.testing.assert_allclose(got.detach().numpy(), want.detach(), rtol, atol)
    weights = rng.standard_normal(got.shape).astype(dtype)
    second = double and rng.random() < 0.5
    try:
        others = derivatives(torch, want, theirs, torch.tensor(weights), second)
    except RuntimeError:
        return True
    ours = derivatives(nnlib, got, mine, nnlib.tensor(weights), second)
    for x, a, b in zip(args, ours, others, strict=True):
        left = np.zeros_like(x) if a is None else a.detach().numpy()
        right = np.zeros_like(x) if b is None else b.numpy(force=True)
        scale = max(1.0, float(np.abs(right).max(initial=0)))
        np.testing.assert_allclose(left, right, rtol, atol * scale * 10)
    return True


@pytest.mark.parametrize("name", DRAWS)
def test_equals_pytorch(name: str) -> None:
    compared = 0
    for seed in range(ROUNDS):
        try:
            compared += compare(name, seed)
            counting.count()
        except Exception as error:
            rng = np.random.default_rng([seed, *name.encode()])
            args, kwargs = DRAWS[name](rng)
            shapes = [x.shape for x in args]
            raise AssertionError(f"{name}, seed {seed}: {shapes} {kwargs}") from error
    assert compared > ROUNDS // 3
