"""Cases of the loss of skip-gram with negatives."""

from __future__ import annotations

from typing import Any

import numpy as np
from harness import Case, Sample, integers, normal

import nnlib
import nnlib.nn.functional as F
from nnlib.backend.errors import ArgumentError, BoundsError, DTypeError, ShapeError

SEVEN = integers(5, low=0, high=7)
NINE = integers(5, low=0, high=9)
NEGATIVES = integers(5, 3, low=0, high=9)


def reference(
    a: Any, b: Any, words: Any, targets: Any, negatives: Any, reduction: str = "mean"
) -> Any:
    h = a[words]
    own = np.logaddexp(0, -(h * b[targets]).sum(1))
    others = np.logaddexp(0, np.einsum("nd,nkd->nk", h, b[negatives])).sum(1)
    losses = own + others
    return losses if reduction == "none" else getattr(losses, reduction)()


def peer(
    torch: Any, a: Any, b: Any, words: Any, targets: Any, negatives: Any, **kwargs: Any
) -> Any:
    h = a[words.long()]
    log = torch.nn.functional.logsigmoid
    losses = -log((h * b[targets.long()]).sum(1))
    losses = losses - log(-torch.einsum("nd,nkd->nk", h, b[negatives.long()])).sum(1)
    reduction = kwargs.get("reduction", "mean")
    return losses if reduction == "none" else getattr(losses, reduction)()


def bad(**changes: Any) -> Any:
    arguments = {
        "inputs": nnlib.ones(4, 2),
        "outputs": nnlib.ones(4, 2),
        "words": nnlib.tensor([0, 1]),
        "targets": nnlib.tensor([2, 3]),
        "negatives": nnlib.tensor([[0], [1]]),
        **changes,
    }
    return lambda: F.skipgram_loss(**arguments)


CASES = [
    Case(
        "skipgram_loss",
        samples=[
            Sample((normal(7, 4), normal(9, 4), SEVEN, NINE, NEGATIVES)),
            Sample(
                (normal(7, 18), normal(9, 18), SEVEN, NINE, NEGATIVES),
                {"reduction": "none"},
            ),
            Sample(
                (normal(7, 3), normal(9, 3), SEVEN, NINE, NEGATIVES),
                {"reduction": "sum"},
            ),
        ],
        reference=reference,
        torch=peer,
        call=F.skipgram_loss,
        second=False,
        empty=False,
        errors=[
            (
                bad(words=nnlib.tensor([0, 4])),
                BoundsError,
                r"skipgram_loss: words\[1\] is 4, expected 0 <= id < 4",
            ),
            (bad(targets=nnlib.tensor([-1, 0])), BoundsError, r"targets\[0\] is -1"),
            (
                bad(negatives=nnlib.tensor([[0], [9]])),
                BoundsError,
                r"negatives\[1, 0\] is 9",
            ),
            *(
                (
                    bad(negatives=nnlib.tensor(negatives)),
                    ShapeError,
                    r"words \(N,\), targets \(N,\) and negatives \(N, K\), got words",
                )
                for negatives in ([0, 1, 2], [0, 1])
            ),
            (bad(words=nnlib.ones(2)), DTypeError, "words: expected integers"),
            (
                bad(outputs=nnlib.ones(4, 3)),
                ShapeError,
                "inputs has 2 columns, outputs 3",
            ),
            (bad(reduction="most"), ArgumentError, "reduction: expected"),
        ],
    ),
]
