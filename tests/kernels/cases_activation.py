"""Cases of nnlib.kernels.activation: every map, gradient and map after a bias."""

from __future__ import annotations

import numpy as np
from kernel_cases import Case

from nnlib.kernels import activation
from nnlib.kernels.elementwise import BiasMap, Gradient, Map

SPECIAL = [0.0, -0.0, 0.5, -0.5, np.nan, 1e-40, 30.0, -30.0]


def _numbers(rng, dtype="f4"):
    return np.append(rng.standard_normal(12) * 3, SPECIAL).astype(dtype)


def _map(name, dtype="f4"):
    def run(rng, put):
        return getattr(activation, name)(put(_numbers(rng, dtype)), parameter=0.7)

    return run


def _gradient(name):
    def run(rng, put):
        gradient = put(rng.standard_normal(20).astype("f4"))
        return getattr(activation, name)(gradient, put(_numbers(rng)), parameter=0.7)

    return run


def _bias(name):
    def run(rng, put):
        x = put(rng.standard_normal((3, 4)).astype("f4"))
        bias = put(rng.standard_normal(4).astype("f4"))
        return getattr(activation, name)(x, bias)

    return run


def _cases():
    for name, kernel in vars(activation).items():
        if isinstance(kernel, Map):
            yield Case(name, _map(name), rtol=1e-5)
        elif isinstance(kernel, Gradient):
            yield Case(name, _gradient(name), rtol=1e-4)
        elif isinstance(kernel, BiasMap):
            yield Case(name, _bias(name), rtol=1e-5)
    yield Case("sigmoid, float64", _map("sigmoid", "f8"))


CASES = list(_cases())
