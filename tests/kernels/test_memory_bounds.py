"""Kernels touch no memory beside their arrays: these end where a page may not be read.

What lies outside is protected, so that a single element too much ends the process.
"""

from __future__ import annotations

import ctypes
import mmap
import sys

import numpy as np
import pytest

import nnlib

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="pages are protected by Linux's call"
)
_KEPT = []


def at_the_end(array):
    """Return a copy of an array (channels-last if 3-D or more) before a closed page."""
    moved = np.moveaxis(array, 1, -1) if array.ndim > 2 else array
    pages = -(-array.nbytes // mmap.PAGESIZE)
    memory = mmap.mmap(-1, (pages + 1) * mmap.PAGESIZE)
    _KEPT.append(memory)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    library = ctypes.CDLL(None, use_errno=True)
    behind = ctypes.c_void_p(start + pages * mmap.PAGESIZE)
    assert library.mprotect(behind, ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    offset = pages * mmap.PAGESIZE - array.nbytes
    copy = np.ndarray(moved.shape, array.dtype, memory, offset)
    copy[...] = moved
    return np.moveaxis(copy, -1, 1) if array.ndim > 2 else copy


def leaf(rng, shape, dtype="float32"):
    values = rng.standard_normal(shape).astype(dtype)
    return nnlib.from_numpy(at_the_end(values)).requires_grad_()


def convolve_and_back(rng, dtype, shapes, **kwargs):
    """Run a convolution and its gradients on protected arrays and on plain ones."""
    x, w = (leaf(rng, shape, dtype) for shape in shapes)
    rank = x.dim() - 2
    run = getattr(nnlib, f"conv{rank}d")
    y = run(x, w, **kwargs)
    g = rng.standard_normal(y.shape).astype(dtype)
    y.backward(nnlib.from_numpy(at_the_end(g)))
    # The memory's order is kept: it may decide which loop runs, and so the rounding.
    plain = [
        nnlib.from_numpy(t.detach().numpy().copy(order="K")).requires_grad_()
        for t in (x, w)
    ]
    same = run(*plain, **kwargs)
    order = np.moveaxis(np.moveaxis(g, 1, -1).copy(), -1, 1)
    same.backward(nnlib.from_numpy(order))
    for a, b in zip((y, x.grad, w.grad), (same, *(t.grad for t in plain)), strict=True):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "shapes,kwargs",
    [
        (((2, 6, 1, 3), (9, 2, 1, 1)), {"groups": 3}),
        (((4, 6, 1), (9, 2, 1)), {"groups": 3}),
        (((2, 5, 4, 1), (7, 5, 3, 1)), {"padding": (1, 0)}),
        (((2, 17, 5, 6), (17, 1, 3, 3)), {"groups": 17}),
        (((1, 16, 5, 6), (16, 1, 3, 3)), {"groups": 16}),
        (((2, 17, 5, 6), (18, 17, 3, 3)), {"padding": 1}),
        (((1, 3, 2, 3, 4), (5, 3, 1, 2, 2)), {"stride": 2}),
    ],
)
def test_convolutions(rng, dtype, shapes, kwargs):
    convolve_and_back(rng, dtype, shapes, **kwargs)


@pytest.mark.parametrize("channels", [1, 16])
@pytest.mark.parametrize(
    "size,kernel,kwargs",
    [
        ((1,), (1,), {"stride": 100, "padding": 5}),
        ((1,), (2,), {"stride": 2, "padding": 4, "dilation": 7}),
        ((4, 1), (1, 1), {"stride": (1, 100), "padding": (0, 5)}),
    ],
)
def test_windows_beside_the_image(rng, channels, size, kernel, kwargs):
    # Rows of a frame are copied from the image: here there is nothing to copy.
    shapes = (1, channels, *size), (2, channels, *kernel)
    convolve_and_back(rng, "float32", shapes, **kwargs)
    x, w = (nnlib.tensor(rng.standard_normal(s).astype("f4")) for s in shapes)
    assert not getattr(nnlib, f"conv{len(size)}d")(x, w, **kwargs).numpy().any()
