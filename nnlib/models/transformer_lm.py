"""A small decoder-only Transformer that writes on: `TransformerLM`.

Radford et al., "Language models are unsupervised multitask learners", 2019, section
2.3: norms before each part and one at the end, learned positions, the output sharing
its table with the input (Press and Wolf, 2017).
"""

from __future__ import annotations

import math
from typing import Any

from nnlib import kernels, nn
from nnlib.autograd.mode import no_grad
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ArgumentError, ShapeError
from nnlib.models.registry import register
from nnlib.models.seq2seq import evaluating
from nnlib.nn import functional as F
from nnlib.ops import arange, cat, masked_fill, multinomial, topk, zeros
from nnlib.ops.attention import PackedAttention

__all__ = ["TransformerLM"]


class _Cache:
    """Keys and values of the positions so far, of one layer."""

    def __init__(self, batch: int, heads: int, length: int, width: int, like: Any):
        shape = batch, heads, length, width
        self.keys = zeros(*shape, dtype=like.dtype, device=like.device)
        self.values = zeros(*shape, dtype=like.dtype, device=like.device)
        self.filled = 0

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append (N, H, L, D) each; return all there are."""
        start, end = self.filled, self.filled + keys.shape[2]
        self.keys[:, :, start:end] = keys
        self.values[:, :, start:end] = values
        self.filled = end
        return self.keys[:, :, :end], self.values[:, :, :end]


class _Block(nn.Module):
    """Attention to what came before, and two linear layers."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.rate = heads, dropout
        self.norm1 = nn.LayerNorm(width)
        self.projection = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, cache: _Cache | None = None) -> Tensor:
        packed = self.projection(self.norm1(x))
        read = self._whole(packed) if cache is None else self._next(packed, cache)
        x = x + self.dropout(self.output(read))
        fed = self.linear2(F.gelu(self.linear1(self.norm2(x))))
        return x + self.dropout(fed)  # type: ignore[no-any-return]

    def _whole(self, packed: Tensor) -> Tensor:
        width = packed.shape[2] // (3 * self.heads)
        setting = kernels.attention.Setting(1 / math.sqrt(width), True)
        return PackedAttention.apply(  # type: ignore[no-any-return]
            packed, None, heads=self.heads, setting=setting
        )

    def _next(self, packed: Tensor, cache: _Cache) -> Tensor:
        batch, length, width = packed.shape
        parts = packed.reshape(batch, length, 3, self.heads, width // 3 // self.heads)
        q, k, v = (parts[:, :, i].transpose(1, 2) for i in range(3))
        old = cache.filled
        k, v = cache.extend(k, v)
        mask = None
        if length > 1:
            reach = arange(length, device=q.device)[:, None] + old
            mask = arange(old + length, device=q.device) <= reach
        read = F.scaled_dot_product_attention(q, k, v, mask)
        # (N, H, L, D) -> (N, L, H D)
        return read.transpose(1, 2).reshape(batch, length, width // 3)


@register("transformer_lm")
class TransformerLM(nn.Module):
    """A language model: for each position the logits of the next token.

    Parameters
    ----------
    tokens : int
        Size of the vocabulary.
    width, heads, layers : int, default 128, 4, 4
    hidden : int, optional
        Width between the two linear layers; default ``4 * width``.
    max_len : int, default 128
        The longest context.
    dropout : float, default 0.0

    Examples
    --------
    >>> import nnlib
    >>> model = TransformerLM(10, width=16, heads=2, layers=1, max_len=8)
    >>> tuple(model(nnlib.tensor([[1, 2, 3]])).shape)
    (1, 3, 10)
    >>> tuple(model.generate(nnlib.tensor([[1, 2, 3]]), 5, temperature=0).shape)
    (1, 8)
    """

    def __init__(
        self,
        tokens: int,
        width: int = 128,
        heads: int = 4,
        layers: int = 4,
        hidden: int | None = None,
        max_len: int = 128,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ShapeError(
                f"TransformerLM: width: expected a multiple of heads ({heads}), got "
                f"{width}"
            )
        self.heads, self.max_len = heads, max_len
        self.embedding = nn.Embedding(tokens, width)
        self.positions = nn.LearnedPositions(width, max_len, dropout)
        self.blocks = nn.ModuleList(
            [_Block(width, heads, hidden or 4 * width, dropout) for _ in range(layers)]
        )
        self.norm = nn.LayerNorm(width)
        for table in (self.embedding.weight, self.positions.table.weight):
            nn.init.normal_(table, 0.0, 0.02)
        for block in self.blocks:
            # What the layers add up must not grow with their number.
            for last in (block.output, block.linear2):
                nn.init.normal_(last.weight, 0.0, 0.02 / math.sqrt(2 * layers))

    def forward(self, ids: Tensor, caches: list[_Cache] | None = None) -> Tensor:
        """Return logits, (N, L) -> (N, L, tokens).

        Parameters
        ----------
        ids : integer Tensor, shape (N, L)
        caches : list, optional
            From `new_caches`: `ids` then go on from what these hold, and are added.
        """
        if ids.ndim != 2:
            raise ShapeError(
                f"TransformerLM: ids: expected shape (N, L), got {tuple(ids.shape)}"
            )
        start = caches[0].filled if caches else 0
        x = self.positions(self.embedding(ids), start)
        for i, block in enumerate(self.blocks):
            x = block(x, caches[i] if caches else None)
        return F.linear(self.norm(x), self.embedding.weight)

    def new_caches(self, batch: int) -> list[_Cache]:
        """Return empty keys and values for all layers."""
        weight = self.embedding.weight
        width = weight.shape[1] // self.heads
        return [
            _Cache(batch, self.heads, self.max_len, width, weight) for _ in self.blocks
        ]

    def generate(
        self,
        prompt: Tensor,
        count: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        generator: Any = None,
    ) -> Tensor:
        """Write `count` tokens on.

        Each step computes one position: keys and values of those before are kept. A
        text longer than `max_len` goes on from its second half.

        Parameters
        ----------
        prompt : integer Tensor, shape (N, L), L at least 1
        count : int
        temperature : float, default 1.0
            What logits are divided by; 0 takes the likeliest token.
        top_k : int, optional
            Draw from this many likeliest tokens alone.
        generator : Generator, optional

        Returns
        -------
        integer Tensor, shape (N, L + count)
        """
        if prompt.ndim != 2 or not prompt.shape[1]:
            raise ShapeError(
                "TransformerLM.generate: prompt: expected shape (N, L) with L at least "
                f"1, got {tuple(prompt.shape)}"
            )
        limits = (
            ("count", count, 0), ("temperature", temperature, 0), ("top_k", top_k, 1),
        )  # fmt: skip
        for name, value, least in limits:
            if value is not None and not value >= least:
                raise ArgumentError(
                    f"TransformerLM.generate: {name}: expected at least {least}, got "
                    f"{value}"
                )
        with no_grad(), evaluating(self):
            text, new, caches = prompt, prompt[:, -self.max_len :], None
            for _ in range(count):
                full = caches is not None and caches[0].filled == self.max_len
                if full:
                    new = text[:, -max(1, self.max_len // 2) :]
                if caches is None or full:
                    caches = self.new_caches(len(prompt))
                logits = self.forward(new, caches)[:, -1]
                new = _choose(logits, temperature, top_k, generator)
                text = cat([text, new], 1)
        return text


def _choose(
    logits: Tensor, temperature: float, top_k: int | None, generator: Any
) -> Tensor:
    """Return the next token of each row, (N, tokens) -> (N, 1)."""
    if temperature == 0:
        return logits.argmax(-1, keepdim=True)
    if top_k is not None and top_k < logits.shape[-1]:
        least = topk(logits, top_k, -1)[0][:, -1:]
        logits = masked_fill(logits, logits < least, -math.inf)
    return multinomial(F.softmax(logits / temperature, -1), 1, generator=generator)
