"""Cases of attention."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from harness import Case, Sample, booleans, normal

import nnlib
import nnlib.nn.functional as F
from nnlib.backend.errors import ArgumentError, DTypeError, ShapeError

MASK = booleans(2, 1, 3, 5)
MASK[..., 0] = True


def attention(
    q: Any, k: Any, v: Any, mask: Any = None, is_causal: bool = False, scale: Any = None
) -> Any:
    scale = scale or 1 / math.sqrt(max(q.shape[-1], 1))
    s = q @ np.swapaxes(k, -1, -2) * scale
    if mask is not None:
        s = np.where(mask, s, -np.inf) if mask.dtype == bool else s + mask
    if is_causal:
        s = np.where(np.tril(np.ones(s.shape[-2:], bool)), s, -np.inf)
    e = np.exp(s - s.max(-1, keepdims=True, initial=-1e30))
    return e / e.sum(-1, keepdims=True) @ v


def sdpa(*shapes: Any, **options: Any) -> Any:
    return lambda: F.scaled_dot_product_attention(
        *(nnlib.ones(*shape) for shape in shapes), **options
    )


CASES = [
    Case(
        "scaled_dot_product_attention",
        samples=[
            Sample((normal(2, 3, 4), normal(2, 5, 4), normal(2, 5, 3))),
            Sample((normal(2, 2, 3, 4), normal(2, 2, 5, 4), normal(2, 2, 5, 3), MASK)),
            Sample(
                (normal(4, 3), normal(4, 3), normal(4, 2)),
                {"is_causal": True, "scale": 0.4},
            ),
        ],
        reference=attention,
        torch="nn.functional.scaled_dot_product_attention",
        call=F.scaled_dot_product_attention,
        # Composed second derivatives round otherwise: tests/nn/test_attention.py.
        second=False,
        errors=[
            (sdpa((3, 4), (5, 3), (5, 4)), ShapeError, "expected the last dimensions"),
            (sdpa((4,), (5, 4), (5, 4)), ShapeError, r"expected \(..., L, E\)"),
            (sdpa((2, 3, 4), (3, 5, 4), (3, 5, 4)), ShapeError, "do not broadcast"),
            (
                sdpa((3, 4), (5, 4), (5, 4), enable_gqa=True),
                ShapeError,
                r"expected \(..., H, L, E\)",
            ),
            (
                sdpa((4, 3, 4), (3, 5, 4), (2, 5, 4), enable_gqa=True),
                ShapeError,
                "a multiple of those of key and value",
            ),
            (
                sdpa((3, 4), (5, 4), (5, 4), attn_mask=nnlib.ones(3, 4)),
                ShapeError,
                r"attn_mask has shape \(3, 4\)",
            ),
            (
                sdpa((3, 4), (5, 4), (5, 4), attn_mask=nnlib.arange(5)),
                DTypeError,
                "attn_mask: expected bool or float32",
            ),
            (
                sdpa((3, 4), (5, 4), (5, 4), attn_mask=nnlib.ones(5), is_causal=True),
                ArgumentError,
                "is_causal",
            ),
        ],
    ),
]
