"""What large convolutions and attention hold beside their arrays, in bytes.

The bounds are those of docs/convolution.md and docs/attention.md. Buffers of compiled
loops are not seen by `tracemalloc`: resident memory is what counts.
"""

from __future__ import annotations

import gc
import math
import sys

import numpy as np
import pytest

import nnlib
import nnlib.nn.functional as F
from nnlib import kernels
from nnlib.backend import memory

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="Linux tells a peak that starts anew"
)
# Pages of 2 MB may be given for a byte, at each end; and what Python itself takes.
SLACK = 5_000_000


@pytest.fixture
def two_threads():
    """Bounds are by thread: with many they would exceed what is not to be held."""
    threads = nnlib.get_num_threads()
    nnlib.set_num_threads(min(2, threads))
    yield
    nnlib.set_num_threads(threads)


def held(call):
    """Return the bytes beyond before and beyond its results at a call's worst moment.

    The smaller of two: other threads of the process may allocate too.
    """
    call()
    found = []
    for _ in range(2):
        gc.collect()
        memory.empty_cache("cpu")
        assert memory.reset_peak()
        before = memory.memory_stats("cpu").used
        result = call()
        peak = memory.memory_stats("cpu").peak
        found.append(peak - before - sum(x.nbytes for x in result))
    return min(found)


def draw(rng, shape, last):
    """Return numbers, channels-last in memory or as they are."""
    values = rng.standard_normal(shape, dtype="f4")
    return np.moveaxis(np.moveaxis(values, 1, -1).copy(), -1, 1) if last else values


def bounds(way, c, k, weight, groups):
    """Return what the page states, forward, by the input and by the weight."""
    threads = nnlib.get_num_threads()
    scale = kernels.machinery.caches.level2_bytes() / 2**20
    frame = 2**18 * scale
    if way == "winograd":
        both = threads * max(0.75 * 2**20 * scale, 3456 * (c + k)) + 4 * weight
        tiles = max(1.5 * 2**20 * scale, 4608 * (c + k))
        return both, both, threads * (tiles + 4 * weight)
    # Channels are rounded up to whole vectors of 16 numbers.
    packed = weight * math.prod(
        -(-n // 16) * 16 / n for n in (c // groups, k // groups)
    )
    sums = 2**27 if way == "partial" else threads * packed
    return threads * frame + packed, threads * frame + packed, threads * frame + sums


@pytest.mark.parametrize("last", [True, False], ids=["channels-last", "NCHW"])
@pytest.mark.parametrize(
    ("way", "n", "c", "k", "size", "kernel", "groups"),
    [
        ("winograd", 2, 64, 64, 128, 3, 1),
        ("direct", 2, 32, 32, 128, 5, 1),
        ("depthwise", 2, 64, 64, 128, 5, 64),
    ],
)
@pytest.mark.usefixtures("two_threads")
def test_convolutions_gather_no_patches(rng, way, n, c, k, size, kernel, groups, last):
    x = draw(rng, (n, c, size, size), last)
    w = rng.standard_normal((k, c // groups, kernel, kernel), dtype="f4")
    g = draw(rng, (n, k, size, size), last)
    taken = (1, 1), (kernel // 2,) * 2, (1, 1), groups
    run = kernels.convolution
    calls = (
        lambda: (run.convolve(x, w, None, (size, size), *taken),),
        lambda: (run.input_grad(g, w, None, (size, size), *taken),),
        lambda: (run.weight_grad(x, g, (kernel, kernel), *taken),),
    )
    patches_of_an_image = x[0].nbytes * kernel**2
    stated = bounds(way, c, k, w.nbytes, groups)
    # Of an array that is not channels-last there may be a copy.
    copies = (0, 0, 0) if last else (x.nbytes, g.nbytes, x.nbytes + g.nbytes)
    for call, bound, copy in zip(calls, stated, copies, strict=True):
        assert held(call) <= bound + copy + SLACK
        assert bound + copy + SLACK < patches_of_an_image


@pytest.mark.usefixtures("two_threads")
def test_attention_holds_no_scores(rng):
    length, width = 4096, 16
    q = nnlib.tensor(rng.standard_normal((1, 1, length, width), dtype="f4"))

    def step():
        x = q.detach().requires_grad_()
        F.scaled_dot_product_attention(x, x, x).sum().backward()
        return (x.grad.array,)

    # The scores of one head would be 64 MiB; here some vectors of the length.
    assert held(step) <= 16 * q.array.nbytes + SLACK
