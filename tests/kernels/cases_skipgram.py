"""Cases of nnlib.kernels.skipgram."""

from __future__ import annotations

import numpy as np
from kernel_cases import Case

from nnlib.kernels import skipgram


def _train(cbow, columns=5, count=12, batch=4):
    def run(rng, put):
        inputs, outputs = (
            put(rng.standard_normal((6, columns)).astype("f4")) for _ in range(2)
        )
        at = np.arange(count)
        reach = rng.integers(1, 3, count)
        text = skipgram.Text(
            put(rng.integers(0, 6, count).astype(np.int32)),
            put(np.maximum(at - reach, 0).astype(np.int32)),
            put(np.minimum(at + reach + 1, count).astype(np.int32)),
            put(skipgram.alias_table(np.arange(1, 7))),
            2,
            3,
            cbow,
        )
        rates = np.linspace(0.1, 0.05, -(-(count - 1) // batch)).astype("f4")
        skipgram.train(
            inputs, outputs, text, 1, count, rates, batch=batch, seed=9, offset=100
        )
        return inputs, outputs

    return run


CASES = [
    Case("skip-gram", _train(False), rtol=1e-4, atol=1e-5),
    Case("CBoW", _train(True), rtol=1e-4, atol=1e-5),
]
