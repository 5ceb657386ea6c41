"""Convolution on CUDA: patches for cuBLAS, and the direct depthwise form.

Patches are gathered for a bounded number of outputs at a time (`CUDA_BUFFER` bytes) and
multiplied by cuBLAS. Weights are packed to (groups, taps * C / groups, K / groups); a
kernel for CUDA takes the geometry as single integers.
"""

from __future__ import annotations

from typing import Any

from nnlib.kernels.convolution_plan import Plan
from nnlib.kernels.machinery import array_module, body, cuda, cuda_kernel

__all__ = [
    "CUDA_BUFFER",
    "correlate",
    "depthwise",
    "depthwise_weight_sums",
    "patch_value",
    "weight_sums",
]

# Bytes of patches at a time.
CUDA_BUFFER = 1 << 28
_THREADS = 128


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
    x: Any, columns: Any, r0: Any, grid_d: Any, grid_h: Any, grid_w: Any, stride_d: Any,
    stride_h: Any, stride_w: Any, taps_d: Any, taps_h: Any, taps_w: Any, first_d: Any,
    first_h: Any, first_w: Any, gap_d: Any, gap_h: Any, gap_w: Any,
) -> None:  # fmt: skip
    # columns: (groups, rows, taps * C / groups); neighbours read neighbouring channels.
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


@cuda_kernel
def depthwise_cuda(
    x: Any, weight: Any, bias: Any, y: Any, grid_d: Any, grid_h: Any, grid_w: Any,
    start_d: Any, start_h: Any, start_w: Any, step_d: Any, step_h: Any, step_w: Any,
    stride_d: Any, stride_h: Any, stride_w: Any, taps_d: Any, taps_h: Any, taps_w: Any,
    first_d: Any, first_h: Any, first_w: Any, gap_d: Any, gap_h: Any, gap_w: Any,
) -> None:  # fmt: skip
    channels = x.shape[4]
    items = x.shape[0] * grid_d * grid_h * grid_w * channels
    for i in range(cuda.grid(1), items, cuda.gridsize(1)):
        c = i % channels
        rest = i // channels
        w = rest % grid_w
        rest = rest // grid_w
        h = rest % grid_h
        rest = rest // grid_h
        d = rest % grid_d
        n = rest // grid_d
        total = bias[c] if bias.size > 0 else x.dtype.type(0)
        for t in range(weight.shape[0]):
            line = t // taps_w
            value = patch_value(
                x,
                n,
                d * stride_d + first_d + line // taps_h * gap_d,
                h * stride_h + first_h + line % taps_h * gap_h,
                w * stride_w + first_w + t % taps_w * gap_w,
                c,
            )
            total += value * weight[t, c]
        y[n, d * step_d + start_d, h * step_h + start_h, w * step_w + start_w, c] = (
            total
        )


