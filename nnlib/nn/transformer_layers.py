"""Layers of the Transformer: one block of the encoder, one of the decoder.

Source: Vaswani et al., "Attention is all you need", 2017; Xiong et al., "On layer
normalization in the Transformer architecture", 2020, for ``norm_first``.
"""

from __future__ import annotations

from typing import Any

from nnlib.autograd.tensor import Tensor
from nnlib.nn import functional as F
from nnlib.nn.dropout import Dropout
from nnlib.nn.linear import Linear
from nnlib.nn.module import Module
from nnlib.nn.multihead import MultiheadAttention, check_activation
from nnlib.nn.normalization_rows import LayerNorm

__all__ = ["TransformerDecoderLayer", "TransformerEncoderLayer"]


class _Block(Module):
    """What both layers share: the feed-forward part."""

    def _make(
        self, d_model: int, nhead: int, dim_feedforward: int, dropout: float,
        activation: Any, eps: float, batch_first: bool, norm_first: bool, bias: bool,
        norms: int, made: dict[str, Any],
    ) -> None:  # fmt: skip
        self.norm_first = norm_first
        self.self_attn = MultiheadAttention(
            d_model, nhead, dropout, bias=bias, batch_first=batch_first, **made
        )
        if norms == 3:
            self.multihead_attn = MultiheadAttention(
                d_model, nhead, dropout, bias=bias, batch_first=batch_first, **made
            )
        self.linear1 = Linear(d_model, dim_feedforward, bias=bias, **made)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias=bias, **made)
        for number in range(1, norms + 1):
            norm = LayerNorm(d_model, eps, bias=bias, **made)
            self.add_module(f"norm{number}", norm)
        for number in range(1, norms + 1):
            self.add_module(f"dropout{number}", Dropout(dropout))
        self.activation = check_activation(type(self).__name__, activation)

    def _attended(self, x: Tensor, pairs: Any, padding: Any, causal: bool) -> Tensor:
        read, _ = self.self_attn(
            x, x, x, padding, need_weights=False, attn_mask=pairs, is_causal=causal
        )
        return self.dropout1(read)  # type: ignore[no-any-return]

    def _fed(self, x: Tensor, last: Module) -> Tensor:
        hidden = self.dropout(self.activation(self.linear1(x)))
        return last(self.linear2(hidden))  # type: ignore[no-any-return]


class TransformerEncoderLayer(_Block):
    """Self-attention, then two linear layers, each with a way past and a norm.

    ``x + dropout(part(norm(x)))`` with `norm_first`, else
    ``norm(x + dropout(part(x)))``, for either part.

    Parameters
    ----------
    d_model, nhead : int
        Width, and number of heads.
    dim_feedforward : int, default 2048
        Width between the two linear layers.
    dropout : float, default 0.1
        Of the weights of attention, and after each part.
    activation : {"relu", "gelu"} or callable, default relu
    layer_norm_eps : float, default 1e-5
    batch_first : bool, default False
        Whether tensors are (N, L, E), and not (L, N, E).
    norm_first : bool, default False
    bias : bool, default True

    Examples
    --------
    >>> import nnlib
    >>> layer = TransformerEncoderLayer(8, 2, 16, batch_first=True)
    >>> tuple(layer(nnlib.randn(3, 5, 8)).shape)
    (3, 5, 8)
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Any = F.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self._make(
            d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps,
            batch_first, norm_first, bias, 2, {"device": device, "dtype": dtype},
        )  # fmt: skip

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Return the sequence after the layer; masks as for `MultiheadAttention`."""
        masks = src_mask, src_key_padding_mask, is_causal
        if self.norm_first:
            x = src + self._attended(self.norm1(src), *masks)
            return x + self._fed(self.norm2(x), self.dropout2)
        x = self.norm1(src + self._attended(src, *masks))
        return self.norm2(x + self._fed(x, self.dropout2))  # type: ignore[no-any-return]


class TransformerDecoderLayer(_Block):
    """Self-attention, attention to the encoder's output, two linear layers.

    Parameters as for `TransformerEncoderLayer`.

    Examples
    --------
    >>> import nnlib
    >>> layer = TransformerDecoderLayer(8, 2, 16, batch_first=True)
    >>> tuple(layer(nnlib.randn(3, 4, 8), nnlib.randn(3, 5, 8)).shape)
    (3, 4, 8)
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Any = F.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self._make(
            d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps,
            batch_first, norm_first, bias, 3, {"device": device, "dtype": dtype},
        )  # fmt: skip

    def _read(
        self, x: Tensor, memory: Tensor, pairs: Any, padding: Any, causal: bool
    ) -> Tensor:
        read, _ = self.multihead_attn(
            x, memory, memory, padding, need_weights=False, attn_mask=pairs,
            is_causal=causal,
        )  # fmt: skip
        return self.dropout2(read)  # type: ignore[no-any-return]

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Return the sequence `tgt` after the layer, which has read `memory`."""
        own = tgt_mask, tgt_key_padding_mask, tgt_is_causal
        far = memory_mask, memory_key_padding_mask, memory_is_causal
        if self.norm_first:
            x = tgt + self._attended(self.norm1(tgt), *own)
            x = x + self._read(self.norm2(x), memory, *far)
            return x + self._fed(self.norm3(x), self.dropout3)
        x = self.norm1(tgt + self._attended(tgt, *own))
        x = self.norm2(x + self._read(x, memory, *far))
        return self.norm3(x + self._fed(x, self.dropout3))  # type: ignore[no-any-return]
