"""What every kernel stands on: one scalar body, compiled for the CPU and for CUDA.

How to write a kernel family (one file of ``kernels/``)::

    import numpy as np

    from nnlib.kernels.machinery import (
        array_module, body, cpu_kernel, cuda, cuda_kernel, on_cuda, prange,
    )

    @body                                   # 1. bodies: indices and raw arrays
    def scale_at(x, y, i, factor):
        y[i] = x[i] * factor

    @cpu_kernel                             # 2. the loop for the CPU
    def scale_cpu(x, y, factor):
        for i in prange(x.size):
            scale_at(x, y, i, factor)

    @cuda_kernel                            # 3. the loop for CUDA: grid-stride
    def scale_cuda(x, y, factor):
        for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
            scale_at(x, y, i, factor)

    def scale(x, factor, out=None):         # 4. the public function picks
        if out is None:
            out = array_module(x).empty(x.shape, x.dtype)
        factor = x.dtype.type(factor)       # a Python float would be a float64
        if on_cuda(x):
            scale_cuda(x.ravel(), out.ravel(), factor, items=x.size)
        else:
            scale_cpu(x.ravel(), out.ravel(), factor)
        return out

and its cases, in ``tests/kernels/cases_<family>.py``::

    from kernel_cases import Case

    def _scale(rng, put):                   # ``put`` moves an array to the target
        return kernels.scale.scale(put(rng.standard_normal(50).astype("f4")), 2.0)

    CASES = [Case("scale", _scale)]

From a case come the comparison of the CUDA loop (in Numba's simulator) with the CPU
loop, its compilation for three generations of GPU, and the run on a real one. A CUDA
kernel that no case launches fails the tests.

Rules that are easy to break:

* No 64-bit float in a float32 kernel: write ``np.float32(0.5)`` or
  ``x.dtype.type(0.5)``, hand scalars over as ``x.dtype.type(factor)``. A test greps.
* Bodies and loops are functions of a module: as closures they would not be cached.
* `cpu_kernel` compiles without ``nnan`` and ``ninf``: NaN and infinity mean what they
  say. A float sum is not vectorised unless ``reassociate=True`` allows reordering.
* A new layout or dtype of an argument is a new compilation (0.2-0.5 s): hand over
  C-contiguous arrays (flattened where the loop is element-wise), ints as ``int``.
* A kernel that many programs need shares its loop out by `spread` (see `elementwise`):
  one compilation serves small and large arrays, in half the time of `prange`.
* A CUDA loop that streams memory reads and writes by vectors, in a ``while`` loop, with
  unsigned indices: `nnlib.kernels.machinery.cuda_vectors` says why and how.
* A CUDA kernel that goes over rows holds them in registers and reduces over a group of
  threads: `nnlib.kernels.machinery.groups` and `nnlib.kernels.group_reduction`.
* A CUDA kernel may use shared memory and ``cuda.syncthreads``; no warp intrinsics but
  `groups.exchange`, which the simulator knows too, and no float atomics, which are not
  deterministic.
  A kernel that counts on its grid is launched with ``blocks=``, others with ``items=``.
* Indices that a user gives are checked: on the CPU before or in the loop, at once; on
  CUDA through `faults`, told at the next synchronisation.
"""

from __future__ import annotations

from nnlib.kernels.machinery import faults
from nnlib.kernels.machinery.arrays import (
    array_module,
    contiguous,
    empty,
    empty_like,
    on_cuda,
)
from nnlib.kernels.machinery.cpu import (
    CpuKernel,
    body,
    cpu_kernel,
    cpu_loop,
    num_threads,
    prange,
)
from nnlib.kernels.machinery.gpu import CudaKernel, cuda, cuda_kernel
from nnlib.kernels.machinery.spread import spread

__all__ = [
    "CpuKernel",
    "CudaKernel",
    "array_module",
    "body",
    "contiguous",
    "cpu_kernel",
    "cpu_loop",
    "cuda",
    "cuda_kernel",
    "empty",
    "empty_like",
    "faults",
    "num_threads",
    "on_cuda",
    "prange",
    "spread",
]
