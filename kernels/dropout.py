"""Dropout, forward and backward, with a mask that is never stored.

Element i is kept where the uniform number of position ``offset + i`` is at least p,
and is then multiplied by 1 / (1 - p) (Srivastava et al. 2014, inverted). The backward
pass makes the same numbers again from seed and offset: the gradient is dropped out by
the same mask.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.backend.errors import Error
from nnlib.kernels import special
from nnlib.kernels.elementwise import scalar, scalar_type
from nnlib.kernels.machinery import (
    array_module,
    cpu_kernel,
    cpu_loop,
    cuda,
    cuda_kernel,
    on_cuda,
    spread,
)
from nnlib.kernels.machinery.cuda_vectors import put_apart, take_apart
from nnlib.kernels.philox import (
    CHUNK,
    DROPOUT,
    LANES,
    block_words,
    blocks_of,
    draws,
    first_block,
    place_of,
    stretch,
    unit_single,
)
from nnlib.kernels.random_keys import key_of, keyed

__all__ = ["backward", "forward"]

_KIND = np.uint64(DROPOUT)
_GAP = np.uint64(LANES)


@scalar
def kept(x: Any, word: Any, p: Any, scale: Any) -> Any:
    return special.select(unit_single(word) < p, type(x)(0), x * scale)


@cpu_loop
def drop(
    begin: Any, end: Any, x: Any, out: Any, seed: Any, offset: Any, p: Any, scale: Any
) -> None:
    for block in range(begin, end):
        start = np.uint64(block * CHUNK)
        count = min(x.size - block * CHUNK, CHUNK)
        source, before = stretch(seed, _KIND, offset + start, count)
        for i in range(np.uint64(count)):
            out[start + i] = kept(x[start + i], source[before + i], p, scale)


@cpu_kernel(shared=True)
def dropout_cpu(x: Any, out: Any, seed: Any, offset: Any, p: Any, scale: Any) -> None:
    blocks = (x.size + CHUNK - 1) // CHUNK
    spread(drop, blocks, 1, (x, out, seed, offset, p, scale))


@cuda_kernel
def dropout_cuda(x: Any, out: Any, seed: Any, offset: Any, p: Any, scale: Any) -> None:
    seed, offset = key_of(seed, offset)
    end = blocks_of(offset + np.uint64(x.size), _GAP)
    t = first_block(offset, _GAP) + np.uint64(cuda.grid(1))
    while t < end:
        i = place_of(t, _GAP, offset)
        a, b, c, d = take_apart(x, i, LANES)
        w0, w1, w2, w3 = block_words(seed, _KIND, t)
        a, b = kept(a, w0, p, scale), kept(b, w1, p, scale)
        c, d = kept(c, w2, p, scale), kept(d, w3, p, scale)
        put_apart(out, i, LANES, a, b, c, d)
        t += np.uint64(cuda.gridsize(1))


def forward(x: Any, p: float, seed: int, offset: int, out: Any = None) -> Any:
    """Set a random part of the elements to 0 and scale the rest.

    Parameters
    ----------
    x : array, any shape, float32 or float64
    p : float
        The probability of 0, from 0 to 1.
    seed, offset : int
        From a `Generator`'s ``reserve(x.size)``. Element i, in C order, uses position
        ``offset + i``.
    out : array like `x`, optional
        Where to write; it may be `x` itself.

    Returns
    -------
    array like `x`

    Raises
    ------
    Error
        If `p` is no probability.

    Examples
    --------
    >>> x = np.ones(1000, np.float32)
    >>> y = forward(x, 0.5, seed=0, offset=0)
    >>> sorted(set(y.tolist()))
    [0.0, 2.0]
    >>> bool((backward(x, 0.5, seed=0, offset=0) == y).all())
    True
    """
    kind = scalar_type("dropout", x)
    if not 0.0 <= p <= 1.0:
        raise Error(f"dropout: p is {p}, expected a probability from 0 to 1")
    module = array_module(x)
    if out is None:
        out = module.empty(x.shape, x.dtype)
    elif out.shape != x.shape or out.dtype != x.dtype:
        raise Error(
            f"dropout: out is {out.dtype} of shape {out.shape}, expected {x.dtype} of "
            f"shape {x.shape}"
        )
    # Positions count in C order, so that the mask does not depend on the layout.
    dense = module.ascontiguousarray(x).reshape(-1)
    target = out.reshape(-1) if out.flags.c_contiguous else module.empty_like(dense)
    scale = kind(1.0 / (1.0 - p) if p < 1.0 else 0.0)
    rate = np.float32(p)
    if on_cuda(x):
        key = keyed(seed, offset, x)
        items = draws(x.size, offset, LANES)
        dropout_cuda(dense, target, *key, rate, scale, items=items)
    else:
        dropout_cpu(dense, target, np.uint64(seed), np.uint64(offset), rate, scale)
    if not out.flags.c_contiguous:
        out[...] = target.reshape(x.shape)
    return out


def backward(grad: Any, p: float, seed: int, offset: int, out: Any = None) -> Any:
    """Return the gradient of `forward`'s input, with the mask made again.

    Parameters
    ----------
    grad : array, any shape, float32 or float64
    p, seed, offset
        As they were for `forward`.
    out : array like `grad`, optional
        Where to write; it may be `grad` itself.

    Returns
    -------
    array like `grad`
    """
    return forward(grad, p, seed, offset, out)
