"""Random convolutions, transposed convolutions, unfold and fold against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from against_torch import agree

# With all ranks, transposed ones, unfold and fold: 2,100 configurations.
ROUNDS = 250
Rng = np.random.Generator


def some(rng: Rng, rank: int, low: int, high: int) -> Any:
    """Draw one number for all dimensions or one for each."""
    if rng.random() < 0.4:
        return int(rng.integers(low, high + 1))
    return tuple(rng.integers(low, high + 1, rank).tolist())


def each(value: Any, rank: int) -> tuple[int, ...]:
    return (value,) * rank if isinstance(value, int) else value


def channels(rng: Rng) -> tuple[int, int, int]:
    """Draw groups and channels per group of input and output."""
    kind = rng.integers(5)
    if kind == 0:
        return int(rng.integers(2, 20)), 1, 1
    if kind == 1:
        return int(rng.integers(2, 4)), *rng.integers(1, 4, 2).tolist()
    if kind == 2:
        return 1, *rng.integers(12, 70, 2).tolist()
    return 1, *rng.integers(1, 9, 2).tolist()


def arguments(rng: Rng, rank: int) -> dict[str, Any]:
    """Draw kernel, stride, padding and dilation; often a layer's usual ones."""
    if rng.random() < 0.35:
        return {"kernel": (3,) * rank, "stride": 1, "padding": some(rng, rank, 0, 2)}
    return {
        "kernel": each(some(rng, rank, 1, 4), rank),
        "stride": some(rng, rank, 1, 3),
        "padding": some(rng, rank, 0, 3),
        "dilation": some(rng, rank, 1, 3),
    }


def values(rng: Rng, dtype: Any, *shapes: Any) -> list[np.ndarray]:
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    # Sums of hundreds of float32 products: keep them near one.
    return arrays


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("seed", range(2))
def test_convolution(rank: int, seed: int) -> None:
    rng = np.random.default_rng((rank, seed))
    for _ in range(ROUNDS // (rank if rank == 3 else 1)):
        groups, cg, kg = channels(rng)
        kwargs = arguments(rng, rank)
        kernel = kwargs.pop("kernel")
        dilation = each(kwargs.get("dilation", 1), rank)
        if rng.random() < 0.15 and kwargs["stride"] == 1:
            kwargs["padding"] = str(rng.choice(["same", "valid"]))
        padding = kwargs["padding"]
        pads = (0,) * rank if isinstance(padding, str) else each(padding, rank)
        size = [
            max(1, d * (k - 1) + 1 - 2 * p) + int(rng.integers(0, 9 // rank + 3))
            for k, p, d in zip(kernel, pads, dilation, strict=True)
        ]
        batch = [] if rng.random() < 0.1 else [int(rng.integers(1, 4))]
        arrays = values(
            rng,
            rng.choice(["float32", "float64"], p=[0.3, 0.7]),
            (*batch, groups * cg, *size),
            (groups * kg, cg, *kernel),
            groups * kg,
        )
        arrays[1] /= np.sqrt(arrays[1][0].size)
        if rng.random() < 0.3:
            del arrays[2]
        agree(
            f"conv{rank}d {kwargs} groups={groups}",
            lambda lib, x, w, b=None, k=kwargs, g=groups: getattr(lib, f"conv{rank}d")(
                x, w, b, groups=g, **k
            ),
            arrays,
            order=rng,
        )


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_transposed(rank: int) -> None:
    rng = np.random.default_rng((rank, 7))
    for _ in range(ROUNDS // rank):
        groups, cg, kg = channels(rng)
        kwargs = arguments(rng, rank)
        kernel = kwargs.pop("kernel")
        if rng.random() < 0.5:
            kwargs["output_padding"] = some(rng, rank, 0, 2)
        # PyTorch is of two minds about results of size zero.
        size = [
            int(rng.integers(1, 12 // rank + 1)) + 2 * p
            for p in each(kwargs["padding"], rank)
        ]
        arrays = values(
            rng,
            rng.choice(["float32", "float64"], p=[0.3, 0.7]),
            (int(rng.integers(1, 4)), groups * cg, *size),
            (groups * cg, kg, *kernel),
            groups * kg,
        )
        arrays[1] /= np.sqrt(arrays[1].size / kg / groups)
        agree(
            f"conv_transpose{rank}d {kwargs} groups={groups}",
            lambda lib, x, w, b, k=kwargs, g=groups: getattr(
                lib, f"conv_transpose{rank}d"
            )(x, w, b, groups=g, **k),
            arrays,
            order=rng,
        )


def test_unfold_and_fold() -> None:
    rng = np.random.default_rng(11)
    for _ in range(ROUNDS):
        kwargs = arguments(rng, 2)
        kwargs["kernel_size"] = kwargs.pop("kernel")
        shape = (*rng.integers(1, 4, 2).tolist(), *rng.integers(1, 9, 2).tolist())
        x = rng.standard_normal(shape)
        agree(
            f"unfold {kwargs}",
            lambda lib, x, k=kwargs: lib.nn.functional.unfold(x, **k),
            [x],
            order=rng,
        )
        agree(
            f"fold of unfold {kwargs}",
            lambda lib, x, k=kwargs, s=shape[2:]: lib.nn.functional.fold(
                lib.nn.functional.unfold(x, **k) * 2, s, **k
            ),
            [x],
            order=rng,
        )
