"""Word vectors as a layer: two tables, and the loss of skip-gram with negatives."""

from __future__ import annotations

from typing import Any

from nnlib.autograd.mode import no_grad
from nnlib.autograd.tensor import Tensor
from nnlib.nn import functional as F
from nnlib.nn import init
from nnlib.nn.embedding import Embedding
from nnlib.nn.module import Module

__all__ = ["SkipGram"]


class SkipGram(Module):
    """Skip-gram with negative sampling; see `nnlib.nn.functional.skipgram_loss`.

    To train on a corpus, `nnlib.text.Word2Vec` is faster: this layer is for models that
    word vectors are a part of.

    Parameters
    ----------
    num_embeddings : int
        Words.
    embedding_dim : int
    sparse : bool, default True
        `RowSparse` gradients, for SGD, Adagrad and SparseAdam.
    device, dtype
        Of the tables.

    Attributes
    ----------
    inputs, outputs : Embedding
        The words' vectors, from ``U(-1/2, 1/2) / embedding_dim``, and the targets',
        from 0, as in the program word2vec.

    Examples
    --------
    >>> import nnlib
    >>> model = SkipGram(10, 4)
    >>> ids = nnlib.tensor([1, 2])
    >>> model(ids, ids, nnlib.tensor([[3], [4]])).item()
    1.386294...
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        sparse: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        tables = [
            Embedding(
                num_embeddings, embedding_dim, sparse=sparse, device=device, dtype=dtype
            )
            for _ in range(2)
        ]
        self.inputs, self.outputs = tables
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        bound = 0.5 / self.inputs.embedding_dim
        init.uniform_(self.inputs.weight, -bound, bound)
        with no_grad():
            self.outputs.weight.zero_()

    def forward(self, words: Tensor, targets: Tensor, negatives: Tensor) -> Tensor:
        """Return the mean loss of words (N,), targets (N,) and negatives (N, K)."""
        return F.skipgram_loss(
            self.inputs.weight,
            self.outputs.weight,
            words,
            targets,
            negatives,
            sparse=self.inputs.sparse,
        )
