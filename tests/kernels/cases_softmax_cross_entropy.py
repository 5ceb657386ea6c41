"""Cases of nnlib.kernels.softmax_cross_entropy."""

from __future__ import annotations

from kernel_cases import Case

from nnlib import kernels


def _case(rows, classes, dtype, weighted, smoothing):
    def run(rng, put):
        kernel = kernels.softmax_cross_entropy
        x = put(rng.standard_normal((rows, classes)).astype(dtype))
        labels = rng.integers(0, classes, rows)
        labels[1] = -100
        target = put(labels)
        weight = None
        if weighted:
            weight = put(rng.uniform(0.1, 2, classes).astype(dtype))
        loss, lse, sums = kernel.forward(x, target, weight, -100, smoothing)
        factor = put(rng.standard_normal(rows).astype(dtype))
        grad = kernel.backward(x, target, lse, factor, weight, -100, smoothing)
        return loss, lse, sums, grad

    return run


CASES = [
    Case("plain float32", _case(5, 10, "f4", False, 0.0)),
    Case("weights, smoothing, float32", _case(3, 37, "f4", True, 0.1)),
    Case("smoothing, float64", _case(3, 4, "f8", False, 0.1)),
    Case("long rows", _case(2, 2053, "f4", True, 0.1), 1e-4),
    Case("many rows", _case(1030, 1, "f4", False, 0.0), 1e-4),
]
