"""Run the benchmark suite and write a dated results file.

python -m nnlib.bench [--rounds N] [--output DIR] [--only PART ...]
"""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import nnlib
from nnlib.backend.threads import own_settings
from nnlib.bench import (
    attention,
    convolution,
    memory,
    memory_bound,
    mixed_pools,
    onnx_inference,
    ops,
    recurrent,
    startup,
    training,
    word_vectors,
)
from nnlib.bench.options import at_least, command

__all__ = ["main", "machine"]


def machine() -> dict[str, Any]:
    """Return what the figures depend on: processor, cores, versions."""
    processor = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(x.split(":")[1].strip() for x in lines if "model name" in x)
    except (OSError, StopIteration):
        pass
    versions = {"python": platform.python_version()}
    for package in ("nnlib-dl", "numpy", "numba", "scipy-openblas64", "torch"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "versions": versions,
        # Settings that change the speed of either library.
        "environment": _settings(),
    }


def _settings() -> dict[str, str]:
    """Return the settings of thread pools and compilers; which are nnlib's is said."""
    return {
        name: f"{value} (set by nnlib)" if name in own_settings else value
        for name, value in sorted(os.environ.items())
        if name.startswith(("OPENBLAS_", "OMP_", "GOMP_", "MKL_", "NUMBA_"))
    }


def _word_vectors(rounds: int) -> dict[str, Any]:
    """Time a step against PyTorch's, and whole texts against gensim."""
    found: dict[str, Any] = {
        "step": [row.as_dict() for row in word_vectors.run(rounds)]
    }
    threads = nnlib.get_num_threads()
    for cbow in (False, True):
        mine, theirs = word_vectors.words_per_second(cbow, threads=threads)
        name = "CBoW" if cbow else "skip-gram"
        other = "not installed" if theirs is None else f"{theirs:,.0f}"
        print(f"{name}, {threads} threads, words/s: {mine:,.0f}, gensim {other}")
        found[name] = {"threads": threads, "nnlib": mine, "gensim": theirs}
    return found


def _rows(found: list[Any]) -> list[dict[str, Any]]:
    return [row.as_dict() for row in found]


# A part's name in the results file, what is printed above it, and what measures it.
PARTS: dict[str, tuple[str, Callable[[int], Any]]] = {
    "training": ("Training steps", lambda n: _rows(training.run(n))),
    "convolution": ("Convolutions", lambda n: _rows(convolution.run(n))),
    "memory_bound": ("Kernels bound by memory", memory_bound.run),
    "recurrent": (
        "Training steps of recurrent networks",
        lambda n: _rows(recurrent.run(n)),
    ),
    "word_vectors": ("Word vectors", _word_vectors),
    "attention": (
        "Attention: time and memory by length",
        lambda n: attention.run([2**k for k in range(7, 13)], min(n, 5), None),
    ),
    "ops": ("Overhead of an operation", lambda n: _rows(ops.run(n))),
    "memory": (
        "Peak memory above parameters and optimiser state",
        lambda n: _rows(memory.run()),
    ),
    "mixed_pools": ("NumPy's BLAS between steps", lambda n: mixed_pools.run()),
    "onnx": (
        "Imported models, and the loading of weights",
        lambda n: onnx_inference.run(),
    ),
    "startup": ("First step", lambda n: startup.run()),
}


def main() -> None:
    """Run benchmarks against PyTorch; write JSON under ``--output``."""
    parser = command("", __doc__)
    parser.add_argument("--rounds", type=at_least(2), default=15)
    parser.add_argument("--output", type=Path, help="folder of the results file")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=PARTS,
        help="parts to run; in a file of the same day the others are kept",
    )
    options = parser.parse_args()
    found: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
    }
    for name in options.only or PARTS:
        title, measure = PARTS[name]
        print(f"\n{title}")
        found[name] = measure(options.rounds)
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
        path = options.output / f"{found['date'][:10]}-cpu.json"
        if options.only and path.exists():
            found = {**json.loads(path.read_text()), **found}
        path.write_text(json.dumps(found, indent=1) + "\n")
        print(f"\nwritten: {path}")


if __name__ == "__main__":
    main()
