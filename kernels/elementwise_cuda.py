"""Element-wise loops for CUDA, made from a scalar function: see `elementwise`.

A thread takes four neighbouring elements at a time: all are read before the first is
used, 16 bytes at once where the arrays begin at multiples of that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nnlib.kernels.machinery import cuda
from nnlib.kernels.machinery.cuda_vectors import (
    aligned,
    inlined,
    load4,
    put4,
    quad_at,
    quad_end,
    take4,
)

__all__ = ["bias_map_loop", "gradient_loop", "map_loop"]


def map_loop(f: Callable[..., Any]) -> Callable[..., None]:
    """Return the loop of ``y = f(x, parameter)`` over flat arrays."""

    def gpu(x: Any, y: Any, parameter: Any) -> None:
        size = np.uint64(x.size)
        end = quad_end(size, aligned(x) and aligned(y))
        i = quad_at(cuda.grid(1))
        while i < size:
            whole = i < end
            a, b, c, d = take4(x, i, whole)
            a, b = f(a, parameter), f(b, parameter)
            c, d = f(c, parameter), f(d, parameter)
            put4(y, i, whole, a, b, c, d)
            i += quad_at(cuda.gridsize(1))

    return gpu


def gradient_loop(f: Callable[..., Any]) -> Callable[..., None]:
    """Return the loop of ``out = f(gradient, saved, parameter)`` over flat arrays."""

    def gpu(gradient: Any, saved: Any, out: Any, parameter: Any) -> None:
        size = np.uint64(out.size)
        wide = aligned(gradient) and aligned(saved) and aligned(out)
        end = quad_end(size, wide)
        i = quad_at(cuda.grid(1))
        while i < size:
            whole = i < end
            g0, g1, g2, g3 = take4(gradient, i, whole)
            s0, s1, s2, s3 = take4(saved, i, whole)
            r0, r1 = f(g0, s0, parameter), f(g1, s1, parameter)
            r2, r3 = f(g2, s2, parameter), f(g3, s3, parameter)
            put4(out, i, whole, r0, r1, r2, r3)
            i += quad_at(cuda.gridsize(1))

    return gpu


@inlined
def following(column: Any, columns: Any) -> Any:
    """Return the column after `column`: the first after the last."""
    column += np.uint64(1)
    return np.uint64(0) if column == columns else column


@inlined
def bias_quad(bias: Any, column: Any, columns: Any, even: Any) -> Any:
    """Return the bias of four neighbouring elements, the first of them in `column`."""
    if even:
        return load4(bias, column)
    second = following(column, columns)
    third = following(second, columns)
    fourth = following(third, columns)
    return bias[column], bias[second], bias[third], bias[fourth]


def bias_map_loop(f: Callable[..., Any]) -> Callable[..., None]:
    """Return the loop of ``y = f(x + bias, parameter)``, x and y flattened."""

    def gpu(x: Any, bias: Any, y: Any, parameter: Any) -> None:
        size, columns = np.uint64(x.size), np.uint64(bias.size)
        end = quad_end(size, aligned(x) and aligned(y))
        # Vectors of the bias too, where none crosses the end of a row. The column
        # goes along with the place: a division for each element takes longer than
        # to read it.
        even = columns % np.uint64(4) == np.uint64(0) and aligned(bias)
        i = quad_at(cuda.grid(1))
        column = i % columns
        turn = quad_at(cuda.gridsize(1)) % columns
        while i < size:
            whole = i < end
            a, b, c, d = take4(x, i, whole)
            b0, b1, b2, b3 = bias_quad(bias, column, columns, even)
            a, b = f(a + b0, parameter), f(b + b1, parameter)
            c, d = f(c + b2, parameter), f(d + b3, parameter)
            put4(y, i, whole, a, b, c, d)
            i += quad_at(cuda.gridsize(1))
            column += turn
            if column >= columns:
                column -= columns

    return gpu
