"""Multi-head attention."""

from __future__ import annotations

import math
from typing import Any

from nnlib import kernels
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.errors import ArgumentError, DTypeError, ShapeError
from nnlib.backend.random import default_generator
from nnlib.nn import functional as F
from nnlib.nn import init
from nnlib.nn.linear import Linear, new_parameter
from nnlib.nn.module import Module
from nnlib.ops.attention import PackedAttention, attend, weights
from nnlib.ops.dropout import check_probability
from nnlib.ops.joining import cat
from nnlib.ops.matmul import matmul

__all__ = ["MultiheadAttention"]

_OP = "MultiheadAttention"


class MultiheadAttention(Module):
    """Attention in several subspaces at once.

    ``concat(head_1, ..., head_h) W_o``, ``head_i = attention(q W_i, k U_i, v V_i)``.
    Source: Vaswani et al., "Attention is all you need", 2017, section 3.2.2.

    Parameters
    ----------
    embed_dim, num_heads : int
        Width of queries and output; it is a multiple of the number of heads.
    dropout : float, default 0.0
        The probability with which a weight is dropped in training.
    bias : bool, default True
        Whether the projections have biases.
    add_bias_kv : bool, default False
        Append a learned key and value to every sequence.
    add_zero_attn : bool, default False
        Append a key and a value of zeros.
    kdim, vdim : int, optional
        Widths of keys and values; default `embed_dim`.
    batch_first : bool, default False
        Whether tensors are (N, L, E), and not (L, N, E).

    Notes
    -----
    Without ``need_weights=False`` the whole matrix of weights is made and returned, as
    in PyTorch; with it attention goes by tiles, in linear memory.

    Examples
    --------
    >>> import nnlib
    >>> layer = MultiheadAttention(8, 2, batch_first=True)
    >>> x = nnlib.randn(3, 5, 8)
    >>> out, weights = layer(x, x, x)
    >>> tuple(out.shape), tuple(weights.shape)
    ((3, 5, 8), (3, 5, 5))
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if embed_dim <= 0 or num_heads <= 0 or embed_dim % num_heads:
            raise ShapeError(
                f"{_OP}: embed_dim: expected a positive multiple of num_heads "
                f"({num_heads}), got {embed_dim}"
            )
        check_probability(_OP, dropout, "dropout")
        self.embed_dim, self.num_heads = embed_dim, num_heads
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self.dropout, self.batch_first = dropout, batch_first
        self.head_dim = embed_dim // num_heads
        self.add_zero_attn = add_zero_attn
        made = {"device": device, "dtype": dtype}
        same = self.kdim == embed_dim == self.vdim
        sizes = (embed_dim, self.kdim, self.vdim)
        for name, size in zip("qkv", sizes, strict=True):
            weight = None if same else new_parameter(embed_dim, size, **made)
            self.register_parameter(f"{name}_proj_weight", weight)
        packed = new_parameter(3 * embed_dim, embed_dim, **made) if same else None
        self.register_parameter("in_proj_weight", packed)
        offsets = new_parameter(3 * embed_dim, **made) if bias else None
        self.register_parameter("in_proj_bias", offsets)
        self.out_proj = Linear(embed_dim, embed_dim, bias=bias, **made)
        for name in ("bias_k", "bias_v"):
            extra = new_parameter(1, 1, embed_dim, **made) if add_bias_kv else None
            self.register_parameter(name, extra)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        for name in ("in_proj", "q_proj", "k_proj", "v_proj"):
            weight = getattr(self, f"{name}_weight")
            if weight is not None:
                init.xavier_uniform_(weight)
        if self.in_proj_bias is not None:
            init.zeros_(self.in_proj_bias)
            init.zeros_(self.out_proj.bias)
        for extra in (self.bias_k, self.bias_v):
            if extra is not None:
                init.xavier_normal_(extra)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return what the queries read, and the weights.

        Parameters
        ----------
        query : Tensor, shape (L, N, E), (N, L, E) if `batch_first`, or (L, E)
        key : Tensor, shape (S, N, kdim), or as `query`
        value : Tensor, shape (S, N, vdim), or as `query`
        key_padding_mask : Tensor, shape (N, S), optional
            Boolean: true where a key is *not* read. Floating: added to the scores.
        need_weights : bool, default True
            Return the weights too.
        attn_mask : Tensor, shape (L, S) or (N * num_heads, L, S), optional
            As `key_padding_mask`, for each pair.
        average_attn_weights : bool, default True
            Return the mean of the heads' weights.
        is_causal : bool, default False
            Query i reads the keys up to i; an `attn_mask` beside it is taken to say
            the same.

        Returns
        -------
        out : Tensor, shape of `query`
            A query that may read nothing reads zeros.
        weights : Tensor, shape (N, L, S) or (N, num_heads, L, S), or None
        """
        single = query.ndim == 2
        same = query is key and key is value
        given = query, key, value
        self._check(given, single)
        q, k, v = (self._batched(x, single) for x in given)
        if same:
            k = v = q
        extra = self.bias_k is not None or self.add_zero_attn
        causal = is_causal and not (extra or need_weights)
        mask = self._mask(
            q, k.shape[1], key_padding_mask, None if causal else attn_mask, single
        )
        if is_causal and not causal and attn_mask is None:
            mask = _causal_too(mask, q, k.shape[1])
        rate = self.dropout if self.training else 0.0
        setting = kernels.attention.Setting(1 / math.sqrt(self.head_dim), causal)
        if rate:
            keys = k.shape[1] + (self.bias_k is not None) + self.add_zero_attn
            count = q.shape[0] * self.num_heads * q.shape[1] * keys
            seed, offset = default_generator.reserve(count)
            setting = setting._replace(rate=float(rate), seed=seed, offset=offset)
        learned = mask is not None and mask.requires_grad
        fast = same and self.in_proj_weight is not None and not (extra or learned)
        if fast and not need_weights and _fits(self.head_dim, q):
            packed = F.linear(q, self.in_proj_weight, self.in_proj_bias)
            read = PackedAttention.apply(
                packed, mask, heads=self.num_heads, setting=setting
            )
            return self._finished(read, single), None
        q, k, v = self._projected(q, k, v)
        if extra:
            k, v, mask = self._extended(k, v, mask)
        q, k, v = (self._split(x) for x in (q, k, v))
        shown = None
        if need_weights:
            shown = weights(q, k, mask, setting)
            shown = F.dropout(shown, rate, bool(rate))
            read = matmul(shown, v)
            shown = shown.mean(1) if average_attn_weights else shown
            shown = shown[0] if single else shown
        else:
            read = attend(q, k, v, mask, setting)
        # (N, H, L, D) -> (N, L, H D)
        read = read.transpose(1, 2).reshape(q.shape[0], q.shape[2], self.embed_dim)
        return self._finished(read, single), shown

    # -- parts ---------------------------------------------------------------------

    def _check(self, given: tuple[Tensor, ...], single: bool) -> None:
        names = ("query", "key", "value")
        sizes = (self.embed_dim, self.kdim, self.vdim)
        for name, x, size in zip(names, given, sizes, strict=True):
            if x.ndim != (2 if single else 3) or x.shape[-1] != size:
                form = "(L, E)" if single else "(L, N, E), or (N, L, E) if batch_first"
                raise ShapeError(
                    f"{_OP}: {name}: expected {form} with E = {size}, got shape "
                    f"{tuple(x.shape)}"
                )
        shapes = [tuple(x.shape) for x in given]
        batch = 0 if self.batch_first else 1
        if shapes[1][:-1] != shapes[2][:-1] or (
            not single and shapes[0][batch] != shapes[1][batch]
        ):
            raise ShapeError(
                f"{_OP}: query {shapes[0]}, key {shapes[1]}, value {shapes[2]}: "
                "expected one batch, and as many values as keys"
            )

    def _batched(self, x: Tensor, single: bool) -> Tensor:
        """Return (N, L, E)."""
        if single:
            return x.unsqueeze(0)
        return x if self.batch_first else x.transpose(0, 1)

    def _finished(self, read: Tensor, single: bool) -> Tensor:
        out = self.out_proj(read)
        if single:
            return out[0]  # type: ignore[no-any-return]
        return out if self.batch_first else out.transpose(0, 1)  # type: ignore[no-any-return]

    def _projected(self, q: Tensor, k: Tensor, v: Tensor) -> list[Any]:
        width = self.embed_dim
        found = []
        for i, (name, x) in enumerate(zip("qkv", (q, k, v), strict=True)):
            rows = slice(i * width, (i + 1) * width)
            packed, offset = self.in_proj_weight, self.in_proj_bias
            own = getattr(self, f"{name}_proj_weight")
            weight = own if packed is None else packed[rows]
            found.append(F.linear(x, weight, None if offset is None else offset[rows]))
        return found

    def _extended(self, k: Tensor, v: Tensor, mask: Any) -> tuple[Any, Any, Any]:
        """Append the learned key and value, and those of zeros."""
        batch, added = k.shape[0], 0
        if self.bias_k is not None:
            k = cat([k, self.bias_k.expand(batch, 1, self.embed_dim)], 1)
            v = cat([v, self.bias_v.expand(batch, 1, self.embed_dim)], 1)
            added += 1
        if self.add_zero_attn:
            k, v = (cat([x, x.new_zeros(batch, 1, self.embed_dim)], 1) for x in (k, v))
            added += 1
        if mask is not None:
            mask = F.pad(mask, (0, added))
        return k, v, mask

    def _split(self, x: Tensor) -> Any:
        # (N, L, E) -> (N, H, L, D)
        parts = x.reshape(*x.shape[:2], self.num_heads, self.head_dim)
        return parts.transpose(1, 2)

    def _mask(
        self, q: Tensor, keys: int, padding: Any, pairs: Any, single: bool
    ) -> Any:
        """Return one additive mask of four dimensions, or None."""
        batch, length = q.shape[0], q.shape[1]
        found = None
        if padding is not None:
            expected = (keys,) if single else (batch, keys)
            found = _additive("key_padding_mask", padding, q, [expected])
            found = found.reshape(batch, 1, 1, keys)
        if pairs is not None:
            heads = batch * self.num_heads
            shapes = [(length, keys), (heads, length, keys)]
            other = _additive("attn_mask", pairs, q, shapes)
            if other.ndim == 2:
                other = other.reshape(1, 1, length, keys)
            else:
                other = other.reshape(batch, self.num_heads, length, keys)
            found = other if found is None else found + other
        return found


