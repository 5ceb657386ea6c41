"""Losses with a margin: rankings, embeddings, triplets, multi-class hinge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nnlib.autograd.function import Function
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.errors import ArgumentError, ShapeError
from nnlib.ops.activation import gate, relu
from nnlib.ops.arrays import FEW, add_up, constants
from nnlib.ops.bounds import minimum
from nnlib.ops.dims import constant, raw
from nnlib.ops.distance import pairwise_distance
from nnlib.ops.labels import (
    check_classes,
    check_labels,
    class_weights,
    flat_places,
    one_hot_mask,
    pick,
    places,
)
from nnlib.ops.loss import (
    PointLoss,
    check_float,
    check_reduction,
    check_same_shape,
    check_values,
    reduce,
    reduced,
    signs,
)
from nnlib.ops.power import sqrt
from nnlib.ops.selection import where
from nnlib.ops.softmax import sum_over

__all__ = [
    "cosine_embedding_loss",
    "hinge_embedding_loss",
    "margin_ranking_loss",
    "multi_margin_loss",
    "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
]

# Added to squared lengths in cosine_embedding_loss, as in PyTorch.
TINY = 1e-12


class RankHinge(PointLoss):
    """``max(0, x y + margin)``."""

    def value(self, x: Any, y: Any) -> Any:
        """Return the loss of each element."""
        zero, margin = constants(x, 0, self.params["margin"])
        return np.maximum(x * y + margin, zero)

    def slopes(self, grad: Any, x: Any, y: Any) -> tuple[Any, Any]:
        """Return ``y`` and ``x`` where there is a loss."""
        a, b = raw(x), raw(y)
        some = ~(a * b + constants(a, self.params["margin"])[0] <= 0)
        return (
            gate(y * grad, some) if self.needs(0) else None,
            gate(x * grad, some) if self.needs(1) else None,
        )


class RowDots(Function):
    """The dot products of rows, in a last dimension of length 1."""

    promotes = "arithmetic"

    def forward(self, x: Any, y: Any) -> Any:
        """Return the sums of the products, for arrays of one shape."""
        self.save_for_backward(x, y)
        return add_up(x * y, (x.ndim - 1,), True)

    def backward(self, grad: Any) -> Any:
        """Return ``grad y`` and ``grad x``."""
        x, y = self.saved
        return (
            grad * y if self.needs(0) else None,
            grad * x if self.needs(1) else None,
        )


def _few_hinges(x: Any, labels: Any, margin: float) -> list[float]:
    """Return the sum of the hinges of each row, in Python: sooner for few elements."""
    sums = []
    for row, label in zip(x.tolist(), labels.tolist(), strict=True):
        total, edge = 0.0, row[label] - margin
        for place, score in enumerate(row):
            # A NaN counts.
            if place != label and not score <= edge:
                total += score - edge
        sums.append(total)
    return sums


class HingeRows(Function):
    """The multi-class hinge loss of rows of scores, with p = 1, reduced."""

    def forward(
        self, x: Any, labels: Any, weights: Any, *, margin: float, reduction: str
    ) -> Any:
        """Return the reduced loss."""
        self.save_for_backward(x)
        self.labels, self.weights, self.margin = labels, weights, margin
        self.share = 1 / x.shape[1] / (len(x) if reduction == "mean" else 1)
        if weights is None and x.size <= FEW and type(x) is np.ndarray:
            sums = _few_hinges(x, labels, margin)
            if reduction == "none":
                return np.array(sums, x.dtype) * constants(x, self.share)[0]
            return np.array(sum(sums) * self.share, x.dtype)
        gaps, share, _, _ = self.pieces(x)
        loss = array_module(x).maximum(gaps, *constants(x, 0)) * share
        return loss.sum(axis=1) if reduction == "none" else reduced(loss, "sum")

    def pieces(self, x: Any) -> tuple[Any, Any, Any, Any]:
        """Return the gaps, what each counts, and where the labels' own are."""
        labels, weights = self.labels, self.weights
        module, at = array_module(x), flat_places(x, labels)
        own = places(labels) if at is None else ()
        mine = x[own] if at is None else x.ravel().take(at)
        room, share = constants(x, self.margin, self.share)
        gaps = x - mine[:, None] + room
        _put(gaps, own, at, 0)
        if weights is not None:
            share = module.take(weights, labels)[:, None] * share
        return gaps, share, own, at

    def backward(self, grad: Any) -> Any:
        """Return the constant slope times the gradient of each row, or of all."""
        gaps, share, own, at = self.pieces(raw(self.saved[0]))
        slope = (gaps > 0).astype(gaps.dtype)
        slope *= share
        _put(slope, own, at, -slope.sum(axis=1))
        if len(grad.shape):
            grad = grad.reshape((-1, 1))
        return grad * constant(slope, grad), None, None


