"""What the first step of a fresh install compiles is bounded, kernel by kernel.

Time on a machine that others use is no measure. The instructions that the compiler has
left when it is done (LLVM's, of a kernel's whole module) are: they are the same at
every run, and the processor time of a compilation follows them, at 0.5 to 0.8 ms each
on the machine of ``bench/results`` (`nnlib.bench.startup` tells the seconds).
"""

from __future__ import annotations

import json

from processes import run_python

# The largest kernel of the step, direct convolution, has 2,600 instructions (compiled
# for AVX-512, with its longest vectors). One past this bound takes 2 to 3 s, of the
# 10 s that a whole first step may take.
LARGEST = 4000
# All 17 together have 18,500.
ALL = 24000

# The files of the kernels that LeNet needs: nothing else is compiled for it.
NEEDED = set(
    "activation channels column_sum direct direct_grad gemm_cpu multi_tensor philox "
    "pooling softmax_cross_entropy tiles update_rules".split()
)

PROGRAM = """
import gc, json
import nnlib
from nnlib.bench.training import build
from nnlib.kernels.machinery import CpuKernel
build(nnlib, "LeNet-5, batch 64, Adam")()
sizes = {}
for kernel in gc.get_objects():
    if isinstance(kernel, CpuKernel) and kernel.dispatcher is not None:
        for number, made in enumerate(kernel.dispatcher.overloads.values()):
            lines = made.library.get_llvm_str().splitlines()
            count = sum(line.startswith("  ") for line in lines)
            sizes[f"{kernel.name} {number}"] = count
print(json.dumps(sizes))
"""


def test_each_kernel_of_a_first_step_is_bounded(tmp_path):
    sizes = json.loads(run_python(PROGRAM, NNLIB_CACHE_DIR=tmp_path).splitlines()[-1])
    told = sorted(sizes.items(), key=lambda item: -item[1])
    assert {name.split(".")[2] for name in sizes} == NEEDED, told
    assert told[0][1] <= LARGEST, told
    assert sum(sizes.values()) <= ALL, told
