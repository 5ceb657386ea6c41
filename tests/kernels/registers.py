"""A table of every CUDA kernel's registers, local memory and spills, without a GPU.

    python tests/kernels/registers.py                  # all, for sm_75, sm_80, sm_90
    python tests/kernels/registers.py pooling softmax --cc 9.0

The kernels are compiled for the signatures with which their cases (``cases_*.py``)
launch them. The command fails if one spills registers to memory.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from kernel_cases import all_cases, load_families, put_on_fake_device, recorder, results

from nnlib.kernels.machinery import compile as compiler

CAPABILITIES = [(7, 5), (8, 0), (9, 0)]
Launches = dict[tuple[str, str], tuple[Any, tuple[Any, ...]]]


def all_launches() -> Launches:
    """Return every (kernel, signature) that the cases launch."""
    load_families()
    seen: Launches = {}
    for case in all_cases().values():
        with recorder() as launches, np.errstate(all="ignore"):
            results(case, put_on_fake_device)
        for kernel, signature in launches:
            seen[kernel.name, str(signature)] = (kernel, signature)
    return seen


def short(signature: Iterable[Any]) -> str:
    """Return a signature in few letters: ``f4[2] i8`` is a matrix and a number."""
    words = []
    for kind in signature:
        scalar = np.dtype(str(getattr(kind, "dtype", kind))).str[1:]
        rank = getattr(kind, "ndim", 0)
        words.append(f"{scalar}[{rank}]" if rank else scalar)
    return " ".join(words)


def table(
    launches: Launches, names: Sequence[str], capabilities: Sequence[tuple[int, int]]
) -> tuple[list[str], int]:
    """Return the lines of the table, and how many entries spill."""
    lines = [
        f"{'kernel':<58} {'cc':<6} {'registers':>9} {'stack':>6} {'shared':>6} "
        f"{'spills':>6}  signature"
    ]
    spilling = 0
    for (name, _), (kernel, signature) in sorted(launches.items()):
        label = name.removeprefix("nnlib.kernels.")
        if names and not any(part in label for part in names):
            continue
        for cc in capabilities:
            made = compiler.compile_for(kernel, signature, cc, keep=False)
            spilling += made.spills > 0
            lines.append(
                f"{label:<58} sm_{cc[0]}{cc[1]:<2} {made.registers:>9} "
                f"{made.stack:>6} {made.shared:>6} {made.spills:>6}  "
                f"{short(signature)}"
            )
    return lines, spilling


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of the kernels' names")
    parser.add_argument("--cc", nargs="*", help="compute capabilities, such as 9.0")
    options = parser.parse_args()
    chosen = CAPABILITIES
    if options.cc:
        chosen = [(int(cc.split(".")[0]), int(cc.split(".")[1])) for cc in options.cc]
    lines, spilling = table(all_launches(), options.names, chosen)
    print("\n".join(lines))
    print(f"{len(lines) - 1} compiled, {spilling} of them spill")
    return 1 if spilling else 0


if __name__ == "__main__":
    raise SystemExit(main())
