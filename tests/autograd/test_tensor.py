"""What a tensor is besides a value: copies, files, other libraries, history."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import nnlib
from nnlib.autograd import grad
from nnlib.backend.errors import DTypeError, Error, ShapeError

try:
    import torch
except ImportError:
    torch = None

needs_torch = pytest.mark.skipif(torch is None, reason="PyTorch is not installed")


def test_deepcopy() -> None:
    x = nnlib.nn.Parameter(nnlib.tensor([[1.0, 2.0], [3.0, 4.0]]))
    (x * x).sum().backward()
    x.tag = ["mine"]
    y = copy.deepcopy({"a": x, "b": x})
    assert y["a"] is y["b"]
    assert type(y["a"]) is type(x)
    assert y["a"].requires_grad
    assert y["a"].grad.tolist() == x.grad.tolist()
    assert y["a"].tag == ["mine"]
    y["a"].array[0] = 0
    y["a"].tag.append("other")
    y["a"].grad.array[0] = 0
    assert x.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert x.grad.tolist() == [[2.0, 4.0], [6.0, 8.0]]
    assert x.tag == ["mine"]
    with pytest.raises(Error, match="deepcopy: only leaf tensors"):
        copy.deepcopy(x * 2)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "bool"])
def test_pickle(dtype: str) -> None:
    x = nnlib.tensor([[1, 0], [2, 3]], dtype=dtype)
    y = pickle.loads(pickle.dumps(x))
    assert y.dtype == x.dtype
    assert y.tolist() == x.tolist()
    p = nnlib.nn.Parameter(nnlib.ones(2))
    again = pickle.loads(pickle.dumps(p))
    assert type(again) is nnlib.nn.Parameter
    assert again.requires_grad


def test_dlpack_with_numpy() -> None:
    x = nnlib.tensor([1.0, 2.0])
    shared = np.from_dlpack(x)
    x.add_(1)
    assert shared.tolist() == [2.0, 3.0]
    array = np.arange(3.0)
    y = nnlib.from_dlpack(array)
    array[0] = 9
    assert y.tolist() == [9.0, 1.0, 2.0]
    with pytest.raises(Error, match="__dlpack__: .*detach"):
        np.from_dlpack(nnlib.ones(2, requires_grad=True))


@needs_torch
def test_dlpack_with_pytorch() -> None:
    x = nnlib.tensor([[1.0, 2.0], [3.0, 4.0]])
    theirs = torch.from_dlpack(x)
    theirs[0, 0] = 7
    assert x.tolist() == [[7.0, 2.0], [3.0, 4.0]]
    y = nnlib.from_dlpack(torch.arange(4).reshape(2, 2).t())
    assert y.tolist() == [[0, 2], [1, 3]]


@needs_torch
def test_bfloat16_crosses_dlpack_in_its_own_bits() -> None:
    mine = nnlib.tensor([1.5, -2.0, float("inf")], dtype=nnlib.bfloat16)
    theirs = torch.from_dlpack(mine)
    assert theirs.dtype == torch.bfloat16
    assert theirs.tolist() == mine.tolist()
    theirs[0] = 3
    assert mine[0].item() == 3
    back = nnlib.from_dlpack(theirs)
    assert back.dtype == nnlib.bfloat16
    assert back.tolist() == mine.tolist()
    assert nnlib.from_dlpack(mine).dtype == nnlib.bfloat16
    assert nnlib.tensor(theirs).tolist() == mine.tolist()


def test_integers_that_do_not_fit_are_refused() -> None:
    assert nnlib.tensor([0, 255], dtype=nnlib.uint8).tolist() == [0, 255]
    for value in (-1, 256):
        with pytest.raises(DTypeError, match=f"tensor: {value} is out of range for ui"):
            nnlib.tensor([0, value], dtype=nnlib.uint8)


def test_from_dlpack_names_what_it_cannot_take() -> None:
    with pytest.raises(DTypeError, match="from_dlpack: .* got list"):
        nnlib.from_dlpack([1])
    with pytest.raises(DTypeError, match="not complex128"):
        nnlib.from_dlpack(np.ones(2, dtype=complex))


@needs_torch
def test_tensors_of_pytorch_are_data() -> None:
    theirs = torch.arange(4.0)
    copied, shared = nnlib.tensor(theirs), nnlib.as_tensor(theirs)
    theirs[0] = 9
    assert (copied[0].item(), shared[0].item()) == (0, 9)
    assert nnlib.tensor(theirs, dtype=nnlib.int64).dtype == nnlib.int64


def test_no_cuda_interface_on_the_cpu() -> None:
    assert not hasattr(nnlib.ones(1), "__cuda_array_interface__")


def test_numpy_ufuncs_keep_tensors() -> None:
    x = nnlib.tensor([1.0, 2.0], requires_grad=True)
    y = np.exp(x) + np.multiply(np.array([1.0, 2.0], np.float32), x)
    assert isinstance(y, nnlib.Tensor)
    y.sum().backward()
    np.testing.assert_allclose(x.grad.array, np.exp([1.0, 2.0]) + [1, 2], 1e-6)
    assert isinstance(np.sum(x, axis=0, keepdims=True), nnlib.Tensor)
    assert np.concatenate([x, x]).shape == (4,)
    plain = x.detach()
    np.testing.assert_allclose(np.cbrt(plain), np.cbrt([1.0, 2.0]), 1e-6)
    np.testing.assert_allclose(np.median(plain), 1.5)
    np.testing.assert_array_equal(np.asarray(plain, dtype=np.int32), [1, 2])
    assert np.add.reduce(plain) == 3.0
    with pytest.raises(Error, match="numpy: .*detach"):
        np.cbrt(x)


@pytest.mark.parametrize(
    "number",
    [np.float64(3), np.float32(3), np.array(3.0), np.int64(3), np.float16(3), 3, 3.0],
    ids=lambda x: f"{type(x).__name__}-{getattr(x, 'dtype', '')}",
)
def test_numbers_of_numpy_are_weak(number: Any) -> None:
    x = nnlib.tensor([1.0, 2.0], requires_grad=True)
    for y in (number * x, x * number, number + x, x / number, number - x, x**number):
        assert isinstance(y, nnlib.Tensor)
        assert y.dtype == nnlib.float32
    (number * x + x * number).sum().backward()
    assert x.grad.tolist() == [6.0, 6.0]
    counts = nnlib.tensor([1, 2])
    expected = nnlib.int64 if isinstance(number, int | np.integer) else nnlib.float32
    assert (counts * number).dtype == (number * counts).dtype == expected
    halves = nnlib.tensor([1.0, 2.0], dtype="bfloat16")
    assert (number * halves).dtype == nnlib.bfloat16


def test_arrays_of_numpy_have_their_dtype() -> None:
    x = nnlib.tensor([1.0, 2.0], requires_grad=True)
    y = np.array([3.0, 4.0]) * x
    assert y.dtype == nnlib.float64
    y.sum().backward()
    assert x.grad.dtype == nnlib.float32
    assert x.grad.tolist() == [3.0, 4.0]


def test_lists_are_no_operands() -> None:
    x = nnlib.ones(2)
    for call in (lambda: x * [1, 2], lambda: [1.0, 2.0] + x, lambda: x - (1, 2)):
        with pytest.raises(
            DTypeError, match="(other|input): expected a Tensor or a number"
        ):
            call()


@needs_torch
def test_promotion_equals_pytorchs() -> None:
    names = ["bool", "uint8", "int32", "int64", "float16", "bfloat16", "float32"]
    names.append("float64")
    numbers = [True, 2, 2.5]
    for first in names:
        a = nnlib.ones(2).to(first), torch.ones(2).to(getattr(torch, first))
        for second in [*names, *numbers]:
            for shape in ((2,), ()):
                if isinstance(second, str):
                    b = (
                        nnlib.ones(*shape).to(second),
                        torch.ones(shape).to(getattr(torch, second)),
                    )
                else:
                    b = (second, second)
                for op in ("mul", "div"):
                    mine = getattr(nnlib, op)(a[0], b[0])
                    theirs = getattr(torch, op)(a[1], b[1])
                    assert mine.dtype.name == str(theirs.dtype).removeprefix(
                        "torch."
                    ), (
                        first,
                        second,
                        shape,
                        op,
                    )


def test_detach_shares_memory_without_history() -> None:
    x = nnlib.tensor([1.0, 2.0], requires_grad=True)
    y = (x * 2).detach()
    assert not y.requires_grad
    assert y.grad_fn is None
    view = x.detach()
    view.array[0] = 5
    assert x.array[0] == 5
    z = x * 2
    assert z.detach_() is z
    assert z.is_leaf


def test_requires_grad_of_what_cannot() -> None:
    with pytest.raises(DTypeError, match="requires_grad: only floating .*int64"):
        nnlib.tensor([1, 2], requires_grad=True)
    x = nnlib.ones(2, requires_grad=True)
    with pytest.raises(Error, match="requires_grad: only leaf"):
        (x * 2).requires_grad_(False)


def test_assigned_gradients_are_checked() -> None:
    x = nnlib.ones(2, requires_grad=True)
    with pytest.raises(ShapeError, match=r"Tensor.grad: expected shape \(2,\)"):
        x.grad = nnlib.ones(3)
    with pytest.raises(DTypeError, match="Tensor.grad: expected dtype float32"):
        x.grad = nnlib.ones(2, dtype="float64")
    with pytest.raises(DTypeError, match="Tensor.grad: expected a Tensor or None"):
        x.grad = 3
    x.grad = nnlib.ones(2)
    (x * 2).sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]


def test_items_and_truth() -> None:
    assert float(nnlib.tensor(2.5)) == 2.5
    assert int(nnlib.tensor([3])) == 3
    assert [0, 1, 2][nnlib.tensor(1)] == 1
    assert f"{nnlib.tensor(2.0):.3f}" == "2.000"
    assert 2.0 in nnlib.tensor([1.0, 2.0])
    assert [x.item() for x in nnlib.tensor([1, 2])] == [1, 2]
    with pytest.raises(ShapeError, match=r"item: expected .* one element.*\(2,\)"):
        nnlib.ones(2).item()
    with pytest.raises(ShapeError, match="bool: .*2 elements is ambiguous"):
        bool(nnlib.ones(2))
    with pytest.raises(DTypeError, match="len: a tensor without dimensions"):
        len(nnlib.tensor(1.0))


def test_bytes_in_another_order_are_converted() -> None:
    theirs = np.arange(3).astype(">f4")
    made = nnlib.tensor(theirs)
    assert made.dtype == nnlib.float32
    assert (made + 1).tolist() == [1, 2, 3]
    with pytest.raises(DTypeError, match="from_numpy: expected this machine's order"):
        nnlib.from_numpy(theirs)


def test_a_view_that_does_not_fit_is_called_so() -> None:
    with pytest.raises(ShapeError, match="view: 6 elements of shape"):
        nnlib.ones(2, 3).view(4)
    with pytest.raises(ShapeError, match="reshape: 6 elements of shape"):
        nnlib.ones(2, 3).reshape(4)


def test_calling_the_class() -> None:
    made = nnlib.Tensor([1, 2])
    assert made.tolist() == [1.0, 2.0]
    assert made.dtype == nnlib.float32
    assert nnlib.Tensor(np.arange(2)).dtype == nnlib.float32
    assert nnlib.Tensor([1.5], requires_grad=True).requires_grad
    assert nnlib.Tensor(2, 3).shape == (2, 3)
    assert nnlib.Tensor(nnlib.Size([4, 1])).shape == (4, 1)
    assert nnlib.Tensor().shape == (0,)
    with pytest.raises(ShapeError, match="Tensor: negative length in"):
        nnlib.Tensor(2, -1)
    with pytest.raises(DTypeError, match="Tensor: expected data or sizes, got 2"):
        nnlib.Tensor([1.0], [2.0])


def test_construction_from_what_is_no_data() -> None:
    with pytest.raises(ShapeError, match="tensor: data is not rectangular"):
        nnlib.tensor([[1.0], [1.0, 2.0]])
    with pytest.raises(DTypeError, match="tensor: expected numbers"):
        nnlib.tensor("text")
    with pytest.raises(DTypeError, match="expected real numbers, got dtype complex"):
        nnlib.tensor([1 + 2j])
    with pytest.raises(DTypeError, match=f"tensor: {2**70} is out of range for int64"):
        nnlib.tensor(2**70)
    with pytest.raises(DTypeError, match=r"from_numpy: expected a numpy\.ndarray"):
        nnlib.from_numpy([1.0])


def test_gradients_pass_through_casts() -> None:
    x = nnlib.tensor([1.5, 2.5], requires_grad=True)
    y = x.to("float64") * nnlib.tensor([2.0, 4.0], dtype="float64")
    y.to("float16").sum().backward()
    assert x.grad.dtype == nnlib.float32
    assert x.grad.tolist() == [2.0, 4.0]
    assert grad(x.to("float64").sum(), x)[0].dtype == nnlib.float32


@needs_torch
def test_a_loss_curve_equals_pytorchs() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((32, 5)), rng.standard_normal((32, 2))
    start = [rng.standard_normal(s) * 0.5 for s in ((5, 8), (8,), (8, 2))]

    def curve(library: Any) -> list[float]:
        a, b, c = (library.tensor(w, requires_grad=True) for w in start)
        inputs, targets = library.tensor(x), library.tensor(y)
        losses = []
        for _ in range(100):
            hidden = (inputs @ a + b).tanh()
            loss = ((hidden @ c - targets) ** 2).mean()
            loss.backward()
            with library.no_grad():
                for w in (a, b, c):
                    w -= 0.1 * w.grad
                    w.grad = None
            losses.append(loss.item())
        return losses

    np.testing.assert_allclose(curve(nnlib), curve(torch), 1e-12)
