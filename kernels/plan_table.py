"""Convolutions on CUDA: a plan's geometry as a table of integers on the device.

A launch then takes one array in place of forty numbers, and several phases of a strided
input gradient at once. The table begins with

* 0: phases; 1-3: size of the images; 4-8: their strides; 9, 10: channels and filters of
  a group; 11-13: distances of two filters and two channels in the weights, of two
  groups in the images; 14: whether neighbouring threads read neighbouring channels of
  the weights; 15: tiles of filters; 16: distance of two images of the outputs; 17: of
  two groups in the weights; 18: whether filters are a multiple of four; 19: channels
  (depthwise); 20: tiles of filters of a group;

then for each phase

* 0: the first block; 1: outputs; 2-4: grid; 5-7: stride; 8-10: first; 11-13: taps;
  14-16: gap (see `nnlib.kernels.convolution_plan`); 17: where the outputs begin; 18-20:
  their distances; 21: all taps; 22: where their list is; 23: whether outputs lie in a
  row;

and ends with the phases' taps: where each lies in the images, and in the weights.
Places are 32 bits wide.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from nnlib.kernels.convolution_plan import Plan
from nnlib.kernels.machinery import body

__all__ = [
    "FIRST_PHASE",
    "PHASE",
    "Layout",
    "number",
    "phase_of",
    "place_of",
    "row_state",
    "table_for",
]

# Numbers that the table holds before the first phase, and of each phase.
FIRST_PHASE = 24
PHASE = 24


@body
def number(table: Any, i: Any) -> Any:
    """Return a number of a table."""
    return table[np.uint32(i)]


@body
def phase_of(table: Any, block: Any) -> Any:
    """Return where the phase of a block is told, and the block's number in it."""
    p = np.int32(FIRST_PHASE)
    for q in range(1, number(table, 0)):
        if block >= number(table, FIRST_PHASE + q * PHASE):
            p = np.int32(FIRST_PHASE + q * PHASE)
    return p, np.int32(block - number(table, p))


@body
def row_state(table: Any, p: Any, m: Any, group: Any) -> Any:
    """Return where row `m` of a phase begins, and which of its taps are inside."""
    mask = np.uint64(0)
    if m >= np.int32(number(table, p + 1)):
        return np.int32(0), mask
    wide = np.uint32(number(table, p + 4))
    high = np.uint32(number(table, p + 3))
    deep = np.uint32(number(table, p + 2))
    rest = np.uint32(m)
    line = np.uint32(rest // wide)
    w = np.int32(rest - line * wide)
    plane = np.uint32(line // high)
    h = np.int32(line - plane * high)
    n = np.uint32(plane // deep)
    d = np.int32(plane - n * deep)
    w = np.int32(w * number(table, p + 7) + number(table, p + 10))
    h = np.int32(h * number(table, p + 6) + number(table, p + 9))
    d = np.int32(d * number(table, p + 5) + number(table, p + 8))
    base = np.int32(
        n * number(table, 4)
        + d * number(table, 5)
        + h * number(table, 6)
        + w * number(table, 7)
        + group * number(table, 13)
    )
    row = np.uint64(0)
    for j in range(number(table, p + 13)):
        at = w + j * number(table, p + 16)
        if at >= 0 and at < number(table, 3):
            row |= np.uint64(1) << np.uint64(j)
    shift = 0
    for i in range(number(table, p + 11)):
        deep_at = d + i * number(table, p + 14)
        for j in range(number(table, p + 12)):
            at = h + j * number(table, p + 15)
            if (
                deep_at >= 0
                and deep_at < number(table, 1)
                and at >= 0
                and at < number(table, 2)
            ):
                mask |= row << np.uint64(shift)
            shift += number(table, p + 13)
    return base, mask


@body
def place_of(table: Any, p: Any, m: Any) -> Any:
    """Return where the outputs of row `m` begin."""
    if number(table, p + 23):
        return np.uint32(m * number(table, p + 20))
    wide = np.uint32(number(table, p + 4))
    high = np.uint32(number(table, p + 3))
    deep = np.uint32(number(table, p + 2))
    rest = np.uint32(m)
    line = np.uint32(rest // wide)
    w = np.int32(rest - line * wide)
    plane = np.uint32(line // high)
    h = np.int32(line - plane * high)
    n = np.uint32(plane // deep)
    d = np.int32(plane - n * deep)
    return np.uint32(
        n * number(table, 16)
        + number(table, p + 17)
        + d * number(table, p + 18)
        + h * number(table, p + 19)
        + w * number(table, p + 20)
    )


class Layout(NamedTuple):
    """The shape and strides of outputs that nothing is written to.

    Attributes
    ----------
    shape, strides : tuple of int
    itemsize : int
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    itemsize: int


def table_for(
    plans: tuple[Plan, ...],
    x: Any,
    y: Any,
    weight: tuple[int, ...],
    groups: int,
    transposed: bool,
    tile: tuple[int, int],
) -> tuple[Any, int]:
    """Return the table of a call, and the number of blocks.

    Parameters
    ----------
    plans : tuple of Plan
    x, y : array, shape (N, D, H, W, C)
    weight : tuple of int
        Shape (K, C / groups, *kernel).
    groups : int
    transposed : bool
        Whether this is an input gradient: the filters are the channels of `x`.
    tile : tuple of int
        From `tile_of`.
    """
    rows, deep = tile
    taps = math.prod(weight[2:])
    filters, cg = weight[0] // groups, weight[1]
    steps = [s // x.itemsize for s in x.strides]
    inside, outside = (filters, cg) if transposed else (cg, filters)
    tiles = math.ceil(outside / (4 * deep))
    # (K, C / G, T): the distance of two outputs, two inputs, two groups
    n_step, c_step = (taps, cg * taps) if transposed else (cg * taps, taps)
    head = [
        len(plans), *x.shape[1:4], *steps, inside, outside, n_step, c_step,
        inside * steps[4], not transposed, tiles * groups,
        y.strides[0] // y.itemsize, filters * cg * taps, y.shape[4] % 4 == 0
        and outside % 4 == 0, 0, tiles, 0, 0, 0,
    ]  # fmt: skip
    high, wide, k = y.shape[2:]
    y_steps = (high * wide * k, wide * k, k)
    phases: list[int] = []
    tail: list[int] = []
    first = 0
    for plan in plans:
        outputs = x.shape[0] * plan.grid[0] * plan.grid[1] * plan.grid[2]
        offsets = [
            d * plan.gap[0] * steps[1] + h * plan.gap[1] * steps[2]
            + w * plan.gap[2] * steps[3]
            for d in range(plan.taps[0])
            for h in range(plan.taps[1])
            for w in range(plan.taps[2])
        ]  # fmt: skip
        phases += [
            first, outputs, *plan.grid, *plan.stride, *plan.first, *plan.taps,
            *plan.gap,
            sum(a * b for a, b in zip(plan.start, y_steps, strict=True)),
            *(a * b for a, b in zip(plan.step, y_steps, strict=True)),
            len(offsets), FIRST_PHASE + PHASE * len(plans) + len(tail),
            plan.whole(y.shape[1:4]),
        ]  # fmt: skip
        tail += [*offsets, *plan.order.tolist()]
        first += math.ceil(outputs / rows) * tiles * groups
    return np.array([*head, *phases, *tail], np.int32), first
