"""In-place methods: values, histories, versions, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import nnlib
from nnlib.backend.errors import DTypeError, Error, ShapeError


def leaf(*values, dtype="float64"):
    return nnlib.tensor(list(values), dtype=dtype, requires_grad=True)


# -- without history ---------------------------------------------------------------


def test_the_memory_itself_is_changed():
    x = nnlib.zeros(3)
    memory = x.array
    y = x
    x += 2
    x.mul_(3).sub_(1).div_(5)
    assert x is y
    assert x.array is memory
    assert x.tolist() == [1, 1, 1]


def test_each_change_counts_once_for_all_views():
    x = nnlib.zeros(2, 3)
    row, twin = x[0], x.detach()
    before = x.version
    row.add_(1)
    twin[1] = 2.0
    x.zero_()
    assert x.version == row.version == twin.version == before + 3


def test_arithmetic_under_no_grad_makes_no_copy_of_a_parameter():
    p = nnlib.nn.Parameter(nnlib.ones(4))
    memory = p.array
    with nnlib.no_grad():
        p.add_(nnlib.ones(4), alpha=-0.5)
        p.mul_(2)
    assert p.array is memory
    assert p.tolist() == [1, 1, 1, 1]
    assert p.requires_grad
    assert p.is_leaf


def test_dtype_stays():
    x = nnlib.ones(2, dtype="float32")
    x.add_(nnlib.ones(2, dtype="float64"))
    assert x.dtype == nnlib.float32
    i = nnlib.tensor([1, 2])
    i.add_(2)
    assert i.tolist() == [3, 4]
    with pytest.raises(DTypeError, match="add_: a result of dtype float32 cannot be"):
        i.add_(0.5)
    with pytest.raises(DTypeError, match="__itruediv__: a result of dtype float32"):
        i /= 2


def test_shape_stays():
    with pytest.raises(ShapeError, match=r"mul_: the result has shape \(2, 3\), this"):
        nnlib.ones(3).mul_(nnlib.ones(2, 3))
    with pytest.raises(ShapeError, match="add: shapes"):
        nnlib.ones(3).add_(nnlib.ones(2))


def test_overlapping_memory():
    x = nnlib.arange(5)
    x[1:].copy_(x[:-1])
    assert x.tolist() == [0, 0, 1, 2, 3]
    y = nnlib.arange(4)
    y[:2] += y[1:3]
    assert y.tolist() == [1, 3, 2, 3]


def test_expanded_memory_is_refused():
    wide = nnlib.zeros(1).expand(3)
    with pytest.raises(
        Error, match=r"add_: elements of this tensor of shape \(3,\) sha"
    ):
        wide.add_(1)
    with pytest.raises(Error, match="index assignment: elements"):
        wide[0] = 1


def test_plain_views_stay_usable_after_their_base_changes():
    data = nnlib.zeros(2, 3)
    row = data[0]
    data.add_(1)
    w = leaf(2.0, dtype="float32")
    (row * w).sum().backward()
    assert w.grad.tolist() == [3]


# -- with history ------------------------------------------------------------------


def test_the_tensor_becomes_the_result():
    x = leaf(1.0, 2.0)
    y = x * 1
    y.mul_(x).add_(1)
    y.sum().backward()
    assert x.grad.tolist() == [2, 4]


def test_a_tensor_times_itself():
    x = leaf(3.0)
    y = x * 1
    y.mul_(y)
    y.backward()
    assert x.grad.tolist() == [6]


@pytest.mark.parametrize("view", [False, True])
def test_an_operation_of_several_parts_keeps_the_old_value(view):
    # The product inside saves the value that addcmul_ is about to overwrite.
    x = leaf(0.7, 0.3)
    y = (x * 1)[...] if view else x * 1
    y.addcmul_(y, y, value=0.5)
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [1.7, 1.3])


def test_alpha_belongs_to_sums_alone():
    with pytest.raises(TypeError, match="alpha"):
        nnlib.ones(2).mul_(nnlib.ones(2), alpha=3)
    assert nnlib.ones(2).sub_(nnlib.ones(2), alpha=3).tolist() == [-2, -2]


def test_a_plain_tensor_gets_a_history():
    w = leaf(2.0, 3.0)
    buffer = nnlib.zeros(2, dtype="float64")
    buffer.add_(w)
    assert buffer.requires_grad
    (buffer * buffer).sum().backward()
    assert w.grad.tolist() == [4, 6]


def test_writing_into_a_view_reaches_the_base():
    x = leaf(1.0, 2.0, 3.0)
    z = leaf(5.0)
    y = x.clone()
    y[1] = z[0] * 2
    y[0].mul_(10)
    (y * y).sum().backward()
    assert x.grad.tolist() == [200, 0, 6]
    assert z.grad.tolist() == [40]


def test_writing_into_a_view_of_a_transposed_base():
    x = nnlib.tensor(np.arange(6.0).reshape(2, 3), requires_grad=True)
    # NumPy lays the product out as its transposed input: columns first.
    y = x.T * 1
    y.T.reshape(-1)[:3].mul_(2)
    y.sum().backward()
    assert x.grad.tolist() == [[2, 2, 2], [1, 1, 1]]


def test_nan_in_an_overwritten_gradient_is_forgotten():
    x = leaf(-1.0, 4.0)
    y = x * 1
    y[0] = 0.0
    out = y.clone()
    out.backward(nnlib.tensor([float("nan"), 1.0], dtype="float64"))
    assert x.grad.tolist() == [0, 1]


def test_views_of_views_and_pieces():
    x = nnlib.tensor(np.ones((2, 4)), requires_grad=True)
    y = x * 1
    y.reshape(4, 2)[:2].T.add_(1).mul_(3)
    y.sum().backward()
    assert x.grad.tolist() == [[3] * 4, [1] * 4]
    z = x * 1
    z.split(2, 1)[1].zero_()
    x.grad = None
    z.sum().backward()
    assert x.grad.tolist() == [[1, 1, 0, 0]] * 2


def test_second_derivatives_go_through_changes_in_place():
    def function(x):
        y = x.clone()
        y[0] = x[1] * x[1]
        y[1:].mul_(x[:1])
        return y * y

    x = leaf(1.5, -2.0, 0.5)
    assert nnlib.autograd.gradcheck(function, (x,))
    assert nnlib.autograd.gradgradcheck(function, (x,))


def test_a_change_under_no_grad_keeps_the_history():
    x = leaf(1.0)
    y = x * 3
    with nnlib.no_grad():
        y.add_(1)
    y.backward()
    assert x.grad.tolist() == [3]


def test_overwriting_leaves_no_gradient():
    x = leaf(1.0, 2.0)
    for change in ("zero_", "fill_"):
        y = x * 2
        getattr(y, change)(*([1.0] if change == "fill_" else []))
        y.sum().backward()
    assert x.grad.tolist() == [0, 0]


def test_copy_casts_and_broadcasts():
    x = leaf(1.0)
    target = nnlib.zeros(2, 3, dtype="float32")
    target.copy_(x)
    target.sum().backward()
    assert x.grad.tolist() == [6]
    assert x.grad.dtype == nnlib.float64


def test_detached_twins_have_no_history():
    x = leaf(1.0, 2.0)
    y = x * 1
    y.detach()[0].mul_(5)
    assert y.tolist() == [5, 2]
    y.sum().backward()
    assert x.grad.tolist() == [1, 1]


# -- refused -----------------------------------------------------------------------


def test_leaves_are_refused():
    x = leaf(1.0, 2.0)
    for change in (
        lambda: x.add_(1),
        lambda: x.zero_(),
        lambda: x[0].mul_(2),
        lambda: x.__setitem__(0, 1.0),
        lambda: x.view(-1).fill_(1.0),
    ):
        with pytest.raises(Error, match="leaf that requires a gradient"):
            change()
    with nnlib.no_grad():
        x.add_(1)
    x.detach().add_(1)
    assert x.tolist() == [3, 4]


@pytest.mark.parametrize(
    "build",
    [
        lambda y: y * y,
        lambda y: y.exp_() if hasattr(y, "exp_") else y * y,
        lambda y: y[0] * y[1],
        lambda y: y.view(-1) * 2.0 * y,
        lambda y: y.prod(),
    ],
)
def test_a_saved_input_that_changed_is_found_by_backward(build):
    y = leaf(1.0, 2.0) * 1
    z = build(y)
    y.add_(1)
    if z is y:
        return
    with pytest.raises(Error, match="changed in place"):
        z.sum().backward()


@pytest.mark.parametrize("change", ["itself", "view", "twin", "no_grad"])
def test_a_saved_output_that_changed_is_found_by_backward(change):
    x = leaf(1.0, 2.0)
    y = x.exp()
    if change == "itself":
        y.add_(1)
    elif change == "view":
        y[0].add_(1)
    elif change == "twin":
        y.detach().add_(1)
    else:
        with nnlib.no_grad():
            y.mul_(2)
    with pytest.raises(Error, match="changed in place"):
        y.sum().backward()


def test_a_saved_value_of_a_dead_tensor_is_found_too():
    def function(x):
        y = x.exp()
        y.add_(1)
        return y.sum()

    with pytest.raises(Error, match="changed in place"):
        function(leaf(1.0)).backward()


def test_a_value_that_is_not_needed_may_change():
    y = leaf(1.0, 2.0) * 1
    z = y + 1
    y.mul_(3)
    z.sum().backward()


def test_a_saved_index_that_changed_is_found():
    i = nnlib.tensor([0, 1])
    z = leaf(1.0, 2.0)[i]
    i[0] = 1
    with pytest.raises(Error, match="changed in place"):
        z.sum().backward()


def test_stale_views_are_refused():
    y = leaf(1.0, 2.0) * 1
    view = y[0]
    y.mul_(2)
    with pytest.raises(Error, match="taken before its base was changed in place"):
        view * 2
    with pytest.raises(Error, match="taken before its base was changed in place"):
        view.add_(1)
    assert y[0].item() == 2


def test_a_view_of_a_plain_base_that_got_a_history_is_stale():
    base = nnlib.zeros(2, dtype="float64")
    view = base[0]
    base.add_(leaf(1.0, 2.0))
    with pytest.raises(Error, match="taken before its base was changed in place"):
        view * 2


def test_the_view_that_was_changed_stays_usable():
    x = leaf(1.0, 2.0)
    y = x * 1
    first, second = y[0], y[1]
    first.mul_(3)
    (first * y).sum().backward()
    assert x.grad.tolist() == [9 * 2 + 3 * 2, 3]
    with pytest.raises(Error, match="taken before"):
        second * 2


# -- views of itself ---------------------------------------------------------------


def test_a_tensor_becomes_a_view_of_its_memory():
    x = nnlib.arange(6).reshape(2, 1, 3).clone()
    memory = x.array
    y = (
        x.squeeze_(1)
        .t_()
        .unsqueeze_(0)
        .transpose_(1, 2)
        .swapaxes_(0, 1)
        .swapdims_(1, 2)
    )
    assert y is x
    assert tuple(x.shape) == (2, 3, 1)
    assert np.shares_memory(x.array, memory)
    assert x.flatten().tolist() == [0, 1, 2, 3, 4, 5]


def test_gradients_go_through_a_turned_tensor_and_a_turned_view():
    x = nnlib.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], requires_grad=True)
    y = x * 2
    y.t_().mul_(3)
    row = y[0]
    row.unsqueeze_(1).mul_(10)
    y.sum().backward()
    assert tuple(row.shape) == (2, 1)
    assert x.grad.tolist() == [[60, 6, 6], [60, 6, 6]]


def test_turning_counts_as_a_change():
    x = leaf(1.0, 2.0)
    y = x * 2
    z, head = y * y, y[:1]
    y.unsqueeze_(0)
    with pytest.raises(Error, match="saved for backward was changed in place"):
        z.sum().backward()
    with pytest.raises(Error, match="mul: this view was taken before"):
        head * 2
    out = x.exp()
    out.unsqueeze_(0)
    with pytest.raises(Error, match="saved for backward was changed in place"):
        out.sum().backward()


def test_views_of_a_turned_tensor_without_history_go_on():
    x = nnlib.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    flat, row, other = x.view(6), x[1], nnlib.ones(2, 2)
    x.t_()
    assert flat.sum().item() == 21
    row.mul_(2).add_(other[0])
    row[0] = 0
    assert x.tolist() == [[1, 0, 5], [2, 9, 6]]
    scale = leaf(1.0, 2.0)
    # The way to the row was by the old shape.
    with pytest.raises(Error, match="mul_: this view was taken before"):
        row.mul_(scale)
    with pytest.raises(Error, match="this view was taken before"):
        row[0] = scale[0]
    assert x.tolist() == [[1, 0, 5], [2, 9, 6]]
    with nnlib.no_grad():
        row.mul_(scale)
    assert x.tolist() == [[1, 0, 5], [2, 18, 6]]


@pytest.mark.parametrize("through", ["itself", "view"])
def test_a_result_turned_under_no_grad_keeps_a_true_history(through):
    x = nnlib.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    y = x * 2
    turned = y if through == "itself" else y[:]
    with nnlib.no_grad():
        turned.t_()
    weight = nnlib.tensor([[1.0, 10.0], [100.0, 1000.0]])
    (turned * weight).sum().backward()
    assert x.grad.tolist() == [[2, 200], [20, 2000]]


def test_a_stale_view_stays_stale_when_turned():
    x = nnlib.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    y = x * 1
    view = y[:]
    y.mul_(3)
    with nnlib.no_grad():
        view.t_()
        assert view.tolist() == [[3, 9], [6, 12]]
    with pytest.raises(Error, match="mul: this view was taken before"):
        view * 2


def test_a_leaf_is_turned_under_no_grad_only():
    x = nnlib.ones(2, 3, requires_grad=True)
    with pytest.raises(Error, match="t_: a leaf that requires a gradient"):
        x.t_()
    with nnlib.no_grad():
        x.t_()
    assert tuple(x.shape) == (3, 2)
    assert x.is_leaf
    assert x.requires_grad
    with pytest.raises(Error, match=r"unsqueeze_: not possible inside vmap; use unsq"):
        nnlib.vmap(lambda row: row.clone().unsqueeze_(0))(nnlib.ones(2, 2))
