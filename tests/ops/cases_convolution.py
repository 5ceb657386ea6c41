"""Cases of convolutions, transposed convolutions, unfold and fold."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
from harness import Case, Sample, normal

import nnlib
from nnlib.backend.errors import DTypeError, Error, ShapeError

F = nnlib.nn.functional
ones = nnlib.ones


def many(value, rank):
    return (value,) * rank if isinstance(value, int) else tuple(value)


def convolution(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Sum over the kernel's entries, one strided slice of the padded input each."""
    rank = weight.ndim - 2
    if x.ndim == rank + 1:
        return convolution(x[None], weight, bias, stride, padding, dilation, groups)[0]
    stride, dilation = many(stride, rank), many(dilation, rank)
    kernel = weight.shape[2:]
    spans = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    if padding == "same":
        pads = [(s // 2, s - s // 2) for s in spans]
    else:
        pads = [(p, p) for p in many(0 if padding == "valid" else padding, rank)]
    x = np.pad(x, [(0, 0), (0, 0), *pads])
    out = [
        (n - span - 1) // s + 1
        for n, span, s in zip(x.shape[2:], spans, stride, strict=True)
    ]
    k, cg = weight.shape[:2]
    y = np.zeros((x.shape[0], k, *out))
    for tap in itertools.product(*map(range, kernel)):
        cut = tuple(
            slice(t * d, t * d + (o - 1) * s + 1, s)
            for t, d, o, s in zip(tap, dilation, out, stride, strict=True)
        )
        part = x[(slice(None), slice(None), *cut)]
        for g in range(groups):
            own = slice(g * k // groups, (g + 1) * k // groups)
            w = weight[(own, slice(None), *tap)]
            y[:, own] += np.einsum("nc...,kc->nk...", part[:, g * cg :][:, :cg], w)
    return y if bias is None else y + bias.reshape(-1, *(1,) * rank)


def transposed(
    x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1
):
    """Add each input's filter to the output."""
    rank = weight.ndim - 2
    if x.ndim == rank + 1:
        x = x[None]
        return transposed(
            x, weight, bias, stride, padding, output_padding, groups, dilation
        )[0]
    stride, dilation = many(stride, rank), many(dilation, rank)
    padding, more = many(padding, rank), many(output_padding, rank)
    kernel = weight.shape[2:]
    full = [
        (n - 1) * s + d * (k - 1) + 1 + m
        for n, s, d, k, m in zip(
            x.shape[2:], stride, dilation, kernel, more, strict=True
        )
    ]
    cg, kg = weight.shape[0] // groups, weight.shape[1]
    y = np.zeros((x.shape[0], kg * groups, *full))
    for tap in itertools.product(*map(range, kernel)):
        cut = tuple(
            slice(t * d, t * d + (n - 1) * s + 1, s)
            for t, d, n, s in zip(tap, dilation, x.shape[2:], stride, strict=True)
        )
        for g in range(groups):
            own = slice(g * cg, (g + 1) * cg)
            w = weight[(own, slice(None), *tap)]
            y[(slice(None), slice(g * kg, (g + 1) * kg), *cut)] += np.einsum(
                "nc...,ck->nk...", x[:, own], w
            )
    inner = [slice(p, f - p) for p, f in zip(padding, full, strict=True)]
    y = y[(slice(None), slice(None), *inner)]
    return y if bias is None else y + bias.reshape(-1, *(1,) * rank)


def unfold(x, kernel_size, dilation=1, padding=0, stride=1):
    if x.ndim == 3:
        return unfold(x[None], kernel_size, dilation, padding, stride)[0]
    kh, kw = many(kernel_size, 2)
    (sh, sw), (dh, dw) = many(stride, 2), many(dilation, 2)
    ph, pw = many(padding, 2)
    x = np.pad(x, [(0, 0), (0, 0), (ph, ph), (pw, pw)])
    n, c, h, w = x.shape
    high, wide = (h - dh * (kh - 1) - 1) // sh + 1, (w - dw * (kw - 1) - 1) // sw + 1
    parts = [
        x[:, :, a * dh :: sh, b * dw :: sw][:, :, :high, :wide]
        for a, b in itertools.product(range(kh), range(kw))
    ]
    return np.stack(parts, 2).reshape(n, c * kh * kw, high * wide)


def fold(columns, output_size, kernel_size, **options):
    """Transpose `unfold`, row by row of its matrix."""
    if columns.ndim == 2:
        return fold(columns[None], output_size, kernel_size, **options)[0]
    h, w = many(output_size, 2)
    kh, kw = many(kernel_size, 2)
    c = columns.shape[1] // (kh * kw)
    places = np.arange(1.0, c * h * w + 1).reshape(1, c, h, w)
    at = unfold(places, kernel_size, **options)[0].astype(int)
    out = np.zeros((columns.shape[0], c * h * w + 1))
    for row, column in zip(out, columns, strict=True):
        np.add.at(row, at, column)
    return out[:, 1:].reshape(-1, c, h, w)


def layers(rank, groups=1, kernel=3, bias=True, n=2, c=2, k=3, size=5):
    shape = (k * groups, c, *many(kernel, rank))
    args = [normal(n, c * groups, *many(size, rank)), normal(*shape)]
    return (*args, normal(k * groups)) if bias else tuple(args)


def transposed_layers(rank, groups=1, kernel=3, bias=True):
    shape = (2 * groups, 2, *many(kernel, rank))
    args = [normal(2, 2 * groups, *many(3, rank)), normal(*shape)]
    return (*args, normal(2 * groups)) if bias else tuple(args)


def fails(exception, pattern, function, *args, **kwargs):
    return (lambda: function(*args, **kwargs), exception, pattern)


def direct(name, samples, errors=()):
    def theirs(torch, *args, **kwargs):
        with warnings.catch_warnings():
            # PyTorch warns of a copy that it makes for padding "same".
            warnings.simplefilter("ignore", UserWarning)
            return getattr(torch, name)(*args, **kwargs)

    return Case(
        name,
        samples=samples,
        reference=convolution,
        torch=theirs,
        atol32=1e-4,
        errors=list(errors),
    )


def turned(name, samples, errors=()):
    # No empty case: its cut would leave the weight without input channels.
    return Case(
        name,
        samples=samples,
        reference=transposed,
        atol32=1e-4,
        empty=False,
        errors=list(errors),
    )


IMAGE = (normal(1, 1, 4, 4), normal(1, 1, 2, 2))
half = nnlib.ones(1, 2, 3, 3, dtype="float64")

CASES = [
    direct(
        "conv1d",
        [
            layers(1),
            (normal(2, 6), normal(3, 2, 2)),
            Sample(layers(1, 2), {"stride": 2, "padding": 3, "groups": 2}),
            Sample(layers(1, kernel=2, bias=False), {"padding": "same"}),
        ],
        [
            fails(
                ShapeError, r"conv1d: input: expected \(N, C, L\) or \(C, L\), got "
                r"shape \(1, 1, 4, 4\)", nnlib.conv1d, ones(1, 1, 4, 4), ones(1, 1, 2),
            ),
        ],
    ),
    direct(
        "conv2d",
        [
            layers(2),
            IMAGE,
            (normal(2, 5, 4), normal(3, 2, 2, 3), normal(3)),
            Sample(layers(2), {"stride": 2, "padding": 1}),
            Sample(layers(2, 2), {"groups": 2, "padding": (0, 2)}),
            Sample(layers(2, 4, c=1, k=1), {"groups": 4, "padding": 1}),
            Sample(layers(2, 3, c=1, k=1), {"groups": 3, "stride": 2}),
            Sample(layers(2, 3, c=1, k=2, bias=False), {"groups": 3}),
            Sample(layers(2, kernel=(2, 3)), {"dilation": (3, 1), "stride": (1, 2)}),
            Sample(layers(2, kernel=(4, 3)), {"padding": "same"}),
            Sample(layers(2), {"padding": "valid"}),
            Sample(layers(2, kernel=1), {"stride": 3, "padding": 2}),
            layers(2, kernel=1),
        ],
        [
            fails(
                ShapeError, r"conv2d: input has 3 channels, weight expects 4 "
                r"\(groups=1\)", nnlib.conv2d, ones(1, 3, 5, 5), ones(2, 4, 3, 3),
            ),
            fails(
                ShapeError, r"conv2d: the kernel \(3, 3\) with dilation \(1, 1\) spans "
                r"\(3, 3\), more than the input \(2, 2\) padded by \(0, 0\)",
                nnlib.conv2d, ones(1, 1, 2, 2), ones(1, 1, 3, 3),
            ),
            fails(
                ShapeError, "conv2d: stride: expected at least 1, got 0",
                nnlib.conv2d, ones(1, 1, 4, 4), ones(1, 1, 3, 3), stride=0,
            ),
            fails(
                ShapeError, r"conv2d: stride: expected at least 1, got \(1, -1\)",
                nnlib.conv2d, ones(1, 1, 4, 4), ones(1, 1, 3, 3), stride=(1, -1),
            ),
            fails(
                ShapeError, "conv2d: dilation: expected at least 1",
                nnlib.conv2d, ones(1, 1, 4, 4), ones(1, 1, 3, 3), dilation=0,
            ),
            fails(
                ShapeError, "conv2d: padding: expected at least 0",
                nnlib.conv2d, ones(1, 1, 4, 4), ones(1, 1, 3, 3), padding=-1,
            ),
            fails(
                ShapeError, r"conv2d: padding: expected one value or 2, got \(1, 1, 1",
                nnlib.conv2d, ones(1, 1, 4, 4), ones(1, 1, 3, 3), padding=(1, 1, 1),
            ),
            fails(
                Error, 'conv2d: padding: expected ints, "same" or "valid", got',
                nnlib.conv2d, ones(1, 1, 4, 4), ones(1, 1, 3, 3), padding="full",
            ),
            fails(
                ShapeError, r'conv2d: padding "same" needs stride 1',
                nnlib.conv2d, ones(1, 1, 4, 4), ones(1, 1, 3, 3), stride=2,
                padding="same",
            ),
            fails(
                DTypeError, "conv2d: stride: expected an int or 2 of them, got 1.5",
                nnlib.conv2d, ones(1, 1, 4, 4), ones(1, 1, 3, 3), stride=1.5,
            ),
            fails(
                ShapeError, "conv2d: groups: 2 does not divide both 3 channels of "
                "input and 2 of weight",
                nnlib.conv2d, ones(1, 3, 4, 4), ones(2, 1, 3, 3), groups=2,
            ),
            fails(
                ShapeError, "conv2d: weight: expected 4 dimensions, got shape",
                nnlib.conv2d, ones(1, 3, 4, 4), ones(2, 3, 3),
            ),
            fails(
                ShapeError, r"conv2d: input: expected \(N, C, H, W\) or \(C, H, W\)",
                nnlib.conv2d, ones(4, 4), ones(1, 1, 3, 3),
            ),
            fails(
                ShapeError, r"conv2d: bias has shape \(3,\), expected \(2,\)",
                nnlib.conv2d, ones(1, 1, 4, 4), ones(2, 1, 3, 3), ones(3),
            ),
            fails(
                ShapeError, "conv2d: weight: the kernel is empty",
                nnlib.conv2d, ones(1, 1, 4, 4), ones(2, 1, 0, 3),
            ),
            fails(
                DTypeError, "conv2d: weight: expected float64, got float32",
                nnlib.conv2d, half, ones(2, 2, 3, 3),
            ),
            fails(
                DTypeError, "conv2d: input: expected a floating dtype, got int64",
                nnlib.conv2d, ones(1, 1, 4, 4, dtype="int64"),
                ones(1, 1, 2, 2, dtype="int64"),
            ),
            fails(
                DTypeError, "conv2d: expected tensors, got list and Tensor",
                nnlib.conv2d, [[1.0]], ones(1, 1, 2, 2),
            ),
        ],
    ),
    direct(
        "conv3d",
        [
            layers(3, kernel=2, size=3, k=2),
            Sample(
                layers(3, 2, kernel=(1, 2, 3), size=3, k=1),
                {"groups": 2, "stride": (1, 2, 1), "padding": (1, 0, 2)},
            ),
        ],
        [
            fails(
                ShapeError, r"conv3d: input: expected \(N, C, D, H, W\)",
                nnlib.conv3d, ones(1, 1, 4), ones(1, 1, 2, 2, 2),
            ),
        ],
    ),
    turned(
        "conv_transpose1d",
        [
            transposed_layers(1),
            (normal(2, 6), normal(2, 3, 2)),
            Sample(
                transposed_layers(1, 2),
                {"stride": 3, "padding": 1, "groups": 2, "output_padding": 2},
            ),
        ],
    ),
    turned(
        "conv_transpose2d",
        [
            transposed_layers(2),
            Sample(transposed_layers(2), {"stride": 2, "padding": 1}),
            Sample(transposed_layers(2, kernel=1), {"stride": 2, "output_padding": 1}),
            Sample(
                transposed_layers(2, 2, (2, 3), bias=False),
                {"stride": (2, 3), "groups": 2, "dilation": (2, 1)},
            ),
            (normal(2, 4, 3), normal(2, 1, 3, 2), normal(1)),
        ],
        [
            fails(
                ShapeError, "conv_transpose2d: input has 3 channels, weight expects 2",
                nnlib.conv_transpose2d, ones(1, 3, 4, 4), ones(2, 3, 3, 3),
            ),
            fails(
                ShapeError, "conv_transpose2d: output_padding: expected less than the "
                r"stride \(2, 2\) or the dilation \(1, 1\), got \(2, 2\)",
                nnlib.conv_transpose2d, ones(1, 2, 4, 4), ones(2, 3, 3, 3), stride=2,
                output_padding=2,
            ),
            fails(
                ShapeError, r"conv_transpose2d: input \(1, 1\) with padding \(2, 2\) "
                r"gives the size \(-1, -1\), expected at least 1",
                nnlib.conv_transpose2d, ones(1, 2, 1, 1), ones(2, 3, 3, 3), padding=2,
            ),
        ],
    ),
    turned(
        "conv_transpose3d",
        [
            Sample(
                (normal(1, 2, 2, 2, 2), normal(2, 2, 2, 1, 3), normal(2)),
                {"stride": (2, 1, 2), "output_padding": (1, 0, 0)},
            ),
        ],
    ),
    Case(
        "unfold",
        samples=[
            Sample((normal(2, 3, 4, 5),), {"kernel_size": (2, 3)}),
            Sample((normal(2, 5, 5),), {"kernel_size": 3, "padding": 1, "stride": 2}),
            Sample((normal(1, 2, 6, 5),), {"kernel_size": 2, "dilation": (3, 2)}),
        ],
        reference=unfold,
        torch="nn.functional.unfold",
        errors=[
            fails(
                ShapeError, r"unfold: kernel_size \(5, 5\) with dilation \(1, 1\) is "
                r"larger than the image \(4, 4\) padded by \(0, 0\)",
                F.unfold, ones(1, 1, 4, 4), 5,
            ),
            fails(ShapeError, "unfold: input: expected", F.unfold, ones(4, 4), 2),
        ],
    ),
    Case(
        "fold",
        samples=[
            Sample((normal(2, 12, 6),), {"output_size": (3, 4), "kernel_size": 2}),
            Sample(
                (normal(9, 9),),
                {"output_size": 5, "kernel_size": 3, "padding": 1, "stride": 2},
            ),
        ],
        reference=fold,
        torch="nn.functional.fold",
        errors=[
            fails(
                ShapeError, "fold: input has 4 rows and 5 columns, expected a multiple "
                "of 4 rows and 9 columns", F.fold, ones(4, 5), 4, 2,
            ),
        ],
    ),
]  # fmt: skip
