"""Random numbers from counters: Philox4x32-10, equal on the CPU and on CUDA.

Philox (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3)
turns a 128-bit counter and a 64-bit key into four random words by ten rounds of
multiplication. Here the key is the seed, and the counter is (block, kind): 64 bits that
count the blocks, then 64 bits that keep draws of different kinds apart.

Element i of a draw belongs to position ``p = offset + i`` of the seed's stream and to
nothing else: not to the size of the draw, the device or the number of threads. The
words are laid out in groups of 64 blocks, first words first::

    word p = word (p % 256) // 64 of block (p // 256) * 64 + p % 64

so that on the CPU neighbouring elements come from neighbouring lanes of one vector
computation (ten times as fast as block by block). A draw of 64 bits at p takes words
2 p and 2 p + 1 of its kind; a normal draw takes two words or 64-bit draws for each pair
of positions (2 k, 2 k + 1), of which one gets the cosine and one the sine.

Integers and uniforms are equal on both targets to the last bit; normals are to the
rounding of log, cos and sin.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from nnlib.backend.errors import DTypeError, ShapeError
from nnlib.kernels import special
from nnlib.kernels.elementwise import scalar, scalar_type
from nnlib.kernels.machinery import (
    array_module,
    body,
    cpu_kernel,
    cpu_loop,
    cuda,
    cuda_kernel,
    on_cuda,
    spread,
)
from nnlib.kernels.machinery.cuda_vectors import put_apart
from nnlib.kernels.random_keys import key_of, keyed

__all__ = ["bernoulli", "random_bits", "randint", "uniform", "word_at"]

LANES = 64
GROUP = 4 * LANES
# Elements of one task; a multiple of the group.
CHUNK = 4096

# Kinds of draws; the third word of the counter.
BITS = 0
WIDE = 1
NORMAL = 2
DROPOUT = 3

_MASK = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
# The multipliers and key increments of the paper (section 3.3 and Random123).
_MULTIPLY_0 = np.uint64(0xD2511F53)
_MULTIPLY_1 = np.uint64(0xCD9E8D57)
_WEYL_0 = np.uint64(0x9E3779B9)
_WEYL_1 = np.uint64(0xBB67AE85)


@intrinsic  # type: ignore[untyped-decorator]
def _wide_product(typing_context: Any, a: Any, b: Any) -> Any:
    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        half, whole = ir.IntType(32), ir.IntType(64)
        function = ir.FunctionType(whole, [half, half])
        parts = [builder.trunc(value, half) for value in args]
        return builder.asm(function, "mul.wide.u32 $0, $1, $2;", "=l,r,r", parts, False)

    return types.uint64(types.uint64, types.uint64), lower


def product(a: Any, b: Any) -> Any:
    """Return a * b: uint64 with 32 bits in use, which CUDA is told by the instruction.

    From the bits alone the compiler does not see it, and adds up three products.
    """
    return a * b


overload(product, strict=False)(lambda a, b: lambda a, b: _wide_product(a, b))
overload(product, target="cpu", strict=False)(lambda a, b: lambda a, b: a * b)


@scalar
def philox(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> Any:
    """Return four random words; all are uint64 with 32 bits in use."""
    for _ in range(10):
        x = product(c0, _MULTIPLY_0)
        y = product(c2, _MULTIPLY_1)
        c0 = (y >> _HALF) ^ c1 ^ k0
        c1 = y & _MASK
        c2 = (x >> _HALF) ^ c3 ^ k1
        c3 = x & _MASK
        k0 = (k0 + _WEYL_0) & _MASK
        k1 = (k1 + _WEYL_1) & _MASK
    return c0, c1, c2, c3


@scalar
def word_at(seed: Any, kind: Any, position: Any) -> Any:
    """Return word `position` of a kind; all are uint64."""
    group = position >> np.uint64(8)
    block = (group << np.uint64(6)) + (position & np.uint64(63))
    c0, c1, c2, c3 = philox(
        block & _MASK, block >> _HALF, kind, np.uint64(0), seed & _MASK, seed >> _HALF
    )
    number = (position >> np.uint64(6)) & np.uint64(3)
    low = special.select(number == np.uint64(0), c0, c1)
    high = special.select(number == np.uint64(2), c2, c3)
    return special.select(number < np.uint64(2), low, high)


@scalar
def block_words(seed: Any, kind: Any, block: Any) -> Any:
    """Return the four words of a block, as uint32."""
    c0, c1, c2, c3 = philox(
        block & _MASK, block >> _HALF, kind, np.uint64(0), seed & _MASK, seed >> _HALF
    )
    return np.uint32(c0), np.uint32(c1), np.uint32(c2), np.uint32(c3)


# A CUDA thread draws from one block at a time, or a few neighbouring ones if an element
# takes more than a word: then from the t-th few. Its four elements are `gap` apart.


@scalar
def first_block(position: Any, gap: Any) -> Any:
    """Return the first block of the group that element `position` belongs to."""
    return position // (np.uint64(4) * gap) * gap


@scalar
def blocks_of(position: Any, gap: Any) -> Any:
    """Return where the blocks of the elements before `position` end."""
    return first_block(position + np.uint64(4) * gap - np.uint64(1), gap)


@scalar
def place_of(t: Any, gap: Any, offset: Any) -> Any:
    """Return the place, from `offset` on, of the first of the elements of block `t`."""
    return np.int64(t // gap * (np.uint64(4) * gap) + t % gap) - np.int64(offset)


def draws(size: int, offset: int, gap: int) -> int:
    """Return how many blocks the elements from `offset` on take; none for none."""
    if not size:
        return 0
    group = 4 * gap
    return ((offset + size + group - 1) // group - offset // group) * gap


@body
def stretch(seed: Any, kind: Any, position: Any, count: Any) -> Any:
    """Return words from `position` on, and how many come before `position` (CPU)."""
    group = position >> np.uint64(8)
    before = position & np.uint64(GROUP - 1)
    groups = (np.int64(before) + count + GROUP - 1) // GROUP
    out = np.empty(groups * GROUP, np.uint32)
    key_0 = seed & _MASK
    key_1 = seed >> _HALF
    for g in range(np.uint64(groups)):
        first = (group + g) * np.uint64(LANES)
        at = g * np.uint64(GROUP)
        for j in range(np.uint64(LANES)):
            block = first + j
            c0, c1, c2, c3 = philox(
                block & _MASK, block >> _HALF, kind, np.uint64(0), key_0, key_1
            )
            out[at + j] = c0
            out[at + j + np.uint64(LANES)] = c1
            out[at + j + np.uint64(2 * LANES)] = c2
            out[at + j + np.uint64(3 * LANES)] = c3
    return out, before


@scalar
def unit_single(word: Any) -> Any:
    """Return a float32 in [0, 1) from the upper 24 bits of a word."""
    return np.float32(np.uint32(word) >> np.uint32(8)) * np.float32(2.0**-24)


@scalar
def unit_double(low: Any, high: Any) -> Any:
    """Return a float64 in [0, 1) from the upper 53 bits of two words."""
    bits = (np.uint64(high) << _HALF) | np.uint64(low)
    return np.float64(bits >> np.uint64(11)) * np.float64(2.0**-53)


class Draw:
    """A kernel that fills an array, each element from the words of its position.

    Parameters
    ----------
    function : callable
        A `scalar` function of a module, ``f(low, high, a, b)``: one or two random words
        and two settings.
    width : int
        How many words an element takes; with 1, `high` is 0.
    kind : int
        The kind of words.
    """

    def __init__(self, function: Any, width: int, kind: int) -> None:
        self.__name__ = function.__name__
        self.gap = LANES // width
        cpu, gpu = _loops(function, width, kind)
        for loop, suffix in ((cpu, "cpu"), (gpu, "cuda")):
            loop.__name__ = loop.__qualname__ = f"{self.__name__}_{suffix}"
        self.cpu = cpu_kernel(shared=True)(cpu)
        self.cuda = cuda_kernel(gpu)

    def __call__(self, out: Any, seed: int, offset: int, a: Any, b: Any) -> Any:
        """Fill `out`, of any shape, in C order."""
        flat = out.reshape(-1) if out.flags.c_contiguous else None
        if flat is None:
            flat = array_module(out).empty(out.size, out.dtype)
        if on_cuda(out):
            key = keyed(seed, offset, out)
            self.cuda(flat, *key, a, b, items=draws(flat.size, offset, self.gap))
        else:
            self.cpu(flat, np.uint64(seed), np.uint64(offset), a, b)
        if not out.flags.c_contiguous:
            out[...] = flat.reshape(out.shape)
        return out


def _loops(f: Any, width: int, kind: int) -> tuple[Any, Any]:
    kind_word = np.uint64(kind)
    words_each = np.uint64(width)

    @cpu_loop
    def loop(
        begin: Any, end: Any, out: Any, seed: Any, offset: Any, a: Any, b: Any
    ) -> None:
        for k in range(begin, end):
            start = k * CHUNK
            count = CHUNK if start + CHUNK < out.size else out.size - start
            position = (offset + np.uint64(start)) * words_each
            source, before = stretch(seed, kind_word, position, count * width)
            part = out[start : start + count]
            for i in range(np.uint64(count)):
                at = before + i * words_each
                high = source[at + np.uint64(1)] if width > 1 else np.uint32(0)
                part[i] = f(source[at], high, a, b)

    def cpu(out: Any, seed: Any, offset: Any, a: Any, b: Any) -> None:
        blocks = (out.size + CHUNK - 1) // CHUNK
        spread(loop, blocks, 1, (out, seed, offset, a, b))

    gap = np.uint64(LANES // width)

    def gpu(out: Any, seed: Any, offset: Any, a: Any, b: Any) -> None:
        seed, offset = key_of(seed, offset)
        size = np.uint64(out.size)
        end = blocks_of(offset + size, gap)
        t = first_block(offset, gap) + np.uint64(cuda.grid(1))
        while t < end:
            l0, l1, l2, l3 = block_words(seed, kind_word, t * words_each)
            h0, h1, h2, h3 = l0, l1, l2, l3
            if width > 1:
                h0, h1, h2, h3 = block_words(
                    seed, kind_word, t * words_each + np.uint64(1)
                )
            i = place_of(t, gap, offset)
            x, y = f(l0, h0, a, b), f(l1, h1, a, b)
            z, w = f(l2, h2, a, b), f(l3, h3, a, b)
            put_apart(out, i, np.int64(gap), x, y, z, w)
            t += np.uint64(cuda.gridsize(1))

    return cpu, gpu


@scalar
def bits_single(low: Any, high: Any, a: Any, b: Any) -> Any:
    return low


@scalar
def bits_double(low: Any, high: Any, a: Any, b: Any) -> Any:
    return (np.uint64(high) << _HALF) | np.uint64(low)


@scalar
def uniform_single(low: Any, high: Any, a: Any, b: Any) -> Any:
    return a + b * unit_single(low)


@scalar
def uniform_double(low: Any, high: Any, a: Any, b: Any) -> Any:
    return a + b * unit_double(low, high)


@scalar
def integer(low: Any, high: Any, a: Any, b: Any) -> Any:
    """Return a + floor(b * w / 2**32) for b up to 2**32, else a + (64 bits mod b)."""
    if b <= _MASK:
        return a + np.int64((np.uint64(high) * b) >> _HALF)
    return a + np.int64(((np.uint64(high) << _HALF) | np.uint64(low)) % b)


@scalar
def event(low: Any, high: Any, a: Any, b: Any) -> Any:
    return unit_single(low) < a


_bits_single = Draw(bits_single, 1, BITS)
_bits_double = Draw(bits_double, 2, WIDE)
_uniform_single = Draw(uniform_single, 1, BITS)
_uniform_double = Draw(uniform_double, 2, WIDE)
_integer = Draw(integer, 2, WIDE)
_event = Draw(event, 1, BITS)


def random_bits(out: Any, seed: int, offset: int) -> Any:
    """Fill a uint32 or uint64 array with random bits.

    Parameters
    ----------
    out : array, any shape, uint32 or uint64
    seed : int
        From 0 to 2**64 - 1.
    offset : int
        The position of the first element in the seed's stream, below 2**62.

    Returns
    -------
    array
        `out`.

    Examples
    --------
    >>> [hex(x) for x in random_bits(np.empty(2, np.uint32), 0, 0)]
    ['0x6627e8d5', '0xf8e4cca4']
    """
    if out.dtype == np.uint32:
        return _bits_single(out, seed, offset, 0, 0)
    if out.dtype == np.uint64:
        return _bits_double(out, seed, offset, 0, 0)
    raise DTypeError(f"random_bits: expected uint32 or uint64, got {out.dtype}")


def uniform(
    out: Any, seed: int, offset: int, low: float = 0.0, high: float = 1.0
) -> Any:
    """Fill a float32 or float64 array with uniform numbers from [low, high).

    A float32 has 24 random bits, a float64 has 53. Rounding may give `high` itself
    where low is not 0.

    Parameters
    ----------
    out : array, any shape, float32 or float64
    seed, offset : int
        As for `random_bits`.

    Returns
    -------
    array
        `out`.
    """
    kind = scalar_type("uniform", out)
    draw = _uniform_single if kind is np.float32 else _uniform_double
    return draw(out, seed, offset, kind(low), kind(high - low))


def randint(out: Any, seed: int, offset: int, low: int, high: int) -> Any:
    """Fill an int64 array with integers from [low, high).

    Parameters
    ----------
    out : array, any shape, int64
    seed, offset : int
        As for `random_bits`.

    Returns
    -------
    array
        `out`.

    Raises
    ------
    ShapeError
        If the range is empty.
    """
    if out.dtype != np.int64:
        raise DTypeError(f"randint: expected int64, got {out.dtype}")
    if high <= low:
        raise ShapeError(f"randint: the range from {low} to {high} is empty")
    return _integer(out, seed, offset, np.int64(low), np.uint64(high - low))


def bernoulli(out: Any, seed: int, offset: int, p: float) -> Any:
    """Fill a bool array with events of probability `p`.

    Parameters
    ----------
    out : array, any shape, bool
    seed, offset : int
        As for `random_bits`.

    Returns
    -------
    array
        `out`: true where the float32 uniform of the same position is below `p`.
    """
    if out.dtype != np.bool_:
        raise DTypeError(f"bernoulli: expected bool, got {out.dtype}")
    return _event(out, seed, offset, np.float32(p), np.float32(0))
