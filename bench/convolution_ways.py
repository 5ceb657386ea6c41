"""Convolution on CUDA by implicit products and by patches for cuBLAS, shape by shape.

A part of `nnlib.bench.cuda_check`. Both ways are compared with patches in double
precision, run twice for equal bits, and timed: what `FILTERS` of
`nnlib.kernels.convolution_cuda` should be is read off these figures.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from nnlib import kernels
from nnlib.backend import device as backend
from nnlib.bench.attempts import attempt
from nnlib.bench.convolution import SHAPES, Shape
from nnlib.bench.report import Report

__all__ = ["WAYS", "measure"]

WAYS = ("implicit", "patches")


def _calls(shape: Shape, dtype: Any, device: str) -> dict[str, Callable[[], Any]]:
    """Return the three passes of a layer on random numbers."""
    module = np if device == "cpu" else backend.cupy()
    rng = np.random.default_rng(0)
    out = (shape.size + 2 * shape.padding - shape.kernel) // shape.stride + 1
    rest = (
        (shape.stride,) * 2, (shape.padding,) * 2, (1, 1), shape.groups
    )  # fmt: skip

    def draw(*dims: int) -> Any:
        return module.asarray(rng.standard_normal(dims).astype(np.float32), dtype)

    x = draw(shape.batch, shape.size, shape.size, shape.channels)
    g = draw(shape.batch, out, out, shape.filters)
    x, g = (a.transpose(0, 3, 1, 2) for a in (x, g))
    kernel = shape.kernel, shape.kernel
    weight = draw(shape.filters, shape.channels // shape.groups, *kernel)
    bias = draw(shape.filters)
    family = kernels.convolution
    size = (shape.size,) * 2
    return {
        "forward": partial(family.convolve, x, weight, bias, (out, out), *rest),
        "input": partial(family.input_grad, g, weight, None, size, *rest),
        "weight": partial(family.weight_grad, x, g, kernel, *rest),
    }


def measure(report: Report, device: str, deadline: float, clock: Any) -> None:
    """Check and time every shape until the deadline.

    Parameters
    ----------
    report : Report
    device : str
    deadline : float
        In `time.monotonic`'s seconds.
    clock : nnlib.bench.cuda_figures.Clock
    """
    family = kernels.convolution_cuda
    before = family.way
    try:
        shapes = SHAPES
        if not clock.cuda:
            shapes = {"small": Shape(1, 2, 6, 3, 3)}
        for name, shape in shapes.items():
            if shape.groups > 1 or time.monotonic() > deadline:
                continue
            call = partial(_figures, shape, device, clock)
            figures = attempt(report, "ways", name, call)
            if figures is not None:
                print(f"  {name}: {figures}", flush=True)
    finally:
        family.way = before


def _figures(shape: Shape, device: str, clock: Any) -> dict[str, Any]:
    family = kernels.convolution_cuda
    family.way = "patches"
    true = {k: call() for k, call in _calls(shape, np.dtype("f8"), device).items()}
    found: dict[str, Any] = {}
    for way in WAYS:
        family.way = way
        for name, call in _calls(shape, np.dtype("f4"), device).items():
            first, again, expected = call(), call(), true[name]
            error = float(abs(first - expected).max() / abs(expected).max())
            found[f"{name}, {way}"] = {
                "ms": clock.median(call) * 1e3,
                "right": error < 1e-5,
                "same_bits": bool((first == again).all()),
            }
    return found
