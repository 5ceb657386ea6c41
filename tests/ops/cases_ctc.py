"""The case of ctc_loss."""

from __future__ import annotations

from typing import Any

import numpy as np
from harness import Case, Sample, normal

import nnlib
import nnlib.nn.functional as F
from nnlib.backend.errors import ArgumentError, BoundsError, ShapeError

TARGETS = np.array([[1, 2, 2], [3, 1, 0]])
PLAN = {"input_lengths": (5, 4), "target_lengths": (3, 2)}


def after_softmax(library: Any) -> Any:
    def call(x: Any, targets: Any, **options: Any) -> Any:
        return library(x.log_softmax(-1), targets, **options)

    return call


def reference(x: Any, targets: Any, input_lengths: Any, target_lengths: Any) -> Any:
    """Add up the probabilities of all paths, one by one."""
    import itertools

    p = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    losses = []
    for n, (steps, labels) in enumerate(
        zip(input_lengths, target_lengths, strict=True)
    ):
        wanted, total = list(targets[n, :labels]), 0.0
        for path in itertools.product(range(x.shape[2]), repeat=steps):
            merged = [k for k, _ in itertools.groupby(path) if k]
            if merged == wanted:
                total += np.prod([p[t, n, k] for t, k in enumerate(path)])
        losses.append(-np.log(total) / max(labels, 1))
    return np.mean(losses)


def bad(**options: Any) -> Any:
    plan = {"targets": nnlib.tensor(TARGETS), **PLAN, **options}
    return lambda: F.ctc_loss(nnlib.ones(5, 2, 4), **plan)


CASES = [
    Case(
        "ctc_loss",
        samples=[Sample((normal(5, 2, 4), TARGETS), PLAN)],
        reference=reference,
        torch=lambda torch, x, targets, **options: torch.nn.functional.ctc_loss(
            x.log_softmax(-1), targets, **options
        ),
        call=after_softmax(F.ctc_loss),
        second=False,
        empty=False,
        half=False,
        errors=[
            (bad(blank=4), ArgumentError, "ctc_loss: blank"),
            (bad(input_lengths=(6, 4)), BoundsError, r"input_lengths\[0\] is 6"),
            (bad(target_lengths=(3, 4)), BoundsError, r"target_lengths\[1\] is 4"),
            (bad(target_lengths=(3,)), ShapeError, "one for each of 2 samples"),
            (
                bad(targets=nnlib.tensor([1, 2, 2, 3, 1, 3])),
                ShapeError,
                "targets: 6 labels, target_lengths ask for 5",
            ),
            (
                bad(targets=nnlib.tensor([[1, 2, 4], [1, 1, 1]])),
                BoundsError,
                "target 4 at position 2 of sample 0",
            ),
        ],
    ),
]
