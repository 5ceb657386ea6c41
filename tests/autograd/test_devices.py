"""The door and devices: mixed ones, names in messages, 16-bit floats elsewhere.

`DeviceArray`, a NumPy array, stands for a CUDA array.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nnlib
from nnlib.autograd import arguments
from nnlib.autograd.function import Function
from nnlib.backend.device import CPU, Device
from nnlib.kernels.machinery.arrays import DeviceArray

CUDA = object.__new__(Device)  # there may be none to name
CUDA.type, CUDA.index = "cuda", 0


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tensors of `DeviceArray` pass for CUDA tensors."""

    def device_of(array: Any) -> Device:
        return CUDA if type(array) is DeviceArray else CPU

    class Move(Function):
        upcasts = False

        def forward(self, x: Any) -> Any:
            return x.view(DeviceArray)

        def backward(self, grad: Any) -> Any:
            return np.asarray(grad)

    to = nnlib.Tensor.to

    def move(self: Any, target: Any) -> Any:
        return Move.apply(self) if target == CUDA else to(self, target)

    monkeypatch.setattr(arguments, "device_of", device_of)
    monkeypatch.setattr(nnlib.Tensor, "to", move)


def on_cuda(values: Any, dtype: Any = np.float32) -> Any:
    return nnlib.Tensor._from_array(np.array(values, dtype).view(DeviceArray))


@pytest.mark.usefixtures("pretend")
def test_a_number_on_the_cpu_beside_cuda_tensors() -> None:
    x = on_cuda([1.0, 2.0])
    number = nnlib.tensor(3.0, requires_grad=True)
    for out, expected in (
        (x * number, [3.0, 6.0]),
        (number - x, [2.0, 1.0]),
        (nnlib.where(x > 1, x, number), [3.0, 2.0]),
        (nnlib.where(x > number, x, 0.0), [0.0, 0.0]),
    ):
        assert isinstance(out, nnlib.Tensor)
        assert out.tolist() == expected
    assert type((number * x).array) is DeviceArray
    (x * number).backward(on_cuda([1.0, 10.0]))
    assert number.grad is not None
    assert number.grad.item() == 21.0
    assert type(number.grad.array) is np.ndarray


@pytest.mark.usefixtures("pretend")
def test_mixed_devices_are_refused_by_the_name_of_the_op() -> None:
    x, y = on_cuda([1.0, 2.0]), nnlib.ones(2)
    with pytest.raises(
        nnlib.DeviceError, match="mul: argument 1 is on cpu, the ones before it on cuda"
    ):
        x * y
    with pytest.raises(nnlib.DeviceError, match="div: argument 1 is on cuda:0, the"):
        nnlib.div(y, x, rounding_mode="floor")
    # No number for a matrix product or a concatenation.
    with pytest.raises(nnlib.DeviceError, match="stack: argument 1 is on cpu"):
        nnlib.stack((on_cuda(1.0), nnlib.tensor(1.0)))


def test_half_floats_are_computed_in_float32_everywhere() -> None:
    seen = []

    class Twice(Function):
        def forward(self, x: Any) -> Any:
            seen.append((type(x), x.dtype))
            self.save_for_backward(x)
            return x + x

        def backward(self, grad: Any) -> Any:
            (x,) = self.saved
            seen.append((type(x), x.dtype))
            return grad + grad

    for dtype in (nnlib.float16, nnlib.bfloat16):
        x = on_cuda([1.0, 2.0], dtype).requires_grad_()
        y = Twice.apply(x)
        assert y.dtype == dtype
        assert type(y.array) is DeviceArray
        y.backward(on_cuda([1.0, 1.0], dtype))
        assert x.grad is not None
        assert x.grad.dtype == dtype
        assert seen == [(DeviceArray, nnlib.float32)] * 2
        seen.clear()


def test_messages_name_the_operation_that_was_called() -> None:
    x = nnlib.ones(2)
    for call, name in (
        (lambda: x.clamp([1]), "clamp: min"),
        (lambda: x.add_([1]), "add: other"),
        (lambda: x == [1], "eq: other"),
        (lambda: nnlib.div(x, [1], rounding_mode="floor"), "div: other"),
    ):
        with pytest.raises(nnlib.DTypeError, match=f"^{name}: expected a Tensor"):
            call()
