"""The vector accesses of CUDA kernels, compiled by LLVM for the CPU.

The simulator runs their Python functions; here run the instructions that a GPU gets.
"""

from __future__ import annotations

import importlib.util
import re

import numba
import numpy as np
import pytest
from numba import types

from nnlib import kernels
from nnlib.kernels.addresses import put4_at, take4_at
from nnlib.kernels.machinery import compile as compiler
from nnlib.kernels.machinery import cuda_vectors as vectors
from nnlib.kernels.machinery.cuda_vectors import (
    aligned,
    aligned_address,
    put2,
    put4,
    put_apart,
    quad_at,
    quad_end,
    take4,
    take_apart,
)

KINDS = [np.float32, np.float64, np.uint32, np.uint64]


@numba.njit
def _copy(x, y):
    size = np.uint64(x.size)
    end = quad_end(size, aligned(x) and aligned(y))
    i = quad_at(0)
    while i < size:
        whole = i < end
        a, b, c, d = take4(x, i, whole)
        put4(y, i, whole, a, b, c, d)
        i += quad_at(1)


@numba.njit
def _copy_by_address(x, y, size, like):
    last = np.uint64(size)
    end = quad_end(last, aligned_address(x | y))
    i = quad_at(0)
    while i < last:
        whole = i < end
        a, b, c, d = take4_at(x, i, last, whole, like)
        put4_at(y, i, last, whole, a, b, c, d)
        i += quad_at(1)


@numba.njit
def _copy_apart(x, y, i, gap):
    a, b, c, d = take_apart(x, i, gap)
    put_apart(y, i, gap, a, b, c, d)


@numba.njit
def _put_pair(y, i, whole, a, b):
    put2(y, i, whole, a, b)


def _at(data, place, size):
    """Return elements of `data`, 16-byte aligned for a `place` of 0."""
    first = -(data.ctypes.data // data.itemsize) % (16 // data.itemsize)
    return data[first + place : first + place + size]


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_copy_every_element_and_no_other(kind, rng):
    for size in (1, 2, 3, 4, 5, 8, 31):
        for place in (0, 1):
            x = _at(rng.integers(1, 99, size + 8).astype(kind), 0, size)
            whole = np.zeros(size + 8, kind)
            y = _at(whole, place, size)
            _copy(x, y)
            np.testing.assert_array_equal(y, x)
            assert np.count_nonzero(whole) == size


@pytest.mark.parametrize("kind", KINDS[:2])
def test_vectors_at_addresses_copy_every_element_and_no_other(kind, rng):
    for size in (1, 3, 4, 7, 8, 30):
        for place in (0, 1):
            x = _at(rng.integers(1, 99, size + 8).astype(kind), place, size)
            whole = np.zeros(size + 8, kind)
            y = _at(whole, place, size)
            _copy_by_address(x.ctypes.data, y.ctypes.data, size, kind(0))
            np.testing.assert_array_equal(y, x)
            assert np.count_nonzero(whole) == size


@pytest.mark.parametrize("i", [-9, -8, -5, -1, 0, 3, 6, 7, 8, 15, 18, 20])
def test_elements_apart(i):
    x = np.arange(1, 21, dtype=np.float32)
    y = np.zeros(20, np.float32)
    _copy_apart(x, y, i, 4)
    chosen = [k for k in range(i, i + 16, 4) if 0 <= k < 20]
    expected = np.zeros(20, np.float32)
    expected[chosen] = x[chosen]
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("kind", KINDS[:2])
def test_pairs(kind):
    for i, whole in ((-1, False), (0, True), (4, True), (5, False), (7, False)):
        y = _at(np.zeros(16, kind), 0, 8)
        _put_pair(y, i, whole, kind(3), kind(4))
        expected = np.zeros(8, kind)
        for k, value in ((i, 3), (i + 1, 4)):
            if 0 <= k < 8:
                expected[k] = value
        np.testing.assert_array_equal(y, expected)


def test_the_simulator_refuses_what_is_not_aligned():
    x = np.zeros(16, np.float32)
    with pytest.raises(ValueError, match="not aligned"):
        vectors.load4(_at(x, 1, 8), np.uint64(0))
    with pytest.raises(ValueError, match="not aligned"):
        vectors.load4_at(_at(x, 1, 8).ctypes.data, 0, np.float32(0))


@pytest.mark.skipif(
    importlib.util.find_spec("numba_cuda") is None, reason="numba-cuda is not installed"
)
@pytest.mark.parametrize(
    ("kind", "width"), [("float32", "v4.f32"), ("float64", "v2.f64")]
)
def test_kernels_are_compiled_to_vector_accesses(kind, width):
    scalar = getattr(types, kind)
    array = types.Array(scalar, 1, "C")
    kernel = kernels.activation.relu.cuda
    ptx = compiler.compile_for(kernel, (array, array, scalar), (8, 0), keep=False).ptx
    # PTX of a newer compiler says b32 for f32.
    width = width.replace("f", "[fb]")
    loads = re.findall(rf"ld\.global\.{width}", ptx)
    stores = re.findall(rf"st\.global\.{width}", ptx)
    assert loads and len(loads) == len(stores), ptx
