"""Cases of nnlib.kernels.attention."""

from __future__ import annotations

import numpy as np
from kernel_cases import Case

from nnlib.kernels import attention


def _case(shape, width, features, masked=False, causal=False, rate=0.0, dtype="f4"):
    batch, heads, groups, length, keys = shape

    def run(rng, put):
        def draw(*size):
            return put(rng.standard_normal(size).astype(dtype))

        q = draw(batch, heads, length, width)
        k = draw(batch, groups, keys, width)
        v = draw(batch, groups, keys, features)
        g = draw(batch, length, heads, features)
        mask = None
        if masked:
            mask = rng.standard_normal((1, heads, length, keys)).astype(dtype)
            mask[mask < -0.5] = -np.inf
            mask[0, 0, 1] = -np.inf
            mask = put(mask)
        setting = attention.Setting(0.4, causal, rate, 7, 1000)
        out, lse = attention.forward(q, k, v, mask, setting)
        grads = attention.backward(g, q, k, v, mask, out, lse, setting)
        return [out, lse, *grads]

    return run


CASES = [
    Case("plain", _case((1, 2, 2, 5, 6), 3, 4)),
    Case("mask, shared keys", _case((1, 2, 1, 5, 6), 3, 2, masked=True)),
    Case("causal, dropout", _case((1, 1, 1, 6, 6), 3, 2, causal=True, rate=0.4)),
    Case("float64, more keys than a tile", _case((1, 1, 1, 2, 130), 1, 2, dtype="f8")),
]
