"""Random configurations of activations and losses against PyTorch.

Each draws shapes, arguments, dtype and memory layout, and compares values, first and
(in float64, in part) second derivatives. A failure prints the configuration.
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

ROUNDS = 75
# PyTorch has no second derivative of these.
ONCE = {"hardsigmoid", "multi_margin_loss"}
# Its derivative of these multiplies factors in single precision, whatever the dtype.
SINGLE = {"elu", "selu", "celu"}
Rng = np.random.Generator
Call = tuple[list[np.ndarray], dict[str, Any]]


def shape_of(rng: Rng, low: int = 0, high: int = 4) -> tuple[int, ...]:
    return tuple(rng.integers(1, 6, rng.integers(low, high + 1)).tolist())


def spread(rng: Rng, *shape: int) -> np.ndarray:
    """Draw values of very different sizes."""
    return np.asarray(rng.standard_normal(shape) * rng.choice([0.1, 1.0, 5.0, 30.0]))


def one_of(rng: Rng, *values: Any) -> Any:
    return values[rng.integers(len(values))]


def reduction(rng: Rng) -> str:
    return one_of(rng, "mean", "sum", "none")


def optional(rng: Rng, **kwargs: Any) -> dict[str, Any]:
    """Keep each argument with probability one half."""
    return {key: value for key, value in kwargs.items() if rng.random() < 0.5}


def unary(**arguments: Callable[[Rng], Any]) -> Callable[[Rng], Call]:
    def draw(rng: Rng) -> Call:
        drawn = {key: make(rng) for key, make in arguments.items()}
        return [spread(rng, *shape_of(rng))], optional(rng, **drawn)

    return draw


def along(rng: Rng) -> Call:
    shape = shape_of(rng, 1)
    dim = int(rng.integers(-len(shape), len(shape)))
    return [spread(rng, *shape)], {"dim": dim}


def prelu(rng: Rng) -> Call:
    shape = shape_of(rng, 1)
    count = shape[1] if len(shape) > 1 and rng.random() < 0.6 else 1
    return [spread(rng, *shape), rng.random(count)], {}


def pairs(
    target: Callable[..., np.ndarray],
    differentiable: bool = False,
    **arguments: Callable[[Rng], Any],
) -> Callable[[Rng], Call]:
    def draw(rng: Rng) -> Call:
        shape = shape_of(rng)
        x, t = spread(rng, *shape), np.asarray(target(rng, *shape))
        drawn = {key: make(rng) for key, make in arguments.items()}
        kwargs = {**optional(rng, **drawn), "reduction": reduction(rng)}
        if differentiable:
            return [x, t], kwargs
        return [x], {**kwargs, "target": t}

    return draw


def probability(rng: Rng, *shape: int) -> np.ndarray:
    return rng.uniform(0.01, 0.99, shape)


def sign(rng: Rng, *shape: int) -> np.ndarray:
    return rng.integers(0, 2, shape) * 2.0 - 1


def binary(rng: Rng) -> Call:
    shape = shape_of(rng)
    weight = np.asarray(rng.random(shape[rng.integers(len(shape) + 1) :]))
    kwargs = optional(rng, weight=weight) | {"reduction": reduction(rng)}
    p, t = probability(rng, *shape), probability(rng, *shape)
    return [np.asarray(p), np.asarray(t)], kwargs


def with_logits(rng: Rng) -> Call:
    shape = shape_of(rng)
    weight = np.asarray(rng.random(shape[rng.integers(len(shape) + 1) :]))
    pos_weight = np.asarray(rng.random(shape[-1:]) * 3)
    kwargs = optional(rng, weight=weight, pos_weight=pos_weight)
    kwargs |= {"reduction": reduction(rng)}
    if rng.random() < 0.5:
        target = np.asarray(rng.integers(0, 2, shape) * 1.0)
        return [spread(rng, *shape)], kwargs | {"target": target}
    return [spread(rng, *shape), np.asarray(probability(rng, *shape))], kwargs


def divergence(rng: Rng) -> Call:
    shape = shape_of(rng, 1)
    log_target = bool(rng.integers(2))
    target = spread(rng, *shape) / 10 if log_target else probability(rng, *shape)
    kwargs = {"log_target": log_target, "reduction": reduction(rng)}
    if rng.random() < 0.3:
        kwargs["reduction"] = "batchmean"
    return [spread(rng, *shape), target], kwargs


def classes(rng: Rng) -> Call:
    count = int(rng.integers(2, 7))
    rest = shape_of(rng, 0, 3)
    single = rng.random() < 0.15
    shape = (count,) if single else (int(rng.integers(1, 6)), count, *rest)
    labels = np.asarray(rng.integers(0, count, () if single else (shape[0], *rest)))
    ignore = one_of(rng, -100, -1, 0)
    hidden = np.asarray(rng.random(labels.shape) < 0.3)
    hidden.flat[0] = False
    labels.flat[0] = max(labels.flat[0], 1)
    labels = np.where(hidden, ignore, labels)
    kwargs = optional(rng, weight=rng.random(count) + 0.1)
    kwargs |= {"ignore_index": ignore, "reduction": reduction(rng)}
    return [spread(rng, *shape)], kwargs | {"target": labels}


def entropy(rng: Rng) -> Call:
    args, kwargs = classes(rng)
    kwargs |= optional(rng, label_smoothing=float(rng.random()))
    if rng.random() < 0.35:
        del kwargs["ignore_index"]
        kwargs["target"] = rng.random(args[0].shape)
        if rng.random() < 0.5:
            args.append(kwargs.pop("target"))
    return args, kwargs


def multi_margin(rng: Rng) -> Call:
    count = int(rng.integers(2, 7))
    rows = () if rng.random() < 0.2 else (int(rng.integers(1, 6)),)
    kwargs = optional(
        rng, p=one_of(rng, 1, 2), margin=float(rng.random()), weight=rng.random(count)
    )
    kwargs |= {"target": rng.integers(0, count, rows), "reduction": reduction(rng)}
    return [spread(rng, *rows, count)], kwargs


def rows_of(number: int) -> Callable[[Rng], tuple[list[np.ndarray], tuple[int, ...]]]:
    def draw(rng: Rng) -> tuple[list[np.ndarray], tuple[int, ...]]:
        rows = () if rng.random() < 0.2 else (int(rng.integers(1, 6)),)
        shape = (*rows, int(rng.integers(1, 6)))
        return [rng.standard_normal(shape) for _ in range(number)], rows

    return draw


def cosine_embedding(rng: Rng) -> Call:
    args, rows = rows_of(2)(rng)
    kwargs = optional(rng, margin=float(rng.random()))
    kwargs |= {"target": np.asarray(sign(rng, *rows)), "reduction": reduction(rng)}
    return args, kwargs


def ranking(rng: Rng) -> Call:
    shape = shape_of(rng)
    kwargs = optional(rng, margin=float(rng.random()))
    kwargs |= {"target": np.asarray(sign(rng, *shape)), "reduction": reduction(rng)}
    return [spread(rng, *shape), spread(rng, *shape)], kwargs


def triplet(rng: Rng) -> Call:
    args, _ = rows_of(3)(rng)
    kwargs = optional(
        rng, margin=1 + float(rng.random()), p=one_of(rng, 1.0, 2.0, 3.0), swap=True
    )
    return args, kwargs | {"reduction": reduction(rng)}


def distance(rng: Rng) -> Call:
    args, _ = rows_of(2)(rng)
    return args, optional(rng, p=one_of(rng, 1.0, 2.0, 3.0), keepdim=True)


def gaussian(rng: Rng) -> Call:
    shape = shape_of(rng, 1)
    var = rng.uniform(0.1, 3, one_of(rng, shape, shape[:-1], (*shape[:-1], 1)))
    kwargs = optional(rng, full=True) | {"reduction": reduction(rng)}
    return [spread(rng, *shape), spread(rng, *shape), np.asarray(var)], kwargs


def slope(low: float, high: float) -> Callable[[Rng], float]:
    return lambda rng: float(rng.uniform(low, high))


DRAWS: dict[str, Callable[[Rng], Call]] = {
    "relu": unary(),
    "leaky_relu": unary(negative_slope=slope(-0.5, 0.5)),
    "prelu": prelu,
    "hardtanh": unary(min_val=slope(-3, -0.5), max_val=slope(0, 3)),
    "relu6": unary(),
    "hardsigmoid": unary(),
    "hardswish": unary(),
    "hardshrink": unary(lambd=slope(0, 2)),
    "softshrink": unary(lambd=slope(0, 2)),
    "elu": unary(alpha=slope(0.1, 2)),
    "selu": unary(),
    "celu": unary(alpha=slope(0.1, 2)),
    "gelu": unary(approximate=lambda rng: one_of(rng, "none", "tanh")),
    "silu": unary(),
    "mish": unary(),
    "softplus": unary(beta=slope(0.2, 3)),
    "logsigmoid": unary(),
    "softsign": unary(),
    "tanhshrink": unary(),
    "softmax": along,
    "log_softmax": along,
    "softmin": along,
    "mse_loss": pairs(spread, True),
    "l1_loss": pairs(spread, True),
    "smooth_l1_loss": pairs(spread, True, beta=slope(0.1, 3)),
    "huber_loss": pairs(spread, True, delta=slope(0.1, 3)),
    "poisson_nll_loss": pairs(probability, True, full=lambda rng: True),
    "gaussian_nll_loss": gaussian,
    "binary_cross_entropy": binary,
    "binary_cross_entropy_with_logits": with_logits,
    "kl_div": divergence,
    "soft_margin_loss": pairs(sign),
    "hinge_embedding_loss": pairs(sign, margin=slope(0, 2)),
    "nll_loss": classes,
    "cross_entropy": entropy,
    "multi_margin_loss": multi_margin,
    "margin_ranking_loss": ranking,
    "cosine_embedding_loss": cosine_embedding,
    "triplet_margin_loss": triplet,
    "pairwise_distance": distance,
}


def strided(rng: Rng, array: np.ndarray) -> np.ndarray:
    """Return the array as it is, in Fortran order, or as every second element."""
    kind = rng.integers(3)
    if kind == 0 or not array.ndim:
        return array
    if kind == 1:
        return np.asfortranarray(array)
    wide = np.repeat(array, 2, axis=-1)
    return wide[..., ::2]


def derivatives(
    framework: Any, out: Any, inputs: list[Any], weights: Any, second: bool
) -> list[Any]:
    """Return the gradients of ``(out * weights).sum()``; or those of their squares."""
    grad = framework.autograd.grad
    first = grad((out * weights).sum(), inputs, create_graph=second, allow_unused=True)
    if not second:
        return list(first)
    squares = [(g * g).sum() for g in first if g is not None and g.requires_grad]
    if not squares:
        return [None] * len(inputs)
    return list(grad(sum(squares[1:], squares[0]), inputs, allow_unused=True))


def compare(name: str, seed: int) -> None:
    rng = np.random.default_rng([seed, *name.encode()])
    args, kwargs = DRAWS[name](rng)
    double = rng.random() < 0.7
    dtype = np.float64 if double else np.float32
    rtol, atol = (1e-8, 1e-9) if double else (2e-4, 2e-4)
    args = [array.astype(dtype) for array in args]
    mine = [nnlib.from_numpy(strided(rng, x)).requires_grad_() for x in args]
    theirs = [torch.tensor(x).requires_grad_() for x in args]

    def arrays(make: Callable[[Any], Any]) -> dict[str, Any]:
        return {
            key: make(value.astype(dtype) if value.dtype.kind == "f" else value)
            if isinstance(value, np.ndarray)
            else value
            for key, value in kwargs.items()
        }

    got = getattr(F, name)(*mine, **arrays(nnlib.from_numpy))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        want = getattr(torch.nn.functional, name)(*theirs, **arrays(torch.tensor))
    assert got.shape == tuple(want.shape)
    assert got.dtype.name == str(want.dtype).removeprefix("torch.")
    np.testing.assert_allclose(got.detach().numpy(), want.detach(), rtol, atol)
    weights = rng.standard_normal(got.shape).astype(dtype)
    second = double and rng.random() < 0.5 and name not in ONCE
    if second or name in SINGLE:
        rtol = max(rtol, 1e-6)
    ours = derivatives(nnlib, got, mine, nnlib.tensor(weights), second)
    others = derivatives(torch, want, theirs, torch.tensor(weights), second)
    for x, a, b in zip(args, ours, others, strict=True):
        left = np.zeros_like(x) if a is None else a.detach().numpy()
        right = np.zeros_like(x) if b is None else b.numpy(force=True)
        scale = max(1.0, float(np.abs(right).max(initial=0)))
        np.testing.assert_allclose(left, right, rtol, atol * scale * 10)


@pytest.mark.parametrize("name", DRAWS)
def test_equals_pytorch(name: str) -> None:
    for seed in range(ROUNDS):
        try:
            compare(name, seed)
            counting.count()
        except Exception as error:
            rng = np.random.default_rng([seed, *name.encode()])
            args, kwargs = DRAWS[name](rng)
            raise AssertionError(f"{name}, seed {seed}: {args} {kwargs}") from error
