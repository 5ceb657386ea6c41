"""The loss that word vectors are trained by: skip-gram with negatives."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib import kernels
from nnlib.autograd.function import Function
from nnlib.autograd.once import once_differentiable
from nnlib.autograd.registry import public
from nnlib.autograd.sparse import RowSparse
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.errors import ShapeError
from nnlib.ops.dims import as_index, raw
from nnlib.ops.embedding import check_table
from nnlib.ops.loss import check_reduction

__all__ = ["skipgram_loss"]


class SkipGramLoss(Function):
    """The loss of each word, from both tables and the numbers of rows."""

    promotes = "float"

    def forward(
        self, inputs: Any, outputs: Any, *, words: Any, targets: Any, sparse: bool
    ) -> Any:
        """Return the losses, shape (N,)."""
        self.words, self.targets, self.sparse = words, targets, sparse
        module = array_module(inputs)
        inputs, outputs = map(module.ascontiguousarray, (inputs, outputs))
        self.save_for_backward(inputs, outputs)
        losses, self.factors = kernels.skipgram_loss.forward(
            inputs, outputs, words, targets
        )
        return losses

    @once_differentiable(  # type: ignore[untyped-decorator]
        "nn.functional.embedding and nn.functional.logsigmoid"
    )
    def backward(self, grad: Any) -> Any:
        """Return the gradients of both tables, by row."""
        inputs, outputs = self.saved
        grad = array_module(grad).ascontiguousarray(grad)
        parts = kernels.skipgram_loss.backward(
            inputs, outputs, self.words, self.targets, self.factors, grad
        )
        found = []
        for (rows, values), table in zip(parts, (inputs, outputs), strict=True):
            sparse = RowSparse(rows, values, table.shape)
            # the CPU's rows are each there once
            sparse._unique = type(values) is np.ndarray
            found.append(sparse if self.sparse else sparse._array)
        return tuple(found)


@public(method=False, reads=True)
def skipgram_loss(
    inputs: Tensor,
    outputs: Tensor,
    words: Tensor,
    targets: Tensor,
    negatives: Tensor,
    *,
    reduction: str = "mean",
    sparse: bool = False,
) -> Tensor:
    """Return the loss of skip-gram with negative sampling.

    With ``h = inputs[words[n]]``::

        loss[n] = -log sigmoid(h . outputs[targets[n]])
                  - sum_k log sigmoid(-h . outputs[negatives[n, k]])

    T. Mikolov et al. 2013, equation 4. A negative that equals its target counts like
    any other.

    Parameters
    ----------
    inputs : Tensor, shape (V, D), floating
        The words' vectors.
    outputs : Tensor, shape (W, D), floating
        The targets' vectors.
    words, targets : integer Tensor, shape (N,)
    negatives : integer Tensor, shape (N, K)
    reduction : {"mean", "sum", "none"}, default "mean"
        Over the N words.
    sparse : bool, default False
        Give leaves `RowSparse` gradients: for SGD, Adagrad and SparseAdam.

    Returns
    -------
    Tensor, shape () or (N,)

    Raises
    ------
    BoundsError
        With the first number that is no row and its position.
    ShapeError, DTypeError, DeviceError
        If the arguments do not fit.

    Notes
    -----
    It has no second derivative: for one, compose it of `embedding` and `logsigmoid`.

    Examples
    --------
    >>> import nnlib
    >>> table = nnlib.zeros(3, 2)
    >>> ids = nnlib.tensor([0, 2])
    >>> skipgram_loss(table, table, ids, ids, nnlib.tensor([[1], [0]]))
    tensor(1.3863)
    """
    op = "skipgram_loss"
    names = ("words", "targets", "negatives")
    numbers = [
        as_index(op, value, inputs, name)
        for name, value in zip(names, (words, targets, negatives), strict=True)
    ]
    for table in (inputs, outputs):
        check_table(op, table, numbers[0])
    if inputs.shape[1] != outputs.shape[1]:
        raise ShapeError(
            f"{op}: inputs has {inputs.shape[1]} columns, outputs {outputs.shape[1]}"
        )
    arrays = [raw(value) for value in numbers]
    first = arrays[0].shape
    fit = arrays[1].shape == first and arrays[2].shape[:-1] == first
    if len(first) != 1 or not fit:
        shapes = ", ".join(
            f"{name} {tuple(array.shape)}"
            for name, array in zip(names, arrays, strict=True)
        )
        raise ShapeError(
            f"{op}: expected words (N,), targets (N,) and negatives (N, K), got "
            f"{shapes}"
        )
    check_reduction(op, reduction, first)
    module = array_module(arrays[0])
    joined = module.concatenate([arrays[1][:, None], arrays[2]], axis=1)
    losses: Tensor = SkipGramLoss.apply(
        inputs,
        outputs,
        # a copy: the backward pass reads and writes where the checked numbers say
        words=module.array(arrays[0], dtype=module.int64, order="C"),
        targets=joined.astype(module.int64, copy=False),
        sparse=sparse,
    )
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()
