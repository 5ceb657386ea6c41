"""Groups of threads and vectors in registers: plans, and what a GPU gets of them."""

from __future__ import annotations

import importlib.util
import re

import numba
import numpy as np
import pytest
from numba import types

from nnlib.kernels import channel_tiles, softmax_cuda
from nnlib.kernels.machinery import compile as compiler
from nnlib.kernels.machinery.groups import Rows, move_vector, width_of


@numba.njit
def _copy_by_four(x, y, i, j):
    move_vector(y, j, x, i, 4)


@numba.njit
def _copy_by_two(x, y, i, j):
    move_vector(y, j, x, i, 2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_vectors_are_moved_and_nothing_beside_them(dtype):
    for copy, width in ((_copy_by_four, 4), (_copy_by_two, 2)):
        # Two zeros of room, so that the first element may begin a vector.
        x, y = (np.zeros(32, dtype) for _ in range(2))
        skip = -x.ctypes.data % 32 // x.itemsize, -y.ctypes.data % 32 // x.itemsize
        x, y = x[skip[0] : skip[0] + 24], y[skip[1] : skip[1] + 24]
        x[:] = np.arange(24)
        copy(x, y, 8, 12)
        expected = np.zeros(24, dtype)
        expected[12 : 12 + width] = x[8 : 8 + width]
        np.testing.assert_array_equal(y, expected)


def test_simulator_refuses_unaligned_vectors():
    x = np.zeros(8, np.float32)
    with pytest.raises(ValueError, match="not aligned"):
        move_vector(x, 0, x, 2, 4)
    move_vector(x, 0, x, 3, 1)


def test_width_of_rows():
    x = np.zeros(64, np.float32)
    x = x[-x.ctypes.data % 16 // 4 :]
    assert width_of(4, 8, x) == 4
    assert width_of(4, 8, x, x[1:]) == 1
    assert width_of(4, 6, x) == 1
    assert width_of(8, 6, x) == 2


@pytest.mark.parametrize("most", [4, 8])
@pytest.mark.parametrize("width", [1, 2, 4])
def test_plans_of_rows_cover_them(width, most):
    for vectors in [*range(1, 300), 1000, 1023, 1024, 1025, 2047, 2048]:
        plan = Rows.of(vectors * width, width, most)
        if plan is None:
            assert vectors > 256 * most
            continue
        assert plan.held << plan.shift >= vectors
        assert plan.held <= most and plan.held in (1, 2, 4, 8)
        # Whole warps, and whole groups in a block.
        assert plan.threads % 32 == 0 and plan.threads >= 1 << plan.shift
        assert plan.threads <= 256
        for rows in (1, 2, 3, 31, 32, 33, 1000):
            groups = plan.blocks(rows) * (plan.threads >> plan.shift)
            assert rows <= groups < rows + (plan.threads >> plan.shift)


def test_plans_of_tiles_cover_their_images():
    for batches in (1, 3, 5000):
        for rows in (1, 7, 64, 1000, 10**5, 10**8 + 1):
            for channels in (1, 2, 3, 10, 16, 48, 68, 512, 1000):
                for width in (1, 2, 4):
                    if channels % width:
                        continue
                    plan = channel_tiles._plan(batches, rows, channels, width)
                    assert (plan.tiles << plan.shift) * width >= channels
                    assert plan.slices * plan.step >= rows
                    assert (plan.slices - 1) * plan.step < rows
                    assert 0 <= plan.shift <= 5
                    # Enough blocks, and not many times too many.
                    assert plan.slices * batches * plan.tiles <= max(
                        1024, batches * plan.tiles
                    )


@pytest.mark.skipif(
    importlib.util.find_spec("numba_cuda") is None, reason="numba-cuda is not installed"
)
def test_instructions_of_a_row():
    flat = types.float32[::1]
    signature = (flat, flat, *[types.int64] * 4)
    kernel = softmax_cuda._forward_kernel(4, 2)
    ptx = compiler.compile_for(kernel, signature, (8, 0), keep=False).ptx
    # Vectors go between memory and registers: local arrays take no memory.
    assert len(re.findall(r"ld\.global\S*\.v4\.f32", ptx)) == 2
    assert len(re.findall(r"st\.global\S*\.v4\.f32", ptx)) == 2
    assert "ld.local" not in ptx and "st.local" not in ptx
    # All lanes of a warp exchange, none is left out.
    moves = re.findall(r"shfl\.sync\.bfly\.b32\s+(.*);", ptx)
    assert moves
    numbers = dict(re.findall(r"mov\.[ub]32\s+(%r\d+), (-?\d+);", ptx))
    for move in moves:
        *_, clamp, mask = [part.strip() for part in move.split(",")]
        assert numbers.get(clamp, clamp) == "31"
        assert numbers.get(mask, mask) == "-1"