@cuda_kernel(threads=_THREADS)
def depthwise_weight_cuda(
    x: Any, g: Any, dw: Any, stride_d: Any, stride_h: Any, stride_w: Any, taps_h: Any,
    taps_w: Any, first_d: Any, first_h: Any, first_w: Any, gap_d: Any, gap_h: Any,
    gap_w: Any,
) -> None:  # fmt: skip
    # A block sums one weight's products: (taps, C) blocks.
    shared = cuda.shared.array(_THREADS, dtype=x.dtype)
    thread = cuda.threadIdx.x
    channels = dw.shape[1]
    t = cuda.blockIdx.x // channels
    c = cuda.blockIdx.x - t * channels
    _, depth, height, width, _ = g.shape
    line = t // taps_w
    total = x.dtype.type(0)
    for i in range(thread, g.size // channels, cuda.blockDim.x):
        w = i % width
        rest = i // width
        h = rest % height
        rest = rest // height
        d = rest % depth
        n = rest // depth
        value = patch_value(
            x,
            n,
            d * stride_d + first_d + line // taps_h * gap_d,
            h * stride_h + first_h + line % taps_h * gap_h,
            w * stride_w + first_w + t % taps_w * gap_w,
            c,
        )
        total += value * g[n, d, h, w, c]
    shared[thread] = total
    cuda.syncthreads()
    half = cuda.blockDim.x // 2
    while half > 0:
        if thread < half:
            shared[thread] += shared[thread + half]
        cuda.syncthreads()
        half //= 2
    if thread == 0:
        dw[t, c] = shared[0]


def _chunks(plan: Plan, x: Any, groups: int) -> Any:
    """Yield the first and last output and the patches of each chunk."""
    module = array_module(x)
    total = x.shape[0] * plan.grid[0] * plan.grid[1] * plan.grid[2]
    depth = plan.order.size * (x.shape[4] // groups)
    most = max(1, CUDA_BUFFER // (groups * depth * x.itemsize))
    geometry = (
        *plan.grid, *plan.stride, *plan.taps, *plan.first, *plan.gap
    )  # fmt: skip
    for r0 in range(0, total, most):
        r1 = min(total, r0 + most)
        columns = module.empty((groups, r1 - r0, depth), x.dtype)
        patches_cuda(x, columns, r0, *geometry, items=columns.size)
        yield r0, r1, columns


def correlate(plan: Plan, x: Any, packed: Any, bias: Any, y: Any) -> None:
    """Write the outputs of `plan` to `y`."""
    module = array_module(x)
    groups, depth, kg = packed.shape
    k = groups * kg
    index = tuple(slice(a, None, b) for a, b in zip(plan.start, plan.step, strict=True))
    place = y[(slice(None), *index)]
    if not place.size:
        return
    if not depth:
        place[...] = 0
    else:
        whole = plan.whole(y.shape[1:4])
        out = y if whole else module.empty(place.shape, y.dtype)
        rows = out.reshape(-1, groups, kg)  # (N, D, H, W, K) -> (N*D*H*W, G, K/G)
        for r0, r1, columns in _chunks(plan, x, groups):
            # (G, rows, depth) @ (G, depth, K/G) -> (rows, G, K/G)
            rows[r0:r1] = module.matmul(columns, packed).swapaxes(0, 1)
        if not whole:
            place[...] = out
    if bias.size:
        place += bias.reshape(1, 1, 1, 1, k)


def weight_sums(plan: Plan, x: Any, g: Any, dw: Any) -> None:
    """Write the gradient by the weights to (groups, K / groups, C / groups, taps)."""
    module = array_module(x)
    groups, kg, cg, taps = dw.shape
    total = module.zeros((groups, taps * cg, kg), x.dtype)
    rows = g.reshape(-1, groups, kg)  # (N, D, H, W, K) -> (N*D*H*W, G, K/G)
    for r0, r1, columns in _chunks(plan, x, groups):
        # (G, depth, rows) @ (G, rows, K/G)
        total += module.matmul(columns.swapaxes(1, 2), rows[r0:r1].swapaxes(0, 1))
    dw[...] = total.reshape(groups, taps, cg, kg).transpose(0, 3, 2, 1)


def depthwise(plan: Plan, x: Any, w: Any, bias: Any, y: Any) -> None:
    """Write the outputs of `plan` to `y`, each channel with its own filter."""
    items = x.shape[0] * plan.grid[0] * plan.grid[1] * plan.grid[2] * x.shape[4]
    geometry = [value for triple in plan[:7] for value in triple]
    depthwise_cuda(x, w, bias, y, *geometry, items=items)


def depthwise_weight_sums(plan: Plan, x: Any, g: Any) -> Any:
    """Return the gradient by the weights, shape (taps, C)."""
    dw = array_module(x).empty((plan.order.size, x.shape[4]), x.dtype)
    geometry = (*plan.stride, *plan.taps[1:], *plan.first, *plan.gap)
    depthwise_weight_cuda(x, g, dw, *geometry, blocks=dw.size)
    return dw
