"""Matrix products against float64 NumPy: shapes, strides, epilogues, errors."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from scipy import special as reference

from nnlib import kernels
from nnlib.backend import threads
from nnlib.backend.errors import DTypeError, ShapeError

ACTIVATIONS = {
    None: lambda v: v,
    "relu": lambda v: np.maximum(v, 0),
    "sigmoid": reference.expit,
    "tanh": np.tanh,
    "gelu": lambda v: v * 0.5 * (1 + reference.erf(v / np.sqrt(2))),
    "silu": lambda v: v * reference.expit(v),
}
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-13}


def strided(rng, shape, dtype, how):
    """Return a matrix of this shape whose memory lies as `how` says."""
    m, k = shape
    if how == "plain":
        value = rng.standard_normal((m, k)).astype(dtype)
    elif how == "transposed":
        value = rng.standard_normal((k, m)).astype(dtype).T
    elif how == "rows":
        value = rng.standard_normal((m, k + 3)).astype(dtype)[:, 2 : 2 + k]
    elif how == "columns":
        value = rng.standard_normal((k + 2, m)).astype(dtype)[1 : 1 + k].T
    elif how == "steps":
        value = rng.standard_normal((2 * m, 2 * k)).astype(dtype)[::2, ::2]
    elif how == "reversed":
        value = rng.standard_normal((m, k)).astype(dtype)[::-1, ::-1]
    elif how == "broadcast":
        value = np.broadcast_to(rng.standard_normal((1, k)).astype(dtype), (m, k))
    elif how == "unaligned":
        raw = np.empty(m * k * np.dtype(dtype).itemsize + 1, np.uint8)
        value = raw[1:].view(dtype).reshape(m, k)
        value[...] = rng.standard_normal((m, k))
    assert value.shape == shape
    return value


HOW = (
    "plain",
    "transposed",
    "rows",
    "columns",
    "steps",
    "reversed",
    "broadcast",
    "unaligned",
)


def close(actual, expected, scale, dtype):
    if expected.size:
        error = np.abs(actual - expected).max()
        assert error <= TOLERANCE[dtype] * max(scale, 1.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fuzz(dtype):
    rng = np.random.default_rng(7)
    sizes = [0, 1, 2, 3, 7, 8, 16, 17, 33, 64, 129]
    for _ in range(400):
        m, k, n = rng.choice(sizes, 3)
        a = strided(rng, (m, k), dtype, rng.choice(HOW))
        b = strided(rng, (k, n), dtype, rng.choice(HOW))
        bias = rng.standard_normal(n).astype(dtype) if rng.random() < 0.5 else None
        activation = rng.choice([None, None, "relu", "sigmoid", "tanh"])
        out = rng.standard_normal((m, n)).astype(dtype)
        start = out.astype(np.float64)
        accumulate = bool(rng.random() < 0.3)
        result = kernels.gemm.matmul(
            a, b, out, bias=bias, activation=activation, accumulate=accumulate
        )
        assert result is out
        expected = a.astype(np.float64) @ b.astype(np.float64)
        if accumulate:
            expected = expected + start
        if bias is not None:
            expected = expected + bias
        expected = ACTIVATIONS[activation](expected)
        close(out, expected, np.sqrt(k) * 4, dtype)


@pytest.mark.parametrize("activation", [name for name in ACTIVATIONS])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 4, 3), (64, 100, 130)])
def test_epilogue(activation, bias, shape):
    rng = np.random.default_rng(1)
    m, k, n = shape
    a = rng.standard_normal((m, k)).astype(np.float32)
    b = rng.standard_normal((n, k)).astype(np.float32).T
    row = rng.standard_normal(n).astype(np.float32) if bias else None
    result = kernels.gemm.matmul(a, b, bias=row, activation=activation)
    expected = a.astype(np.float64) @ b.astype(np.float64) + (0 if row is None else row)
    close(result, ACTIVATIONS[activation](expected), np.sqrt(k) * 4, np.float32)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((3, 4, 5), (3, 5, 6)),
        ((3, 4, 5), (5, 6)),
        ((4, 5), (3, 5, 6)),
        ((2, 1, 4, 5), (3, 5, 6)),
        ((2, 3, 4, 5), (2, 1, 5, 6)),
        ((1, 70, 64), (1, 64, 90)),
        ((2, 70, 64), (2, 64, 90)),
        ((40, 16, 16), (40, 16, 16)),
        ((0, 4, 5), (0, 5, 6)),
        ((3, 0, 5), (3, 5, 6)),
        ((3, 4, 0), (3, 0, 6)),
    ],
)
@pytest.mark.parametrize("flip", ["nn", "tn", "nt", "steps"])
def test_batches(left, right, flip):
    rng = np.random.default_rng(2)

    def make(shape, way):
        if way == "t":
            value = rng.standard_normal((*shape[:-2], shape[-1], shape[-2]))
            return value.swapaxes(-1, -2)
        if way == "s":
            return rng.standard_normal((*shape[:-1], 2 * shape[-1]))[..., ::2]
        return rng.standard_normal(shape)

    a, b = make(left, flip[0]), make(right, flip[1])
    bias = rng.standard_normal(right[-1])
    result = kernels.gemm.matmul(a, b, bias=bias, activation="relu")
    expected = np.maximum(a @ b + bias, 0)
    assert result.shape == expected.shape
    assert result.flags.c_contiguous
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)


def test_batch_out_of_order():
    rng = np.random.default_rng(3)
    x = rng.standard_normal((2, 5, 3, 4)).astype(np.float32)
    a = x.transpose(0, 2, 1, 3)  # (2, 3, 5, 4): heads of an attention
    b = x.transpose(0, 2, 3, 1)  # (2, 3, 4, 5)
    np.testing.assert_allclose(
        kernels.gemm.matmul(a, b), a.astype(float) @ b.astype(float), rtol=1e-4
    )


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half(dtype):
    rng = np.random.default_rng(4)
    a = rng.standard_normal((20, 300)).astype(dtype)
    b = rng.standard_normal((300, 10)).astype(dtype)
    bias = rng.standard_normal(10).astype(dtype)
    result = kernels.gemm.matmul(a, b, bias=bias, activation="relu")
    assert result.dtype == dtype
    expected = np.maximum(a.astype(float) @ b.astype(float) + bias.astype(float), 0)
    np.testing.assert_allclose(result.astype(float), expected, rtol=1e-2, atol=1e-2)


def test_nonfinite_values_pass_through():
    a = np.array([[np.nan, 1.0], [np.inf, 1.0], [-np.inf, 1.0]], np.float32)
    b = np.eye(2, dtype=np.float32)[:, :1]
    bias = np.zeros(1, np.float32)
    result = kernels.gemm.matmul(a, b, bias=bias, activation="relu")[:, 0]
    assert np.isnan(result[0]) and result[1] == np.inf and result[2] == 0


def test_read_only_operands():
    a = np.ones((3, 3), np.float32)
    a.flags.writeable = False
    assert (kernels.gemm.matmul(a, a) == 3).all()


def test_same_bits_again_and_for_each_thread_count():
    rng = np.random.default_rng(5)
    a = rng.standard_normal((100, 300)).astype(np.float32)
    b = rng.standard_normal((300, 200)).astype(np.float32)
    before = threads.get_num_threads()
    try:
        for count in {1, before}:
            threads.set_num_threads(count)
            first = kernels.gemm.matmul(a, b)
            for _ in range(5):
                assert np.array_equal(kernels.gemm.matmul(a, b), first)
            close(first, a.astype(float) @ b.astype(float), 70, np.float32)
    finally:
        threads.set_num_threads(before)


def test_cut_covers_many_threads():
    # More threads than this machine has: the blocks must tile the output.
    from nnlib.kernels.gemm_cpu import cut

    for m, n, k in [(128, 512, 784), (10, 512, 128), (1, 4000, 50), (4096, 4, 30)]:
        for parts in (1, 2, 3, 7, 16, 60, 64):
            bands = cut(m, n, k, parts)
            assert 1 <= bands <= parts and parts % bands == 0


@pytest.mark.parametrize(
    ("a", "b", "kwargs", "error", "message"),
    [
        (np.ones((2, 3)), np.ones((4, 5)), {}, ShapeError, r"\(2, 3\).*\(4, 5\)"),
        (np.ones(3), np.ones((3, 5)), {}, ShapeError, "two or more dimensions"),
        (np.ones((2, 2, 3)), np.ones((3, 3, 3)), {}, ShapeError, "broadcasting"),
        (np.ones((2, 3)), np.ones((3, 5), "f4"), {}, DTypeError, "b is float32"),
        (np.ones((2, 3), int), np.ones((3, 5), int), {}, DTypeError, "floating"),
        (
            np.ones((2, 3)),
            np.ones((3, 5)),
            {"out": np.ones((2, 4))},
            ShapeError,
            r"out has shape \(2, 4\), expected \(2, 5\)",
        ),
        (
            np.ones((2, 3)),
            np.ones((3, 5)),
            {"out": np.ones((5, 2)).T},
            ShapeError,
            "C-contiguous",
        ),
        (
            np.ones((2, 3)),
            np.ones((3, 5)),
            {"bias": np.ones(4)},
            ShapeError,
            r"bias has shape \(4,\), expected \(5,\)",
        ),
        (
            np.ones((2, 3)),
            np.ones((3, 5)),
            {"bias": np.ones(5, "f4")},
            DTypeError,
            "bias is float32",
        ),
        (np.ones((2, 3)), np.ones((3, 5)), {"accumulate": True}, ShapeError, "an out"),
        (
            np.ones((2, 3)),
            np.ones((3, 5)),
            {"activation": "swish"},
            ValueError,
            "'swish'",
        ),
    ],
)
def test_bad_arguments(a, b, kwargs, error, message):
    with pytest.raises(error, match=message):
        kernels.gemm.matmul(a, b, **kwargs)
