"""What the arguments of pooling mean, and whether they fit together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nnlib import kernels
from nnlib.backend.errors import DTypeError, ShapeError
from nnlib.ops.convolution_arguments import per_dim
from nnlib.ops.loss import check_float

__all__ = ["adaptive_sizes", "over_batch", "sliding_sizes"]

Sizes = tuple[int, ...]


def check_input(op: str, input: Any, rank: int) -> Sizes:
    """Return the shape of (N, C, *spatial) or (C, *spatial), or refuse it."""
    if not hasattr(input, "dtype"):
        raise DTypeError(f"{op}: input: expected a tensor, got {type(input).__name__}")
    shape = tuple(input.shape)
    if len(shape) not in (rank + 1, rank + 2):
        raise ShapeError(
            f"{op}: input: expected {rank + 2} dimensions, or {rank + 1} without a "
            f"batch, got shape {shape}"
        )
    check_float(op, "input", input)
    if 0 in shape[-rank:]:
        raise ShapeError(f"{op}: input: the spatial size is empty, got shape {shape}")
    return shape


def over_batch(input: Any, rank: int, run: Callable[[Any], Any]) -> Any:
    """Apply `run` to input with a batch dimension, which is added and taken off."""
    if len(input.shape) == rank + 2:
        return run(input)
    out = run(input[None])
    return tuple(x[0] for x in out) if type(out) is tuple else out[0]


def sliding_sizes(
    op: str,
    input: Any,
    rank: int,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
) -> list[Sizes]:
    """Return (size, out, kernel, stride, padding, dilation) per dimension.

    Raises
    ------
    ShapeError, DTypeError
        As the public functions say.
    """
    shape = check_input(op, input, rank)
    kernel = per_dim(op, "kernel_size", kernel_size, rank, 1)
    same = stride is None or (isinstance(stride, tuple | list) and not stride)
    steps = kernel if same else per_dim(op, "stride", stride, rank, 1)
    border = per_dim(op, "padding", padding, rank, 0)
    gaps = per_dim(op, "dilation", dilation, rank, 1)
    found: list[Sizes] = []
    for size, k, s, p, d in zip(
        shape[-rank:], kernel, steps, border, gaps, strict=True
    ):
        span = d * (k - 1) + 1
        if 2 * p > span:
            raise ShapeError(
                f"{op}: padding: expected at most half of the kernel's extent "
                f"({span}), got {p}"
            )
        free = size + 2 * p - span
        out = (free + (s - 1 if ceil_mode else 0)) // s + 1
        if out < 1:
            raise ShapeError(
                f"{op}: kernel_size: {k} with dilation {d} spans {span}, more than "
                f"the input's {size} padded by {p} on each side"
            )
        # A window that starts behind the input and its padding is no window.
        if ceil_mode and (out - 1) * s >= size + p:
            out -= 1
        found.append((size, out, k, s, p, d))
    if max(gaps) > 1:
        _check_held(op, found)
    return found


def _check_held(op: str, sizes: list[Sizes]) -> None:
    for size in sizes:
        ptr = kernels.windows.sliding(*size).ptr
        if (ptr[1:] == ptr[:-1]).any():
            raise ShapeError(
                f"{op}: dilation: {size[5]} leaves a window that holds padding alone"
            )


def adaptive_sizes(op: str, input: Any, rank: int, output_size: Any) -> list[Sizes]:
    """Return (size, out) per dimension; None keeps the input's.

    Raises
    ------
    ShapeError, DTypeError
        As the public functions say.
    """
    shape = check_input(op, input, rank)[-rank:]
    given = output_size if isinstance(output_size, tuple | list) else (output_size,)
    if len(given) == 1:
        given = tuple(given) * rank
    if len(given) == rank:
        given = tuple(
            size if out is None else out for size, out in zip(shape, given, strict=True)
        )
    wanted = per_dim(op, "output_size", given, rank, 0)
    return list(zip(shape, wanted, strict=True))
