"""Cases of nnlib.kernels.philox, normal and dropout."""

from __future__ import annotations

import numpy as np
from kernel_cases import Case, recorded_seed

from nnlib.kernels import dropout, philox
from nnlib.kernels.normal import normal


def _fill(function, dtype, *settings):
    def run(rng, put):
        return function(put(np.zeros(9, dtype)), 2**40 + 3, 250, *settings)

    return run


def _dropout(dtype):
    def run(rng, put):
        x = put(rng.standard_normal((3, 5)).astype(dtype))
        return dropout.forward(x, 0.4, 9, 2**35), dropout.backward(x, 0.4, 9, 2**35)

    return run


def _places(function, dtype, *settings):
    """Return a run over sizes, positions and places that groups do not fit."""

    def run(rng, put):
        found = []
        for size, offset in ((0, 3), (1, 1), (2, 511), (70, 255), (300, 0), (301, 77)):
            for place in (0, 1, 2):
                out = put(np.zeros(size + 3, dtype))
                function(out[place : place + size], 2**33 + 1, offset, *settings)
                found.append(out)
        return found

    return run


def _dropout_places(rng, put):
    found = []
    for size, offset in ((0, 3), (1, 3), (65, 254), (300, 0), (515, 2**33 + 77)):
        for place in (0, 1):
            x = put(rng.standard_normal(size + 1).astype("f4"))
            out = put(np.zeros(size + 1, "f4"))
            part = x[place : place + size]
            dropout.forward(part, 0.4, 9, offset, out[1 - place :][:size])
            dropout.forward(part, 0.4, 9, offset, part)
            found += [out, x]
    return found


def _recorded(rng, put):
    seed = recorded_seed(2**33 + 1, 200, put)
    drawn = philox.random_bits(put(np.zeros(70, np.uint32)), seed, 255)
    dropped = dropout.forward(put(np.ones(70, "f4")), 0.4, seed, 201)
    return [seed.memory, drawn, dropped, normal(put(np.zeros(9)), seed, 205)]


CASES = [
    Case("while a graph is recorded", _recorded),
    Case("bits, many places", _places(philox.random_bits, np.uint32)),
    Case("wide bits, many places", _places(philox.random_bits, np.uint64)),
    Case("normal float32, many places", _places(normal, "f4"), rtol=1e-4, atol=1e-5),
    Case("normal float64, many places", _places(normal, "f8")),
    Case("dropout, many places", _dropout_places),
    Case("bits", _fill(philox.random_bits, np.uint32)),
    Case("wide bits", _fill(philox.random_bits, np.uint64)),
    Case("uniform float32", _fill(philox.uniform, "f4"), 0, 0),
    # The simulator rounds twice where both targets use a fused multiply-add.
    Case("uniform float32 in a range", _fill(philox.uniform, "f4", -1.0, 2.0)),
    Case("uniform float64", _fill(philox.uniform, "f8"), 0, 0),
    Case("integers", _fill(philox.randint, np.int64, -3, 40)),
    Case("wide integers", _fill(philox.randint, np.int64, 0, 2**50)),
    Case("events", _fill(philox.bernoulli, np.bool_, 0.5)),
    Case("normal float32", _fill(normal, "f4", 1.0, 2.0)),
    Case("normal float64", _fill(normal, "f8")),
    Case("dropout float32", _dropout("f4")),
    Case("dropout float64", _dropout("f8")),
]
