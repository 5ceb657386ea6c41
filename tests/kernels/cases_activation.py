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


def _odd(name, operands):
    """Return a run over sizes and places that vectors of four elements do not fit."""

    def run(rng, put):
        found = []
        for size in (0, 1, 3, 4, 7, 130):
            for place in (0, 1, 2):
                data = [put(rng.standard_normal(size + 3).astype("f4"))]
                data += [put(rng.standard_normal(size + 3).astype("f4"))]
                parts = [array[place : place + size] for array in data[:operands]]
                out = put(np.zeros(size + 3, "f4"))
                getattr(activation, name)(*parts, out[1 : 1 + size])
                getattr(activation, name)(*parts, out=parts[0])
                found += [out, data[0]]
        return found

    return run


def _odd_bias(rng, put):
    found = []
    for rows, columns in ((1, 1), (7, 1), (5, 2), (9, 3), (3, 8), (40, 12), (11, 7)):
        for place in (0, 1):
            x = put(rng.standard_normal(rows * columns + 1).astype("f4"))
            bias = put(rng.standard_normal(columns + 1).astype("f4"))
            matrix = x[place : place + rows * columns].reshape(rows, columns)
            found.append(activation.bias_relu(matrix, bias[1:]))
            activation.bias_relu(matrix, bias[:columns], out=matrix)
            found.append(x)
    return found


def _cases():
    yield Case("relu, odd sizes", _odd("relu", 1))
    yield Case("relu_backward, odd sizes", _odd("relu_backward", 2))
    yield Case("bias_relu, odd sizes", _odd_bias)
    for name, kernel in vars(activation).items():
        if isinstance(kernel, Map):
            yield Case(name, _map(name), rtol=1e-5)
        elif isinstance(kernel, Gradient):
            yield Case(name, _gradient(name), rtol=1e-4)
        elif isinstance(kernel, BiasMap):
            yield Case(name, _bias(name), rtol=1e-5)
    yield Case("sigmoid, float64", _map("sigmoid", "f8"))


CASES = list(_cases())
