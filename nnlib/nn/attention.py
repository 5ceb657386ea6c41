"""Attention of a decoder over an encoder's states: Bahdanau's and Luong's scores.

D. Bahdanau, K. Cho, Y. Bengio: Neural machine translation by jointly learning to align
and translate, 2015; M.-T. Luong, H. Pham, C. Manning: Effective approaches to
attention-based neural machine translation, 2015.
"""

from __future__ import annotations

from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ArgumentError, DTypeError, ShapeError
from nnlib.nn.linear import Linear
from nnlib.nn.module import Module
from nnlib.ops import cat, matmul

__all__ = ["BahdanauAttention", "LuongAttention"]

_SCORES = ("dot", "general", "concat")


class _Attention(Module):
    def __init__(self, query_size: int, key_size: int) -> None:
        super().__init__()
        self.query_size = query_size
        self.key_size = key_size

    def forward(
        self, query: Tensor, keys: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return what is looked at, and how much of each.

        Parameters
        ----------
        query : Tensor, shape (N, T, query_size) or (N, query_size)
            The decoder's states.
        keys : Tensor, shape (N, S, key_size)
            The encoder's states.
        mask : Tensor of bool, shape (N, S), optional
            True where there is a state; the rest gets no weight. A row of False alone
            gives zeros.

        Returns
        -------
        context : Tensor, shape (N, T, key_size) or (N, key_size)
        weights : Tensor, shape (N, T, S) or (N, S)
            They sum to one.

        Raises
        ------
        ShapeError
            If sizes do not fit.
        """
        name = type(self).__name__
        single = query.ndim == 2
        wide = query.unsqueeze(1) if single else query
        if (
            wide.ndim != 3
            or keys.ndim != 3
            or wide.shape[0] != keys.shape[0]
            or wide.shape[2] != self.query_size
            or keys.shape[2] != self.key_size
        ):
            raise ShapeError(
                f"{name}: expected query (N, T, {self.query_size}) or (N, "
                f"{self.query_size}) and keys (N, S, {self.key_size}), got "
                f"{tuple(query.shape)} and {tuple(keys.shape)}"
            )
        weights = self._weights(self.score(wide, keys), mask, keys)
        context = matmul(weights, keys)
        if single:
            return context.squeeze(1), weights.squeeze(1)
        return context, weights

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        """Return how well each query (N, T, Q) fits each key: (N, T, S)."""
        raise NotImplementedError(f"{type(self).__name__} defines no score")

    def _weights(self, score: Tensor, mask: Tensor | None, keys: Tensor) -> Tensor:
        if mask is None:
            return score.softmax(2)
        if mask.dtype.kind != "b":
            raise DTypeError(
                f"{type(self).__name__}: mask: expected bools, got {mask.dtype}"
            )
        if tuple(mask.shape) != tuple(keys.shape[:2]):
            raise ShapeError(
                f"{type(self).__name__}: mask: expected shape "
                f"{tuple(keys.shape[:2])}, got {tuple(mask.shape)}"
            )
        # The most negative number, not minus infinity: a row without any key would be
        # NaN, which zeros cannot undo.
        hidden = ~mask.unsqueeze(1)
        lowest = -3e4 if score.dtype.itemsize == 2 else -3e38
        weights = score.masked_fill(hidden, lowest).softmax(2)
        return weights.masked_fill(hidden, 0.0)


class BahdanauAttention(_Attention):
    """Additive attention: ``score = v^T tanh(W q + U k)``.

    Parameters
    ----------
    query_size, key_size : int
    hidden_size : int
        Of the layer in which both are added.

    Examples
    --------
    >>> import nnlib
    >>> look = BahdanauAttention(4, 6, 8)
    >>> context, weights = look(nnlib.zeros(2, 3, 4), nnlib.zeros(2, 5, 6))
    >>> tuple(context.shape), tuple(weights.shape)
    ((2, 3, 6), (2, 3, 5))
    """

    def __init__(self, query_size: int, key_size: int, hidden_size: int) -> None:
        super().__init__(query_size, key_size)
        self.query_layer = Linear(query_size, hidden_size)
        self.key_layer = Linear(key_size, hidden_size, bias=False)
        self.value = Linear(hidden_size, 1, bias=False)

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        """Return the scores, shape (N, T, S)."""
        # (N, T, 1, H) + (N, 1, S, H)
        both = self.query_layer(query).unsqueeze(2) + self.key_layer(keys).unsqueeze(1)
        result: Tensor = self.value(both.tanh()).squeeze(3)
        return result


class LuongAttention(_Attention):
    """Multiplicative attention, in Luong's three forms.

    ``dot``: ``q^T k``; ``general``: ``q^T W k``; ``concat``: ``v^T tanh(W [q; k])``.

    Parameters
    ----------
    query_size, key_size : int
        Equal for ``dot``.
    score : {"general", "dot", "concat"}
    hidden_size : int, optional
        Of ``concat``; `query_size` by default.

    Raises
    ------
    ArgumentError
        For an unknown score, or unequal sizes with ``dot``.

    Examples
    --------
    >>> import nnlib
    >>> look = LuongAttention(4, 4, "dot")
    >>> context, weights = look(nnlib.ones(1, 4), nnlib.ones(1, 2, 4))
    >>> weights
    tensor([[0.5, 0.5]])
    """

    def __init__(
        self,
        query_size: int,
        key_size: int,
        score: str = "general",
        hidden_size: int | None = None,
    ) -> None:
        super().__init__(query_size, key_size)
        if score not in _SCORES:
            raise ArgumentError(
                f"LuongAttention: score: expected one of {_SCORES}, got {score!r}"
            )
        if score == "dot" and query_size != key_size:
            raise ArgumentError(
                "LuongAttention: 'dot' needs queries and keys of one size, got "
                f"{query_size} and {key_size}"
            )
        self.form = score
        if score == "general":
            self.key_layer = Linear(key_size, query_size, bias=False)
        elif score == "concat":
            hidden = query_size if hidden_size is None else hidden_size
            self.both_layer = Linear(query_size + key_size, hidden, bias=False)
            self.value = Linear(hidden, 1, bias=False)

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        """Return the scores, shape (N, T, S)."""
        if self.form == "concat":
            n, t, s = query.shape[0], query.shape[1], keys.shape[1]
            wide = (
                query.unsqueeze(2).expand(n, t, s, self.query_size),
                keys.unsqueeze(1).expand(n, t, s, self.key_size),
            )
            result: Tensor = self.value(self.both_layer(cat(wide, 3)).tanh()).squeeze(3)
            return result
        if self.form == "general":
            keys = self.key_layer(keys)
        return matmul(query, keys.transpose(1, 2))
