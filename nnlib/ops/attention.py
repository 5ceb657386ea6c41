"""Scaled dot-product attention."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnlib import kernels
from nnlib.autograd.function import Function
from nnlib.autograd.mode import state
from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module, context_of, device_of
from nnlib.backend.errors import ArgumentError, DeviceError, DTypeError, ShapeError
from nnlib.backend.random import default_generator
from nnlib.ops.casting import cast
from nnlib.ops.dims import constant, raw
from nnlib.ops.dropout import check_probability
from nnlib.ops.expanding import broadcast_shapes, expand
from nnlib.ops.joining import cat
from nnlib.ops.loss import check_float
from nnlib.ops.matmul import matmul
from nnlib.ops.reduction import sum as sum_of
from nnlib.ops.selection import where
from nnlib.ops.softmax import softmax

__all__ = ["scaled_dot_product_attention"]


class Attention(Function):
    """Attention of queries (B, H, L, E) to keys and values of G heads, by tiles."""

    def forward(self, q: Any, k: Any, v: Any, mask: Any, *, setting: Any) -> Any:
        """Return what the queries read, (B, H, L, F)."""
        self.setting = setting
        out, self.lse = kernels.attention.forward(q, k, v, mask, setting)
        y = out.transpose(0, 2, 1, 3)  # (B, L, H, F) -> (B, H, L, F)
        self.save_for_backward(q, k, v, mask, y)
        return y

    def backward(self, grad: Any) -> Any:
        """Return the gradients by queries, keys and values."""
        q, k, v, mask, y = self.saved
        if isinstance(grad, Tensor):
            return (*composed_gradients(grad, q, k, v, mask, self.setting), None)
        g, out = (x.transpose(0, 2, 1, 3) for x in (grad, y))
        made = kernels.attention.backward(g, q, k, v, mask, out, self.lse, self.setting)
        return (*made, None)


class PackedAttention(Function):
    """Attention within one sequence, of queries, keys and values side by side.

    (B, L, 3 H D) -> (B, L, H D): the projection of `MultiheadAttention` as it lies, and
    its gradient in one piece.
    """

    def forward(self, packed: Any, mask: Any, *, heads: int, setting: Any) -> Any:
        """Return what the queries read, the heads side by side."""
        self.heads, self.setting = heads, setting
        q, k, v = unpack(packed, heads)
        out, self.lse = kernels.attention.forward(q, k, v, mask, setting)
        batch, length, width = packed.shape
        y = out.reshape(batch, length, width // 3)  # (B, L, H, D) -> (B, L, H D)
        self.save_for_backward(packed, mask, y)
        return y

    def backward(self, grad: Any) -> Any:
        """Return the gradient by the packed projection."""
        packed, mask, y = self.saved
        q, k, v = unpack(packed, self.heads)
        batch, length, width = packed.shape
        shape = batch, length, self.heads, width // (3 * self.heads)
        if isinstance(grad, Tensor):
            g = grad.reshape(shape).transpose(1, 2)
            parts = composed_gradients(g, q, k, v, mask, self.setting)
            # (B, H, L, D) -> (B, L, H D)
            flat = [x.transpose(1, 2).reshape(grad.shape) for x in parts]
            return cat(flat, -1), None
        made = array_module(packed).empty(packed.shape, packed.dtype)
        kernels.attention.backward(
            grad.reshape(shape), q, k, v, mask, y.reshape(shape), self.lse,
            self.setting, unpack(made, self.heads),
        )  # fmt: skip
        return made, None


def unpack(packed: Any, heads: int) -> tuple[Any, Any, Any]:
    """Return views of queries, keys and values: (B, L, 3 H D) -> 3 x (B, H, L, D)."""
    batch, length, width = packed.shape
    parts = packed.reshape(batch, length, 3, heads, width // (3 * heads))
    axes = (0, 2, 1, 3)
    if isinstance(parts, Tensor):
        q, k, v = (parts[:, :, i].permute(axes) for i in range(3))
    else:
        q, k, v = (parts[:, :, i].transpose(axes) for i in range(3))
    return q, k, v


def _hidden_rows(mask: Any, like: Any, keys: int, causal: bool) -> Any:
    """Return the additive mask with the causal one, and which rows see no key."""
    module = array_module(like)
    total = mask
    if causal:
        length = like.shape[2]
        upper = module.arange(keys) > module.arange(length)[:, None]
        ban = module.where(upper, -math.inf, 0.0).astype(like.dtype)
        total = ban if mask is None else mask + ban
    if total is None:
        return None, None
    none = (total == -math.inf).all(axis=-1, keepdims=True)
    return total, none if bool(none.any()) else None


def weights(q: Any, k: Any, mask: Any, setting: Any) -> Any:
    """Return the whole matrix of weights before dropout, by public operations.

    Parameters
    ----------
    q, k : (B, H, L, E), (B, H, S, E)
    mask : additive, Tensor or array, optional
    """
    scores = matmul(q, k.transpose(-2, -1)) * setting.scale
    if isinstance(mask, Tensor) and state.modes.interpreter is not None:
        # Its numbers are not for reading: vmap, or an export.
        ban, _ = _hidden_rows(None, raw(q), k.shape[2], setting.causal)
        total = mask if ban is None else mask + constant(ban, mask)
        hidden = (total == -math.inf).all(-1, True)
        return where(hidden, 0.0, softmax(where(hidden, 0.0, scores + total), -1))
    fixed, none = _hidden_rows(raw(mask), raw(q), k.shape[2], setting.causal)
    if isinstance(mask, Tensor) and mask.requires_grad:
        scores = scores + mask
        fixed, _ = _hidden_rows(None, raw(q), k.shape[2], setting.causal)
    if fixed is not None:
        scores = scores + constant(fixed, scores)
    if none is None:
        return softmax(scores, -1)
    hidden = constant(none, scores)
    return where(hidden, 0.0, softmax(where(hidden, 0.0, scores), -1))


def _dropped(shape: Any, like: Any, setting: Any) -> Any:
    """Return the dropout's factors as an array; None without dropout."""
    if not setting.rate:
        return None
    # (B, H, L, S) -> (B, H, S, L), the order in which the kernel draws
    ones = array_module(like).ones((*shape[:2], shape[3], shape[2]), like.dtype)
    drawn = kernels.dropout.forward(ones, setting.rate, setting.seed, setting.offset)
    return drawn.transpose(0, 1, 3, 2)


