"""Cases of nnlib.kernels.embedding and nnlib.kernels.sparse_rows."""

from __future__ import annotations

import numpy as np
from kernel_cases import Case

from nnlib.kernels import embedding, sparse_rows

OFFSETS = np.array([0, 3, 3, 7, 9])


def _gather(rng, put):
    table = put(rng.standard_normal((7, 5)).astype("f4"))
    return embedding.gather(table, put(rng.integers(0, 7, (3, 4))))


def _bag(dtype):
    def run(rng, put):
        table = put(rng.standard_normal((7, 5)).astype(dtype))
        factors = put(rng.standard_normal(9).astype(dtype))
        ids = put(rng.integers(0, 7, 9))
        return embedding.bag(table, ids, put(OFFSETS), factors)

    return run


def _peak(rng, put):
    table = put(rng.standard_normal((7, 5)).astype("f4"))
    return embedding.peak(table, put(rng.integers(0, 7, 9)), put(OFFSETS), 2)


def _update(name, slots, **settings):
    def run(rng, put):
        table = put(rng.standard_normal((6, 3)).astype("f4"))
        kept = [put(rng.random((6, 3)).astype("f4")) for _ in range(slots)]
        rows = put(np.array([1, 4, 5]))
        values = put(rng.standard_normal((3, 3)).astype("f4"))
        getattr(sparse_rows, name)(table, *kept, rows, values, **settings)
        return [table, *kept]

    return run


CASES = [
    Case("gather", _gather),
    Case("bag float32", _bag("f4")),
    Case("bag float64", _bag("f8")),
    Case("peak", _peak),
    Case("row-sparse sgd", _update("sgd", 0, lr=0.1)),
    Case("row-sparse adagrad", _update("adagrad", 1, lr=0.1, eps=1e-10)),
    Case(
        "row-sparse adam",
        _update("adam", 2, step=3, lr=0.1, betas=(0.9, 0.99), eps=1e-8),
    ),
]
