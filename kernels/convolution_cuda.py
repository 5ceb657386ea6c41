"""Convolution on CUDA: which way a call goes, and those that are no implicit product.

* Most go to `nnlib.kernels.implicit_cuda` and `nnlib.kernels.implicit_grad_cuda`: one
  launch for a convolution or an input gradient, two for a weight gradient.
* A filter per channel has a direct form (`nnlib.kernels.depthwise_cuda`).
* Many filters (`FILTERS`), and what is too large for them (kernels of more than 64
  taps, arrays beyond 2^31 elements), go by patches: those of a bounded number of
  outputs at a time (`CUDA_BUFFER` bytes) are multiplied by cuBLAS, with the weights
  packed to (groups, taps * C / groups, K / groups).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.kernels import depthwise_cuda, implicit_cuda, implicit_grad_cuda
from nnlib.kernels.channels import contiguous
from nnlib.kernels.convolution_plan import Plan
from nnlib.kernels.gemm import matmul
from nnlib.kernels.implicit_cuda import take_quad
from nnlib.kernels.machinery import array_module, body, cuda, cuda_kernel
from nnlib.kernels.machinery.arrays import DeviceArray, home, there, upload
from nnlib.kernels.machinery.cuda_vectors import store4
from nnlib.kernels.machinery.groups import aligned
from nnlib.kernels.plan_table import FIRST_PHASE, Layout, number, row_state, table_for

__all__ = ["CUDA_BUFFER", "FILTERS", "correlate", "patch_value", "weight_grad"]

# Elements of the largest array whose places are 32 bits wide.
_MOST = (1 << 31) - (1 << 16)
# A tile where there are none.
_ONE = 1, 1
# Tables on the devices, by everything that they depend on.
_tables: dict[Any, Any] = {}
# A captured graph reads them where they lie, so that hardly ever any may go.
_MOST_TABLES = 1 << 16
# Bytes of patches at a time: they stay in the second cache.
CUDA_BUFFER = 1 << 25
# From so many filters on, cuBLAS's larger tiles should outweigh the patches: so the
# bytes and the operations say, it is not measured yet.
FILTERS = 128
# "implicit" or "patches" in place of that rule, for measurements.
way: str | None = None


@body
def patch_value(x: Any, n: Any, d: Any, h: Any, w: Any, c: Any) -> Any:
    """Return a value of (N, D, H, W, C), or zero outside of it."""
    inside = (
        d >= 0 and d < x.shape[1] and h >= 0 and h < x.shape[2]
        and w >= 0 and w < x.shape[3]
    )  # fmt: skip
    return x[n, d, h, w, c] if inside else x.dtype.type(0)


@cuda_kernel
def patches_cuda(
    x: Any, columns: Any, table: Any, r0: Any, rows: Any, quads: Any
) -> None:
    # columns: (groups, rows, taps * C / groups); a thread moves four channels of a row.
    p = np.int32(FIRST_PHASE)
    item = np.uint32(cuda.grid(1))
    count = np.uint32(number(table, p + 21))
    listed = np.uint32(number(table, p + 22))
    cg = np.uint32(number(table, 9))
    while item < np.uint32(rows * quads):
        r = np.uint32(item // np.uint32(quads))
        c = np.uint32(np.uint32(item - r * np.uint32(quads)) * np.uint32(4))
        base, mask = row_state(table, p, np.int32(r0 + r), np.int32(0))
        group = np.uint32(c // cg)
        line = np.uint64(group) * np.uint64(rows) + np.uint64(r)
        to = np.uint64(line * np.uint64(count * cg) + np.uint64(c - group * cg))
        t = np.uint32(0)
        while t < count:
            inside = (mask >> np.uint64(t)) & np.uint64(1) != np.uint64(0)
            place = np.uint32(base + number(table, listed + t) + c)
            v0, v1, v2, v3 = take_quad(x, place, inside)
            store4(columns, to, v0, v1, v2, v3)
            to = np.uint64(to + np.uint64(cg))
            t = np.uint32(t + np.uint32(1))
        item = np.uint32(item + np.uint32(cuda.gridsize(1)))


@cuda_kernel
def patches_any_cuda(
    x: Any, columns: Any, r0: Any, grid_d: Any, grid_h: Any, grid_w: Any, stride_d: Any,
    stride_h: Any, stride_w: Any, taps_d: Any, taps_h: Any, taps_w: Any, first_d: Any,
    first_h: Any, first_w: Any, gap_d: Any, gap_h: Any, gap_w: Any,
) -> None:  # fmt: skip
    # The same by single elements, of arrays of any size.
    groups, rows, depth = columns.shape
    cg = x.shape[4] // groups
    for i in range(cuda.grid(1), columns.size, cuda.gridsize(1)):
        k = i % depth
        rest = i // depth
        r = rest % rows
        g = rest // rows
        t = k // cg
        c = g * cg + k - t * cg
        q = r0 + r
        w = q % grid_w * stride_w + first_w + t % taps_w * gap_w
        q = q // grid_w
        t = t // taps_w
        h = q % grid_h * stride_h + first_h + t % taps_h * gap_h
        q = q // grid_h
        d = q % grid_d * stride_d + first_d + t // taps_h * gap_d
        columns[g, r, k] = patch_value(x, q // grid_d, d, h, w, c)


def _chunks(plan: Plan, x: Any, groups: int) -> Any:
    """Yield the first and last output and the patches of each chunk."""
    module = array_module(x)
    channels = x.shape[4]
    total = x.shape[0] * plan.grid[0] * plan.grid[1] * plan.grid[2]
    depth = plan.order.size * (channels // groups)
    most = max(1, CUDA_BUFFER // (groups * depth * x.itemsize))
    fast = (
        max(_span(x), total) <= _MOST
        and plan.order.size <= implicit_cuda.MOST_TAPS
        and _quads(x, channels // groups, 4)
        and aligned(x)
        and min(x.strides) >= 0
    )
    if fast:
        key = "patches", plan.key, x.shape, x.strides, groups
        found = _found(key, x)
        if found is None:
            shape = (groups, channels // groups, plan.order.size)
            y = Layout((x.shape[0], *plan.grid, groups), (0,) * 5, 1)
            made = table_for((plan,), x, y, shape, groups, False, _ONE)
            found = _keep(key, x, *made)
        table, _ = found
    else:
        x = contiguous(x)
    columns = module.empty((groups, min(most, total), depth), x.dtype)
    for r0 in range(0, total, most):
        r1 = min(total, r0 + most)
        if r1 - r0 < columns.shape[1]:
            columns = module.empty((groups, r1 - r0, depth), x.dtype)
        if fast:
            items = (r1 - r0) * (channels // 4)
            patches_cuda(
                flat(x), flat(columns), table, r0, r1 - r0, channels // 4, items=items
            )
        else:
            patches_any_cuda(
                x, columns, r0, *plan.grid, *plan.stride, *plan.taps, *plan.first,
                *plan.gap, items=columns.size,
            )  # fmt: skip
        yield r0, r1, columns


def flat(x: Any) -> Any:
    """Return the memory of an array from its first element on, as one row.

    The strides of `x` are not negative.
    """
    if x.flags.c_contiguous:
        return x.reshape(-1)
    span = _span(x)
    if isinstance(x, DeviceArray):
        host = x.view(np.ndarray)
        row = np.lib.stride_tricks.as_strided(host, (span,), (x.itemsize,))
        return row.view(DeviceArray)
    return array_module(x).ndarray((span,), x.dtype, x.data)


def _span(x: Any) -> int:
    """Return how many elements lie from the first to the last of an array."""
    steps = sum((n - 1) * s for n, s in zip(x.shape, x.strides, strict=True))
    return int(steps // x.itemsize + 1)


def _implicit(
    x: Any, y: Any, weight: Any, plans: tuple[Plan, ...], filters: int
) -> bool:
    """Tell whether an implicit product serves; `filters` is those of a group."""
    if (
        max(_span(x), y.size, weight.size) > _MOST
        or min(x.strides) < 0
        or max(plan.order.size for plan in plans) > implicit_cuda.MOST_TAPS
    ):
        return False
    return filters < FILTERS if way is None else way == "implicit"


def _quads(x: Any, channels: int, lanes: int) -> bool:
    """Tell whether strides let `lanes` neighbouring channels be read by fours."""
    strides = x.strides
    return (
        channels % lanes == 0
        and strides[4] == x.itemsize
        and not any(stride % 16 for stride in strides[:4])
    )


def _packed(plan: Plan, split: Any) -> Any:
    """Return weights (G, in, out, T) as (G, T * in, out), in the order of a plan."""
    order = plan.order
    if (np.diff(order) == 1).all() and order.size == split.shape[3]:
        ordered = split
    elif (np.diff(order) == -1).all() and order.size == split.shape[3]:
        ordered = split[..., ::-1]
    else:
        key = "order", plan.key
        (table,) = _found(key, split) or _keep(key, split, order)
        ordered = split[..., table]
    packed = array_module(split).ascontiguousarray(ordered.transpose(0, 3, 1, 2))
    return packed.reshape(split.shape[0], -1, split.shape[2])


def _by_patches(plan: Plan, x: Any, packed: Any, bias: Any, y: Any) -> None:
    """Write the outputs of `plan` to `y`."""
    module = array_module(x)
    groups, depth, kg = packed.shape
    k = groups * kg
    index = tuple(slice(a, None, b) for a, b in zip(plan.start, plan.step, strict=True))
    place = y[(slice(None), *index)]
    if not place.size:
        return
    whole = plan.whole(y.shape[1:4])
    added = None
    if not depth:
        place[...] = 0
    else:
        out = y if whole else module.empty(place.shape, y.dtype)
        rows = out.reshape(-1, groups, kg)  # (N, D, H, W, K) -> (N*D*H*W, G, K/G)
        added = bias if bias.size and groups == 1 else None
        for r0, r1, columns in _chunks(plan, x, groups):
            # (G, rows, depth) @ (G, depth, K/G) -> (rows, G, K/G)
            if groups == 1:
                matmul(columns[0], packed[0], rows[r0:r1, 0], bias=added)
            else:
                rows[r0:r1] = matmul(columns, packed).swapaxes(0, 1)
        if not whole:
            place[...] = out
    if bias.size and added is None:
        place += bias.reshape(1, 1, 1, 1, k)


def _weight_by_patches(plan: Plan, x: Any, g: Any, dw: Any) -> None:
    """Write the gradient by the weights to (groups, K / groups, C / groups, taps)."""
    groups, kg, cg, taps = dw.shape
    rows = g.reshape(-1, groups, kg)  # (N, D, H, W, K) -> (N*D*H*W, G, K/G)
    total: Any = None
    for r0, r1, columns in _chunks(plan, x, groups):
        # (G, depth, rows) @ (G, rows, K/G)
        part = rows[r0:r1].swapaxes(0, 1)
        total = matmul(
            columns.swapaxes(1, 2), part, total, accumulate=total is not None
        )
    dw[...] = total.reshape(groups, taps, cg, kg).transpose(0, 3, 2, 1)


def correlate(
    plans: tuple[Plan, ...], geometry: Any, x: Any, weight: Any, bias: Any, y: Any,
    groups: int, *, transposed: bool,
) -> None:  # fmt: skip
    """Write the outputs of plans.

    Parameters
    ----------
    plans : tuple of Plan
    geometry : tuple
        What the plans were made from.
    x : array, shape (N, D, H, W, C)
        Any strides.
    weight : array, shape (K, C / groups, *kernel)
    bias : array, shape (channels of `y`,), or empty
    y : array, shape (N, D, H, W, C'), C-contiguous
    groups : int
    transposed : bool
        Whether this is an input gradient: the filters are the channels of `x`.
    """
    if not y.size:
        return
    k, cg = weight.shape[0] // groups, weight.shape[1]
    key = x.shape, x.strides, y.shape, k, groups, transposed, geometry, way
    found = _found(key, x)
    if found is None:
        made = _choose(plans, x, weight, y, groups, transposed)
        found = _keep(key, x, *made)
    table, blocks, kernel, any_kernel, quads = found
    if table is None:
        split = weight.reshape(groups, k, cg, -1)
        split = split if transposed else split.swapaxes(1, 2)
        for plan in plans:
            _by_patches(plan, x, _packed(plan, split), bias, y)
        return
    if not weight.flags.c_contiguous:
        weight = array_module(x).ascontiguousarray(weight)
    wide = kernel is not any_kernel and aligned(x)
    arrays = flat(x), weight.reshape(-1), bias, y.reshape(-1), table
    if quads:
        wide = wide and aligned(y)
        depthwise_cuda.depthwise_cuda(*arrays, quads, wide, blocks=blocks)
    else:
        (kernel if wide else any_kernel)(*arrays, blocks=blocks)


def _choose(
    plans: tuple[Plan, ...], x: Any, weight: Any, y: Any, groups: int, transposed: bool
) -> tuple[Any, ...]:
    """Return the table of a call, its blocks, its kernels, and quads of channels."""
    k, cg = weight.shape[0] // groups, weight.shape[1]
    inside, outside = (k, cg) if transposed else (cg, k)
    if not _implicit(x, y, weight, plans, outside):
        return None, 0, None, None, 0
    kernels = implicit_cuda.correlate_kernels
    if k == cg == 1 < groups:
        made = depthwise_cuda.depthwise_table(plans, x, y, weight.shape, transposed)
        quads = (groups + 3) // 4
        return *made, _quads(x, groups, 4) or None, None, quads
    tile = implicit_cuda.tile_of(outside)
    made = table_for(plans, x, y, weight.shape, groups, transposed, tile)
    return *made, kernels[(*tile, _quads(x, inside, 8))], kernels[(*tile, False)], 0


def _found(key: Any, like: Any) -> Any:
    """Return what `_keep` was given, with the table on the device of `like`."""
    return _tables.get((key, like.dtype, home(like)))


def _keep(key: Any, like: Any, table: Any, *rest: Any) -> Any:
    """Keep a table on the device of `like`, with what belongs to it."""
    if len(_tables) >= _MOST_TABLES:
        _tables.clear()
    if table is not None:
        table = upload(table, like, "convolution")
    found = _tables[key, like.dtype, home(like)] = table, *rest
    return found


def no_bias(like: Any, dtype: Any) -> Any:
    """Return an empty row where `like` lies, the same one each time."""
    key = "no bias", dtype, home(like)
    found = _tables.get(key)
    if found is None:
        with there(like):
            found = _tables[key] = array_module(like).empty(0, dtype)
    return found


def weight_grad(
    plan: Plan, geometry: Any, x: Any, g: Any, dw: Any, groups: int
) -> None:
    """Write the gradient by the weights.

    Parameters
    ----------
    plan : Plan
    geometry : tuple
        What the plan was made from.
    x : array, shape (N, D, H, W, C)
        Any strides.
    g : array, shape (N, D', H', W', K)
        The gradient by the result.
    dw : array, shape (groups, K / groups, C / groups, taps), C-contiguous
    groups : int
    """
    if not dw.size:
        return
    module = array_module(x)
    g = contiguous(g)
    _, kg, cg, taps = dw.shape
    if not g.size:
        dw[...] = 0
    else:
        key = x.shape, x.strides, g.shape, groups, geometry, way
        found = _found(key, x)
        if found is None:
            found = _keep(key, x, *_choose_grad(plan, x, g, dw))
        table, blocks, parts, kernel, any_kernel = found
        if table is None:
            _weight_by_patches(plan, x, g, dw)
            return
        sums = module.empty(parts * dw.size, x.dtype)
        arrays = flat(x), g.reshape(-1), sums, table
        if kernel is None:
            depthwise_cuda.depthwise_grad_cuda(*arrays, taps, blocks=blocks)
        else:
            wide = aligned(x)
            (kernel if wide else any_kernel)(*arrays, blocks=blocks)
        implicit_grad_cuda.add_parts_cuda(
            sums, dw.reshape(-1), dw.size, parts, kg, cg, taps,
            blocks=implicit_grad_cuda.adding_blocks(dw.size),
        )  # fmt: skip


def _choose_grad(plan: Plan, x: Any, g: Any, dw: Any) -> tuple[Any, ...]:
    """Return the table of a call, its blocks and parts, and its kernels."""
    groups, kg, cg, _ = dw.shape
    if not _implicit(x, g, dw, (plan,), kg):
        return None, 0, 0, None, None
    if kg == cg == 1 < groups:
        return *depthwise_cuda.depthwise_grad_table(plan, x), None, None
    kernels = implicit_grad_cuda.grad_kernels
    tile = implicit_grad_cuda.grad_tile(kg)
    made = implicit_grad_cuda.grad_table(plan, x, g.shape[4], groups, tile)
    return *made, kernels[(*tile, _quads(x, cg, 4))], kernels[(*tile, False)]
