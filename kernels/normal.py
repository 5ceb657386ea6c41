"""Normal random numbers from Philox words, by the method of Box and Muller (1958).

Positions 2 k and 2 k + 1 of the stream share a radius and an angle; one gets the
cosine, the other the sine. Element i depends on its position alone, as in `philox`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

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
from nnlib.kernels.machinery.cuda_vectors import aligned, put2
from nnlib.kernels.philox import (
    CHUNK,
    LANES,
    NORMAL,
    block_words,
    blocks_of,
    draws,
    first_block,
    place_of,
    stretch,
    unit_double,
    unit_single,
    word_at,
)
from nnlib.kernels.random_keys import key_of, keyed

__all__ = ["normal"]

_KIND = np.uint64(NORMAL)
_ONE = np.uint64(1)
# Pairs of one group of blocks are so far apart on CUDA, and their elements.
_GAP = np.uint64(LANES // 2)
_STEP = LANES


@scalar
def pair_of_normals(radius_unit: Any, angle_unit: Any) -> Any:
    """Return two normal numbers from a uniform in (0, 1] and one in [0, 1).

    Box and Muller 1958.
    """
    kind = type(radius_unit)
    radius = special.near_sqrt(kind(-2) * special.log(radius_unit))
    cosine, sine = special.cos_sin_turns(angle_unit)
    return radius * cosine, radius * sine


@scalar
def pair_single(w0: Any, w1: Any) -> Any:
    # A multiple of 2**-32 above 0, so that the logarithm is finite.
    radius = np.float32(np.uint32(w0)) * np.float32(2.0**-32) + np.float32(2.0**-33)
    return pair_of_normals(radius, unit_single(w1))


@scalar
def pair_double(w0: Any, w1: Any, w2: Any, w3: Any) -> Any:
    radius = unit_double(w0, w1) + np.float64(2.0**-54)
    return pair_of_normals(radius, unit_double(w2, w3))


@cpu_loop
def fill_single(
    begin: Any, end: Any, out: Any, seed: Any, offset: Any, mean: Any, std: Any
) -> None:
    for block in range(begin, end):
        start = np.uint64(block * CHUNK)
        count = min(out.size - block * CHUNK, CHUNK)
        position = offset + start
        skip = position & _ONE
        pairs = (np.int64(skip) + count + 1) // 2
        source, before = stretch(seed, _KIND, position - skip, 2 * pairs)
        z = np.empty(2 * pairs, np.float32)
        for k in range(np.uint64(pairs)):
            at = before + k + k
            a, b = pair_single(source[at], source[at + _ONE])
            z[k + k] = mean + std * a
            z[k + k + _ONE] = mean + std * b
        for i in range(np.uint64(count)):
            out[start + i] = z[skip + i]


@cpu_loop
def fill_double(
    begin: Any, end: Any, out: Any, seed: Any, offset: Any, mean: Any, std: Any
) -> None:
    for block in range(begin, end):
        start = np.uint64(block * CHUNK)
        count = min(out.size - block * CHUNK, CHUNK)
        position = offset + start
        skip = position & _ONE
        pairs = (np.int64(skip) + count + 1) // 2
        position = (position - skip) * np.uint64(2)
        source, before = stretch(seed, _KIND, position, 4 * pairs)
        z = np.empty(2 * pairs, np.float64)
        for k in range(np.uint64(pairs)):
            at = before + k * np.uint64(4)
            a, b = pair_double(
                source[at], source[at + _ONE], source[at + np.uint64(2)],
                source[at + np.uint64(3)],
            )  # fmt: skip
            z[k + k] = mean + std * a
            z[k + k + _ONE] = mean + std * b
        for i in range(np.uint64(count)):
            out[start + i] = z[skip + i]


@cpu_kernel(shared=True)
def normal_single_cpu(out: Any, seed: Any, offset: Any, mean: Any, std: Any) -> None:
    blocks = (out.size + CHUNK - 1) // CHUNK
    spread(fill_single, blocks, 1, (out, seed, offset, mean, std))


@cpu_kernel(shared=True)
def normal_double_cpu(out: Any, seed: Any, offset: Any, mean: Any, std: Any) -> None:
    blocks = (out.size + CHUNK - 1) // CHUNK
    spread(fill_double, blocks, 1, (out, seed, offset, mean, std))


@scalar
def put_normals(
    out: Any, i: Any, end: Any, low: Any, high: Any, mean: Any, std: Any
) -> None:
    a, b = pair_single(low, high)
    put2(out, i, 0 <= i < end, mean + std * a, mean + std * b)


@cuda_kernel
def normal_single_cuda(out: Any, seed: Any, offset: Any, mean: Any, std: Any) -> None:
    # Places are counted in pairs: a thread draws four from two neighbouring blocks.
    seed, offset = key_of(seed, offset)
    size = np.uint64(out.size)
    even = aligned(out) and offset & _ONE == np.uint64(0)
    whole_end = np.int64(size & ~_ONE) if even else np.int64(0)
    end = blocks_of((offset + size + _ONE) >> _ONE, _GAP)
    t = first_block(offset >> _ONE, _GAP) + np.uint64(cuda.grid(1))
    while t < end:
        l0, l1, l2, l3 = block_words(seed, _KIND, t + t)
        h0, h1, h2, h3 = block_words(seed, _KIND, t + t + _ONE)
        i = 2 * place_of(t, _GAP, offset >> _ONE) - np.int64(offset & _ONE)
        put_normals(out, i, whole_end, l0, h0, mean, std)
        put_normals(out, i + _STEP, whole_end, l1, h1, mean, std)
        put_normals(out, i + 2 * _STEP, whole_end, l2, h2, mean, std)
        put_normals(out, i + 3 * _STEP, whole_end, l3, h3, mean, std)
        t += np.uint64(cuda.gridsize(1))


@cuda_kernel
def normal_double_cuda(out: Any, seed: Any, offset: Any, mean: Any, std: Any) -> None:
    seed, offset = key_of(seed, offset)
    for i in range(cuda.grid(1), out.size, cuda.gridsize(1)):
        position = offset + np.uint64(i)
        odd = position & _ONE
        at = (position - odd) * np.uint64(2)
        a, b = pair_double(
            word_at(seed, _KIND, at),
            word_at(seed, _KIND, at + _ONE),
            word_at(seed, _KIND, at + np.uint64(2)),
            word_at(seed, _KIND, at + np.uint64(3)),
        )
        out[i] = mean + std * special.select(odd == _ONE, b, a)


def normal(
    out: Any, seed: int, offset: int, mean: float = 0.0, std: float = 1.0
) -> Any:
    """Fill a float32 or float64 array with normal numbers.

    Parameters
    ----------
    out : array, any shape, float32 or float64
    seed : int
        From 0 to 2**64 - 1.
    offset : int
        The position of the first element in the seed's stream, below 2**61.
    mean, std : float

    Returns
    -------
    array
        `out`. Equal on every device up to the rounding of log, cos and sin.

    Examples
    --------
    >>> bool(abs(normal(np.empty(1000), 1, 0).mean()) < 0.1)
    True
    """
    kind = scalar_type("normal", out)
    dense = out.flags.c_contiguous
    flat = out.reshape(-1) if dense else array_module(out).empty(out.size, out.dtype)
    single = kind is np.float32
    shape = kind(mean), kind(std)
    if on_cuda(out):
        key = keyed(seed, offset, out)
        if single:
            pairs = (offset + flat.size + 1) // 2 - offset // 2 if flat.size else 0
            items = draws(pairs, offset // 2, LANES // 2)
            normal_single_cuda(flat, *key, *shape, items=items)
        else:
            normal_double_cuda(flat, *key, *shape, items=flat.size)
    else:
        fill = normal_single_cpu if single else normal_double_cpu
        fill(flat, np.uint64(seed), np.uint64(offset), *shape)
    if not dense:
        out[...] = flat.reshape(out.shape)
    return out
