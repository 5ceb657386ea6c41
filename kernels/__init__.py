"""Hot loops on plain arrays (`numpy.ndarray` or `cupy.ndarray`), one file per family.

A family is loaded when it is first asked for, because loading it imports Numba::

    from nnlib import kernels

    kernels.gemm.matmul(a, b)

How a kernel is written is told at the head of `nnlib.kernels.machinery`.
"""

from __future__ import annotations

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    """Import the family `name` at its first use."""
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    full = f"{__name__}.{name}"
    try:
        return importlib.import_module(full)
    except ModuleNotFoundError as error:
        if error.name != full:
            raise
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