def _fits(width: int, x: Tensor) -> bool:
    """Tell whether the kernel takes heads of this width, where `x` lives."""
    return not x.is_cuda or width <= kernels.attention.longest(x.dtype)


def _additive(name: str, mask: Any, like: Tensor, shapes: list[Any]) -> Any:
    """Return a mask of this layer as one that is added to the scores."""
    if tuple(mask.shape) not in shapes:
        told = " or ".join(map(str, shapes))
        raise ShapeError(f"{_OP}: {name}: expected {told}, got {tuple(mask.shape)}")
    if mask.dtype == bool:
        return like.new_zeros(*mask.shape).masked_fill(mask, -math.inf)
    if mask.dtype != like.dtype:
        raise DTypeError(
            f"{_OP}: {name}: expected bool or {like.dtype} as the query, got "
            f"{mask.dtype}"
        )
    return mask


def _causal_too(mask: Any, q: Tensor, keys: int) -> Any:
    """Return the mask with that of causal attention added."""
    module = array_module(q._array)
    later = module.arange(keys) > module.arange(q.shape[1])[:, None]
    zeros = q.new_zeros(1, 1, q.shape[1], keys)
    causal = zeros.masked_fill(Tensor._from_array(later), -math.inf)
    return causal if mask is None else mask + causal


def check_activation(layer: str, activation: Any) -> Any:
    """Return an activation given by name or as a function."""
    if callable(activation):
        return activation
    if activation not in ("relu", "gelu"):
        raise ArgumentError(
            f"{layer}: activation: expected 'relu', 'gelu' or a function, got "
            f"{activation!r}"
        )
    return getattr(F, activation)
