"""Cases of normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np
from harness import Case, Sample, normal, positive

import nnlib
import nnlib.nn.functional as F
from nnlib.backend.errors import DTypeError, Error, ShapeError

EPS = 1e-5
# Second derivatives (`second=False`) are checked in tests/nn/test_normalization.py: the
# composed form of a gradient rounds differently from the fused one.


def standard(x: Any, dims: Any) -> Any:
    away = x - x.mean(dims, keepdims=True)
    return away / np.sqrt((away * away).mean(dims, keepdims=True) + EPS)


def lead(vector: Any, x: Any) -> Any:
    return vector.reshape(1, -1, *(1,) * (x.ndim - 2))


def batch(x: Any, mean: Any, var: Any, w: Any = None, b: Any = None, training=False):
    if training:
        y = standard(x, (0, *range(2, x.ndim)))
    else:
        y = (x - lead(mean, x)) / np.sqrt(lead(var, x) + EPS)
    return y if w is None else y * lead(w, x) + lead(b, x)


def group(x: Any, groups: int, w: Any = None, b: Any = None) -> Any:
    y = standard(x.reshape(x.shape[0], groups, -1), (2,)).reshape(x.shape)
    return y if w is None else y * lead(w, x) + lead(b, x)


def instance(x: Any, mean: Any = None, var: Any = None, w: Any = None, b: Any = None):
    return group(x, x.shape[1], w, b)


def layer(x: Any, shape: Any, w: Any = 1.0, b: Any = 0.0) -> Any:
    return standard(x, tuple(range(-len(shape), 0))) * w + b


def rms(x: Any, shape: Any, w: Any = 1.0, eps: float = 1e-6) -> Any:
    dims = tuple(range(-len(shape), 0))
    return x / np.sqrt((x * x).mean(dims, keepdims=True) + eps) * w


def response(x: Any, size: int, alpha=1e-4, beta=0.75, k=1.0) -> Any:
    total = np.zeros_like(x)
    for c in range(x.shape[1]):
        near = slice(max(0, c - size // 2), c + (size - 1) // 2 + 1)
        total[:, c] = (x[:, near] ** 2).sum(1)
    return x / (k + alpha / size * total) ** beta


def functional(name: str) -> Any:
    return lambda *args, **kwargs: getattr(F, name)(*args, **kwargs)


def refuse(call: Any, error: type[Exception], message: str) -> Any:
    return (call, error, message)


ONES = nnlib.ones
CASES = [
    Case(
        "batch_norm",
        [
            Sample((normal(4, 3), None, None), {"training": True}),
            Sample(
                (normal(4, 3, 2, 5), None, None, normal(3), normal(3)),
                {"training": True},
            ),
        ],
        lambda x, *args, training: batch(x, *args, training=training) if x.size else x,
        torch="nn.functional.batch_norm",
        call=functional("batch_norm"),
        second=False,
        errors=[
            refuse(
                lambda: F.batch_norm(ONES(1, 3), None, None, training=True),
                ShapeError,
                "batch_norm: input: expected more than one value per channel",
            ),
            refuse(
                lambda: F.batch_norm(ONES(4), None, None, training=True),
                ShapeError,
                r"batch_norm: input: expected \(N, C",
            ),
            refuse(
                lambda: F.batch_norm(ONES(4, 3), None, None),
                Error,
                "batch_norm: running_mean and running_var: expected tensors",
            ),
            refuse(
                lambda: F.batch_norm(ONES(4, 3), None, None, ONES(2), training=True),
                ShapeError,
                r"batch_norm: weight has shape \(2,\), expected \(3,\)",
            ),
            refuse(
                lambda: F.batch_norm(
                    ONES(4, 3), None, None, ONES(3, dtype="float64"), training=True
                ),
                DTypeError,
                "batch_norm: weight is float64, expected float32",
            ),
            refuse(
                lambda: F.batch_norm(ONES(4, 3, dtype="int64"), None, None),
                DTypeError,
                "batch_norm: input: expected a floating dtype",
            ),
        ],
    ),
    Case(
        "group_norm",
        [
            (normal(3, 4, 5), 2),
            (normal(2, 6, 3, 2), 3, normal(6), normal(6)),
            (normal(2, 4), 1),
        ],
        lambda x, *args: group(x, *args) if x.size else x,
        call=functional("group_norm"),
        second=False,
        errors=[
            refuse(
                lambda: F.group_norm(ONES(2, 4, 3), 3),
                ShapeError,
                "group_norm: num_groups: 3 does not divide 4 channels",
            ),
            refuse(
                lambda: F.group_norm(ONES(2, 4, 3), 2.0),
                DTypeError,
                "group_norm: num_groups: expected an int",
            ),
            refuse(
                lambda: F.group_norm(ONES(4), 2),
                ShapeError,
                r"group_norm: input: expected \(N, C",
            ),
        ],
    ),
    Case(
        "instance_norm",
        [
            (normal(3, 2, 5),),
            (normal(2, 3, 4, 2), None, None, normal(3), normal(3)),
        ],
        lambda x, *args: instance(x, *args) if x.size else x,
        torch="nn.functional.instance_norm",
        call=functional("instance_norm"),
        second=False,
        errors=[
            refuse(
                lambda: F.instance_norm(ONES(2, 3, 1)),
                ShapeError,
                "instance_norm: input: expected more than one value per channel",
            ),
            refuse(
                lambda: F.instance_norm(ONES(2, 3)),
                ShapeError,
                r"instance_norm: input: expected \(N, C",
            ),
        ],
    ),
    Case(
        "layer_norm",
        [
            (normal(3, 5), (5,)),
            (normal(2, 3, 4), (3, 4), positive(3, 4), normal(3, 4)),
            (normal(6), (6,)),
        ],
        layer,
        call=functional("layer_norm"),
        second=False,
        errors=[
            refuse(
                lambda: F.layer_norm(ONES(2, 3), (2,)),
                ShapeError,
                r"layer_norm: normalized_shape: .* shape \(2, 3\), got \(2,\)",
            ),
            refuse(
                lambda: F.layer_norm(ONES(2, 3), ()),
                ShapeError,
                "layer_norm: normalized_shape: expected at least one",
            ),
            refuse(
                lambda: F.layer_norm(ONES(2, 3), 3.0),
                DTypeError,
                "layer_norm: normalized_shape: expected ints",
            ),
            refuse(
                lambda: F.layer_norm(ONES(2, 3), 3, ONES(2)),
                ShapeError,
                r"layer_norm: weight has shape \(2,\), expected \(3,\)",
            ),
        ],
    ),
    Case(
        "rms_norm",
        [
            Sample((normal(3, 5), (5,)), {"eps": 1e-6}),
            Sample((normal(2, 3, 4), (3, 4), positive(3, 4)), {"eps": 1e-6}),
        ],
        rms,
        torch="nn.functional.rms_norm",
        call=functional("rms_norm"),
        second=False,
        errors=[
            refuse(
                lambda: F.rms_norm(ONES(2, 3), (2,)),
                ShapeError,
                "rms_norm: normalized_shape",
            )
        ],
    ),
    Case(
        "local_response_norm",
        [
            Sample((normal(2, 5, 3, 2), 3), {"alpha": 0.1, "k": 2.0}),
            (normal(2, 4, 3), 2),
        ],
        response,
        torch="nn.functional.local_response_norm",
        call=functional("local_response_norm"),
        errors=[
            refuse(
                lambda: F.local_response_norm(ONES(2, 3), 2),
                ShapeError,
                r"local_response_norm: input: expected \(N, C",
            ),
            refuse(
                lambda: F.local_response_norm(ONES(2, 3, 1), 0),
                ShapeError,
                "local_response_norm: size: expected at least 1, got 0",
            ),
        ],
    ),
]
