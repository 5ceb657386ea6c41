"""What the arguments of a convolution mean, and whether they fit together."""

from __future__ import annotations

import functools
import operator
from typing import Any, NamedTuple

from nnlib.backend.errors import ArgumentError, DTypeError, ShapeError
from nnlib.ops.matmul import check_dtypes

__all__ = [
    "Geometry",
    "per_dim",
    "read_convolution",
    "read_output_size",
    "read_transposed",
]

Sizes = tuple[int, ...]


class Geometry(NamedTuple):
    """Everything about a convolution but its numbers, one value per dimension.

    Attributes
    ----------
    size, out : tuple of int
        Spatial shapes of input and result.
    kernel, stride, dilation : tuple of int
    before : tuple of int
        Zeros before the first element; those behind the last follow from `out`.
    groups : int
    """

    size: Sizes
    out: Sizes
    kernel: Sizes
    stride: Sizes
    before: Sizes
    dilation: Sizes
    groups: int


def per_dim(op: str, argument: str, value: Any, rank: int, least: int) -> Sizes:
    """Read an int, or one int per dimension, each at least `least`.

    Raises
    ------
    DTypeError
        If it is neither.
    ShapeError
        If the number of values is wrong, or one is too small.

    Examples
    --------
    >>> per_dim("conv2d", "stride", 2, 2, 1)
    (2, 2)
    """
    if type(value) is int:
        values: Sizes = (value,) * rank
    else:
        given = value if isinstance(value, tuple | list) else (value,)
        try:
            values = tuple(map(operator.index, given))
        except TypeError:
            several = f" or {rank} of them" if rank > 1 else ""
            raise DTypeError(
                f"{op}: {argument}: expected an int{several}, got {value!r}"
            ) from None
        if len(values) == 1:
            values *= rank
    if len(values) != rank:
        several = f" or {rank}" if rank > 1 else ""
        raise ShapeError(f"{op}: {argument}: expected one value{several}, got {values}")
    if min(values) < least:
        raise ShapeError(
            f"{op}: {argument}: expected at least {least}, got "
            f"{values[0] if len(set(values)) == 1 else values}"
        )
    return values


def read_output_size(op: str, value: Any, rank: int, ndim: int) -> Sizes:
    """Read a wanted size: the spatial one, or that of all `ndim` dimensions.

    Raises
    ------
    DTypeError
        If it is no sequence of ints.
    ShapeError
        If their number is wrong.

    Examples
    --------
    >>> read_output_size("max_unpool2d", (8, 3, 28, 28), 2, 4)
    (28, 28)
    """
    try:
        sizes = tuple(map(operator.index, value))
    except TypeError:
        raise DTypeError(
            f"{op}: output_size: expected {rank} or {ndim} ints, got {value!r}"
        ) from None
    if len(sizes) not in (rank, ndim):
        raise ShapeError(
            f"{op}: output_size: expected {rank} or {ndim} ints, got {sizes}"
        )
    return sizes[-rank:]


def _read_groups(op: str, groups: Any) -> int:
    return per_dim(op, "groups", groups, 1, 1)[0]


def _check_shapes(op: str, rank: int, x: Sizes, w: Sizes) -> None:
    letters = "CDHW"[:1] + "DHW"[3 - rank :] if rank > 1 else "CL"
    if len(x) not in (rank + 1, rank + 2):
        one = ", ".join(letters)
        raise ShapeError(f"{op}: input: expected (N, {one}) or ({one}), got shape {x}")
    if 0 in x[-rank:]:
        raise ShapeError(f"{op}: input: the spatial size is empty, got shape {x}")
    if len(w) != rank + 2:
        raise ShapeError(f"{op}: weight: expected {rank + 2} dimensions, got shape {w}")
    if min(w[2:]) < 1:
        raise ShapeError(f"{op}: weight: the kernel is empty, got shape {w}")


def _check_kinds(op: str, input: Any, weight: Any, bias: Any) -> None:
    # The input first: the weight of a layer need not become an integer.
    if input.dtype.kind != "f" and input.dtype.name != "bfloat16":
        raise DTypeError(f"{op}: input: expected a floating dtype, got {input.dtype}")
    if input.dtype != weight.dtype:
        check_dtypes(op, "weight", input, weight)
    if bias is not None and bias.dtype != input.dtype:
        check_dtypes(op, "bias", input, bias)


def _shapes(op: str, input: Any, weight: Any) -> tuple[Sizes, Sizes]:
    try:
        # The arrays' own shapes: a Tensor's is built anew each time.
        return getattr(input, "_array", input).shape, getattr(
            weight, "_array", weight
        ).shape
    except AttributeError:
        raise DTypeError(
            f"{op}: expected tensors, got {type(input).__name__} and "
            f"{type(weight).__name__}"
        ) from None


def _check_bias(op: str, bias: Any, channels: int) -> None:
    if bias is not None and tuple(bias.shape) != (channels,):
        raise ShapeError(
            f"{op}: bias has shape {tuple(bias.shape)}, expected ({channels},)"
        )


