"""The case of negative_sampling_loss."""

from __future__ import annotations

from typing import Any

import numpy as np
from harness import Case, Sample, normal

import nnlib
import nnlib.nn.functional as F
from nnlib.backend.errors import ShapeError


def reference(x: Any, p: Any, n: Any, reduction: str = "mean") -> Any:
    near = np.log1p(np.exp(-(x * p).sum(-1)))
    far = np.log1p(np.exp((n * x[:, None]).sum(-1))).sum(-1)
    return {"mean": np.mean, "sum": np.sum, "none": np.asarray}[reduction](near + far)


CASES = [
    Case(
        "negative_sampling_loss",
        samples=[
            Sample((normal(3, 4), normal(3, 4), normal(3, 2, 4))),
            Sample((normal(3, 4), normal(3, 4), normal(3, 2, 4)), {"reduction": "sum"}),
            Sample(
                (normal(2, 4), normal(2, 4), normal(2, 1, 4)), {"reduction": "none"}
            ),
        ],
        reference=reference,
        torch=None,
        call=F.negative_sampling_loss,
        empty=False,
        errors=[
            (
                lambda: F.negative_sampling_loss(*(nnlib.ones(3, 4),) * 3),
                ShapeError,
                r"expected \(N, D\), \(N, D\) and \(N, K, D\)",
            )
        ],
    ),
]
