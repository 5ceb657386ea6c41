"""Every CUDA kernel on a real GPU: ``pytest -m cuda``."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_cases import all_cases, compare, put_on_cpu, results

from nnlib import kernels
from nnlib.backend import device
from nnlib.kernels.machinery import faults
from nnlib.kernels.machinery.gpu import CudaKernel, cuda

STATUS = device.cuda_status()
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not STATUS.ok, reason=f"CUDA: {STATUS.reason}"),
]
CASES = all_cases()


@pytest.mark.parametrize("name", CASES)
def test_gpu_agrees_with_cpu(name):
    case = CASES[name]
    module = device.cupy()
    actual = results(case, lambda array: module.asarray(array))
    faults.check()
    compare(case, actual, results(case, put_on_cpu))


@pytest.mark.parametrize("name", CASES)
def test_gpu_gives_the_same_bits_twice(name):
    module = device.cupy()
    first = results(CASES[name], lambda array: module.asarray(array))
    again = results(CASES[name], lambda array: module.asarray(array))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)


def test_launch_on_the_current_stream_and_in_a_large_grid():
    module = device.cupy()
    stream = module.cuda.Stream(non_blocking=True)
    with stream:
        x = module.arange(3_000_001, dtype=np.float32) - 1_500_000
        y = kernels.activation.relu(x)
    stream.synchronize()
    np.testing.assert_array_equal(y.get(), np.maximum(x.get(), 0))


def _mark_negative(x, slots, slot):
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        if x[i] < 0:
            cuda.atomic.min(slots, slot, i)


def test_faults_are_raised_when_the_device_is_waited_for():
    module = device.cupy()
    x = module.ones(10_000, np.int64)
    x[[777, 5000]] = -5
    kernel = CudaKernel(_mark_negative, 256)
    slots, slot = faults.open_slot(
        x, lambda position, value: IndexError(f"{value} at {position}")
    )
    kernel(x, slots, slot, items=x.size)
    with pytest.raises(IndexError, match="-5 at 777"):
        device.synchronize("cuda")
    device.synchronize("cuda")


def test_products():
    module = device.cupy()
    rng = np.random.default_rng(0)
    a = rng.standard_normal((4, 33, 65)).astype(np.float32)
    b = rng.standard_normal((65, 17)).astype(np.float32)
    bias = rng.standard_normal(17).astype(np.float32)
    result = kernels.gemm.matmul(
        module.asarray(a),
        module.asarray(b),
        bias=module.asarray(bias),
        activation="relu",
    )
    expected = np.maximum(a.astype(float) @ b.astype(float) + bias, 0)
    np.testing.assert_allclose(result.get(), expected, rtol=1e-4, atol=1e-4)
