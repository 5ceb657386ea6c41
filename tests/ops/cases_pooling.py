"""Cases of pooling."""

from __future__ import annotations

from typing import Any

import numpy as np
from harness import Case, Sample, distinct, normal, positive

import nnlib
import nnlib.nn.functional as F
from nnlib.backend.errors import BoundsError, DTypeError, Error, ShapeError


def windows(x: Any, kernel: Any, stride: Any) -> Any:
    """Return the windows of the last two dimensions as two more dimensions."""
    view = np.lib.stride_tricks.sliding_window_view(x, kernel, (-2, -1))
    return view[..., :: stride[0], :: stride[1], :, :]


def max2d(x: Any, kernel_size: Any, stride: Any = None, **_: Any) -> Any:
    return windows(x, kernel_size, stride or kernel_size).max((-2, -1))


def mean2d(x: Any, kernel_size: Any, stride: Any = None, **_: Any) -> Any:
    return windows(x, kernel_size, stride or kernel_size).mean((-2, -1))


def power2d(x: Any, norm_type: Any, kernel_size: Any, stride: Any = None) -> Any:
    parts = windows(x, kernel_size, stride or kernel_size)
    return (parts**norm_type).sum((-2, -1)) ** (1 / norm_type)


def gaussian(x: Any, kernel_size: Any, stride: Any = None, sigma: Any = None) -> Any:
    axes = [np.arange(k) - (k - 1) / 2 for k in kernel_size]
    distance = axes[0][:, None] ** 2 + axes[1] ** 2
    weight = np.exp(-distance / (2 * sigma**2))
    parts = windows(x, kernel_size, stride or kernel_size)
    return (parts * weight).sum((-2, -1)) / weight.sum()


def functional(name: str) -> Any:
    return lambda *args, **kwargs: getattr(F, name)(*args, **kwargs)


def sliding(draw: Any, rank: int, **extra: Any) -> list[Sample]:
    """Return samples of a sliding window; the first is plain."""
    size = (7, 6, 5)[:rank]
    return [
        Sample((draw(2, 3, *size),), {"kernel_size": (2,) * rank}),
        Sample(
            (draw(1, 2, *size),),
            {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True, **extra},
        ),
        Sample((draw(2, *size),), {"kernel_size": 3, "stride": 1}),
    ]


def adaptive(draw: Any, rank: int) -> list[Sample]:
    size = (7, 6, 5)[:rank]
    return [
        Sample((draw(2, 3, *size),), {"output_size": (3, 2, 4)[:rank]}),
        Sample((draw(2, *size),), {"output_size": 1}),
    ]


def errors(name: str, rank: int) -> list[Any]:
    def call(*shape: int, dtype: Any = None, **kwargs: Any) -> Any:
        kwargs = {"kernel_size": 2, **kwargs}
        if name.startswith("lp"):
            kwargs["norm_type"] = 2
        return lambda: getattr(F, name)(nnlib.ones(*shape, dtype=dtype), **kwargs)

    good = (1, 1) + (4,) * rank
    cases = [
        (call(4), ShapeError, rf"{name}: input: expected {rank + 2} dimensions"),
        (call(*good, stride=0), ShapeError, "stride: expected at least 1, got 0"),
        (call(*good, stride=-1), ShapeError, "stride: expected at least 1, got -1"),
        (call(*good, kernel_size=5), ShapeError, "spans 5, more than the input's 4"),
        (call(*good, kernel_size=1.5), DTypeError, "kernel_size: expected an int"),
        (
            call(*good, stride=(1,) * 4),
            ShapeError,
            r"stride: expected one value( or \d)?, got",
        ),
        (call(*good[:-1], 0), ShapeError, "the spatial size is empty"),
    ]
    if not name.startswith("lp"):
        cases += [
            (call(*good, padding=2), ShapeError, "padding: expected at most half"),
            (call(*good, padding=-1), ShapeError, "padding: expected at least 0"),
            (
                call(*good, dtype=nnlib.int64),
                DTypeError,
                f"{name}: input: expected a floating dtype",
            ),
        ]
    return cases


def size_errors(name: str) -> list[Any]:
    x = nnlib.ones(1, 1, 4, 4)
    function = getattr(F, name)
    return [
        (lambda: function(x[0, 0], 2), ShapeError, f"{name}: input: expected 4 dim"),
        (lambda: function(x, (1, 2, 3)), ShapeError, "output_size: expected one"),
        (lambda: function(x, -1), ShapeError, "output_size: expected at least 0"),
        (lambda: function(x, "two"), DTypeError, "output_size: expected an int"),
    ]