def _spread_heads(x: Any, heads: int) -> Any:
    """Repeat each head of keys for the queries that share it."""
    batch, groups, length, width = x.shape
    if groups == heads:
        return x
    wide = expand(x[:, :, None], (batch, groups, heads // groups, length, width))
    return wide.reshape(batch, heads, length, width)


def composed_attention(q: Any, k: Any, v: Any, mask: Any, setting: Any) -> Any:
    """Attention by public operations, with the whole matrix of scores."""
    heads = q.shape[1]
    k, v = _spread_heads(k, heads), _spread_heads(v, heads)
    p = weights(q, k, mask, setting)
    w = _dropped(p.shape, raw(q), setting)
    return matmul(p if w is None else p * constant(w, p), v)


def composed_gradients(g: Any, q: Any, k: Any, v: Any, mask: Any, setting: Any) -> Any:
    """Return the gradients by q, k and v, by public operations (on Tensors)."""
    heads, groups = q.shape[1], k.shape[1]
    wide_k, wide_v = _spread_heads(k, heads), _spread_heads(v, heads)
    p = weights(q, wide_k, mask, setting)
    w = _dropped(p.shape, raw(q), setting)
    thin = p if w is None else p * constant(w, p)
    dv = matmul(thin.transpose(-2, -1), g)
    x = matmul(g, wide_v.transpose(-2, -1))
    moved = thin * x
    ds = (moved - p * sum_of(moved, -1, keepdim=True)) * setting.scale
    dq, dk = matmul(ds, wide_k), matmul(ds.transpose(-2, -1), q)
    if groups != heads:
        dk, dv = (
            sum_of(y.reshape(y.shape[0], groups, -1, *y.shape[2:]), 2) for y in (dk, dv)
        )
    return dq, dk, dv


def additive_mask(op: str, mask: Any, like: Any) -> Any:
    """Return a mask that is added to scores, in the dtype of `like`.

    A boolean one is 0 where it is true, else minus infinity.
    """
    array = raw(mask)
    if not hasattr(array, "dtype"):
        raise DTypeError(
            f"{op}: attn_mask: expected a Tensor, got {type(mask).__name__}"
        )
    if device_of(array) != device_of(raw(like)):
        raise DeviceError(
            f"{op}: attn_mask is on {device_of(array)}, query on {device_of(raw(like))}"
        )
    dtype = like.dtype
    if array.dtype == np.bool_:
        if isinstance(mask, Tensor) and state.modes.interpreter is not None:
            # Its numbers are not for reading: vmap, or an export.
            return cast(where(mask, 0.0, -math.inf), dtype)
        low = dtype.type(-math.inf)
        with context_of(array):
            made = array_module(array).where(array, dtype.type(0), low)
        return constant(made, like)
    if array.dtype != dtype:
        raise DTypeError(
            f"{op}: attn_mask: expected bool or {dtype} as the query, got {array.dtype}"
        )
    return mask


def _read_shapes(
    op: str, query: Any, key: Any, value: Any, enable_gqa: bool
) -> tuple[int, ...]:
    """Check the shapes; return the leading dimensions of the result."""
    shapes = [tuple(x.shape) for x in (query, key, value)]
    told = f"query {shapes[0]}, key {shapes[1]}, value {shapes[2]}"
    if min(map(len, shapes)) < 2 + enable_gqa:
        lead = "..., H" if enable_gqa else "..."
        raise ShapeError(
            f"{op}: {told}: expected ({lead}, L, E), ({lead}, S, E) and ({lead}, S, F)"
        )
    if shapes[0][-1] != shapes[1][-1] or shapes[1][-2] != shapes[2][-2]:
        raise ShapeError(
            f"{op}: {told}: expected the last dimensions of query and key to be equal, "
            "and the numbers of keys and values"
        )
    leading = [shape[:-2] for shape in shapes]
    if enable_gqa:
        heads, *groups = (shape[-3] for shape in shapes)
        if any(not count or heads % count for count in groups):
            raise ShapeError(
                f"{op}: {told}: enable_gqa expects the query's heads to be a multiple "
                "of those of key and value"
            )
        leading = [shape[:-1] for shape in leading]
    try:
        whole = tuple(broadcast_shapes(*leading))
    except ValueError:
        raise ShapeError(
            f"{op}: {told}: the leading dimensions do not broadcast"
            + ("" if enable_gqa else " (enable_gqa=True shares heads of keys)")
        ) from None
    return whole


@public(method=False)
def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Return ``softmax(scale * query key^T + mask) value``.

    The scores are made and used tile by tile, in the backward pass too: memory grows
    linearly with the length of the sequences. Source: Vaswani et al., "Attention is all
    you need", 2017, equation 1; Dao et al., "FlashAttention", 2022.

    Parameters
    ----------
    query : Tensor, shape (..., L, E), floating
    key : Tensor, shape (..., S, E)
    value : Tensor, shape (..., S, F)
    attn_mask : Tensor, shape that broadcasts to (..., L, S), optional
        Boolean: true where a query may read a key. Floating: added to the scores. A
        query that may read nothing gets zeros, as PyTorch's fused kernels give (and
        not NaN).
    dropout_p : float, default 0.0
        The probability with which a weight is dropped; also in evaluation: the caller
        knows the mode.
    is_causal : bool, default False
        Query i reads the keys up to i alone; not beside `attn_mask`.
    scale : float, optional
        Default: ``1 / sqrt(E)``.
    enable_gqa : bool, default False
        Neighbouring heads of the query share a head of key and value.

    Returns
    -------
    Tensor, shape (..., L, F)

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        If the arguments do not fit.

    Notes
    -----
    A floating mask that requires a gradient, and a second derivative, need the whole
    matrix of scores in memory.

    Examples
    --------
    >>> import nnlib
    >>> import nnlib.nn.functional as F
    >>> q = k = nnlib.zeros(1, 2, 4)
    >>> v = nnlib.tensor([[[1.0], [3.0]]])
    >>> F.scaled_dot_product_attention(q, k, v)
    tensor([[[2.],
             [2.]]])
    >>> F.scaled_dot_product_attention(q, k, v, is_causal=True)
    tensor([[[1.],
             [2.]]])
    """
    op = "scaled_dot_product_attention"
    for name, x in (("query", query), ("key", key), ("value", value)):
        check_float(op, name, x)
        if x.dtype != query.dtype:
            raise DTypeError(f"{op}: {name} is {x.dtype}, query is {query.dtype}")
    check_probability(op, dropout_p, "dropout_p")
    if is_causal and attn_mask is not None:
        raise ArgumentError(
            f"{op}: is_causal=True and attn_mask: expected one of them; add the causal "
            "mask to attn_mask"
        )
    leading = _read_shapes(op, query, key, value, enable_gqa)
    length, width = query.shape[-2:]
    keys = key.shape[-2]
    if scale is None:
        scale = 1 / math.sqrt(width) if width else 1.0
    q, k, v = (
        four_dims(x, leading, enable_gqa) for x in (query, key, value)
    )  # (..., L, E) -> (B, H, L, E)
    if k.shape[1] != v.shape[1]:
        k, v = _spread_heads(k, q.shape[1]), _spread_heads(v, q.shape[1])
    heads = query.shape[-3:-2] if enable_gqa else ()
    mask = None
    if attn_mask is not None:
        whole = (*leading, *heads, length, keys)
        mask = _read_mask(op, attn_mask, query, whole, q.shape)
    setting = kernels.attention.Setting(float(scale), bool(is_causal))
    if dropout_p:
        count = math.prod(q.shape[:3]) * keys
        seed, offset = default_generator.reserve(count)
        setting = setting._replace(rate=float(dropout_p), seed=seed, offset=offset)
    out = attend(q, k, v, mask, setting)
    return out.reshape(*leading, *heads, length, value.shape[-1])  # type: ignore[no-any-return]


def attend(q: Any, k: Any, v: Any, mask: Any, setting: Any) -> Any:
    """Attention of four-dimensional q, k and v, by tiles where that serves."""
    learned = isinstance(mask, Tensor) and mask.requires_grad
    long = max(q.shape[-1], v.shape[-1]) > kernels.attention.longest(q.dtype)
    if learned or (long and type(raw(q)) is not np.ndarray):
        return composed_attention(q, k, v, mask, setting)
    return Attention.apply(q, k, v, mask, setting=setting)


def four_dims(x: Any, leading: tuple[int, ...], grouped: bool) -> Any:
    """Bring (..., L, E) into the form (B, H, L, E)."""
    heads = tuple(x.shape[-3:-2]) if grouped else ()
    tail = (*heads, *x.shape[-2:])
    whole = (*leading, *tail)
    if tuple(x.shape) != whole:
        x = expand(x, whole)
    if x.ndim == 4:
        return x
    if grouped:
        return x.reshape(math.prod(leading), *tail)
    if x.ndim < 4:
        return x.reshape(*(1,) * (4 - x.ndim), *x.shape)
    return x.reshape(math.prod(leading[:-1]), *x.shape[-3:])


def _read_mask(
    op: str, mask: Any, like: Any, whole: tuple[int, ...], shape: Any
) -> Any:
    """Return an additive mask of four dimensions, whole in the last."""
    mask = additive_mask(op, mask, like)
    given = tuple(mask.shape)
    ends = zip(reversed(given), reversed(whole), strict=False)
    if len(given) > len(whole) or any(n not in (1, m) for n, m in ends):
        raise ShapeError(
            f"{op}: attn_mask has shape {given}, which does not broadcast to the "
            f"scores' {whole}"
        )
    own = (1,) * (4 - len(given)) + given
    if len(whole) > 4 and len(given) > 3:
        # The first of the kernel's four dimensions is several of these.
        mask = expand(mask, (*whole[:-2], *given[-2:]))
        own = (*shape[:2], *given[-2:])
    mask = mask.reshape(own)
    if own[-1] != whole[-1]:
        mask = expand(mask, (*own[:3], whole[-1]))
    return mask
