"""What a call costs the host: launches, products, operations, against PyTorch's.

Part "host" of `nnlib.bench.cuda_check`. Arrays are small, so that the GPU is done
before the next call: what is left is the time until a call returns.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import nnlib
from nnlib import kernels
from nnlib.backend import cublas
from nnlib.backend import device as backend
from nnlib.bench.attempts import attempt
from nnlib.bench.report import Report

__all__ = ["host", "ways"]

Calls = dict[str, Callable[[], Any]]

# Calls of a round, as many as fit into so many seconds.
CALLS, BUDGET, ROUNDS = 200, 0.02, 7


def _ours(device: str) -> Calls:
    """Return nnlib's calls by name."""
    module = backend.module_of(backend.Device(device))
    draw = np.random.default_rng(0).standard_normal
    x, w = (module.asarray(draw(s).astype(np.float32)) for s in ((64, 128), (128, 128)))
    bias, out = module.asarray(draw(128).astype(np.float32)), module.empty_like(x)
    tensor = nnlib.Tensor._from_array
    a, b, c = tensor(x), tensor(w), tensor(bias)
    leaf = tensor(x.copy()).requires_grad_()
    gemm, activation = kernels.gemm.matmul, kernels.activation

    def backward() -> None:
        leaf.grad = None
        nnlib.relu(leaf).sum().backward()

    return {
        "empty": lambda: module.empty((64, 128), np.float32),
        "kernel, into out": lambda: activation.relu(x, out=out),
        "kernel": lambda: activation.relu(x),
        "kernel with a bias": lambda: activation.bias_relu(x, bias),
        "sum of rows": lambda: kernels.reduction.sum_columns(x),
        "product": lambda: gemm(x, w),
        "product, transposed": lambda: gemm(x, w.T, out),
        "product with a bias": lambda: gemm(x, w, bias=bias),
        "Tensor add": lambda: a + a,
        "Tensor relu": lambda: nnlib.relu(a),
        "Tensor relu, recorded": lambda: nnlib.relu(leaf),
        "Tensor matmul": lambda: a @ b,
        "linear": lambda: nnlib.nn.functional.linear(a, b, c),
        "relu, sum, backward": backward,
    }


def _theirs(device: str) -> Calls:
    """Return PyTorch's calls of the same work."""
    import torch

    x, w = torch.randn(64, 128, device=device), torch.randn(128, 128, device=device)
    bias, out = torch.randn(128, device=device), torch.empty_like(x)
    leaf = x.clone().requires_grad_()

    def backward() -> None:
        leaf.grad = None
        torch.relu(leaf).sum().backward()

    return {
        "empty": lambda: torch.empty(64, 128, device=device),
        "kernel": lambda: torch.relu(x),
        "sum of rows": lambda: x.sum(0),
        "product": lambda: torch.matmul(x, w),
        "product, transposed": lambda: torch.matmul(x, w.T, out=out),
        "product with a bias": lambda: torch.addmm(bias, x, w),
        "Tensor add": lambda: x + x,
        "Tensor relu": lambda: torch.relu(x),
        "Tensor relu, recorded": lambda: torch.relu(leaf),
        "Tensor matmul": lambda: x @ w,
        "linear": lambda: torch.nn.functional.linear(x, w, bias),
        "relu, sum, backward": backward,
    }


def _microseconds(call: Callable[[], Any], wait: Callable[[], Any]) -> float:
    """Return the median time until a call returns."""
    call()
    wait()
    start = time.perf_counter()
    call()
    wait()
    calls = max(1, min(CALLS, int(BUDGET / (time.perf_counter() - start))))
    found = []
    for _ in range(ROUNDS):
        wait()
        start = time.perf_counter()
        for _ in range(calls):
            call()
        found.append((time.perf_counter() - start) / calls * 1e6)
    wait()
    return statistics.median(found)


def _both(call: Any, peer: Any, wait: Callable[[], Any]) -> dict[str, Any]:
    found = {"us": _microseconds(call, wait)}
    if peer is not None:
        found["torch_us"] = _microseconds(peer, wait)
    return found


def ways() -> dict[str, Any]:
    """Say how kernels are launched and matrices multiplied, as trials have decided."""
    from nnlib.kernels.machinery import launch_check

    return {"launches": launch_check.report(), "products": cublas.report()}


def host(report: Report, device: str, deadline: float) -> None:
    """Measure what calls cost the host."""
    from nnlib.bench.cuda_figures import torch_can

    def wait() -> None:
        if device != "cpu":
            nnlib.cuda.synchronize()

    problem = torch_can(device)
    if problem:
        report.put("without_torch", problem)
    theirs = {} if problem else _theirs(device)
    for name, call in _ours(device).items():
        if time.monotonic() > deadline:
            report.put("left_out", "the time was up")
            break
        figures = attempt(
            report, "host_us", name, partial(_both, call, theirs.get(name), wait)
        )
        if figures is not None:
            shown = figures.get("us", figures.get("error"))
            print(f"  {name:24} {shown} us, PyTorch {figures.get('torch_us')}")
    found = ways() if device != "cpu" else {}
    for key, value in found.items():
        report.put(key, {str(name): text for name, text in value.items()})
        print(f"  {key}: {value}", flush=True)


def main() -> None:
    """Try both ways on the GPU and print what they are, as JSON.

    `nnlib.bench.cuda_check` has this done by a process that may die of it.
    """
    x = nnlib.ones(4, 4, device="cuda")
    total = float(nnlib.relu(x @ x).sum())
    if total != 64:
        raise SystemExit(f"the sum of products is {total}, expected 64")
    print(json.dumps(ways()))


if __name__ == "__main__":
    main()
