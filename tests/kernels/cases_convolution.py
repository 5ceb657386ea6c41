"""Cases of the convolution kernels: patches, depthwise, unfold and fold on CUDA."""

from __future__ import annotations

import numpy as np
from kernel_cases import Case

from nnlib import kernels


def _case(dtype, x, w, out, stride, before, dilation, groups):
    def run(rng, put):
        kernel = kernels.convolution
        geometry = (stride, before, dilation, groups)
        # In memory channels-last, as layers leave them; the third as images come.
        last = (0, *range(2, len(x)), 1)
        back = (0, len(x) - 1, *range(1, len(x) - 1))
        a = rng.standard_normal(x).astype(dtype)
        a = put(np.ascontiguousarray(a.transpose(last))).transpose(back)
        weight = put(rng.standard_normal(w).astype(dtype))
        bias = put(rng.standard_normal(w[0]).astype(dtype))
        g = put(rng.standard_normal((x[0], w[0], *out)).astype(dtype))
        images = put(rng.standard_normal(x).astype(dtype))
        return (
            kernel.convolve(a, weight, bias, out, *geometry),
            kernel.convolve(images, weight, None, out, *geometry),
            kernel.input_grad(g, weight, None, x[2:], *geometry),
            kernel.weight_grad(a, g, w[2:], *geometry),
        )

    return run


def _windows(rng, put):
    args = ((2, 3), (2, 2), (2, 1), (1, 0), (1, 2))
    x = put(rng.standard_normal((1, 2, 3, 5)).astype("f4"))
    columns = put(rng.standard_normal((1, 8, 6)).astype("f4"))
    return kernels.unfold.unfold(x, *args), kernels.unfold.fold(columns, (3, 5), *args)


PAIR = (1, 1)
CASES = [
    Case(name, _case(*args), 1e-4, 1e-5)
    for name, args in {
        "1-d": ("f4", (2, 2, 5), (3, 2, 2), (4,), (1,), (0,), (1,), 1),
        "2-d": ("f4", (1, 2, 4, 5), (3, 2, 3, 2), (2, 6), (2, 1), PAIR, PAIR, 1),
        "groups": ("f4", (1, 4, 4, 3), (2, 2, 2, 2), (2, 2), PAIR, (0, 1), (2, 3), 2),
        "3-d": (
            "f8", (1, 1, 2, 3, 2), (2, 1, 1, 2, 2), (2, 2, 1), (1, 1, 1), (0, 0, 0),
            (1, 1, 1), 1,
        ),
        "depthwise": ("f4", (1, 3, 4, 4), (3, 1, 3, 3), (2, 2), (2, 2), PAIR, PAIR, 3),
        "strided past the kernel": (
            "f4", (1, 1, 5, 5), (1, 1, 1, 1), (2, 2), (3, 3), (0, 0), PAIR, 1,
        ),
        # Channels by fours, tiles of 16 and of 32 filters.
        "wide": ("f4", (1, 8, 4, 3), (16, 8, 3, 3), (4, 3), PAIR, PAIR, PAIR, 1),
        "wide, strided": (
            "f4", (2, 8, 5, 5), (20, 8, 3, 3), (3, 3), (2, 2), PAIR, PAIR, 1,
        ),
        "wide groups": (
            "f4", (1, 16, 3, 3), (34, 8, 2, 1), (2, 3), PAIR, (0, 0), PAIR, 2,
        ),
        "wide, double": (
            "f8", (1, 8, 3, 3), (24, 8, 2, 2), (2, 2), PAIR, (0, 0), PAIR, 1,
        ),
        "many filters": (
            "f4", (1, 3, 4, 4), (35, 3, 2, 2), (3, 3), PAIR, (0, 0), PAIR, 1,
        ),
        # Of many filters, and of more than 64 taps: patches.
        "patches": ("f4", (1, 4, 3, 3), (128, 4, 2, 2), (2, 2), PAIR, (0, 0), PAIR, 1),
        "patches of many taps": (
            "f4", (1, 1, 9, 10), (2, 1, 9, 9), (1, 2), PAIR, (0, 0), PAIR, 1,
        ),
        "depthwise by fours": (
            "f4", (1, 4, 4, 3), (4, 1, 3, 3), (2, 2), (2, 2), PAIR, PAIR, 4,
        ),
        "half": ("f2", (1, 1, 3, 3), (2, 1, 2, 2), (2, 2), PAIR, (0, 0), PAIR, 1),
    }.items()
] + [Case("unfold and fold", _windows)]  # fmt: skip
