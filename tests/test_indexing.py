"""Indexing: what is a view, how indices combine, what bad ones say."""

from __future__ import annotations

import numpy as np
import pytest

import nnlib
from nnlib.backend.errors import BoundsError, DTypeError, Error, ShapeError

try:
    import torch
except ImportError:
    torch = None

needs_torch = pytest.mark.skipif(torch is None, reason="PyTorch is not installed")


@pytest.fixture
def x():
    return nnlib.arange(24).reshape(2, 3, 4)


# -- reading -----------------------------------------------------------------------


def test_plain_indices_give_views(x):
    for view in (x[0], x[:, 1], x[..., -1], x[None], x[:, ::2], x[0, 1, 2], x[...]):
        assert np.shares_memory(view.array, x.array)
    x[0, 1, 2].fill_(-5)
    assert x[0, 1, 2].item() == -5


def test_index_tensors_give_copies(x):
    for copy in (x[[0]], x[x > 3], x[nnlib.tensor([1])], x[0, [1, 2]]):
        assert not np.shares_memory(copy.array, x.array)


@needs_torch
@pytest.mark.parametrize(
    "index",
    [
        np.s_[0, :, [0, 1]],
        np.s_[[0, 1], :, [0, 1]],
        np.s_[:, [0, 1], [0, 1]],
        np.s_[1, [0, 2]],
        np.s_[[[0], [1]], [[0, 2]]],
        np.s_[None, 0, ..., [1, 0]],
        np.s_[True],
        np.s_[False],
        np.s_[:, True],
        np.s_[..., None],
        np.s_[0, 0, 0],
        np.s_[-1, ..., -2],
        np.s_[1:, ::2, 3:0],
        np.s_[:, :, :0],
        np.s_[[]],
    ],
    ids=str,
)
def test_indices_are_read_as_by_pytorch(x, index):
    want = torch.arange(24).reshape(2, 3, 4)[index]
    assert x[index].tolist() == want.tolist()
    assert tuple(x[index].shape) == tuple(want.shape)
    changed, its = x.clone(), torch.arange(24).reshape(2, 3, 4)
    changed[index] = -1
    its[index] = -1
    assert changed.tolist() == its.tolist()


def test_lists_ranges_arrays_and_numbers_of_numpy_are_indices(x):
    want = x[nnlib.tensor([1, 0])].tolist()
    for index in ([1, 0], range(1, -1, -1), np.array([1, 0]), np.array([1, 0], "u1")):
        assert x[index].tolist() == want
    assert x[np.int64(1)].shape == x[nnlib.tensor(1)].shape == (3, 4)
    assert np.shares_memory(x[nnlib.tensor(1)].array, x.array)


def test_masks(x):
    mask = x % 5 == 0
    assert x[mask].tolist() == [0, 5, 10, 15, 20]
    assert x[:, nnlib.tensor([True, False, True])].shape == (2, 2, 4)
    assert x[nnlib.tensor([[True, False, True], [False, True, False]])].shape == (3, 4)
    assert x[nnlib.tensor(True)].shape == (1, 2, 3, 4)
    assert x[nnlib.tensor(False)].shape == (0, 2, 3, 4)


def test_negative_steps_are_allowed_as_in_numpy(x):
    assert x[0, 0, ::-1].tolist() == [3, 2, 1, 0]


def test_iteration_and_membership():
    rows = list(nnlib.arange(4).reshape(2, 2))
    assert [row.tolist() for row in rows] == [[0, 1], [2, 3]]
    first, second = nnlib.tensor([1.0, 2.0])
    assert second.item() == 2.0


def test_gradients_of_repeated_indices_add_up():
    x = nnlib.tensor([1.0, 2.0, 3.0], requires_grad=True)
    x[[0, 0, 2, 0]].sum().backward()
    assert x.grad.tolist() == [3, 0, 1]
    big = nnlib.zeros(50, 8, requires_grad=True)
    rows = np.random.default_rng(0).integers(0, 50, 1000)
    big[nnlib.tensor(rows)].sum().backward()
    want = np.bincount(rows, minlength=50)
    assert big.grad.tolist() == np.repeat(want[:, None], 8, 1).tolist()


@pytest.mark.parametrize("columns", [1, 3, 40])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64"])
def test_scattered_sums_are_right_and_the_same_every_time(columns, dtype):
    rng = np.random.default_rng(columns)
    index = rng.integers(0, 30, 500)
    source = rng.integers(-8, 8, (500, columns)).astype(dtype)
    want = np.zeros((30, columns))
    np.add.at(want, index, source.astype(np.float64))
    out = nnlib.zeros(30, columns, dtype=dtype)
    add = [
        out.index_add(0, nnlib.tensor(index), nnlib.from_numpy(source))
        for _ in range(2)
    ]
    assert add[0].tolist() == add[1].tolist() == want.tolist()
    wide = nnlib.tensor(np.repeat(index[:, None], columns, 1))
    assert out.scatter_add(0, wide, nnlib.from_numpy(source)).tolist() == want.tolist()


