"""The loss of a positive example against sampled negatives."""

from __future__ import annotations

from typing import Any

from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ShapeError
from nnlib.ops.activation_smooth import logsigmoid
from nnlib.ops.loss import check_float, check_reduction, reduce

__all__ = ["negative_sampling_loss"]


@public(method=False)
def negative_sampling_loss(
    input: Any, positive: Any, negative: Any, reduction: str = "mean"
) -> Tensor:
    """Return ``-log s(x p) - sum over negatives n of log s(-x n)``, s the sigmoid.

    Source: Mikolov et al., "Distributed representations of words and phrases and their
    compositionality", 2013, equation 4.

    Parameters
    ----------
    input : Tensor, shape (N, D), floating
        Such as the vectors of words.
    positive : Tensor, shape (N, D)
        What belongs to them.
    negative : Tensor, shape (N, K, D)
        Samples of what does not.
    reduction : {"none", "mean", "sum"}

    Returns
    -------
    Tensor, shape () or (N,)

    Raises
    ------
    ShapeError
        If the shapes do not fit.

    Examples
    --------
    >>> import nnlib
    >>> import nnlib.nn.functional as F
    >>> x = nnlib.zeros(2, 3)
    >>> F.negative_sampling_loss(x, x, nnlib.zeros(2, 5, 3))
    tensor(4.1589)
    """
    op = "negative_sampling_loss"
    check_float(op, "input", input)
    shape, other = tuple(input.shape), tuple(negative.shape)
    if (
        len(shape) != 2
        or tuple(positive.shape) != shape
        or len(other) != 3
        or (other[0], other[2]) != shape
    ):
        raise ShapeError(
            f"{op}: input {shape}, positive {tuple(positive.shape)}, negative {other}: "
            "expected (N, D), (N, D) and (N, K, D)"
        )
    check_reduction(op, reduction, shape[:1])
    near = logsigmoid((input * positive).sum(-1))
    # (N, K, D) (N, D, 1) -> (N, K)
    far = logsigmoid(-(negative @ input.unsqueeze(-1)).squeeze(-1))
    return reduce(-(near + far.sum(-1)), reduction)  # type: ignore[no-any-return]
