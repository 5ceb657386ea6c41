"""Attention of recurrent decoders: Bahdanau's additive one, Luong's three scores."""

from __future__ import annotations

import math
from typing import Any

from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ArgumentError, ShapeError
from nnlib.nn import functional as F
from nnlib.nn.linear import Linear
from nnlib.nn.module import Module
from nnlib.ops.matmul import matmul
from nnlib.ops.selection import where

__all__ = ["BahdanauAttention", "LuongAttention"]


class _Scored(Module):
    """Weights from scores, and what is read by them."""

    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        """Return the scores, (N, L, Q) (N, S, K) -> (N, L, S)."""
        raise NotImplementedError

    def forward(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return what each query reads, and its weights.

        Parameters
        ----------
        query : Tensor, shape (N, Q) or (N, L, Q)
            Such as the state of a decoder, at one step or at all.
        keys : Tensor, shape (N, S, K)
            Such as the states of an encoder.
        values : Tensor, shape (N, S, V), optional
            What is read; default `keys`.
        mask : boolean Tensor, shape (N, S), optional
            True where a key may be read (not beyond the end of a sequence). A query
            that may read nothing gets zeros.

        Returns
        -------
        context : Tensor, shape (N, V) or (N, L, V)
        weights : Tensor, shape (N, S) or (N, L, S)
        """
        name = type(self).__name__
        values = keys if values is None else values
        single = query.ndim == 2
        if keys.ndim != 3 or query.ndim not in (2, 3) or len(query) != len(keys):
            raise ShapeError(
                f"{name}: query {tuple(query.shape)}, keys {tuple(keys.shape)}: "
                "expected (N, Q) or (N, L, Q), and (N, S, K)"
            )
        wide = query.unsqueeze(1) if single else query
        scores = self.scores(wide, keys)
        if mask is None:
            weights = F.softmax(scores, -1)
        else:
            if tuple(mask.shape) != tuple(keys.shape[:2]):
                raise ShapeError(
                    f"{name}: mask has shape {tuple(mask.shape)}, expected "
                    f"{tuple(keys.shape[:2])}"
                )
            hidden = ~mask.unsqueeze(1)
            none = hidden.all(-1, keepdim=True)
            scores = where(hidden & ~none, -math.inf, scores)
            weights = where(none, 0.0, F.softmax(scores, -1))
        context = matmul(weights, values)
        if single:
            return context.squeeze(1), weights.squeeze(1)
        return context, weights


class BahdanauAttention(_Scored):
    """Additive attention: ``score = v tanh(W q + U k)``.

    Source: Bahdanau, Cho and Bengio, "Neural machine translation by jointly learning to
    align and translate", 2015, section A.1.2.

    Parameters
    ----------
    query_size, key_size : int
    attention_size : int, optional
        Width between; default `query_size`.

    Examples
    --------
    >>> import nnlib
    >>> layer = BahdanauAttention(4, 6)
    >>> context, weights = layer(nnlib.randn(2, 4), nnlib.randn(2, 5, 6))
    >>> tuple(context.shape), tuple(weights.shape)
    ((2, 6), (2, 5))
    """

    def __init__(
        self,
        query_size: int,
        key_size: int,
        attention_size: int | None = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        size = query_size if attention_size is None else attention_size
        made = {"device": device, "dtype": dtype}
        self.query_layer = Linear(query_size, size, bias=False, **made)
        self.key_layer = Linear(key_size, size, **made)
        self.score_layer = Linear(size, 1, bias=False, **made)

    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        """Return the scores, (N, L, Q) (N, S, K) -> (N, L, S)."""
        # (N, L, 1, A) + (N, 1, S, A)
        sums = self.query_layer(query).unsqueeze(2) + self.key_layer(keys).unsqueeze(1)
        return self.score_layer(sums.tanh()).squeeze(-1)  # type: ignore[no-any-return]


class LuongAttention(_Scored):
    """Attention with one of Luong's scores.

    ``dot``: ``q k``; ``general``: ``q W k``; ``concat``: ``v tanh(W [q; k])``. Source:
    Luong, Pham and Manning, "Effective approaches to attention-based neural machine
    translation", 2015, section 3.1.

    Parameters
    ----------
    query_size : int
    key_size : int, optional
        Default `query_size`; for ``dot`` no other is possible.
    method : {"dot", "general", "concat"}
    attention_size : int, optional
        Width between, for ``concat``; default `query_size`.

    Examples
    --------
    >>> import nnlib
    >>> layer = LuongAttention(4, 6, method="general")
    >>> context, weights = layer(nnlib.randn(2, 3, 4), nnlib.randn(2, 5, 6))
    >>> tuple(context.shape), tuple(weights.shape)
    ((2, 3, 6), (2, 3, 5))
    """

    def __init__(
        self,
        query_size: int,
        key_size: int | None = None,
        method: str = "dot",
        attention_size: int | None = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        key_size = query_size if key_size is None else key_size
        if method not in ("dot", "general", "concat"):
            raise ArgumentError(
                "LuongAttention: method: expected 'dot', 'general' or 'concat', got "
                f"{method!r}"
            )
        if method == "dot" and key_size != query_size:
            raise ShapeError(
                f"LuongAttention: 'dot' needs keys as wide as queries ({query_size}), "
                f"got {key_size}; use 'general'"
            )
        self.method, self.query_size = method, query_size
        made = {"device": device, "dtype": dtype}
        if method == "general":
            self.layer = Linear(key_size, query_size, bias=False, **made)
        elif method == "concat":
            size = query_size if attention_size is None else attention_size
            self.layer = Linear(query_size + key_size, size, bias=False, **made)
            self.score_layer = Linear(size, 1, bias=False, **made)

    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        """Return the scores, (N, L, Q) (N, S, K) -> (N, L, S)."""
        if self.method == "concat":
            # W [q; k] is a sum of two products: the pairs need not be written out.
            weight = self.layer.weight
            own = F.linear(query, weight[:, : self.query_size])
            other = F.linear(keys, weight[:, self.query_size :])
            sums = own.unsqueeze(2) + other.unsqueeze(1)
            return self.score_layer(sums.tanh()).squeeze(-1)  # type: ignore[no-any-return]
        if self.method == "general":
            keys = self.layer(keys)
        return matmul(query, keys.transpose(-2, -1))
