"""Sampling on grids: the identity, edges, numbers that are none, 16-bit floats."""

from __future__ import annotations

import numpy as np
import pytest

import nnlib
from nnlib.ops import grid as grid_ops

F = nnlib.nn.functional
RANDOM = np.random.default_rng(5)


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_the_identity(mode: str, align: bool) -> None:
    x = nnlib.from_numpy(RANDOM.standard_normal((2, 3, 4, 5)))
    theta = nnlib.tensor([[[1.0, 0, 0], [0, 1, 0]]] * 2, dtype="float64")
    grid = F.affine_grid(theta, x.shape, align_corners=align)
    y = F.grid_sample(x, grid, mode, "border", align)
    # Places computed in float64 miss the pixels by their rounding.
    np.testing.assert_allclose(y.numpy(), x.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align", [False, True])
def test_random_grids_and_edges_against_pytorch(padding: str, align: bool) -> None:
    torch = pytest.importorskip("torch")
    for number in range(12):
        size = RANDOM.integers(1, 5, 2)
        x = RANDOM.standard_normal((2, 2, *size))
        # Edges and middles of pixels are among them.
        grid = RANDOM.integers(-8, 9, (2, 3, 2, 2)) / 4
        mode = ("bilinear", "nearest", "bicubic")[number % 3]
        found = []
        for lib, sample in (
            (nnlib, F.grid_sample),
            (torch, torch.nn.functional.grid_sample),
        ):
            leaves = [lib.tensor(v).requires_grad_() for v in (x, grid)]
            y = sample(*leaves, mode, padding, align)
            (
                y * lib.tensor(np.cos(np.arange(y.numel())).reshape(y.shape))
            ).sum().backward()
            grads = [leaf.grad for leaf in leaves]
            found.append(
                [y.detach().numpy(), *(0 if g is None else g.numpy() for g in grads)]
            )
        for mine, theirs in zip(*found, strict=True):
            np.testing.assert_allclose(
                np.broadcast_to(mine, theirs.shape), theirs, rtol=1e-9, atol=1e-9
            )


def test_places_that_are_no_numbers_read_zeros() -> None:
    x = nnlib.ones(1, 1, 2, 2)
    places = [[np.nan, 0.0], [np.inf, 0.0], [0.0, -np.inf], [0.0, 0.0]]
    grid = nnlib.tensor([[places]], requires_grad=True)
    y = F.grid_sample(x, grid)
    assert y.tolist() == [[[[0, 0, 0, 1]]]]
    y.sum().backward()
    assert np.isfinite(grid.grad.numpy()).all()


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("padding", ["border", "reflection"])
def test_numbers_that_are_none_with_pixels_outside(padding: str, mode: str) -> None:
    x = nnlib.ones(1, 1, 2, 2, dtype="float64")
    grid = nnlib.tensor([[[[np.nan, 0.0], [0.0, np.inf], [0.0, 0.0]]]]).double()
    wanted = [[[[0, padding == "border", 1]]]]
    assert F.grid_sample(x, grid, mode, padding).tolist() == wanted
    assert grid_ops.composed(x, grid, mode, padding, False).tolist() == wanted


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_places_far_away_stay_on_their_side(mode: str) -> None:
    x = nnlib.from_numpy(RANDOM.standard_normal((1, 2, 4, 5)))
    grid = nnlib.tensor([[[[1e12, 1e12], [-1e12, 1e12], [3e3, -1e30]]]]).double()
    y = F.grid_sample(x, grid, mode, "border").numpy()[0, :, 0]
    # Weights that add up to 1 of one pixel: its value but for rounding.
    corners = x.numpy()[0][:, [3, 3, 0], [4, 0, 4]]
    np.testing.assert_allclose(y, corners, rtol=1e-12)
    assert not F.grid_sample(x, grid, mode).numpy().any()
    found = grid_ops.composed(x, grid, mode, "border", False).numpy()[0, :, 0]
    np.testing.assert_allclose(found, corners, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(dtype: str) -> None:
    x = nnlib.from_numpy(RANDOM.standard_normal((1, 2, 4, 4))).to(dtype)
    grid = nnlib.from_numpy(RANDOM.uniform(-1, 1, (1, 3, 3, 2))).to(dtype)
    y = F.grid_sample(x, grid)
    assert y.dtype == x.dtype
    want = F.grid_sample(x.double(), grid.double()).numpy()
    np.testing.assert_allclose(y.double().numpy(), want, rtol=2e-2, atol=2e-2)


def test_images_without_channels():
    out = nnlib.nn.functional.grid_sample(
        nnlib.ones(1, 0, 3, 3), nnlib.zeros(1, 2, 2, 2)
    )
    assert out.shape == (1, 0, 2, 2)


@pytest.mark.parametrize("count", [1, 3])
def test_gradients_do_not_depend_on_threads(count: int) -> None:
    shape = (count, 40, 20, 20)
    x = nnlib.from_numpy(RANDOM.standard_normal(shape)).float().requires_grad_()
    places = RANDOM.uniform(-1.2, 1.2, (count, 30, 30, 2))
    grid = nnlib.from_numpy(places).float().requires_grad_()
    threads = nnlib.get_num_threads()
    found = []
    try:
        for number in (1, 2, 2):
            nnlib.set_num_threads(number)
            y = F.grid_sample(x, grid, "bicubic", "reflection")
            made = nnlib.autograd.grad((y * y).sum(), (x, grid))
            found.append([part.detach().numpy() for part in (y, *made)])
    finally:
        nnlib.set_num_threads(threads)
    for other in found[1:]:
        for mine, its in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(mine, its)


def test_a_batch_of_batches_is_one_batch() -> None:
    x = nnlib.from_numpy(RANDOM.standard_normal((3, 2, 4, 5, 6)))
    grid = nnlib.from_numpy(RANDOM.uniform(-1, 1, (3, 2, 3, 3, 2)))
    wanted = nnlib.stack([F.grid_sample(a, g) for a, g in zip(x, grid, strict=True)])
    found = nnlib.func.vmap(F.grid_sample)(x, grid)
    np.testing.assert_array_equal(found.numpy(), wanted.numpy())
    shared = nnlib.func.vmap(F.grid_sample, in_dims=(0, None))(x, grid[0])
    wanted = nnlib.stack([F.grid_sample(a, grid[0]) for a in x])
    np.testing.assert_array_equal(shared.numpy(), wanted.numpy())
