"""Scaled dot-product attention by tiles: the matrix of scores is never whole in memory.

With s = scale * q k^T + mask, p = softmax(s) and w the dropout's factors (0 or
1 / (1 - rate))::

    out = (p w) v
    dv  = (p w)^T g
    ds  = p (w (g v^T) - sum(g out))      dq = scale ds k,   dk = scale ds^T q

The sum of exponentials is kept up to date from tile to tile (Milakov and Gimelshein
2018; Dao et al. 2022, "FlashAttention"); the forward pass stores the logarithm of each
row's sum, from which the backward pass makes the tiles of p again. A row whose mask
hides every key gives zeros, and has no gradient.

CPU: a task is a block of queries of one head; tiles stay in the second-level cache and
are multiplied by our own BLAS, in one entry of the pool. In the backward pass a task is
a head, so that every gradient is added up by one thread in one order. The CUDA loops
are in `attention_cuda` and `attention_grad_cuda`: there threads share tiles, on the CPU
they share nothing.

The score of query i and key j draws the dropout's random word at position (b, h, j, i),
in C order: the factors are those of `nnlib.kernels.dropout` on an array (B, H, S, L).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from nnlib.backend.errors import DTypeError, ShapeError
from nnlib.kernels import special
from nnlib.kernels.attention_blocks import ROWS, dimensions, key_features, longest
from nnlib.kernels.attention_cuda import queries_cuda
from nnlib.kernels.attention_grad_cuda import keys_cuda, queries_grad_cuda
from nnlib.kernels.attention_tiles import backward_cpu, forward_cpu
from nnlib.kernels.elementwise import scalar_type
from nnlib.kernels.machinery import array_module, on_cuda
from nnlib.kernels.machinery.arrays import home, there
from nnlib.kernels.random_keys import keyed

__all__ = ["Setting", "backward", "forward", "longest"]

# The empty arrays of `_tag`, by place and dimensions.
_tags: dict[Any, Any] = {}


class Setting(NamedTuple):
    """What a call of attention does beside its arrays.

    Attributes
    ----------
    scale : float
        The factor of the scores.
    causal : bool
        Query i sees the keys up to i.
    rate : float
        The probability of dropout.
    seed, offset : int
        Where its random numbers begin.
    """

    scale: float
    causal: bool = False
    rate: float = 0.0
    seed: int = 0
    offset: int = 0


def _rows_adjacent(x: Any) -> tuple[Any, tuple[int, ...]]:
    """Return `x` in a layout that BLAS reads, and its place: address and three strides.

    Elements of a row are adjacent, rows at least their width apart. The stride of a
    dimension of length 1 may be any, but BLAS looks at that of the rows: they get one.
    """
    size = x.itemsize
    narrow, lone = x.shape[-1] <= 1, x.shape[-2] <= 1
    strides = x.strides
    if not (
        (narrow or strides[-1] == size)
        and (lone or strides[-2] >= x.shape[-1] * size)
        and not any(stride % size for stride in strides)
    ):
        x = array_module(x).ascontiguousarray(x)
    return x, _place(x)


def _place(x: Any) -> tuple[int, ...]:
    """Return the address of a matrix for each head, and the strides of all but columns.

    The address is an integer: `x` must be held as long as it is used.
    """
    batch, head, row = x.strides[:3]
    if x.shape[2] <= 1:
        row = max(x.shape[3], 1) * x.itemsize
    return x.ctypes.data, batch, head, row


def _check(op: str, q: Any, k: Any, v: Any, mask: Any) -> None:
    scalar_type(op, q)
    batch, heads, _, width = q.shape
    keys = k.shape[2]
    if (
        k.shape[0] != batch
        or v.shape[:3] != k.shape[:3]
        or k.shape[3] != width
        or (k.shape[1] == 0) != (heads == 0)
        or (heads and heads % k.shape[1])
    ):
        raise ShapeError(
            f"{op}: q {q.shape}, k {k.shape}, v {v.shape}: expected (B, H, L, E), "
            "(B, G, S, E) and (B, G, S, F) with H a multiple of G"
        )
    if not q.dtype == k.dtype == v.dtype:
        raise DTypeError(f"{op}: q is {q.dtype}, k {k.dtype}, v {v.dtype}")
    if mask is not None and (
        mask.dtype != q.dtype
        or mask.ndim != 4
        or mask.shape[3] != keys
        or any(
            n not in (1, m) for n, m in zip(mask.shape[:3], q.shape[:3], strict=True)
        )
    ):
        raise ShapeError(
            f"{op}: mask is {mask.dtype} of shape {mask.shape}, expected {q.dtype} of "
            f"a shape that broadcasts to {(*q.shape[:3], keys)}, whole in the last"
        )


def _flat_mask(mask: Any, like: Any) -> tuple[Any, tuple[int, int, int]]:
    """Return the mask flat, and the step of each dimension but the last in it."""
    module = array_module(like)
    if mask is None:
        return module.empty(0, like.dtype), (0, 0, 0)
    mask = module.ascontiguousarray(mask)
    steps, step = [], mask.shape[3]
    for length in mask.shape[2::-1]:
        steps.append(step if length > 1 else 0)
        step *= length
    return mask.reshape(-1), (steps[2], steps[1], steps[0])


def _standing_mask(mask: Any) -> tuple[Any, tuple[int, int, int, int]]:
    """Return the mask flat with a line for each key, and its steps."""
    if mask is None:
        return None, (0, 0, 0, 0)
    # (B, H, L, S) -> (B, H, S, L)
    turned = np.ascontiguousarray(mask.transpose(0, 1, 3, 2))
    length = turned.shape[3]
    line = length * turned.shape[2]
    return turned.reshape(-1), (
        line * turned.shape[1] if turned.shape[0] > 1 else 0,
        line if turned.shape[1] > 1 else 0,
        length,
        1 if length > 1 else 0,
    )


def _thin(setting: Setting, kind: Any, like: Any) -> tuple[Any, ...]:
    rate, seed, offset = setting.rate, setting.seed, setting.offset
    keep = 1.0 / (1.0 - rate) if rate < 1 else 0.0
    if on_cuda(like):
        return np.float32(rate), kind(keep), *keyed(seed, offset, like)
    return np.float32(rate), kind(keep), np.uint64(seed), np.uint64(offset)


def _tag(like: Any, features: int) -> Any:
    """Return the empty array whose dimensions tell a CUDA loop how wide heads are."""
    key = home(like), dimensions(features)
    found = _tags.get(key)
    if found is None:
        with there(like):
            found = _tags[key] = array_module(like).empty((0,) * key[1], np.uint8)
    return found


def forward(q: Any, k: Any, v: Any, mask: Any, setting: Setting) -> tuple[Any, Any]:
    """Return what the queries read, and what `backward` needs.

    Parameters
    ----------
    q : array, shape (B, H, L, E), float32 or float64, any strides
    k : array, shape (B, G, S, E)
        H is a multiple of G: neighbouring heads of the queries share a head of keys.
    v : array, shape (B, G, S, F)
    mask : array, shape (B or 1, H or 1, L or 1, S), optional
        Added to the scores; minus infinity hides a key.
    setting : Setting

    Returns
    -------
    out : array, shape (B, L, H, F), C-contiguous
    lse : array, shape (B, H, L)
        Log sum exp of the scores of each query; plus infinity where all is hidden.

    Examples
    --------
    >>> q = k = np.zeros((1, 1, 1, 4))
    >>> forward(q, k, np.ones((1, 1, 1, 2)), None, Setting(0.5))[0]
    array([[[[1., 1.]]]])
    """
    _check("attention", q, k, v, mask)
    kind = q.dtype.type
    module = array_module(q)
    batch, heads, length, width = q.shape
    out = module.empty((batch, length, heads, v.shape[3]), q.dtype)
    lse = module.empty((batch, heads, length), q.dtype)
    if not lse.size:
        return out, lse
    if not k.shape[2]:
        out[...] = 0
        lse[...] = special.INFINITY
        return out, lse
    numbers = kind(setting.scale), bool(setting.causal)
    thin = _thin(setting, kind, q)
    if on_cuda(q):
        flat, steps = _flat_mask(mask, q)
        blocks = batch * heads * -(-length // ROWS)
        tag = _tag(q, v.shape[3])
        queries_cuda(
            q, k, v, flat, *steps, *numbers, *thin, out, lse, tag, blocks=blocks
        )
        return out, lse
    flat, lines = _standing_mask(mask)
    held = [_rows_adjacent(x) for x in (q, k, v)]
    forward_cpu(
        *(place for _, place in held), flat, lines,
        (heads, heads // k.shape[1], length, k.shape[2], width, v.shape[3]), numbers,
        thin if setting.rate else None, out.reshape(-1), lse.reshape(-1),
    )  # fmt: skip
    return out, lse


def backward(
    g: Any,
    q: Any,
    k: Any,
    v: Any,
    mask: Any,
    out: Any,
    lse: Any,
    setting: Setting,
    into: tuple[Any, Any, Any] | None = None,
) -> tuple[Any, Any, Any]:
    """Return the gradients by q, k and v.

    Parameters
    ----------
    g : array, shape (B, L, H, F)
        The gradient of `out`.
    q, k, v, mask, setting
        As for `forward`.
    out, lse : arrays
        From `forward`.
    into : three arrays, of the shapes of q, k and v, optional
        Where to write; elements of a row adjacent.

    Returns
    -------
    dq, dk, dv : arrays of the shapes of q, k and v
        Unless given, (B, length, heads, features) in memory.
    """
    _check("attention backward", q, k, v, mask)
    kind = q.dtype.type
    module = array_module(q)
    batch, heads, length, width = q.shape
    groups, keys = k.shape[1], k.shape[2]
    if g.shape != out.shape or g.dtype != q.dtype:
        raise ShapeError(
            f"attention backward: g is {g.dtype} of shape {g.shape}, expected "
            f"{q.dtype} of shape {out.shape}"
        )
    if into is None:
        made = [
            module.empty((x.shape[0], x.shape[2], x.shape[1], x.shape[3]), x.dtype)
            for x in (q, k, v)
        ]
        # (B, L, H, E) -> (B, H, L, E)
        dq, dk, dv = (x.transpose(0, 2, 1, 3) for x in made)
    else:
        dq, dk, dv = into
    if not lse.size or not keys or (setting.causal and keys > length):
        # Keys that no query sees, or queries without a key.
        for x in (dq, dk, dv):
            x[...] = 0
        if not lse.size or not keys:
            return dq, dk, dv
    g = module.ascontiguousarray(g)
    out = module.ascontiguousarray(out)
    numbers = kind(setting.scale), bool(setting.causal)
    thin = _thin(setting, kind, q)
    if on_cuda(q):
        flat, steps = _flat_mask(mask, q)
        # (B, H, L): sum(g out), that every score of a row shares
        share = module.empty(lse.shape, lse.dtype)
        args = (g, q, k, v, flat, *steps, *numbers, *thin)
        widest = max(width, v.shape[3])
        some = key_features(widest, q.dtype)
        queries_grad_cuda(
            *args, out, lse, share, dq, _tag(q, width),
            blocks=batch * heads * -(-length // ROWS),
        )  # fmt: skip
        keys_cuda(
            *args, share, lse, dk, dv, _tag(q, some),
            blocks=batch * groups * -(-keys // ROWS) * -(-widest // some),
        )  # fmt: skip
        return dq, dk, dv
    held = [_rows_adjacent(x) for x in (q, k, v)]
    places = [place for _, place in held] + [_place(x) for x in (dq, dk, dv)]
    shape = (heads, heads // groups, length, keys, width, v.shape[3])
    flat, lines = _standing_mask(mask)
    backward_cpu(
        g.reshape(-1), *places, flat, lines, shape, numbers,
        thin if setting.rate else None, out.reshape(-1), lse.reshape(-1),
    )  # fmt: skip
    return dq, dk, dv
