"""Imported SqueezeNet at batch 1 beside onnxruntime, and the loading of large files.

python -m nnlib.bench.onnx_inference

Needs ``NNLIB_DATA`` (for `squeezenet1.0-deepcompressed-13`) and onnxruntime. Rounds of
both are interleaved; the median is reported, and the largest difference of outputs.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import nnlib
from nnlib.bench.options import at_least, command, read_threads

__all__ = ["main", "run"]

_MODEL = "squeezenet1.0-deepcompressed-13"


# Seconds after which the threads of the other library have stopped spinning, and the
# calls of a turn, of which the first ones are not measured.
_PAUSE, _TURN, _WARM = 0.05, 8, 3


def _interleaved(
    runs: dict[str, Callable[[], Any]], rounds: int, clock: Callable[[], float]
) -> dict[str, float]:
    """Return the median time of each, in milliseconds."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, call in runs.items():
            time.sleep(_PAUSE)
            for number in range(_TURN):
                start = clock()
                call()
                if number >= _WARM:
                    times[name].append(1e3 * (clock() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def inference(threads: int, rounds: int) -> dict[str, float]:
    """Time SqueezeNet on one image, on a number of threads."""
    import onnxruntime

    path = Path(os.environ["NNLIB_DATA"]) / "onnx" / _MODEL / "model.onnx"
    model = nnlib.onnx.load(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"]
    )
    rng = np.random.default_rng(0)
    image = rng.normal(0, 60, (1, 3, 227, 227)).astype(np.float32)
    given = nnlib.from_numpy(image)
    before = nnlib.get_num_threads()
    nnlib.set_num_threads(threads)

    def ours() -> Any:
        with nnlib.no_grad():
            return model(given)

    def theirs() -> Any:
        return session.run(None, {"data": image})

    # One thread is timed by its own clock, which other work on the machine does not
    # touch.
    clock = time.thread_time if threads == 1 else time.perf_counter
    found = _interleaved({"nnlib": ours, "onnxruntime": theirs}, rounds, clock)
    found["difference"] = float(np.abs(ours().numpy() - theirs()[0]).max())
    nnlib.set_num_threads(before)
    return found


def loading() -> dict[str, float]:
    """Time the loading of a safetensors file of 100 MB."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        nnlib.save({f"w{n}": nnlib.zeros(1 << 18) for n in range(100)}, path)
        times = []
        for _ in range(7):
            start = time.perf_counter()
            nnlib.load(path)
            times.append(1e3 * (time.perf_counter() - start))
        return {
            "megabytes": path.stat().st_size / 1e6,
            "load": statistics.median(times),
        }


def run(threads: tuple[int, ...] = (1, 2), rounds: int = 30) -> dict[str, Any]:
    """Print and return all figures."""
    found: dict[str, Any] = {"loading": loading()}
    megabytes, load = found["loading"]["megabytes"], found["loading"]["load"]
    print(f"safetensors file of {megabytes:.0f} MB: loaded in {load:.1f} ms\n")
    missing = [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]
    if missing or "NNLIB_DATA" not in os.environ:
        lacks = f"the packages {' and '.join(missing)}" if missing else "NNLIB_DATA"
        print(f"SqueezeNet is left out: {lacks} not found")
        return found
    print("| SqueezeNet 1.0, one image | nnlib, ms | onnxruntime, ms | ratio |")
    print("| --- | --- | --- | --- |")
    for count in threads:
        times = found[f"threads {count}"] = inference(count, rounds)
        ratio = times["nnlib"] / times["onnxruntime"]
        print(
            f"| {count} thread{'s' * (count > 1)} | {times['nnlib']:.1f} | "
            f"{times['onnxruntime']:.1f} | {ratio:.2f} |",
            flush=True,
        )
    return found


def main() -> None:
    """Run from the command line."""
    parser = command("onnx_inference", __doc__)
    parser.add_argument("--threads", type=read_threads, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=at_least(1), default=30)
    arguments = parser.parse_args()
    run(tuple(arguments.threads), arguments.rounds)


if __name__ == "__main__":
    main()
