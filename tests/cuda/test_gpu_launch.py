"""Launches and products on a GPU: straight and through CuPy, on threads and streams."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest

import nnlib
from nnlib import kernels
from nnlib.backend import cublas
from nnlib.backend import device as backend
from nnlib.kernels.machinery import gpu, launch_check

pytestmark = pytest.mark.cuda

TOLERANCES = {"float32": 1e-5, "float64": 1e-12, "float16": 4e-3}


@pytest.fixture
def cupy():
    return backend.cupy()


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(params=["straight", "through CuPy"])
def way(request, monkeypatch, cupy):
    """Launch and multiply one way; forget what kernels have found ready."""
    number = cupy.cuda.runtime.getDevice()
    nnlib.relu(nnlib.ones(3, 3, device="cuda") @ nnlib.ones(3, 3, device="cuda"))
    if request.param != "straight":
        monkeypatch.setitem(launch_check._found, number, "for a test")
        for char in "fde":
            monkeypatch.setitem(cublas._routines, char, None)
        for kernel in gpu.registry.values():
            monkeypatch.setattr(kernel, "_forms", {})
    return request.param


def test_trials_pass(cupy):
    number = cupy.cuda.runtime.getDevice()
    assert launch_check.direct(number), launch_check.report()
    for char in "fde":
        assert cublas.tried(char) is not None, cublas.report()


def test_layouts_of_elementwise_kernels(way, cupy, rng):
    x = rng.standard_normal((4, 6, 8, 10)).astype(np.float32)
    there = cupy.asarray(x)
    for view in (
        lambda a: a,
        lambda a: a.transpose(0, 3, 1, 2),
        lambda a: a[:, ::2],
        lambda a: a[1:, :, 3],
        lambda a: a[0, 0, 0, 3:],
        lambda a: a[:0],
    ):
        host, on_gpu = view(x), view(there)
        found = kernels.activation.relu(on_gpu)
        np.testing.assert_array_equal(found.get(), np.maximum(host, 0))
        found = kernels.activation.relu_backward(on_gpu, on_gpu)
        np.testing.assert_array_equal(found.get(), host * (host > 0))
        for name in ("add", "subtract", "multiply"):
            run = getattr(kernels.arithmetic, name)
            for second in (host, 1.5):
                other = on_gpu if second is host else second
                with_numpy = getattr(np, name)(host, np.float32(second))
                np.testing.assert_array_equal(run(on_gpu, other).get(), with_numpy)
    bias = rng.standard_normal(10).astype(np.float32)
    found = kernels.activation.bias_relu(there, cupy.asarray(bias))
    np.testing.assert_array_equal(found.get(), np.maximum(x + bias, 0))


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_products_of_every_form(way, cupy, rng, dtype):
    forms = {
        "whole": lambda a: a,
        "turned": lambda a: a.swapaxes(-1, -2),
        "part": lambda a: a[..., 1:-2],
    }
    for shape_a, shape_b in (
        ((64, 300), (300, 77)), ((1, 64), (64, 5)), ((6, 64), (64, 1)),
        ((3, 1), (1, 4)), ((5, 6, 7), (5, 7, 8)), ((5, 6, 7), (7, 8)),
        ((6, 7), (4, 7, 5)), ((2, 3, 6, 7), (2, 3, 7, 5)), ((2, 1, 6, 7), (3, 7, 5)),
    ):  # fmt: skip
        for names in itertools.product(forms, repeat=2):
            pair = []
            for (*batch, m, n), name in zip((shape_a, shape_b), names, strict=True):
                sizes = {"whole": (m, n), "turned": (n, m), "part": (m, n + 3)}
                base = rng.standard_normal((*batch, *sizes[name])).astype(dtype)
                pair.append((forms[name](base), forms[name](cupy.asarray(base))))
            (x, a), (y, b) = pair
            expected = x.astype(np.float64) @ y.astype(np.float64)
            out = kernels.gemm.matmul(a, b)
            scale = TOLERANCES[dtype] * max(1, np.abs(expected).max())
            assert np.abs(out.get() - expected).max() < scale
            kernels.gemm.matmul(a, b, out, accumulate=True)
            assert np.abs(out.get() - 2 * expected).max() < 2 * scale


def test_threads_and_streams(way, cupy):
    found = {}

    def work(k):
        x = cupy.full(70000 + k, float(k) - 2, "f")
        with cupy.cuda.Stream(non_blocking=True) as stream:
            cupy.cuda.runtime.deviceSynchronize()
            for _ in range(100):
                y = kernels.activation.relu(x)
                z = kernels.gemm.matmul(x[:64].reshape(8, 8), x[:64].reshape(8, 8))
            stream.synchronize()
            found[k] = set(y.get().tolist()), set(z.get().ravel().tolist())

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {k: ({max(0.0, k - 2.0)}, {8 * (k - 2.0) ** 2}) for k in range(4)}


def test_errors_of_the_driver_are_raised(way, cupy):
    x = cupy.zeros(8, np.float32)
    with pytest.raises(cupy.cuda.driver.CUDADriverError):
        kernels.activation.relu.cuda(x, x, np.float32(0), blocks=1, threads=1 << 20)
    np.testing.assert_array_equal(kernels.activation.relu(x).get(), np.zeros(8))


def test_mean_of_a_loss_stays_on_the_device(way):
    logits = nnlib.randn(6, 5, requires_grad=True)
    for labels in ([0, 1, 2, 3, 4, 0], [-100, 1, -100, 2, 3, -100], [-100] * 6):
        target = nnlib.tensor(labels)
        there = logits.detach().cuda().requires_grad_()
        loss = nnlib.nn.functional.cross_entropy(there, target.cuda())
        loss.backward()
        if labels[0] == labels[1]:
            assert loss.item() == 0
            continue
        logits.grad = None
        expected = nnlib.nn.functional.cross_entropy(logits, target)
        expected.backward()
        assert abs(loss.item() - expected.item()) < 1e-5
        np.testing.assert_allclose(there.grad.cpu().numpy(), logits.grad.numpy(), 1e-5)
