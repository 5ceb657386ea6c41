"""Activations against float64 formulas and PyTorch; layouts, sizes, bad arguments."""

from __future__ import annotations

import numpy as np
import pytest

from nnlib.backend import threads
from nnlib.backend.errors import DTypeError, ShapeError
from nnlib.kernels import activation
from nnlib.kernels.elementwise import SERIAL, flat_views

# name: (torch function, parameter, whether the gradient takes the output)
FUNCTIONS = {
    "relu": (lambda f, x: f.relu(x), 0.0, True),
    "leaky_relu": (lambda f, x: f.leaky_relu(x, 0.2), 0.2, False),
    "sigmoid": (lambda f, x: x.sigmoid(), 0.0, True),
    "tanh": (lambda f, x: x.tanh(), 0.0, True),
    "gelu": (lambda f, x: f.gelu(x), 0.0, False),
    "gelu_tanh": (lambda f, x: f.gelu(x, approximate="tanh"), 0.0, False),
    "silu": (lambda f, x: f.silu(x), 0.0, False),
    "softplus": (lambda f, x: f.softplus(x, 1.5), 1.5, False),
    "elu": (lambda f, x: f.elu(x, 0.7), 0.7, False),
    "mish": (lambda f, x: f.mish(x), 0.0, False),
    "log_sigmoid": (lambda f, x: f.logsigmoid(x), 0.0, False),
    "erf": (lambda f, x: x.erf(), 0.0, False),
}
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 100.0, -100.0, 3e38]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_against_pytorch(rng, name, dtype):
    torch = pytest.importorskip("torch")
    function, parameter, from_output = FUNCTIONS[name]
    x = np.concatenate([4 * rng.standard_normal(500), SPECIAL]).astype(dtype)
    wide = torch.tensor(x.astype(np.float64), requires_grad=True)
    peer = function(torch.nn.functional, wide)
    y = getattr(activation, name)(x, parameter=parameter)
    rtol, atol = (1e-5, 1e-7) if dtype == "float32" else (1e-12, 1e-14)
    # Where a formula multiplies infinity by 0, PyTorch's own two versions disagree.
    known = np.isfinite(x) | (name in ("relu", "sigmoid", "tanh", "erf"))
    expected = peer.detach().numpy()
    with np.errstate(over="ignore"):
        expected = expected.astype(dtype)
    np.testing.assert_allclose(y[known], expected[known], rtol=rtol, atol=atol)
    assert np.isnan(y[np.isnan(x)]).all()
    g = rng.standard_normal(x.shape).astype(dtype)
    peer.backward(torch.tensor(g.astype(np.float64)))
    saved = y if from_output else x
    dx = getattr(activation, f"{name}_backward")(g, saved, parameter=parameter)
    finite = np.isfinite(x) & (np.abs(x) < 1e30)
    np.testing.assert_allclose(
        dx[finite], wide.grad.numpy()[finite], rtol=10 * rtol, atol=5e-6
    )


@pytest.mark.parametrize("size", [0, 1, 3, 17, SERIAL, SERIAL + 1, 100_003])
def test_sizes(rng, size):
    x = rng.standard_normal(size).astype("f4")
    np.testing.assert_array_equal(activation.relu(x), np.maximum(x, 0))
    y = activation.sigmoid(x)
    np.testing.assert_allclose(y, 1 / (1 + np.exp(-x.astype("f8"))), rtol=1e-6)
    g = rng.standard_normal(size).astype("f4")
    np.testing.assert_allclose(
        activation.sigmoid_backward(g, y), g * y * (1 - y), rtol=1e-6, atol=1e-7
    )


LAYOUTS = {
    "transposed": lambda a: a.T,
    "permuted": lambda a: a.reshape(3, 4, 5).transpose(0, 2, 1),
    "strided": lambda a: a[::2, 1:],
    "reversed": lambda a: a[::-1],
    "broadcast": lambda a: np.broadcast_to(a[0], (4, 5)),
    "scalar": lambda a: a[0, 0].reshape(()),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(rng, layout):
    x = LAYOUTS[layout](rng.standard_normal((12, 5)))
    np.testing.assert_array_equal(activation.relu(x), np.maximum(x, 0))
    g = rng.standard_normal(x.shape)
    expected = np.where(x > 0, g, 0)
    np.testing.assert_array_equal(activation.relu_backward(g, x), expected)
    out = np.zeros((*x.shape[:-1], 2 * x.shape[-1]))[..., ::2] if x.ndim else None
    if out is not None:
        assert activation.relu(x, out=out) is out
        np.testing.assert_array_equal(out, np.maximum(x, 0))


def test_permuted_arrays_are_not_copied(rng):
    x = rng.standard_normal((2, 3, 4, 5)).transpose(0, 3, 1, 2)
    y = activation.relu(x)
    assert y.strides == x.strides
    assert np.shares_memory(flat_views(x)[0], x)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_slope_of_mish_far_out(dtype):
    x = np.array([25, 1e13, 1e17, 1e30, np.inf], dtype)
    slope = activation.mish_backward(np.ones_like(x), x)
    np.testing.assert_array_equal(slope, np.ones_like(x))


def test_in_place(rng):
    x = rng.standard_normal(1000).astype("f4")
    expected = activation.tanh(x)
    activation.tanh(x, out=x)
    np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize("rows,columns", [(0, 3), (3, 0), (1, 1), (7, 5), (300, 200)])
def test_bias(rng, rows, columns):
    x = rng.standard_normal((rows, columns)).astype("f4")
    bias = rng.standard_normal(columns).astype("f4")
    total = x + bias
    np.testing.assert_array_equal(activation.bias_add(x, bias), total)
    np.testing.assert_array_equal(activation.bias_relu(x, bias), np.maximum(total, 0))
    for name in ("sigmoid", "tanh", "gelu", "silu"):
        np.testing.assert_allclose(
            getattr(activation, f"bias_{name}")(x, bias),
            getattr(activation, name)(total),
            rtol=1e-6,
            atol=1e-7,
        )
    cube = rng.standard_normal((columns, rows, 2)).T.astype("f4")
    np.testing.assert_array_equal(activation.bias_add(cube, bias), cube + bias)


def test_independent_of_threads(rng):
    x = rng.standard_normal(100_003).astype("f4")
    before = threads.get_num_threads()
    many = activation.gelu(x)
    try:
        threads.set_num_threads(1)
        np.testing.assert_array_equal(activation.gelu(x), many)
    finally:
        threads.set_num_threads(before)


def test_refused(rng):
    x = np.ones((2, 3), "f4")
    with pytest.raises(DTypeError, match="relu: expected float32 or float64, got int"):
        activation.relu(np.ones(3, int))
    with pytest.raises(ShapeError, match=r"relu: out has shape \(3,\), expected"):
        activation.relu(x, out=np.ones(3, "f4"))
    with pytest.raises(DTypeError, match="out has dtype float64, expected float32"):
        activation.relu(x, out=np.ones((2, 3)))
    with pytest.raises(ShapeError, match="saved value has shape"):
        activation.relu_backward(x, np.ones(3, "f4"))
    with pytest.raises(ShapeError, match=r"bias_relu: bias has shape \(2,\)"):
        activation.bias_relu(x, np.ones(2, "f4"))
    with pytest.raises(DTypeError, match="bias has dtype float64"):
        activation.bias_relu(x, np.ones(3))
    assert repr(activation.relu) == "<kernel relu>"
