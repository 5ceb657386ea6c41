"""Cases of nnlib.kernels.normalization and nnlib.kernels.normalization_rows."""

from __future__ import annotations

import numpy as np
from kernel_cases import Case

from nnlib import kernels


def _channels(dtype, shape):
    def run(rng, put):
        kernel = kernels.normalization
        x, g = (put(rng.standard_normal(shape).astype(dtype)) for _ in range(2))
        a, k, c = (
            put(rng.standard_normal((shape[0], shape[2])).astype(dtype))
            for _ in range(3)
        )
        mean, var = kernel.moments(x)
        return (
            mean,
            var,
            kernel.normalize(x, a, k, c),
            *kernel.gradient_sums(g, x, a),
            kernel.input_gradient(g, x, a, a, k, c),
        )

    return run


def _layer(shape, group, weighted, tracked):
    def run(rng, put):
        kernel = kernels.normalization
        channels = shape[2]
        x, g = (put(rng.standard_normal(shape).astype("f4")) for _ in range(2))
        w = put(rng.standard_normal(channels).astype("f4")) if weighted else None
        b = put(rng.standard_normal((1, channels)).astype("f4"))
        mean, var, scale, factor = kernel.statistics(x, w, 1e-5, group)
        y = kernel.normalize(x, mean, factor, b)
        made = kernel.slopes(g, x, mean, scale, w, group)
        dx = kernel.input_gradient(g, x, mean, factor, *made[2:])
        running = [put(np.ones(channels, "f4")) for _ in range(2)]
        kernel.move_running(
            running[0], running[1] if tracked else None, mean[0], var[0], 9, 0.25
        )
        return mean, var, y, *made[:2], dx, *kernel.scales(var[0], w, 1e-5), *running

    return run


def _planes(shape, whole, weighted, group):
    """Run planes on the device, and on the CPU the same images turned around."""

    def run(rng, put):
        images, channels, size = shape
        x, g = (rng.standard_normal(shape).astype("f4") for _ in range(2))
        w = put(rng.standard_normal(channels).astype("f4")) if weighted else None
        b = put(rng.standard_normal((1, channels)).astype("f4"))
        if type(b) is np.ndarray:
            kernel = kernels.normalization
            x, g = (np.ascontiguousarray(a.transpose(0, 2, 1)) for a in (x, g))
            if whole:
                x, g = (a.reshape(1, -1, channels) for a in (x, g))
            first = kernel.statistics(x, w, 1e-5, group)
        else:
            kernel = kernels.normalization_planes
            x, g = put(x), put(g)
            first = kernel.statistics(x, w, 1e-5, whole, group)
        mean, _, scale, factor = first
        y = kernel.normalize(x, mean, factor, b)
        made = kernel.slopes(g, x, mean, scale, w, group)
        dx = kernel.input_gradient(g, x, mean, factor, *made[2:])
        if type(b) is np.ndarray:
            y, dx = (
                v.reshape(images, size, channels).transpose(0, 2, 1) for v in (y, dx)
            )
        return *first, *made, y, dx

    return run


def _rows(dtype, shape, centred):
    def run(rng, put):
        kernel = kernels.normalization_rows
        x, g = (put(rng.standard_normal(shape).astype(dtype)) for _ in range(2))
        w, b = (put(rng.standard_normal(shape[1]).astype(dtype)) for _ in range(2))
        y, means, scales = kernel.forward(x, w, b, 1e-5, centred)
        return y, means, scales, *kernel.backward(g, x, w, means, scales, centred)

    return run


CASES = (
    [
        Case(f"channels, {dtype}, {shape}", _channels(dtype, shape), 1e-4, 1e-4)
        for dtype, shape in (("f4", (2, 70, 3)), ("f4", (1, 5, 2)), ("f8", (1, 66, 1)))
    ]
    + [
        Case(f"layer, {shape}, {group}", _layer(shape, group, *flags), 1e-4, 1e-4)
        for shape, group, *flags in (
            ((1, 90, 8), 1, True, True),
            ((1, 70, 128), 1, False, False),
            ((2, 3, 12), 4, True, True),
        )
    ]
    + [
        Case(f"planes, {shape}, {group}", _planes(shape, *flags, group), 1e-4, 1e-4)
        for shape, group, *flags in (
            ((3, 2, 64), 1, True, True),
            ((2, 4, 33), 2, False, False),
        )
    ]
    + [
        Case(
            f"rows, {dtype}, {shape}, {centred}",
            _rows(dtype, shape, centred),
            1e-4,
            1e-5,
        )
        for dtype, shape, centred in (
            ("f4", (2, 5), True),
            ("f4", (2, 7), False),
            ("f8", (1, 4), True),
            ("f4", (3, 36), True),
            ("f4", (1, 2053), True),
        )
    ]
)
