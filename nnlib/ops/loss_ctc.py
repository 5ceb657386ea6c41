"""The loss of all alignments of a sequence of labels: ctc_loss."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib import kernels
from nnlib.autograd.function import Function
from nnlib.autograd.once import once_differentiable
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.dtypes import int64
from nnlib.backend.errors import ArgumentError, BoundsError, DTypeError, ShapeError
from nnlib.ops.dims import raw
from nnlib.ops.loss import check_float, check_reduction

__all__ = ["ctc_loss"]

_OP = "ctc_loss"


class CTC(Function):
    """The loss of each sample, (T, N, C) -> (N,)."""

    def forward(self, y: Any, *, plan: Any, blank: int, zero_infinity: bool) -> Any:
        """Return the losses; where there is no alignment infinity, or 0 if asked."""
        self.plan, self.blank = plan, blank
        loss, self.alpha = kernels.ctc.forward(y, *plan, blank)
        self.save_for_backward(y)
        self.loss = loss
        if not zero_infinity:
            return loss
        module = array_module(loss)
        return module.where(module.isinf(loss), loss.dtype.type(0), loss)

    @once_differentiable(  # type: ignore[untyped-decorator]
        "a sum over alignments by nnlib.logsumexp"
    )
    def backward(self, grad: Any) -> Any:
        """Return the gradient of the log-probabilities; none without alignment."""
        (y,) = self.saved
        module = array_module(y)
        factor = module.where(module.isinf(self.loss), y.dtype.type(0), grad)
        return kernels.ctc.backward(
            y, *self.plan, self.blank, self.loss, self.alpha, factor
        )


def _lengths(name: str, value: Any, count: int, most: int, what: str) -> Any:
    """Read lengths given as a Tensor or a tuple; NumPy's int64, shape (N,)."""
    array = raw(value)
    array = array.get() if hasattr(array, "get") else np.asarray(array)
    if array.size and array.dtype.kind not in "iu":
        raise DTypeError(f"{_OP}: {name}: expected integers, got {array.dtype}")
    array = array.reshape(-1).astype(int64)
    if array.size != count:
        raise ShapeError(
            f"{_OP}: {name}: expected one for each of {count} samples, got {array.size}"
        )
    bad = (array < 0) | (array > most)
    if bad.any():
        place = int(bad.argmax())
        raise BoundsError(
            f"{_OP}: {name}[{place}] is {array[place]}, expected 0 to {most} ({what})"
        )
    return array


def _plan(
    shape: tuple[int, ...], targets: Any, input_lengths: Any, target_lengths: Any,
    blank: int, module: Any,
) -> Any:  # fmt: skip
    """Check the arguments; return flat targets, their starts, and both lengths."""
    steps, count, classes = shape
    array = raw(targets)
    if array.dtype.kind not in "iu":
        raise DTypeError(f"{_OP}: targets: expected integers, got {array.dtype}")
    if array.ndim not in (1, 2) or (array.ndim == 2 and array.shape[0] != count):
        raise ShapeError(
            f"{_OP}: targets: expected shape ({count}, S) or (sum of the target "
            f"lengths,), got {tuple(array.shape)}"
        )
    if not 0 <= blank < classes:
        raise ArgumentError(
            f"{_OP}: blank: expected 0 to {classes - 1} (a class), got {blank}"
        )
    most = array.shape[-1]
    lengths = _lengths(
        "input_lengths", input_lengths, count, steps, "the steps of log_probs"
    )
    labels = _lengths(
        "target_lengths", target_lengths, count, most, "the labels of targets"
    )
    if array.ndim == 2:
        firsts = np.arange(count, dtype=int64) * most
    else:
        firsts = np.concatenate([[0], np.cumsum(labels)]).astype(int64)
        if firsts[-1] != array.size:
            raise ShapeError(
                f"{_OP}: targets: {array.size} labels, target_lengths ask for "
                f"{firsts[-1]}"
            )
        firsts = firsts[:-1]
    # A copy: the backward pass reads and writes where the checked numbers say.
    flat = module.array(array.reshape(-1), dtype=int64, order="C")
    host = flat.get() if hasattr(flat, "get") else flat
    for n in range(count):
        used = host[firsts[n] : firsts[n] + labels[n]]
        bad = (used < 0) | (used >= classes)
        if bad.any():
            place = int(bad.argmax())
            raise BoundsError(
                f"{_OP}: target {used[place]} at position {place} of sample {n} is no "
                f"class: expected 0 to {classes - 1}"
            )
    return flat, *(module.asarray(x) for x in (firsts, lengths, labels))


@public(method=False, reads=True)
def ctc_loss(
    log_probs: Any,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """Return minus the log-probability of all alignments of labels to steps.

    Source: Graves et al., "Connectionist temporal classification", ICML 2006.

    Parameters
    ----------
    log_probs : Tensor, shape (T, N, C) or (T, C), floating
        Such as `log_softmax` returns.
    targets : integer Tensor, shape (N, S), or all labels one after another
        None of them the blank.
    input_lengths, target_lengths : Tensor or tuple, shape (N,) or ()
        Steps and labels of each sample.
    blank : int, default 0
        The class between labels.
    reduction : {"none", "mean", "sum"}
        The mean is that of the losses divided by the numbers of labels (at least 1).
    zero_infinity : bool, default False
        Let samples without any alignment cost 0. Their gradient is 0 in any case,
        where PyTorch's is NaN.

    Returns
    -------
    Tensor, shape () or (N,)

    Raises
    ------
    BoundsError
        If a label is no class, or a length is longer than its sequence.
    ShapeError, DTypeError, ArgumentError
        If the arguments do not fit.

    Notes
    -----
    The gradient is that of the log-probabilities as they are given; after
    `log_softmax` it is PyTorch's.

    Examples
    --------
    >>> import nnlib
    >>> import nnlib.nn.functional as F
    >>> y = nnlib.zeros(2, 1, 2).log_softmax(-1)
    >>> F.ctc_loss(y, nnlib.tensor([[1]]), (2,), (1,)).exp()
    tensor(1.3333)
    """
    check_float(_OP, "log_probs", log_probs)
    shape = tuple(log_probs.shape)
    if len(shape) not in (2, 3):
        raise ShapeError(
            f"{_OP}: log_probs: expected shape (T, N, C) or (T, C), got {shape}"
        )
    single = len(shape) == 2
    if single:
        log_probs = log_probs.reshape(shape[0], 1, shape[1])
    check_reduction(_OP, reduction, (log_probs.shape[1],))
    module = array_module(raw(log_probs))
    plan = _plan(
        tuple(log_probs.shape), targets, input_lengths, target_lengths, blank, module
    )
    loss = CTC.apply(log_probs, plan=plan, blank=blank, zero_infinity=zero_infinity)
    if reduction == "mean":
        counts = module.maximum(plan[3], 1).astype(raw(loss).dtype)
        if isinstance(loss, Tensor):
            counts = Tensor._from_array(counts)
        return (loss / counts).mean()  # type: ignore[no-any-return]
    if reduction == "sum":
        return loss.sum()  # type: ignore[no-any-return]
    return loss.reshape(()) if single else loss  # type: ignore[no-any-return]
