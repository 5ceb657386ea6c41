"""Conversions between dtypes: gradients, dtypes, memory."""

from __future__ import annotations

import numpy as np
import pytest

import nnlib
from nnlib.backend.errors import DTypeError

METHODS = {
    "float": "float32",
    "double": "float64",
    "half": "float16",
    "bfloat16": "bfloat16",
    "long": "int64",
    "int": "int32",
    "short": "int16",
    "char": "int8",
    "byte": "uint8",
    "bool": "bool",
}


@pytest.mark.parametrize("source", ["float32", "int32", "bool", "bfloat16"])
@pytest.mark.parametrize("method", METHODS)
def test_methods_give_their_dtype(method: str, source: str) -> None:
    x = nnlib.tensor([0, 1, 1], dtype=source)
    y = getattr(x, method)()
    assert y.dtype.name == METHODS[method]
    assert y.tolist() == [0, 1, 1]


def test_gradients_pass_through_conversions() -> None:
    x = nnlib.tensor([1.0, 2.0], requires_grad=True)
    (x.double() * 3).half().sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == np.float32
    assert x.grad.tolist() == [3.0, 3.0]


def test_to_the_same_dtype_is_the_tensor_itself() -> None:
    x = nnlib.ones(2)
    assert x.float() is x
    assert x.to("cpu") is x
    assert x.to("float32", copy=True) is not x


def test_to_an_unknown_place() -> None:
    for thing in (nnlib.ones(2), nnlib.nn.Linear(2, 2)):
        with pytest.raises(nnlib.DeviceError, match="to: expected a device .*'mps'"):
            thing.to("mps")
        with pytest.raises(nnlib.DTypeError, match="to: expected a device, .* bool"):
            thing.to(True)


def test_clone_keeps_the_layout_and_owns_its_memory() -> None:
    x = nnlib.ones(2, 3).transpose(0, 1)
    y = x.clone()
    assert y.stride() == x.stride()
    y.zero_()
    assert x.sum().item() == 6


def test_contiguous_copies_only_what_is_not() -> None:
    x = nnlib.ones(2, 3)
    assert x.contiguous() is x
    assert x.transpose(0, 1).contiguous().is_contiguous()


def test_type_names_the_dtype() -> None:
    assert nnlib.ones(1).type() == "float32"
    with pytest.raises(DTypeError, match="to: expected a device, dtype or tensor"):
        nnlib.ones(1).to(True)


def test_numpy_scalars_do_not_widen() -> None:
    x = nnlib.ones(2)
    assert (x * np.float64(2)).dtype == np.float32
    assert (np.float64(2) * x).dtype == np.float32
    assert (x * np.array(2.0)).dtype == np.float32


def test_arithmetic_gives_no_floating_point_warnings() -> None:
    x = nnlib.tensor([0.0, -1.0, 1e30], requires_grad=True)
    before = np.geterr()
    y = x.log() + x / x + x.sqrt() * x * x
    y.sum().backward()
    assert np.geterr() == before
    with np.errstate(all="raise"):
        assert (x / 0).isnan().tolist() == [True, False, False]