def _put(x: Any, own: Any, at: Any, values: Any) -> None:
    """Write values at an index, or at flat positions if there are any."""
    if at is None:
        x[own] = values
    else:
        x.put(at, values)


@public(method=False, reads=True)
def multi_margin_loss(
    input: Any,
    target: Any,
    p: int = 1,
    margin: float = 1.0,
    weight: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """Return the multi-class hinge loss, reduced.

    ``sum over j != t of max(0, margin - x_t + x_j)^p * weight_t / C``

    Source: Weston and Watkins, "Support vector machines for multi-class pattern
    recognition", 1999, with p = 1.

    Parameters
    ----------
    input : Tensor, shape (N, C) or (C,)
        Scores x.
    target : integer Tensor, shape (N,) or ()
        The class t of each row.
    p : {1, 2}
    margin : float, default 1
    weight : Tensor, shape (C,), optional
        A constant weight per class. The mean divides by N whatever the weights.
    reduction : {"mean", "sum", "none"}

    Raises
    ------
    ShapeError
        If shapes do not fit.
    ArgumentError
        If `p` is neither 1 nor 2.
    DTypeError
        If `target` holds no integers.
    BoundsError
        If a label is out of range (named with its position).

    Examples
    --------
    >>> import nnlib
    >>> x = nnlib.tensor([[0.0, 2.0, 0.5, 0.0]])
    >>> multi_margin_loss(x, nnlib.tensor([0]))
    tensor(1.375)
    """
    name = "multi_margin_loss"
    if p not in (1, 2):
        raise ArgumentError(f"{name}: p: expected 1 or 2, got {p!r}")
    classes = check_classes(name, input, target, most=2)
    labels = raw(target)
    check_reduction(name, reduction, labels.shape)
    check_labels(name, labels, classes, None)
    weights = class_weights(name, weight, classes, input)
    if p == 1 and labels.ndim:
        return HingeRows.apply(  # type: ignore[no-any-return]
            input, labels, weights, margin=margin, reduction=reduction
        )
    rows = input if labels.ndim else input.reshape((1, classes))  # (C,) -> (1, C)
    at = labels.reshape(-1)
    own = pick(rows, at).reshape((at.size, 1))
    gaps = gate(relu(rows - own + margin), ~one_hot_mask(at, classes))
    loss = sum_over(gaps if p == 1 else gaps * gaps, 1) * (1 / classes)  # (N, 1)
    loss = loss.reshape(labels.shape)
    if weights is not None:
        loss = loss * array_module(labels).take(weights, labels)
    return reduce(loss, reduction)  # type: ignore[no-any-return]


@public(method=False, reads=True)
def hinge_embedding_loss(
    input: Any, target: Any, margin: float = 1.0, reduction: str = "mean"
) -> Tensor:
    """Return `input` where the label is 1, ``max(0, margin - input)`` where it is -1.

    Parameters
    ----------
    input : Tensor, any shape
        Distances.
    target : Tensor, shape of `input`
        Labels: 1 for a pair that belongs together, else -1.
    margin : float, default 1
    reduction : {"mean", "sum", "none"}

    Raises
    ------
    ShapeError
        If the shapes differ.
    ArgumentError
        If a label is neither 1 nor -1 (named with its position).
    """
    name = "hinge_embedding_loss"
    check_float(name, "input", input)
    check_same_shape(name, input=input, target=target)
    check_reduction(name, reduction, input.shape)
    check_values(name, "target", target, signs, "1 or -1")
    together = raw(target) == 1
    loss = gate(input, together) + gate(relu(margin - input), ~together)
    return reduce(loss, reduction)  # type: ignore[no-any-return]


@public(method=False)
def margin_ranking_loss(
    input1: Any,
    input2: Any,
    target: Any,
    margin: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """Return ``max(0, -target * (input1 - input2) + margin)``, reduced.

    Parameters
    ----------
    input1, input2 : Tensor, one shape
        Scores.
    target : Tensor, the same shape
        1 where `input1` should rank higher, -1 where `input2` should.
    margin : float, default 0
    reduction : {"mean", "sum", "none"}

    Raises
    ------
    ShapeError
        If the shapes differ.
    ArgumentError
        If a label is neither 1 nor -1 (named with its position).
    """
    name = "margin_ranking_loss"
    check_float(name, "input1", input1)
    check_same_shape(name, input1=input1, input2=input2, target=target)
    check_reduction(name, reduction, input1.shape)
    check_values(name, "target", target, signs, "1 or -1")
    return RankHinge.apply(  # type: ignore[no-any-return]
        input2 - input1, target, reduction=reduction, margin=margin
    )


@public(method=False, reads=True)
def cosine_embedding_loss(
    input1: Any,
    input2: Any,
    target: Any,
    margin: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """Return ``1 - cos`` where the label is 1, ``max(0, cos - margin)`` where -1.

    Parameters
    ----------
    input1, input2 : Tensor, shape (N, D) or (D,)
        Vectors, whose cosine is taken row by row.
    target : Tensor, shape (N,) or ()
        Labels: 1 for a pair that belongs together, else -1.
    margin : float, default 0
        From -1 to 1; 0 to 0.5 is usual.
    reduction : {"mean", "sum", "none"}

    Raises
    ------
    ShapeError
        If shapes do not fit.
    ArgumentError
        If a label is neither 1 nor -1 (named with its position).
    """
    name = "cosine_embedding_loss"
    check_float(name, "input1", input1)
    check_same_shape(name, input1=input1, input2=input2)
    shape, labels = tuple(input1.shape), raw(target)
    if len(shape) not in (1, 2) or labels.shape != shape[:-1]:
        raise ShapeError(
            f"{name}: target has shape {labels.shape}, input1 has shape {shape}: "
            "expected (N,) and (N, D), or () and (D,)"
        )
    check_reduction(name, reduction, labels.shape)
    check_values(name, "target", target, signs, "1 or -1")
    lengths = (RowDots.apply(input1, input1) + TINY) * (
        RowDots.apply(input2, input2) + TINY
    )
    cosine = (RowDots.apply(input1, input2) / sqrt(lengths)).reshape(labels.shape)
    together = constant(labels == 1, cosine)
    loss = where(together, 1 - cosine, relu(cosine - margin))
    return reduce(loss, reduction)  # type: ignore[no-any-return]


@public(method=False)
def triplet_margin_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """Return ``max(0, d(anchor, positive) - d(anchor, negative) + margin)``.

    Source: Balntas et al., "Learning local feature descriptors with triplets", 2016.

    Parameters
    ----------
    anchor, positive, negative : Tensor, shape (N, D) or (D,)
    margin : float, default 1
        More than 0.
    p, eps : float
        Of the distance d: see `pairwise_distance`.
    swap : bool, default False
        Take ``d(positive, negative)`` instead where it is smaller than
        ``d(anchor, negative)``.
    reduction : {"mean", "sum", "none"}

    Raises
    ------
    ShapeError
        If the shapes differ.
    ArgumentError
        If `margin` is not positive.
    """

    def distance(x: Any, y: Any) -> Any:
        return pairwise_distance(x, y, p, eps)

    name = "triplet_margin_loss"
    return _triplet(name, distance, anchor, positive, negative, margin, swap, reduction)


@public(method=False)
def triplet_margin_with_distance_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    *,
    distance_function: Callable[[Any, Any], Any] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """Return the triplet loss under a distance of your own.

    Parameters
    ----------
    anchor, positive, negative : Tensor, one shape
    distance_function : callable, optional
        Takes two such tensors and returns their distances; default
        `pairwise_distance`.
    margin, swap, reduction
        As for `triplet_margin_loss`.
    """
    distance = pairwise_distance if distance_function is None else distance_function
    name = "triplet_margin_with_distance_loss"
    return _triplet(name, distance, anchor, positive, negative, margin, swap, reduction)


def _triplet(
    name: str,
    distance: Callable[[Any, Any], Any],
    anchor: Any,
    positive: Any,
    negative: Any,
    margin: float,
    swap: bool,
    reduction: str,
) -> Tensor:
    check_float(name, "anchor", anchor)
    check_same_shape(name, anchor=anchor, positive=positive, negative=negative)
    check_reduction(name, reduction, anchor.shape[:-1])
    if not margin > 0:
        raise ArgumentError(f"{name}: margin: expected more than 0, got {margin}")
    far = distance(anchor, negative)
    if swap:
        far = minimum(far, distance(positive, negative))
    loss = relu(distance(anchor, positive) - far + margin)
    return reduce(loss, reduction)  # type: ignore[no-any-return]