def test_an_index_may_be_shared_by_threads_of_a_graph():
    x = nnlib.tensor(np.arange(6.0).reshape(3, 2), requires_grad=True)
    i = nnlib.tensor([2, 0])
    assert nnlib.autograd.gradgradcheck(lambda x: x[i] * x[:2] * x[i, 1:], (x,))


# -- writing -----------------------------------------------------------------------


def test_values_broadcast_and_are_cast(x):
    x[:, 0] = nnlib.tensor([1.9, -1.9, 0.5, 7.0])
    assert x[1, 0].tolist() == [1, -1, 0, 7]
    x[0] = np.zeros((3, 1))
    x[1, :, [0, 3]] = nnlib.tensor([[[-1, -2]]])
    assert x[0].sum().item() == 0
    assert x[1, 2].tolist() == [-1, 21, 22, -2]


def test_augmented_assignment():
    x = nnlib.zeros(3)
    x[1:] += 2
    x[[0, 0]] += 1
    x[x > 1] *= 10
    assert x.tolist() == [1, 20, 20]


def test_assignment_gives_gradients_to_both_sides():
    x = nnlib.tensor([1.0, 2.0, 3.0], requires_grad=True)
    v = nnlib.tensor(5.0, requires_grad=True)
    y = x * 1
    y[[0, 2]] = v * 2
    (y * y).sum().backward()
    assert x.grad.tolist() == [0, 4, 0]
    assert v.grad.item() == 2 * 2 * 10 * 2


def test_in_place_gather_and_scatter_family():
    x = nnlib.zeros(2, 3)
    x.scatter_(1, nnlib.tensor([[2], [0]]), 5.0)
    x.scatter_add_(1, nnlib.tensor([[2, 2], [1, 1]]), nnlib.ones(2, 2))
    assert x.tolist() == [[0, 0, 7], [5, 2, 0]]
    x.index_add_(0, nnlib.tensor([0, 0]), nnlib.ones(2, 3), alpha=0.5)
    assert x.tolist() == [[1, 1, 8], [5, 2, 0]]
    x.index_copy_(1, nnlib.tensor([0]), nnlib.tensor([[9.0], [8.0]]))
    x.index_fill_(1, nnlib.tensor([1]), 4)
    x.index_put_((nnlib.tensor([0, 0]), nnlib.tensor([2, 2])), nnlib.ones(2), True)
    x.masked_scatter_(x == 0, nnlib.tensor([6.0]))
    assert x.tolist() == [[9, 4, 10], [8, 4, 6]]
    x.put_(nnlib.tensor([0, 5]), nnlib.tensor([1.0, 2.0]))
    assert x.tolist() == [[1, 4, 10], [8, 4, 2]]


def test_gradients_of_in_place_scatters():
    src = nnlib.tensor([[1.0, 2.0]], requires_grad=True)
    x = nnlib.zeros(1, 3)
    x.scatter_add_(1, nnlib.tensor([[2, 2]]), src * 3)
    (x * x).sum().backward()
    assert src.grad.tolist() == [[54, 54]]
    with pytest.raises(Error, match="reduce='multiply' has no derivative"):
        y = src * 1
        y.scatter(1, nnlib.tensor([[0]]), 2.0, reduce="multiply").sum().backward()


# -- bad indices -------------------------------------------------------------------


def test_errors_name_value_position_and_size(x):
    bad = nnlib.tensor([[0, 1], [-3, 2]])
    with pytest.raises(
        IndexError, match=r"value -3 at position \(1, 0\) is out of ran"
    ):
        x[bad]
    with pytest.raises(BoundsError, match="for a dimension of size 3"):
        x[:, [0, 3]]
    with pytest.raises(BoundsError, match="for a dimension of size 4"):
        x[0, :, [9]] = 1
    with pytest.raises(
        BoundsError, match="index 2 is out of bounds for axis 0 with si"
    ):
        x[2]
    with pytest.raises(BoundsError, match="4 dimensions are indexed, the tensor has 3"):
        x[0, 0, 0, [0]]
    with pytest.raises(BoundsError, match="boolean index did not match"):
        x[nnlib.tensor([True, False, True])]
    with pytest.raises(BoundsError, match="shape mismatch"):
        x[[0, 1], [0, 1, 2]]


def test_errors_of_type_and_shape(x):
    with pytest.raises(DTypeError, match="got a tensor of float32"):
        x[nnlib.tensor([0.0])]
    with pytest.raises(DTypeError, match="index: .* got str"):
        x["a"]
    with pytest.raises(ShapeError, match=r"a value of shape \(5,\) does not fit"):
        x[0] = nnlib.zeros(5)
    with pytest.raises(ShapeError, match=r"a value of shape \(2, 4\) does not fit"):
        x[[0, 1, 1]] = nnlib.zeros(2, 4)
