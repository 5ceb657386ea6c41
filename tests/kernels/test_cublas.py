"""Calls of cuBLAS, against a stand-in that multiplies column-major host matrices."""

from __future__ import annotations

import ctypes
import itertools
import types

import ml_dtypes
import numpy as np
import pytest

from nnlib.backend import cublas, cublas_recorded
from nnlib.backend.errors import DeviceError


class Cublas:
    """Reads and writes memory by the calls' own rules."""

    def __init__(self):
        self.calls = []
        self.sgemm, self.sgemmStridedBatched = self._typed(np.float32)
        self.dgemm, self.dgemmStridedBatched = self._typed(np.float64)

    def _gemm(self, kind, ta, tb, m, n, k, alpha, a, b, beta, c, steps=(0, 0, 0, 1)):
        scalar = np.float64 if kind == np.float64 else np.float32
        alpha, beta = (_at(x, scalar, (1, 1), (1, 1))[0, 0] for x in (alpha, beta))
        *steps, count = steps
        self.calls.append((ta, tb, m, n, k, count))
        shapes = ((k, m) if ta else (m, k), (n, k) if tb else (k, n), (m, n))
        for i in range(count):
            first, second, out = (
                _at(at + i * step * np.dtype(kind).itemsize, kind, shape, (1, lead))
                for (at, lead), step, shape in zip(
                    (a, b, c), steps, shapes, strict=True
                )
            )
            first = (first.T if ta else first).astype(scalar)
            second = (second.T if tb else second).astype(scalar)
            total = alpha * (first @ second)
            if beta:
                total += beta * out.astype(scalar)
            out[...] = total.astype(kind)

    def _typed(self, kind):
        def single(h, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
            ends = (a, lda), (b, ldb), beta, (c, ldc)
            self._gemm(kind, ta, tb, m, n, k, alpha, *ends)

        def batched(
            h, ta, tb, m, n, k, alpha, a, lda, sa, b, ldb, sb, beta, c, ldc, sc, count
        ):
            ends = (a, lda), (b, ldb), beta, (c, ldc), (sa, sb, sc, count)
            self._gemm(kind, ta, tb, m, n, k, alpha, *ends)

        return single, batched

    def gemmEx(self, *args):  # noqa: N802
        h, ta, tb, m, n, k, alpha, a, ka, lda, b, kb, ldb, beta, *rest = args
        c, kc, ldc, compute, how = rest
        assert ka == kb == kc and (compute, how) == (68, -1)
        single, _ = self._typed(HALVES[kc])
        single(h, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)

    def gemmStridedBatchedEx(self, *args):  # noqa: N802
        h, ta, tb, m, n, k, alpha, a, ka, lda, sa, b, kb, ldb, sb, *rest = args
        beta, c, kc, ldc, sc, count, compute, how = rest
        assert ka == kb == kc and (compute, how) == (68, -1)
        _, batched = self._typed(HALVES[kc])
        sizes = (m, n, k)
        batched(
            h, ta, tb, *sizes, alpha, a, lda, sa, b, ldb, sb, beta, c, ldc, sc, count
        )


HALVES = {2: np.float16, 14: ml_dtypes.bfloat16}


def _at(address, kind, shape, steps):
    """Return memory as a matrix; steps are in elements."""
    size = np.dtype(kind).itemsize
    extent = 1 + sum((n - 1) * s for n, s in zip(shape, steps, strict=True))
    memory = (ctypes.c_char * (extent * size)).from_address(int(address))
    flat = np.frombuffer(memory, kind)
    strides = tuple(step * size for step in steps)
    return np.lib.stride_tricks.as_strided(flat, shape, strides, writeable=True)


class OnDevice(np.ndarray):
    """A host array with what is asked of a CuPy array."""

    device_id = 0

    @property
    def data(self):
        return types.SimpleNamespace(ptr=self.ctypes.data, device_id=self.device_id)

    def get(self):
        return np.array(self)


def asarray(x):
    return np.array(x).view(OnDevice)


@pytest.fixture
def library(monkeypatch):
    """Put the stand-in where cuBLAS is looked for; nothing is tried yet."""
    fake = Cublas()
    monkeypatch.setattr(cublas, "bindings", lambda: (fake, lambda: 7))
    monkeypatch.setattr(cublas, "_routines", {})
    monkeypatch.setattr(cublas, "_problems", {})
    monkeypatch.setattr(cublas.driver, "capturing", lambda: False)
    monkeypatch.setattr(cublas.driver, "bindings", lambda: (lambda: 0, None, None))
    module = types.SimpleNamespace(asarray=asarray)
    monkeypatch.setattr(cublas.device, "cupy", lambda: module)
    return fake


def multiply(a, b, out, accumulate=False):
    a, b, there = a.view(OnDevice), b.view(OnDevice), out.view(OnDevice)
    return cublas.multiply(a, b, there, accumulate)


def laid_out(rng, shape, how, kind=np.float64):
    """Return a matrix or a stack of them in one of some layouts."""
    *batch, m, n = shape
    if how == "plain":
        return rng.standard_normal(shape).astype(kind)
    if how == "transposed":
        return rng.standard_normal((*batch, n, m)).astype(kind).swapaxes(-1, -2)
    if how == "columns":
        return rng.standard_normal((*batch, m, n + 3)).astype(kind)[..., 1 : n + 1]
    tall = rng.standard_normal((*batch, n + 2, m)).astype(kind)
    return tall[..., 2:, :].swapaxes(-1, -2)


LAYOUTS = ("plain", "transposed", "columns", "rows")


@pytest.mark.parametrize("accumulate", [False, True])
def test_matrices_of_every_layout(rng, library, accumulate):
    assert multiply(np.ones((1, 1)), np.ones((1, 1)), np.ones((1, 1)))
    library.calls.clear()  # those of the trial
    for m, k, n in ((3, 4, 5), (1, 4, 5), (3, 1, 5), (3, 4, 1), (1, 1, 5), (1, 4, 1)):
        for first, second in itertools.product(LAYOUTS, LAYOUTS):
            a, b = laid_out(rng, (m, k), first), laid_out(rng, (k, n), second)
            out = rng.standard_normal((m, n))
            expected = a @ b + (out if accumulate else 0)
            assert multiply(a, b, out, accumulate)
            # Sums of a few float64 products, added in another order.
            np.testing.assert_allclose(out, expected, rtol=1e-12, atol=1e-12)
    assert all(call[-1] == 1 for call in library.calls)


def test_stacks(rng, library):
    for lead_a, lead_b in (
        ((6,), (6,)), ((2, 3), (2, 3)), ((6,), (1,)), ((1,), (6,)), ((2, 3), (1, 1)),
        ((2, 3), ()), ((), (2, 3)), ((1, 1), (1, 1)),
    ):  # fmt: skip
        for first, second in itertools.product(LAYOUTS, LAYOUTS):
            a = laid_out(rng, (*lead_a, 4, 5), first)
            b = laid_out(rng, (*lead_b, 5, 7), second)
            expected = a @ b
            out = np.full(expected.shape, np.nan)
            # Steps that differ from dimension to dimension are none for cuBLAS.
            if multiply(a, b, out):
                # Sums of float64 products in another order, as above.
                np.testing.assert_allclose(out, expected, rtol=1e-12, atol=1e-12)
            else:
                assert len(lead_a) > 1 or len(lead_b) > 1
                assert {"columns", "rows"} & {first, second}
    a, b = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal((5, 7))
    library.calls.clear()  # also those of the trial
    assert multiply(a, b, np.empty((2, 3, 4, 7)))
    # A stack by one matrix is one product.
    assert library.calls == [(0, 0, 7, 24, 5, 1)]


def test_what_cannot_be_read_is_left(rng, library):
    a, b = rng.standard_normal((4, 5)), rng.standard_normal((5, 6))
    out = np.empty((4, 6))
    assert multiply(a, b, out)
    library.calls.clear()
    assert not multiply(rng.standard_normal((8, 10))[::2, ::2], b, out)
    assert not multiply(a[::-1], b, out)
    assert not multiply(a, np.broadcast_to(b[:1], (5, 6)), out)
    heads = rng.standard_normal((2, 4, 3, 5)).swapaxes(1, 2)
    assert not multiply(
        heads, rng.standard_normal((2, 3, 5, 4)), np.empty((2, 3, 4, 4))
    )
    mixed = rng.standard_normal((2, 1, 4, 5)), rng.standard_normal((1, 3, 5, 6))
    assert not multiply(*mixed, np.empty((2, 3, 4, 6)))
    whole = np.ones((4, 5), np.int64)
    assert not multiply(whole, whole.T, np.ones((4, 4), np.int64))
    assert not library.calls


def test_a_trial_decides(rng, library, monkeypatch):
    a, b, out = (
        rng.standard_normal((4, 5)),
        rng.standard_normal((5, 6)),
        np.ones((4, 6)),
    )
    assert multiply(a, b, out) and cublas.report() == {"float64": "straight by cuBLAS"}
    # Products of every form, and then the one that was asked for.
    assert len(library.calls) == 8 * 9 + 1
    single = [a.astype(np.float32), b.astype(np.float32), out.astype(np.float32)]
    right = library._gemm
    for wrong in ("alpha", "transpose", "tf32", "refused"):

        def gemm(kind, ta, tb, m, n, k, alpha, *rest, how=wrong):
            if how == "refused":
                raise RuntimeError("no such function")
            if how == "tf32":
                alpha = np.array([1.001], kind).ctypes.data
            if how == "alpha":
                alpha = np.array([0], kind).ctypes.data
            right(kind, 0 if how == "transpose" else ta, tb, m, n, k, alpha, *rest)

        monkeypatch.setattr(library, "_gemm", gemm)
        cublas._routines.clear()
        assert not multiply(*single)
        assert cublas.report()["float32"].startswith("through CuPy: ")
    # It is not tried again, nor while a graph is recorded.
    monkeypatch.setattr(library, "_gemm", right)
    assert not multiply(*single)
    cublas._routines.clear()
    monkeypatch.setattr(cublas.driver, "capturing", lambda: True)
    assert not multiply(*single)
    monkeypatch.setattr(cublas.driver, "capturing", lambda: False)
    monkeypatch.setenv("NNLIB_DIRECT_CUBLAS", "0")
    assert not multiply(*single)
    assert cublas.report()["float32"] == "through CuPy: NNLIB_DIRECT_CUBLAS is 0"


@pytest.mark.parametrize(
    ("kind", "tolerance"),
    [(np.float32, 1e-5), (np.float16, 2e-3), (ml_dtypes.bfloat16, 1e-2)],
)
def test_kinds(rng, library, kind, tolerance):
    for shape in ((4, 5), (3, 4, 5)):
        a = laid_out(rng, shape, "transposed", kind)
        b = laid_out(rng, (*shape[:-2], 5, 6), "columns", kind)
        out = np.ones((*shape[:-1], 6), kind)
        expected = a.astype(np.float64) @ b.astype(np.float64) + 1
        assert multiply(a, b, out, accumulate=True)
        np.testing.assert_allclose(
            out.astype(np.float64), expected, rtol=tolerance, atol=tolerance
        )


def test_matrices_of_another_device_are_refused(library):
    a, b, out = (np.ones((2, 2)).view(OnDevice) for _ in range(3))
    assert cublas.multiply(a, b, out)
    b.device_id, before = 1, len(library.calls)
    with pytest.raises(DeviceError, match="matmul: an array is on cuda:1, .* cuda:0"):
        cublas.multiply(a, b, out)
    assert len(library.calls) == before


class Exported:
    """The stand-in as a library of C functions, which read what ctypes hands over."""

    def __init__(self, fake):
        self.fake, self.status, self.kept = fake, 0, []

    def __getattr__(self, name):
        pairs = cublas_recorded._FUNCTIONS.items()
        ((short, types_),) = [(s, t) for s, (n, t) in pairs if n == name]

        def call(*args):
            if hasattr(self.fake, short):
                getattr(self.fake, short)(*args)
            self.kept.append((short, args))
            return self.status

        function = ctypes.CFUNCTYPE(ctypes.c_int, *types_)(call)
        return function


def test_recordable_products_reach_the_library(library):
    exported = Exported(library)
    found = cublas_recorded.Library(exported)
    module = types.SimpleNamespace(asarray=asarray)
    for char in "fdeE":
        routine = cublas.routine_of(char, found, lambda: 1 << 40)
        assert cublas.trial(routine, char, module) == ""
        assert exported.kept[-1][1][0] == 1 << 40
    found.setStream(1 << 40, 7)
    found.setWorkspace(1 << 40, 1 << 41, 32 << 20)
    assert exported.kept[-1] == ("setWorkspace", (1 << 40, 1 << 41, 32 << 20))
    exported.status = 13
    with pytest.raises(DeviceError, match="cublasSetStream_v2 of cuBLAS .* status 13"):
        found.setStream(1, 2)
