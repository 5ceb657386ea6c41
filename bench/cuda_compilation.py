"""The first launch of each CUDA kernel: a part of `nnlib.bench.cuda_figures`."""

from __future__ import annotations

import os
import time
from typing import Any

from nnlib.bench.attempts import stop_if_broken
from nnlib.bench.report import Report

__all__ = ["compilation"]


def compilation(report: Report, device: str, deadline: float) -> None:
    """Measure the first launch of each kernel that the warm-up uses, nothing cached.

    The caller has set ``NNLIB_CACHE_DIR`` to an empty folder.
    """
    from nnlib.cli.kernels import warm
    from nnlib.cli.recipes import RECIPES
    from nnlib.kernels.machinery import gpu

    if os.environ.get("NUMBA_ENABLE_CUDASIM") == "1":
        report.put("left_out", "the simulator compiles nothing")
        return
    # Any: the method is replaced for the time of the measurement.
    kind: Any = gpu.CudaKernel
    load = kind.load

    def timed(self: Any, *args: Any) -> Any:
        start = time.perf_counter()
        result = load(self, *args)
        taken = time.perf_counter() - start
        name = self.name.removeprefix("nnlib.kernels.")
        report.put("kernels_s", {name: taken})
        return result

    kind.load = timed
    begin = time.perf_counter()
    try:
        for family in RECIPES:
            if time.monotonic() > deadline:
                report.put("left_out", "the time was up")
                break
            if family in report.get("families_s", {}):
                continue
            report.put("families_s", {family: None})
            start = time.perf_counter()
            done = warm([family], device)
            failed = done.failed.get(family)
            if failed is not None:
                report.put("errors", {family: failed})
                stop_if_broken(failed)
            report.put("families_s", {family: time.perf_counter() - start})
    finally:
        kind.load = load
    total = time.perf_counter() - begin
    report.put("total_s", total)
    launched = report.get("kernels_s", {})
    names = {n.removeprefix("nnlib.kernels.") for n in gpu.registry}
    report.put("not_launched", sorted(names - set(launched)))
    print(f"  {len(launched)} CUDA kernels, {total:.1f} s", flush=True)
