"""What `asarray` shares and copies, and what describes a tensor's memory."""

from __future__ import annotations

import numpy as np
import pytest

import nnlib


def test_asarray_shares_where_it_can() -> None:
    array = np.arange(3.0)
    assert np.shares_memory(nnlib.asarray(array).array, array)
    assert not np.shares_memory(nnlib.asarray(array, copy=True).array, array)
    assert nnlib.asarray(array, dtype="float32").dtype == nnlib.float32
    x = nnlib.ones(2, requires_grad=True)
    y = nnlib.asarray(x * 1)
    assert not y.requires_grad and nnlib.asarray(x, requires_grad=True).is_leaf
    assert nnlib.asarray([1, 2]).tolist() == [1, 2]
    assert nnlib.asarray(3.0, copy=True).item() == 3
    assert nnlib.asarray(array, copy=False).data_ptr() == array.ctypes.data
    for bad in ({"obj": [1.0]}, {"obj": array, "dtype": "float32"}):
        with pytest.raises(nnlib.ArgumentError, match="memory cannot be shared"):
            nnlib.asarray(**bad, copy=False)


def test_asarray_of_pytorchs_tensors() -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.arange(3.0)
    assert nnlib.asarray(theirs, copy=False).data_ptr() == theirs.data_ptr()
    assert nnlib.asarray(theirs, copy=True).data_ptr() != theirs.data_ptr()


def test_descriptions() -> None:
    x = nnlib.ones(2, 3)
    assert x.is_cpu and x.get_device() == -1 and x.ndimension() == 2
    assert x.data_ptr() == x.array.ctypes.data
    assert x.is_signed() and not nnlib.tensor([1], dtype="uint8").is_signed()
    assert nnlib.tensor([1]).is_signed() and not nnlib.tensor([True]).is_signed()
    assert not (x.is_complex() or x.is_pinned() or x.is_sparse or x.is_quantized)
    assert nnlib.tensor([[2]]).is_nonzero() and not nnlib.tensor(0.0).is_nonzero()
    with pytest.raises(nnlib.ShapeError, match="is_nonzero: expected one element"):
        x.is_nonzero()
    assert x.is_same_size(nnlib.zeros(2, 3)) and not x.is_same_size(nnlib.zeros(3))
