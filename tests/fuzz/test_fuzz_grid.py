"""Random images sampled on random grids, against PyTorch and the composed form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from against_torch import agree

import nnlib
from nnlib.ops import grid as grids

ROUNDS = 60
MODES = ("bilinear", "nearest", "bicubic")
PADDINGS = ("zeros", "border", "reflection")
Rng = np.random.Generator


def draw(rng: Rng, dtype: str) -> tuple[list[np.ndarray], tuple[Any, ...]]:
    """Return images, places and the other arguments."""
    rank = 2 if rng.random() < 0.7 else 3
    size, out = rng.integers(1, 7, rank), rng.integers(1, 6, rank)
    count = int(rng.integers(0, 4))
    # Parts of a vector, whole ones, and several jobs for an image's gradient.
    channels = int(rng.choice([1, 2, 5, 16, 37, 70]))
    x = rng.standard_normal((count, channels, *size))
    grid = rng.uniform(-1.8, 1.8, (count, *out, rank))
    if dtype == "float64" and rng.random() < 0.3:
        # Edges and middles of pixels.
        grid = np.round(grid * 4) / 4
    mode = MODES[rng.integers(3 if rank == 2 else 2)]
    setting = mode, PADDINGS[rng.integers(3)], bool(rng.integers(2))
    return [x.astype(dtype), grid.astype(dtype)], setting


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", range(4))
def test_samples_and_gradients(seed: int, dtype: str) -> None:
    rng = np.random.default_rng([seed, len(dtype), ord(dtype[-1])])
    for _ in range(ROUNDS):
        arrays, setting = draw(rng, dtype)
        agree(
            f"grid_sample {setting}",
            lambda lib, x, grid, s=setting: lib.nn.functional.grid_sample(x, grid, *s),
            arrays,
            order=rng,
        )


def test_the_composed_form_is_the_kernels() -> None:
    rng = np.random.default_rng(7)
    for _ in range(ROUNDS):
        arrays, setting = draw(rng, "float64")
        found = []
        for sample in (nnlib.nn.functional.grid_sample, grids.composed):
            leaves = [nnlib.from_numpy(a).requires_grad_() for a in arrays]
            y = sample(*leaves, *setting)
            weights = nnlib.from_numpy(np.cos(np.arange(y.numel())).reshape(y.shape))
            made = nnlib.autograd.grad(y, leaves, weights, allow_unused=True)
            zeros = [nnlib.zeros_like(leaf) for leaf in leaves]
            values = [
                y,
                *(z if g is None else g for g, z in zip(made, zeros, strict=True)),
            ]
            found.append([value.detach().numpy() for value in values])
        for mine, its in zip(*found, strict=True):
            # In float64: what the order of some hundred terms changes.
            np.testing.assert_allclose(mine, its, rtol=1e-10, atol=1e-10)
