"""The order in which samples are visited, from a `Generator`'s counters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nnlib.backend.errors import DTypeError
from nnlib.backend.random import Generator, default_generator

__all__ = ["as_generator", "permutation", "uniforms"]


def as_generator(source: Generator | int | None) -> Generator:
    """Return a `Generator`: the one given, one with the seed given, or a new one.

    A new one takes its seed from the default generator, so that
    ``nnlib.manual_seed`` decides it, and draws from a stream of its own afterwards.
    """
    if isinstance(source, Generator):
        return source
    if source is None:
        seed, offset = default_generator.reserve(1)
        # the stream of (seed, offset) is a function of both; so is this seed
        return Generator().manual_seed(int(_bits(seed, offset, 1)[0]))
    if hasattr(source, "__index__"):
        return Generator().manual_seed(source.__index__())
    raise DTypeError(
        f"generator: expected a Generator, a seed or None, got {type(source).__name__}"
    )


def permutation(count: int, generator: Generator) -> NDArray[np.int64]:
    """Return the numbers from 0 to ``count - 1`` in random order.

    The order is that of `count` random words: NumPy promises that the words of a
    seed never change, which it does not for ``Generator.permutation``.

    Examples
    --------
    >>> sorted(permutation(4, as_generator(0)).tolist())
    [0, 1, 2, 3]
    """
    seed, offset = generator.reserve(count)
    return np.argsort(_bits(seed, offset, count)).astype(np.int64, copy=False)


def uniforms(count: int, generator: Generator) -> NDArray[np.float64]:
    """Return `count` float64 numbers from [0, 1), of 53 random bits each.

    Examples
    --------
    >>> 0 <= uniforms(1, as_generator(0))[0] < 1
    np.True_
    """
    seed, offset = generator.reserve(count)
    words = _bits(seed, offset, count) >> np.uint64(11)
    return words.astype(np.float64) * np.float64(2.0**-53)


def _bits(seed: int, offset: int, count: int) -> NDArray[np.uint64]:
    # one counter makes four words, so stretches of `count` counters never overlap
    return np.random.Philox(key=seed, counter=offset).random_raw(count)
