"""Calls at the edge of what an operation takes, compared with PyTorch one by one.

Tensors without dimensions or elements, dimensions that broadcast, negative widths:
what random calls of ordinary shapes hardly meet.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from against_torch import agree

import nnlib

rng = np.random.default_rng(11)
NUMBER = np.array(2.0)
ROW = rng.standard_normal(5)
MATRIX = rng.standard_normal((4, 4))
BATCH = rng.standard_normal((2, 1, 3))
FIRST = np.array([0])
BYTES = np.array([3, 5, 7], np.uint8)


def without_elements(lib: Any, x: Any) -> Any:
    return lib.linalg.eigvalsh(x), lib.linalg.svdvals(x)


CALLS = {
    "logsumexp": [
        (lambda lib, x: lib.logsumexp(x, [0], True), NUMBER),
        (lambda lib, x: lib.logsumexp(x, [0, 1]), MATRIX),
    ],
    "norm": [
        (lambda lib, x: lib.linalg.vector_norm(x, ord=6), NUMBER),
        (lambda lib, x: lib.norm(x, 3, 0), NUMBER),
        (lambda lib, x: lib.dist(x, x * 3, 4), NUMBER),
    ],
    "cosine_similarity": [
        (lambda lib, x: lib.nn.functional.cosine_similarity(x, x + 1, dim=0), NUMBER),
        *[
            (
                lambda lib, x, y, dim=dim: lib.nn.functional.cosine_similarity(
                    x, y, dim=dim
                ),
                BATCH,
                other,
            )
            for dim in (-3, -2, -1)
            for other in (rng.standard_normal((1, 4, 3)), rng.standard_normal(3))
        ],
    ],
    "meshgrid": [
        (lambda lib, x, y: lib.meshgrid(x, y, indexing="xy"), NUMBER, ROW),
        (lambda lib, x, y: lib.meshgrid(x, y, indexing="ij"), ROW, NUMBER),
    ],
    "index_add": [
        (lambda lib, x, i: lib.index_add(x, 0, i, x, alpha=-1), NUMBER, FIRST),
    ],
    "index_copy": [
        (lambda lib, x, i: lib.index_copy(x * 3, 0, i, x), NUMBER, FIRST),
        (lambda lib, x, i: (x * 3).index_copy_(0, i, x), NUMBER, FIRST),
    ],
    "index_fill": [
        (lambda lib, x, i: lib.index_fill(x, 0, i, -1.0), NUMBER, FIRST),
        (lambda lib, x, i: (x * 3).index_fill_(0, i, x), NUMBER, FIRST),
    ],
    "gather": [
        (lambda lib, x, i: lib.gather(x, 0, i), ROW, np.zeros((2, 0), np.int64)),
    ],
    "pad": [
        (lambda lib, x: lib.nn.functional.pad(x, (-1, 1), mode="circular"), BATCH),
        (lambda lib, x: lib.nn.functional.pad(x, (2, -1), mode="circular"), BATCH),
        (lambda lib, x: lib.nn.functional.pad(x, (1, -2), mode="circular"), BATCH),
        (lambda lib, x: lib.nn.functional.pad(x, (-1, 1), mode="reflect"), BATCH),
        (lambda lib, x: lib.nn.functional.pad(x, (1, -1), mode="reflect"), BATCH),
        (lambda lib, x: lib.nn.functional.pad(x, (2, -1), mode="replicate"), BATCH),
    ],
    "diff": [
        (lambda lib, x: lib.diff(x, 0, 0, x[:1], x[:2]), MATRIX),
    ],
    "decompositions of no matrices": [
        (without_elements, np.zeros((0, 5, 5))),
    ],
    "prod": [
        (lambda lib, x: lib.prod(x, 0, dtype=lib.uint8), BYTES),
        (lambda lib, x: lib.prod(x, dtype=lib.int32), BYTES),
        (lambda lib, x: lib.prod(x > 0, 0, dtype=lib.bool), BYTES),
    ],
    "quantile, with a gradient for q": [
        (lambda lib, x, q: lib.quantile(x, q, 1), MATRIX, np.array([0.1, 0.35])),
        (lambda lib, x, q: lib.nanquantile(x, q), ROW, np.array(0.6)),
    ],
    "gradient": [
        (lambda lib, x: lib.gradient(x, spacing=None), MATRIX),
    ],
    "lu_solve": [
        (
            lambda lib, b, lu, p: lib.linalg.lu_solve(lu, p.to(lib.int32), b),
            np.zeros((0, 4)),
            np.zeros((0, 0)),
            np.zeros(0, np.int64),
        ),
    ],
    "broadcast_shapes": [
        (lambda lib: lib.zeros(lib.broadcast_shapes(3, (2, 1))),),
    ],
}


@pytest.mark.parametrize("name", CALLS)
def test_edges_agree_with_pytorch(name):
    for call, *arrays in CALLS[name]:
        assert agree(name, call, arrays)


def test_logsumexp_of_all_elements_has_a_second_derivative():
    for shape, dims in (((3,), 0), ((2, 3), (0, 1)), ((), 0)):
        x = nnlib.ones(shape, dtype="float64", requires_grad=True)
        assert nnlib.autograd.gradgradcheck(lambda x, d=dims: x.logsumexp(d), (x,))


def test_sums_of_16_bit_floats_of_a_grid_are_accumulated_wider():
    x = nnlib.ones(2, dtype="bfloat16", requires_grad=True)
    grid, _ = nnlib.meshgrid(x, nnlib.ones(1000, dtype="bfloat16"), indexing="ij")
    grid.sum().backward()
    assert x.grad.tolist() == [1000.0, 1000.0]


def test_a_variance_given_as_a_tensor_keeps_the_dtype_of_16_bit_floats():
    x = nnlib.ones(3, dtype="bfloat16")
    loss = nnlib.nn.functional.gaussian_nll_loss(x, x * 2, x)
    assert loss.dtype == nnlib.bfloat16


def test_a_scaled_difference_of_unsigned_integers_agrees_with_pytorch():
    assert agree("sub", lambda lib, x: lib.sub(x, x[:1], alpha=2), [BYTES])
    assert agree("rsub", lambda lib, x: lib.rsub(x, x[:1], alpha=2), [BYTES])
