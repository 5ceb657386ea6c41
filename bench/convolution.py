"""conv2d against PyTorch on ten shapes of LeNet, VGG and ResNet-20.

    python -m nnlib.bench.convolution --rounds 15

Forward, and forward with all three gradients. PyTorch runs in the better of its two
memory formats, nnlib in its own (channels-last); each takes its inputs as its layers
before would leave them (the networks' first layers: as images come, NCHW).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from nnlib.bench.compare import HEADER, Comparison, Pair, read_options
from nnlib.bench.options import require_cases

__all__ = ["SHAPES", "main", "run"]


class Shape(NamedTuple):
    """One layer: batch, channels, size, filters, kernel, stride, padding, groups."""

    batch: int
    channels: int
    size: int
    filters: int
    kernel: int
    stride: int = 1
    padding: int = 0
    groups: int = 1
    first: bool = False

    @property
    def wide(self) -> bool:
        """Whether this is 3x3 of stride 1 with 32 channels or more."""
        return (
            self.kernel == 3
            and self.stride == 1
            and 32 <= self.channels * (self.groups == 1)
        )


FORWARD, BOTH = "forward", "forward and backward"
CHANNELS_LAST = "channels-last"

SHAPES = {
    "LeNet conv1, 5x5 1-6": Shape(64, 1, 28, 6, 5, padding=2, first=True),
    "LeNet conv2, 5x5 6-16": Shape(64, 6, 14, 16, 5),
    "VGG, 3x3 3-32": Shape(64, 3, 32, 32, 3, padding=1, first=True),
    "VGG, 3x3 32-32": Shape(64, 32, 32, 32, 3, padding=1),
    "VGG, 3x3 64-64": Shape(64, 64, 16, 64, 3, padding=1),
    "VGG, 3x3 128-128": Shape(64, 128, 8, 128, 3, padding=1),
    "ResNet-20, 3x3 16-16": Shape(64, 16, 32, 16, 3, padding=1),
    "ResNet-20, 3x3 stride 2 16-32": Shape(64, 16, 32, 32, 3, 2, 1),
    "ResNet-20, 1x1 stride 2 32-64": Shape(64, 32, 16, 64, 1, 2),
    "depthwise 3x3, 64": Shape(64, 64, 16, 64, 3, padding=1, groups=64),
}


class Result:
    """The root mean square of some tensors, computed when asked: not while timed."""

    def __init__(self, tensors: list[Any]) -> None:
        self.tensors = tensors

    def __float__(self) -> float:
        """Return the sum over the tensors."""
        arrays = [tensor.detach().cpu().numpy() for tensor in self.tensors]
        return sum(float(np.sqrt(np.square(a, dtype=float).mean())) for a in arrays)


def build(library: Any, case: str, device: str = "cpu") -> Callable[[], Result]:
    """Return a step of ``shape: what, format of PyTorch's memory``.

    On CUDA PyTorch computes in float32, as nnlib does: by its default it would round
    the products' factors to TF32.
    """
    name, _, rest = case.rpartition(": ")
    what, _, memory = rest.partition(", ")
    shape = SHAPES[name]
    functional = library.nn.functional
    rng = np.random.default_rng(0)

    def normal(*sizes: int) -> Any:
        return library.tensor(rng.standard_normal(sizes, np.float32)).to(device)

    x = normal(shape.batch, shape.channels, shape.size, shape.size)
    weight = normal(
        shape.filters, shape.channels // shape.groups, shape.kernel, shape.kernel
    )
    bias = normal(shape.filters)
    mine = library.__name__ == "nnlib"
    if not shape.first if mine else memory == CHANNELS_LAST:
        # (N, C, H, W) -> the same shape, channels together in memory
        x = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
        if not mine:
            weight = weight.to(memory_format=library.channels_last)
    if not mine and device != "cpu":
        library.backends.cudnn.allow_tf32 = False
    backward = what == BOTH
    leaves = (weight, bias) if shape.first else (x, weight, bias)
    if backward:
        for leaf in leaves:
            leaf.requires_grad_()

    def call() -> Any:
        return functional.conv2d(
            x, weight, bias, shape.stride, shape.padding, 1, shape.groups
        )

    grad = call().detach() * 0 + 1

    def step() -> Result:
        y = call()
        if not backward:
            return Result([y])
        for leaf in leaves:
            leaf.grad = None
        y.backward(grad)
        return Result([y, *(leaf.grad for leaf in leaves)])

    if device != "cpu":
        vars(step)["synchronize"] = library.cuda.synchronize
    return step


def run(
    rounds: int, only: list[str] | None = None, threads: int | None = None
) -> list[Comparison]:
    """Compare every shape; print the table and the means."""
    found = []
    print(HEADER)
    with Pair(build, threads=threads) as pair:
        for what in (FORWARD, BOTH):
            ratios: dict[bool, list[float]] = {True: [], False: []}
            for name, shape in SHAPES.items():
                if only and not any(part in name for part in only):
                    continue
                rows = [
                    pair.time(f"{name}: {what}, {memory}", rounds=rounds)
                    for memory in (CHANNELS_LAST, "NCHW")
                ]
                row = min(rows, key=lambda result: result.ratio)
                found.append(row)
                ratios[shape.wide].append(row.ratio)
                print(row.row(), flush=True)
            for wide, label in ((True, "3x3, 32 channels or more"), (False, "others")):
                if ratios[wide]:
                    mean = statistics.geometric_mean(ratios[wide])
                    print(f"{what}, {label}: geometric mean {mean:.2f}", flush=True)
    return found


def main() -> None:
    """Read the options and compare."""
    options = read_options("convolution", __doc__)
    require_cases(run(options.rounds, options.only, options.threads), options.only)


if __name__ == "__main__":
    main()
