"""Which operations share memory, and which promise not to."""

from __future__ import annotations

import numpy as np
import pytest

import nnlib
from nnlib.backend.errors import Error, ShapeError


@pytest.fixture
def x():
    return nnlib.arange(24.0).reshape(2, 3, 4)


VIEWS = {
    "reshape": lambda x: x.reshape(6, 4),
    "view": lambda x: x.view(-1),
    "permute": lambda x: x.permute(2, 0, 1),
    "transpose": lambda x: x.transpose(0, 2),
    "T": lambda x: x[0].T,
    "mT": lambda x: x.mT,
    "t": lambda x: x[0].t(),
    "flatten": lambda x: x.flatten(1),
    "unflatten": lambda x: x.unflatten(2, (2, 2)),
    "ravel": lambda x: x.ravel(),
    "squeeze": lambda x: x[:1].squeeze(0),
    "unsqueeze": lambda x: x.unsqueeze(1),
    "movedim": lambda x: x.movedim(0, 2),
    "narrow": lambda x: x.narrow(1, 1, 2),
    "select": lambda x: x.select(1, 1),
    "expand": lambda x: x[:1].expand(5, 3, 4),
    "unbind": lambda x: x.unbind(1)[2],
    "split": lambda x: x.split(2, 2)[1],
    "chunk": lambda x: x.chunk(2)[1],
    "tensor_split": lambda x: x.tensor_split((1,), 1)[1],
    "diagonal": lambda x: x.diagonal(0, 1, 2),
    "detach": lambda x: x.detach(),
}
COPIES = {
    "flip": lambda x: x.flip(0),
    "roll": lambda x: x.roll(0, 0),
    "repeat": lambda x: x.repeat(1, 1, 1),
    "tril": lambda x: x.tril(5),
    "diag": lambda x: x[0].diag(),
    "cat": lambda x: nnlib.cat([x]),
    "stack": lambda x: nnlib.stack([x]),
    "pad": lambda x: nnlib.nn.functional.pad(x, (0, 0)),
    "pad reflect": lambda x: nnlib.nn.functional.pad(x, (0, 0), mode="reflect"),
    "index_select": lambda x: x.index_select(0, nnlib.tensor([0, 1])),
    "clone": lambda x: x.clone(),
    "rot90": lambda x: x.rot90(0),
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_share_memory(x, name):
    assert np.shares_memory(VIEWS[name](x).array, x.array)


@pytest.mark.parametrize("name", COPIES)
def test_copies_do_not(x, name):
    assert not np.shares_memory(COPIES[name](x).array, x.array)


@pytest.mark.parametrize("name", [name for name in VIEWS if name != "expand"])
def test_a_view_can_be_written_through(x, name):
    x.requires_grad_()
    y = x * 1
    VIEWS[name](y).zero_()
    written = int((y.detach() == 0).sum().item())
    assert written >= VIEWS[name](x).numel()
    if name != "detach":
        y.sum().backward()
        zeros = int((x.grad == 0).sum().item())
        assert zeros == VIEWS[name](x).numel()


def test_view_falls_back_to_a_copy(x):
    flat = x.permute(2, 0, 1).view(-1)
    assert flat[:3].tolist() == [0, 4, 8]


def test_view_as_another_dtype():
    x = nnlib.tensor([1.0, -2.0])
    bits = x.view(nnlib.int32)
    assert bits.dtype == nnlib.int32
    assert bits.view("float32").tolist() == [1, -2]
    with pytest.raises(ShapeError, match="view: int8 as int32"):
        nnlib.zeros(3, dtype="int8").view(nnlib.int32)


def test_a_spread_gradient_cannot_be_changed_by_accident():
    x = nnlib.ones(3, requires_grad=True)
    (grad,) = nnlib.autograd.grad(x.sum(), x)
    with pytest.raises(Error, match="share memory"):
        grad.mul_(2)
    x.sum().backward()
    x.grad.mul_(2)
    assert x.grad.tolist() == [2, 2, 2]


def test_matrix_transposes_need_matrices(x):
    with pytest.raises(ShapeError, match="mT: expected 2 or more dimensions"):
        x[0, 0].mT  # noqa: B018
    with pytest.raises(ShapeError, match="t: expected at most 2 dimensions"):
        x.t()


def test_shapes_of_nothing():
    assert nnlib.broadcast_shapes((3, 1), (4,)) == (3, 4)
    assert nnlib.numel(nnlib.zeros(0, 3)) == 0
    assert nnlib.zeros(0, 3).reshape(3, 0).shape == (3, 0)


@pytest.mark.parametrize("kind", ["strides", "windows"])
def test_writing_into_a_view_by_strides_changes_its_base(kind: str) -> None:
    torch = pytest.importorskip("torch")

    def run(lib):
        leaf = lib.tensor(np.arange(20.0).reshape(4, 5))
        leaf.requires_grad_(True)
        x = leaf * 1
        if kind == "strides":
            view = x[1:].as_strided((2, 3), (5, 1), 6)
        else:
            view = x.unfold(0, 2, 2)
        view.mul_(3)
        (x * x).sum().backward()
        return leaf.grad.numpy(), x.detach().numpy()

    for mine, theirs in zip(run(nnlib), run(torch), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_gradient_of_a_view_of_memory_that_the_input_names_several_times() -> None:
    torch = pytest.importorskip("torch")

    def run(lib):
        x = lib.arange(4.0).requires_grad_(True)
        twice = x.expand(3, 4).as_strided((2, 2), (2, 1))
        over = (x * 1).as_strided((3, 2), (1, 1)).as_strided((3,), (1,))
        ((twice * twice).sum() + (over * over).sum()).backward()
        return x.grad.tolist()

    assert run(nnlib) == run(torch)


def test_storage_offset_and_memory_named_several_times() -> None:
    with pytest.raises(nnlib.DTypeError, match="storage_offset: expected an integer"):
        nnlib.arange(5.0).as_strided((2,), (1,), 1.5)
    x = nnlib.arange(20.0).reshape(4, 5)
    assert (x.storage_offset(), x[1:, 2:].storage_offset()) == (0, 7)
    view = x[1:, 1:].as_strided((2, 2), (1, 1))
    assert view.tolist() == [[6.0, 7.0], [7.0, 8.0]] and view.storage_offset() == 6
    with pytest.raises(nnlib.Error, match="share memory"):
        view.add_(1)
    y = nnlib.arange(4.0)
    assert y.as_strided_((2, 2), (2, 1)) is y and tuple(y.shape) == (2, 2)
