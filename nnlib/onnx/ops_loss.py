"""Losses of classification."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nnlib import ops
from nnlib.nn import functional as F
from nnlib.onnx.node import Node
from nnlib.onnx.table import operator
from nnlib.ops.casting import cast

Run = Callable[..., Any]


def _loss(
    log_p: Any, labels: Any, weight: Any, ignore: int | None, reduction: str
) -> Any:
    """Return the negative log likelihood of (N, C, ...) at labels (N, ...)."""
    labels = cast(labels, np.dtype(np.int64))
    kept = ops.ones_like(labels) == 1 if ignore is None else labels != ignore
    safe = ops.where(kept, labels, ops.zeros_like(labels))
    picked = -ops.gather(log_p, 1, safe.unsqueeze(1)).squeeze(1)
    if weight is None:
        share = cast(kept, log_p.dtype)
    else:
        flat = ops.index_select(weight, 0, safe.reshape(-1))
        share = flat.reshape(safe.shape) * cast(kept, log_p.dtype)
    loss = ops.where(kept, picked * share, ops.zeros_like(picked))
    if reduction == "none":
        return loss
    total = ops.sum(loss)
    return total if reduction == "sum" else total / ops.sum(share)


def _read(node: Node) -> tuple[int | None, str]:
    reduction = node.string("reduction", "mean", ("none", "mean", "sum"))
    return node.int("ignore_index", None), reduction


@operator("NegativeLogLikelihoodLoss", 12, 13, 22)
def nll(node: Node) -> Run:
    """Build NegativeLogLikelihoodLoss."""
    ignore, reduction = _read(node)
    return lambda x, labels, weight=None: _loss(x, labels, weight, ignore, reduction)


@operator("SoftmaxCrossEntropyLoss", 12, 13)
def cross_entropy(node: Node) -> Run:
    """Build SoftmaxCrossEntropyLoss."""
    ignore, reduction = _read(node)
    several = node.wants(1)

    def run(x: Any, labels: Any, weight: Any = None) -> Any:
        log_p = F.log_softmax(x, 1)
        loss = _loss(log_p, labels, weight, ignore, reduction)
        return (loss, log_p) if several else loss

    return run
