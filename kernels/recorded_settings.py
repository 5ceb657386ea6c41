"""The settings of an optimiser's rule in a CUDA graph: read from memory.

A graph would hand the kernel the numbers of the step that was recorded. So there an
array of twelve stands for them, which the host writes before each replay.
"""

from __future__ import annotations

from typing import Any

from numba.extending import overload

from nnlib.kernels.machinery import cuda, cuda_kernel

__all__ = ["settings_of", "write_settings_cuda"]


def settings_of(h: Any) -> Any:
    """Return a rule's settings from what a CUDA kernel is given as such.

    Twelve numbers, or an array that holds them in place of the first.
    """
    a = h[0]
    if getattr(a, "ndim", 0) == 0:
        return h
    return (a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11])


@overload(settings_of, strict=False)  # type: ignore[untyped-decorator]
def _settings_overload(h: Any) -> Any:
    if not hasattr(h[0], "ndim"):
        return lambda h: h

    def read(h: Any) -> Any:
        a = h[0]
        return (
            a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11]
        )  # fmt: skip

    return read


@cuda_kernel(threads=32)
def write_settings_cuda(
    to: Any, h0: Any, h1: Any, h2: Any, h3: Any, h4: Any, h5: Any, h6: Any, h7: Any,
    h8: Any, h9: Any, h10: Any, h11: Any,
) -> None:  # fmt: skip
    """Write the numbers that the next replay's launch reads."""
    if cuda.grid(1) == 0:
        to[0], to[1], to[2], to[3] = h0, h1, h2, h3
        to[4], to[5], to[6], to[7] = h4, h5, h6, h7
        to[8], to[9], to[10], to[11] = h8, h9, h10, h11
