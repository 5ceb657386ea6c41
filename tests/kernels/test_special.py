"""Scalar functions of kernel bodies against float64 references, over all floats."""

from __future__ import annotations

import re

import numba
import numpy as np
import pytest

from nnlib.kernels import activation, special
from nnlib.kernels.elementwise import Map, scalar

LARGEST_ERROR = {
    "exp": 1.2e-7,
    "log": 1.2e-7,
    "expm1": 2e-7,
    "log1p": 2e-7,
    "tanh": 2e-7,
    "erf": 2e-7,
}
SPECIAL = np.array(
    [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1e-40, -1e-40, 1, -1, 3e38]
    + [-3e38, 88.72, 88.73, 89, -87.3, -87.4, -103.9, -104, -1e4, 1e4, 0.5, -0.5],
    np.float32,
)


def reference(name):
    if name == "erf":
        return pytest.importorskip("scipy.special").erf
    return getattr(np, name)


@pytest.mark.parametrize("name", LARGEST_ERROR)
def test_float32_over_the_whole_range(name):
    # Every 4,001st bit pattern, and the numbers that are met in practice.
    patterns = np.arange(0, 2**32, 4001, dtype=np.uint64).astype(np.uint32)
    near = np.random.default_rng(0).standard_normal(200_000).astype(np.float32)
    x = np.concatenate([patterns.view(np.float32), near, SPECIAL])
    y = getattr(activation, name)(x)
    with np.errstate(all="ignore"):
        exact = reference(name)(x.astype(np.float64))
        rounded = exact.astype(np.float32)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(rounded))
    infinite = np.isinf(rounded) | np.isinf(y)
    np.testing.assert_array_equal(y[infinite], rounded[infinite])
    finite = np.isfinite(rounded)
    normal = finite & (np.abs(exact) > 1.2e-38)
    error = np.abs(y[normal] / exact[normal] - 1)
    assert error.max() < LARGEST_ERROR[name], x[normal][error.argmax()]
    denormal = finite & ~normal
    assert np.abs(y[denormal] - exact[denormal]).max(initial=0) < 3e-45


@pytest.mark.parametrize("name", LARGEST_ERROR)
def test_float64(name):
    x = np.concatenate([np.linspace(-5, 5, 1001), SPECIAL.astype(np.float64)])
    with np.errstate(all="ignore"):
        expected = reference(name)(x)
    np.testing.assert_allclose(getattr(activation, name)(x), expected, rtol=1e-14)


@pytest.mark.parametrize("name", LARGEST_ERROR)
def test_loops_are_vectorised(name):
    kernel = getattr(activation, name)
    kernel(np.ones(3, np.float32))
    dispatcher = kernel.cpu.dispatcher
    # Compiled anew: what comes from the cache cannot be looked into.
    options = {**dispatcher.targetoptions}
    options.pop("nopython")
    fresh = numba.njit(**options)(dispatcher.py_func)
    for signature in dispatcher.signatures:
        if str(signature[0].dtype) == "float32":
            fresh.compile(signature)
            text = "".join(fresh.inspect_asm(signature))
            calls = re.findall(rf"call\w*\s+\S*\b{name}f?\b", text)
            assert not calls, f"{name} calls the library: the loop is not vectorised"


@scalar
def larger_at(x, parameter):
    return special.maximum(x, parameter)


@scalar
def smaller_at(x, parameter):
    return special.minimum(x, parameter)


def test_extrema_pass_nan_on():
    x = np.array([np.nan, 1, -1, np.inf, -np.inf], np.float32)
    np.testing.assert_array_equal(Map(larger_at)(x), [np.nan, 1, 0, np.inf, 0])
    np.testing.assert_array_equal(Map(smaller_at)(x), [np.nan, 0, -1, 0, -np.inf])


@scalar
def cosine_at(u, parameter):
    return special.cos_sin_turns(u)[0]


@scalar
def sine_at(u, parameter):
    return special.cos_sin_turns(u)[1]


cosine, sine = Map(cosine_at), Map(sine_at)


@pytest.mark.parametrize("dtype,atol", [("f4", 3e-7), ("f8", 1e-15)])
def test_turns(dtype, atol):
    u = np.append(np.linspace(0, 1, 4097), [0.125, 0.375, 0.999999]).astype(dtype)
    angle = 2 * np.pi * u.astype(np.float64)
    np.testing.assert_allclose(cosine(u), np.cos(angle), atol=atol)
    np.testing.assert_allclose(sine(u), np.sin(angle), atol=atol)


def test_functions_run_as_python():
    # As the simulator runs them.
    x = np.float32(0.3)
    for name in LARGEST_ERROR:
        y = getattr(special, name)(x)
        assert type(y) is np.float32
        np.testing.assert_allclose(y, reference(name)(np.float64(x)), rtol=1e-6)
    assert special.select(True, 1, 2) == 1 and special.select(False, 1, 2) == 2
    assert np.isnan(special.maximum(np.float32(np.nan), x))
    assert special.minimum(x, np.float32(1)) == x
    assert special.sqrt(np.float32(4)) == 2
