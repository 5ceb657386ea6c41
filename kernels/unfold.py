"""Windows of images as columns (unfold), and the sum of columns into images (fold).

With L windows of T = kh * kw elements: (N, C, H, W) <-> (N, C * T, L). Each is the
other's transpose; the sum is taken by the element of the image, so that nothing is
scattered and the order of the sum is fixed. One body for both targets.
"""

from __future__ import annotations

from typing import Any

from nnlib.kernels.channels import check_out
from nnlib.kernels.machinery import (
    array_module,
    body,
    cpu_kernel,
    cuda,
    cuda_kernel,
    on_cuda,
    prange,
)

__all__ = ["fold", "unfold"]


@body
def unfold_at(
    x: Any, columns: Any, i: Any, wide: Any, kh: Any, kw: Any, sh: Any, sw: Any,
    ph: Any, pw: Any, dh: Any, dw: Any,
) -> None:  # fmt: skip
    """Write element `i` of (N, C, kh * kw, L); `wide` windows lie side by side."""
    length = columns.shape[3]
    place = i % length
    rest = i // length
    tap = rest % (kh * kw)
    rest = rest // (kh * kw)
    c = rest % x.shape[1]
    n = rest // x.shape[1]
    h = place // wide * sh - ph + tap // kw * dh
    w = place % wide * sw - pw + tap % kw * dw
    inside = h >= 0 and h < x.shape[2] and w >= 0 and w < x.shape[3]
    columns[n, c, tap, place] = x[n, c, h, w] if inside else x.dtype.type(0)


@body
def fold_at(
    columns: Any, x: Any, i: Any, wide: Any, kh: Any, kw: Any, sh: Any, sw: Any,
    ph: Any, pw: Any, dh: Any, dw: Any,
) -> None:  # fmt: skip
    """Write element `i` of an image: the sum of its copies."""
    width = x.shape[3]
    w = i % width
    rest = i // width
    h = rest % x.shape[2]
    rest = rest // x.shape[2]
    c = rest % x.shape[1]
    n = rest // x.shape[1]
    high = columns.shape[3] // wide
    total = x.dtype.type(0)
    for a in range(kh):
        top = h + ph - a * dh
        if top >= 0 and top % sh == 0 and top // sh < high:
            for b in range(kw):
                left = w + pw - b * dw
                if left >= 0 and left % sw == 0 and left // sw < wide:
                    place = top // sh * wide + left // sw
                    total += columns[n, c, a * kw + b, place]
    x[n, c, h, w] = total


@cpu_kernel
def unfold_cpu(x, columns, wide, kh, kw, sh, sw, ph, pw, dh, dw):  # type: ignore[no-untyped-def]
    for i in prange(columns.size):
        unfold_at(x, columns, i, wide, kh, kw, sh, sw, ph, pw, dh, dw)


@cuda_kernel
def unfold_cuda(x, columns, wide, kh, kw, sh, sw, ph, pw, dh, dw):  # type: ignore[no-untyped-def]
    for i in range(cuda.grid(1), columns.size, cuda.gridsize(1)):
        unfold_at(x, columns, i, wide, kh, kw, sh, sw, ph, pw, dh, dw)


@cpu_kernel
def fold_cpu(columns, x, wide, kh, kw, sh, sw, ph, pw, dh, dw):  # type: ignore[no-untyped-def]
    for i in prange(x.size):
        fold_at(columns, x, i, wide, kh, kw, sh, sw, ph, pw, dh, dw)


@cuda_kernel
def fold_cuda(columns, x, wide, kh, kw, sh, sw, ph, pw, dh, dw):  # type: ignore[no-untyped-def]
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        fold_at(columns, x, i, wide, kh, kw, sh, sw, ph, pw, dh, dw)


def unfold(
    x: Any,
    windows: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    *,
    out: Any = None,
) -> Any:
    """Return the windows of (N, C, H, W) as columns (N, C * kh * kw, L).

    Parameters
    ----------
    x : array, shape (N, C, H, W)
    windows : tuple of int
        How many windows lie one below the other and side by side.
    kernel, stride, padding, dilation : tuple of int
        Height and width each; zeros are read in the padding.
    out : array, shape (N, C * kh * kw, L), dtype of `x`, optional
        Where to write the result, which is returned.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(6.0).reshape(1, 1, 2, 3)
    >>> unfold(x, (1, 2), (2, 2), (1, 1), (0, 0), (1, 1))[0].T
    array([[0., 1., 3., 4.],
           [1., 2., 4., 5.]])
    """
    module = array_module(x)
    n, c = x.shape[:2]
    taps, length = kernel[0] * kernel[1], windows[0] * windows[1]
    given = out is not None
    if given:
        check_out("unfold", out, (n, c * taps, length), x.dtype)
    direct = given and out.flags.c_contiguous
    columns = out if direct else module.empty((n, c * taps, length), x.dtype)
    columns = columns.reshape(n, c, taps, length)
    args = (windows[1], *kernel, *stride, *padding, *dilation)
    x = module.ascontiguousarray(x)
    if on_cuda(x):
        unfold_cuda(x, columns, *args, items=columns.size)
    elif columns.size:
        unfold_cpu(x, columns, *args)
    if given and not direct:
        out[...] = columns.reshape(n, c * taps, length)
    return out if given else columns.reshape(n, c * taps, length)


def fold(
    columns: Any,
    size: tuple[int, int],
    windows: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    *,
    out: Any = None,
) -> Any:
    """Return the sum of columns (N, C * kh * kw, L) as images (N, C, H, W).

    Parameters
    ----------
    columns : array, shape (N, C * kh * kw, L)
    size : tuple of int
        Height and width of the images.
    windows, kernel, stride, padding, dilation : tuple of int
        As in `unfold`, whose transpose this is.
    out : array, shape (N, C, H, W), dtype of `columns`, optional
        Where to write the result, which is returned.

    Examples
    --------
    >>> import numpy as np
    >>> fold(np.ones((1, 2, 2)), (1, 3), (1, 2), (1, 2), (1, 1), (0, 0), (1, 1))
    array([[[[1., 2., 1.]]]])
    """
    module = array_module(columns)
    taps = kernel[0] * kernel[1]
    n, c = columns.shape[0], columns.shape[1] // taps
    given = out is not None
    if given:
        check_out("fold", out, (n, c, *size), columns.dtype)
    direct = given and out.flags.c_contiguous
    x = out if direct else module.empty((n, c, *size), columns.dtype)
    # (N, C * T, L) -> (N, C, T, L)
    columns = module.ascontiguousarray(columns).reshape(
        n, c, taps, windows[0] * windows[1]
    )
    args = (windows[1], *kernel, *stride, *padding, *dilation)
    if on_cuda(columns):
        fold_cuda(columns, x, *args, items=x.size)
    elif x.size:
        fold_cpu(columns, x, *args)
    if given and not direct:
        out[...] = x
    return out if given else x