def read_convolution(
    op: str,
    rank: int,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
) -> Geometry:
    """Read the arguments of a convolution, and refuse what does not fit.

    Raises
    ------
    ShapeError, DTypeError, Error
        As `nnlib.conv2d` says.
    """
    x, w = _shapes(op, input, weight)
    read = _cached_geometry if _plain(stride, padding, dilation, groups) else _geometry
    geometry = read(op, rank, x, w, stride, padding, dilation, groups)
    _check_bias(op, bias, w[0])
    _check_kinds(op, input, weight, bias)
    return geometry


def _plain(*values: Any) -> bool:
    """Tell whether all are ints, tuples of ints or strings: (1.0,) equals (1,)."""
    for value in values:
        kind = type(value)
        if kind is tuple:
            for item in value:
                if type(item) is not int:
                    return False
        elif kind is not int and kind is not str:
            return False
    return True


def _geometry(
    op: str,
    rank: int,
    x: Sizes,
    w: Sizes,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
) -> Geometry:
    """Read what depends on the shapes alone: the same for every batch of a training."""
    _check_shapes(op, rank, x, w)
    groups = _read_groups(op, groups)
    channels = x[-rank - 1]
    if channels % groups or w[0] % groups:
        raise ShapeError(
            f"{op}: groups: {groups} does not divide both {channels} channels of "
            f"input and {w[0]} of weight"
        )
    if channels != w[1] * groups:
        raise ShapeError(
            f"{op}: input has {channels} channels, weight expects {w[1] * groups} "
            f"(groups={groups})"
        )
    strides = per_dim(op, "stride", stride, rank, 1)
    gaps = per_dim(op, "dilation", dilation, rank, 1)
    spans = tuple(d * (k - 1) + 1 for d, k in zip(gaps, w[2:], strict=True))
    before, after = _read_padding(op, padding, rank, spans, strides)
    size = x[-rank:]
    out = []
    for length, b, a, span, s in zip(size, before, after, spans, strides, strict=True):
        if length + a + b < span:
            raise ShapeError(
                f"{op}: the kernel {w[2:]} with dilation {gaps} spans {spans}, more "
                f"than the input {size} padded by {before} and {after}"
            )
        out.append((length + a + b - span) // s + 1)
    return Geometry(size, tuple(out), w[2:], strides, before, gaps, groups)


_cached_geometry = functools.lru_cache(maxsize=512, typed=True)(_geometry)


def _read_padding(
    op: str, padding: Any, rank: int, spans: Sizes, stride: Sizes
) -> tuple[Sizes, Sizes]:
    """Return the zeros before and behind each dimension."""
    if not isinstance(padding, str):
        both = per_dim(op, "padding", padding, rank, 0)
        return both, both
    if padding == "valid":
        return (0,) * rank, (0,) * rank
    if padding != "same":
        raise ArgumentError(
            f'{op}: padding: expected ints, "same" or "valid", got {padding!r}'
        )
    if max(stride) > 1:
        raise ShapeError(f'{op}: padding "same" needs stride 1, got stride {stride}')
    before = tuple((span - 1) // 2 for span in spans)
    return before, tuple(s - 1 - b for s, b in zip(spans, before, strict=True))


def read_transposed(
    op: str,
    rank: int,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
) -> Geometry:
    """Read the arguments of a transposed convolution: those of its transpose.

    Raises
    ------
    ShapeError, DTypeError
        As `nnlib.conv_transpose2d` says.
    """
    x, w = _shapes(op, input, weight)
    _check_shapes(op, rank, x, w)
    groups = _read_groups(op, groups)
    channels = x[-rank - 1]
    if channels != w[0]:
        raise ShapeError(f"{op}: input has {channels} channels, weight expects {w[0]}")
    if channels % groups:
        raise ShapeError(f"{op}: groups: {groups} does not divide {channels} channels")
    _check_bias(op, bias, w[1] * groups)
    _check_kinds(op, input, weight, bias)
    strides = per_dim(op, "stride", stride, rank, 1)
    gaps = per_dim(op, "dilation", dilation, rank, 1)
    cut = per_dim(op, "padding", padding, rank, 0)
    more = per_dim(op, "output_padding", output_padding, rank, 0)
    size = []
    for length, k, s, d, p, extra in zip(
        x[-rank:], w[2:], strides, gaps, cut, more, strict=True
    ):
        if extra >= max(s, d):
            raise ShapeError(
                f"{op}: output_padding: expected less than the stride {strides} or "
                f"the dilation {gaps}, got {more}"
            )
        size.append((length - 1) * s - 2 * p + d * (k - 1) + extra + 1)
    if min(size) < 1:
        raise ShapeError(
            f"{op}: input {x[-rank:]} with padding {cut} gives the size {tuple(size)}, "
            "expected at least 1"
        )
    return Geometry(tuple(size), x[-rank:], w[2:], strides, cut, gaps, groups)
