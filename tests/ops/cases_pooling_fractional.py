"""Cases of fractional pooling, with the random numbers given."""

from __future__ import annotations

from harness import Case, Sample, distinct, positive

import nnlib
import nnlib.nn.functional as F
from nnlib.backend.errors import ArgumentError, ShapeError


def case(rank):
    name = f"fractional_max_pool{rank}d"
    sizes = (9, 7, 6)[:rank]
    return Case(
        name,
        samples=[
            Sample(
                (distinct(2, 2, *sizes), 2, (5, 4, 3)[:rank]),
                {"_random_samples": positive(2, 2, rank, low=0.0, high=1.0)},
            ),
            Sample(
                (distinct(1, 2, *sizes), (3, 2, 1)[:rank]),
                {
                    "output_ratio": (0.5,) * rank,
                    "return_indices": True,
                    "_random_samples": positive(1, 2, rank, low=0.0, high=1.0),
                },
            ),
        ],
        call=getattr(F, name),
        torch=f"nn.functional.{name}",
        half=False,
        empty=False,
        errors=[
            (
                lambda: getattr(F, name)(nnlib.ones(1, 2, *sizes), 2),
                ArgumentError,
                f"{name}: expected output_size or output_ratio, one of them",
            ),
            (
                lambda: getattr(F, name)(nnlib.ones(1, 2, *sizes), 2, sizes),
                ShapeError,
                f"{name}: 9 windows of 2 do not fit a dimension of 9: expected 1 to 8",
            ),
            (
                lambda: getattr(F, name)(nnlib.ones(4), 2, 2),
                ShapeError,
                f"{name}: input: expected {rank + 2} dimensions",
            ),
            (
                lambda: getattr(F, name)(nnlib.ones(1, 2, *sizes), 2, output_ratio=1.5),
                ArgumentError,
                f"{name}: output_ratio: expected {rank} numbers between 0 and 1",
            ),
        ],
    )


CASES = [case(2), case(3)]
