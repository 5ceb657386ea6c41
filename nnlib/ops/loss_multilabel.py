"""Losses of rows that may have several labels."""

from __future__ import annotations

from typing import Any

from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.errors import BoundsError, DTypeError, ShapeError
from nnlib.ops.activation import gate, relu
from nnlib.ops.arithmetic import sum_to
from nnlib.ops.dims import raw
from nnlib.ops.labels import class_weights
from nnlib.ops.loss import (
    check_float,
    check_reduction,
    check_same_shape,
    place,
    reduce,
    report,
)
from nnlib.ops.loss_binary import BinaryCrossEntropyWithLogits
from nnlib.ops.softmax import sum_over

__all__ = ["multilabel_margin_loss", "multilabel_soft_margin_loss"]


@public(method=False, reads=True)
def multilabel_margin_loss(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """Return the hinge loss between each label's score and those of all non-labels.

    ``sum over labels t and other classes j of max(0, 1 - x_t + x_j) / C``

    Parameters
    ----------
    input : Tensor, shape (N, C) or (C,)
        Scores x.
    target : integer Tensor, shape of `input`
        In each row the labels, from the front; the first -1 ends them.
    reduction : {"mean", "sum", "none"}

    Raises
    ------
    ShapeError
        If the shapes differ, or there are other than one or two dimensions.
    DTypeError
        If `target` holds no integers.
    BoundsError
        If a label is out of range (named with its position).

    Examples
    --------
    >>> import nnlib
    >>> x = nnlib.tensor([0.1, 0.2, 0.4, 0.8])
    >>> multilabel_margin_loss(x, nnlib.tensor([3, 0, -1, 1]))
    tensor(0.85)
    """
    name = "multilabel_margin_loss"
    check_float(name, "input", input)
    check_same_shape(name, input=input, target=target)
    shape, labels = tuple(input.shape), raw(target)
    if len(shape) not in (1, 2):
        raise ShapeError(f"{name}: input: expected (N, C) or (C,), got {shape}")
    if labels.dtype.kind not in "iu":
        raise DTypeError(f"{name}: target: expected integers, got {labels.dtype}")
    check_reduction(name, reduction, shape[:-1])
    classes = shape[-1]

    def describe(position: int, value: int) -> BoundsError:
        return BoundsError(
            f"{name}: target{place(position, shape)} is {value}, expected -1 <= class "
            f"< {classes}"
        )

    report((labels < -1) | (labels >= classes), labels, describe)
    module = array_module(labels)
    listed = module.cumprod(labels.reshape(-1, classes) >= 0, axis=1)  # (N, C)
    named = labels.reshape(-1, classes, 1) == module.arange(classes)  # (N, C, C)
    counts = (named * listed[:, :, None]).sum(axis=1)  # (N, C): how often it is named
    pairs = (counts > 0)[:, :, None] & (counts == 0)[:, None, :]
    rows = input.reshape((-1, classes, 1))
    gaps = gate(relu(1 - rows + rows.reshape((-1, 1, classes))), pairs)
    gaps = gaps * (counts[:, :, None] / classes).astype(raw(input).dtype)
    loss = sum_to(gaps, (counts.shape[0], 1, 1)).reshape(shape[:-1])
    return reduce(loss, reduction)  # type: ignore[no-any-return]


@public(method=False)
def multilabel_soft_margin_loss(
    input: Any, target: Any, weight: Any = None, reduction: str = "mean"
) -> Tensor:
    """Return the binary cross-entropy with logits, averaged over the classes.

    Parameters
    ----------
    input, target : Tensor, shape (N, C) or (C,)
        Logits and labels 0 or 1.
    weight : Tensor, shape (C,), optional
        A constant weight per class.
    reduction : {"mean", "sum", "none"}

    Raises
    ------
    ShapeError
        If the shapes differ.
    """
    name = "multilabel_soft_margin_loss"
    check_float(name, "input", input)
    check_same_shape(name, input=input, target=target)
    shape = tuple(input.shape)
    if not shape:
        raise ShapeError(f"{name}: input: expected (N, C) or (C,), got no dimension")
    check_reduction(name, reduction, shape[:-1])
    weights = class_weights(name, weight, shape[-1], input)
    loss = BinaryCrossEntropyWithLogits.apply(
        input, target, reduction="none", weight=weights, pos_weight=None
    )
    loss = sum_over(loss, len(shape) - 1).reshape(shape[:-1]) * (1 / shape[-1])
    return reduce(loss, reduction)  # type: ignore[no-any-return]
