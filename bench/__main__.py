"""Run the benchmark suite and write a dated results file.

python -m nnlib.bench [--rounds N] [--output DIR]
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
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


def main() -> None:
    """Run every benchmark against PyTorch; write JSON under ``--output``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", type=Path, help="folder of the results file")
    options = parser.parse_args()
    found: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
    }
    print("Training steps")
    found["training"] = [row.as_dict() for row in training.run(options.rounds)]
    print("\nConvolutions")
    found["convolution"] = [row.as_dict() for row in convolution.run(options.rounds)]
    print("\nKernels bound by memory")
    found["memory_bound"] = memory_bound.run(options.rounds)
    print("\nTraining steps of recurrent networks")
    found["recurrent"] = [row.as_dict() for row in recurrent.run(options.rounds)]
    print("\nWord vectors")
    found["word_vectors"] = _word_vectors(options.rounds)
    print("\nAttention: time and memory by length")
    lengths = [2**k for k in range(7, 13)]
    found["attention"] = attention.run(lengths, min(options.rounds, 5), None)
    print("\nOverhead of an operation")
    found["ops"] = [cost.as_dict() for cost in ops.run(options.rounds)]
    print("\nPeak memory above parameters and optimiser state")
    found["memory"] = [row.as_dict() for row in memory.run()]
    print("\nNumPy's BLAS between steps")
    found["mixed_pools"] = mixed_pools.run()
    print("\nImported models, and the loading of weights")
    found["onnx"] = onnx_inference.run()
    print("\nFirst step")
    found["startup"] = startup.run()
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
        path = options.output / f"{found['date'][:10]}-cpu.json"
        path.write_text(json.dumps(found, indent=1) + "\n")
        print(f"\nwritten: {path}")


if __name__ == "__main__":
    main()
