"""Cases of nnlib.kernels.skipgram_loss."""

from __future__ import annotations

import numpy as np
from kernel_cases import Case, to_host

from nnlib.kernels import skipgram_loss


def _loss(dtype):
    def run(rng, put):
        tables = [put(rng.standard_normal((n, 5)).astype(dtype)) for n in (4, 6)]
        words, targets = put(rng.integers(0, 4, 7)), put(rng.integers(0, 6, (7, 3)))
        scale = put(rng.standard_normal(7).astype(dtype))
        losses, factors = skipgram_loss.forward(*tables, words, targets)
        found = [losses, factors]
        grads = skipgram_loss.backward(*tables, words, targets, factors, scale)
        for (rows, values), table in zip(grads, tables, strict=True):
            total = np.zeros(table.shape, dtype)
            np.add.at(total, to_host(rows), to_host(values))
            found.append(total)
        return found

    return run


CASES = [
    Case("float32", _loss("f4"), rtol=1e-4, atol=1e-5),
    Case("float64", _loss("f8")),
]
