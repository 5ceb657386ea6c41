"""Losses of sequences and of large vocabularies."""

from __future__ import annotations

import itertools
import numbers
from collections.abc import Sequence
from typing import Any, NamedTuple

from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ArgumentError, BoundsError, ShapeError
from nnlib.nn import functional as F
from nnlib.nn.containers import ModuleList, Sequential
from nnlib.nn.linear import Linear
from nnlib.nn.module import Module
from nnlib.ops.joining import cat
from nnlib.ops.selection import where

__all__ = ["AdaptiveLogSoftmaxWithLoss", "CTCLoss", "NegativeSamplingLoss"]


class CTCLoss(Module):
    """The loss of all alignments; see `nnlib.nn.functional.ctc_loss`.

    Parameters
    ----------
    blank : int, default 0
    reduction : {"none", "mean", "sum"}
    zero_infinity : bool, default False

    Examples
    --------
    >>> import nnlib
    >>> y = nnlib.zeros(2, 1, 2).log_softmax(-1)
    >>> CTCLoss()(y, nnlib.tensor([[1]]), (2,), (1,)).exp()
    tensor(1.3333)
    """

    def __init__(
        self, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False
    ) -> None:
        super().__init__()
        self.blank, self.reduction = blank, reduction
        self.zero_infinity = zero_infinity

    def forward(
        self,
        log_probs: Tensor,
        targets: Tensor,
        input_lengths: Any,
        target_lengths: Any,
    ) -> Tensor:
        """Return the loss."""
        return F.ctc_loss(
            log_probs, targets, input_lengths, target_lengths, self.blank,
            self.reduction, self.zero_infinity,
        )  # fmt: skip


class NegativeSamplingLoss(Module):
    """A positive example against samples; see `functional.negative_sampling_loss`.

    Parameters
    ----------
    reduction : {"none", "mean", "sum"}
    """

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, input: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """Return the loss."""
        return F.negative_sampling_loss(input, positive, negative, self.reduction)


class _Result(NamedTuple):
    output: Tensor
    loss: Tensor


class AdaptiveLogSoftmaxWithLoss(Module):
    """A softmax over many classes, the rare ones in clusters.

    The frequent classes and one entry for each cluster share a first softmax; the
    classes of a cluster have one of their own, of narrower vectors, which is computed
    for the rows that need it. Source: Grave et al., "Efficient softmax approximation
    for GPUs", 2017.

    Parameters
    ----------
    in_features, n_classes : int
        Classes are numbered by falling frequency.
    cutoffs : sequence of int
        Where each cluster begins.
    div_value : float, default 4.0
        By how much the vectors of a cluster are narrower than those before.
    head_bias : bool, default False

    Examples
    --------
    >>> import nnlib
    >>> layer = AdaptiveLogSoftmaxWithLoss(8, 20, [5, 10])
    >>> out = layer(nnlib.randn(4, 8), nnlib.tensor([0, 6, 19, 3]))
    >>> tuple(out.output.shape), out.loss.ndim
    ((4,), 0)
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        head_bias: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        ends = list(cutoffs)
        rising = all(a < b for a, b in itertools.pairwise([0, *ends, n_classes]))
        whole = all(isinstance(end, numbers.Integral) for end in ends)
        if not ends or not rising or not whole:
            raise ArgumentError(
                "AdaptiveLogSoftmaxWithLoss: cutoffs: expected rising integers, 1 "
                f"to {n_classes - 1}, got {ends}"
            )
        self.in_features, self.n_classes = in_features, n_classes
        self.cutoffs = [*ends, n_classes]
        self.div_value, self.head_bias = div_value, head_bias
        self.shortlist_size = ends[0]
        self.n_clusters = len(ends)
        self.head_size = self.shortlist_size + self.n_clusters
        made = {"device": device, "dtype": dtype}
        self.head = Linear(in_features, self.head_size, bias=head_bias, **made)
        self.tail = ModuleList()
        for i, (start, end) in enumerate(itertools.pairwise(self.cutoffs)):
            width = int(in_features // div_value ** (i + 1))
            self.tail.append(
                Sequential(
                    Linear(in_features, width, bias=False, **made),
                    Linear(width, end - start, bias=False, **made),
                )
            )

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        self.head.reset_parameters()
        for cluster in self.tail:
            for layer in cluster.children():
                layer.reset_parameters()

    def forward(self, input_: Tensor, target_: Tensor) -> _Result:
        """Return the log-probability of each target, and the loss.

        Parameters
        ----------
        input_ : Tensor, shape (N, in_features) or (in_features,)
        target_ : integer Tensor, shape (N,) or ()

        Returns
        -------
        output : Tensor, shape of `target_`
        loss : Tensor, shape ()
            Minus the mean of `output`.
        """
        shape = tuple(target_.shape)
        if len(shape) > 1 or tuple(input_.shape) != (*shape, self.in_features):
            raise ShapeError(
                f"AdaptiveLogSoftmaxWithLoss: input {tuple(input_.shape)}, target "
                f"{shape}: expected (N, {self.in_features}) and (N,)"
            )
        input, target = (
            (input_, target_) if shape else (input_.unsqueeze(0), target_.unsqueeze(0))
        )
        if not target.numel():
            raise ShapeError(
                "AdaptiveLogSoftmaxWithLoss: target: expected at least one, got none"
            )
        bad = (target < 0) | (target >= self.n_classes)
        if bool(bad.any()):
            place = int(bad.nonzero()[0, 0].item())
            raise BoundsError(
                f"AdaptiveLogSoftmaxWithLoss: target[{place}] is "
                f"{int(target[place].item())}, expected 0 to {self.n_classes - 1}"
            )
        entry, rows, found = target, [], []
        for i, (start, end) in enumerate(itertools.pairwise(self.cutoffs)):
            inside = (target >= start) & (target < end)
            chosen = inside.nonzero().reshape(-1)
            entry = where(inside, self.shortlist_size + i, entry)
            if chosen.numel():
                own = F.log_softmax(self.tail[i](input[chosen]), 1)
                label = (target[chosen] - start).unsqueeze(1)
                rows.append(chosen)
                found.append(own.gather(1, label).squeeze(1))
        head = F.log_softmax(self.head(input), 1)
        output = head.gather(1, entry.unsqueeze(1)).squeeze(1)
        if rows:
            output = output.index_add(0, cat(rows), cat(found))
        loss = -output.mean()
        return _Result(output if shape else output[0], loss)

    def log_prob(self, input: Tensor) -> Tensor:
        """Return the log-probabilities of all classes, shape (N, n_classes)."""
        head = F.log_softmax(self.head(input), 1)
        parts = [head[:, : self.shortlist_size]]
        for i, cluster in enumerate(self.tail):
            own = F.log_softmax(cluster(input), 1)
            parts.append(own + head[:, self.shortlist_size + i].unsqueeze(1))
        return cat(parts, 1)

    def predict(self, input: Tensor) -> Tensor:
        """Return the class of the highest probability, shape (N,).

        Clusters are computed only if one of them has a row's highest entry.
        """
        best = self.head(input).argmax(1)
        rare = (best >= self.shortlist_size).nonzero().reshape(-1)
        if not rare.numel():
            return best  # type: ignore[no-any-return]
        return best.index_copy(0, rare, self.log_prob(input[rare]).argmax(1))  # type: ignore[no-any-return]
