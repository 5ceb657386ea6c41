"""Training steps recorded as CUDA graphs, in nnlib or PyTorch: the names are the same.

`nnlib.bench.cuda_check` measures them beside the steps that Python launches one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["CASES", "GRAPHED", "beside", "graphed"]

# What a case's name ends with.
GRAPHED = ", graphed"
# Those of `nnlib.bench.training` that are measured so too.
CASES = (
    "LeNet-5, batch 64, Adam",
    "VGG-6, batch 64, SGD with momentum",
    "MLP 784-512-512-10, batch 128, Adam",
)
# Steps before the recording.
_WARM = 3


def beside(cases: Iterable[str]) -> list[str]:
    """Return cases with their graphs beside them, and first: time may run out.

    Examples
    --------
    >>> beside(["x", CASES[0]])[:2] == [CASES[0], CASES[0] + GRAPHED]
    True
    """
    first = [name for case in CASES for name in (case, case + GRAPHED)]
    return first + [case for case in cases if case not in first]


def graphed(lib: Any, optimizer: Any, work: Callable[[], Any]) -> Callable[[], float]:
    """Record a step on CUDA; return one that replays it and reads the loss.

    Parameters
    ----------
    lib : module
        nnlib or torch.
    optimizer : Optimizer
        Has taken no step yet.
    work : callable
        The step, on tensors that stay; returns the loss.
    """
    # PyTorch's Adam keeps the number of its step on the device only if it is told to.
    for group in optimizer.param_groups:
        if "capturable" in group:
            group["capturable"] = True
    aside = lib.cuda.Stream()
    lib.cuda.synchronize()
    with lib.cuda.stream(aside):
        for _ in range(_WARM):
            optimizer.zero_grad()
            work()
    lib.cuda.synchronize()
    optimizer.zero_grad()
    graph = lib.cuda.CUDAGraph()
    with lib.cuda.graph(graph):
        loss = work()

    def step() -> float:
        graph.replay()
        return float(loss.item())

    return step