def unpool(rank: int) -> Any:
    """Pool and unpool: the indices come from the pooling."""

    def call(x: Any, **kwargs: Any) -> Any:
        pool = getattr(F, f"max_pool{rank}d")
        y, places = pool(x, 2, return_indices=True)
        return getattr(F, f"max_unpool{rank}d")(y, places, 2, **kwargs)

    return call


def torch_unpool(rank: int) -> Any:
    def call(torch: Any, x: Any, **kwargs: Any) -> Any:
        functions = torch.nn.functional
        y, places = getattr(functions, f"max_pool{rank}d")(x, 2, return_indices=True)
        return getattr(functions, f"max_unpool{rank}d")(y, places, 2, **kwargs)

    return call


def unpool_errors() -> list[Any]:
    y, places = F.max_pool2d(nnlib.ones(1, 1, 4, 4), 2, return_indices=True)
    return [
        (
            lambda: F.max_unpool2d(y, places + 99, 2),
            BoundsError,
            "max_unpool2d: indices: 109 is outside of the output's 16 elements",
        ),
        (
            lambda: F.max_unpool2d(y, places[:, :, :1], 2),
            ShapeError,
            "max_unpool2d: indices have shape",
        ),
        (
            lambda: F.max_unpool2d(y, y, 2),
            DTypeError,
            "max_unpool2d: indices: expected integers",
        ),
        (
            lambda: F.max_unpool2d(y, places, 2, output_size=(9, 9)),
            ShapeError,
            "max_unpool2d: output_size: expected each within one stride",
        ),
    ]


CASES = [
    Case(
        "gaussian_avg_pool2d",
        [
            Sample((normal(2, 3, 7, 6),), {"kernel_size": (3, 2), "sigma": 0.8}),
            Sample(
                (normal(2, 2, 6, 6),),
                {"kernel_size": (3, 3), "stride": (2, 1), "sigma": 2.0},
            ),
        ],
        gaussian,
        torch=None,
        call=functional("gaussian_avg_pool2d"),
        errors=[
            (
                lambda: F.gaussian_avg_pool2d(nnlib.ones(1, 1, 4, 4), 2, sigma=0.0),
                Error,
                "gaussian_avg_pool2d: sigma: expected one or two positive numbers",
            )
        ],
    ),
]
for rank in (1, 2, 3):
    references = {"max": max2d, "avg": mean2d} if rank == 2 else {}
    for kind, draw in (("max", distinct), ("avg", normal)):
        name = f"{kind}_pool{rank}d"
        extra: Any = {} if kind == "max" else {"count_include_pad": False}
        samples = sliding(draw, rank, **extra)
        if kind == "max":
            size = (7, 6, 5)[:rank]
            dilated = {"kernel_size": 2, "dilation": 2, "stride": 1}
            samples.append(Sample((draw(1, 2, *size),), dilated))
        elif rank > 1:
            divided = {"kernel_size": 2, "divisor_override": 3}
            samples.append(Sample((draw(1, 2, *(4,) * rank),), divided))
        reference = references.get(kind)
        CASES.append(
            Case(
                name,
                samples[:1] if reference else samples,
                reference,
                torch=f"nn.functional.{name}",
                call=functional(name),
                errors=errors(name, rank),
            )
        )
        name = f"adaptive_{kind}_pool{rank}d"
        CASES.append(
            Case(
                name,
                adaptive(draw, rank),
                torch=f"nn.functional.{name}",
                call=functional(name),
                errors=size_errors(name) if rank == 2 else [],
            )
        )
    name = f"lp_pool{rank}d"
    shape = (2, 3, *(7, 6, 5)[:rank])
    power = {"norm_type": 3.0, "kernel_size": (2, 2) if rank == 2 else 2}
    CASES.append(
        Case(
            name,
            [Sample((positive(*shape),), power)],
            power2d if rank == 2 else None,
            torch=f"nn.functional.{name}",
            call=functional(name),
            errors=errors(name, rank),
        )
    )
    name = f"max_unpool{rank}d"
    CASES.append(
        Case(
            name,
            [
                distinct(2, 3, *(4,) * rank),
                Sample((distinct(1, 2, *(5,) * rank),), {"output_size": (5,) * rank}),
            ],
            torch=torch_unpool(rank),
            call=unpool(rank),
            errors=unpool_errors() if rank == 2 else [],
        )
    )
