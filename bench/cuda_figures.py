"""What `nnlib.bench.cuda_check` measures: one part of it, in a process of its own.

    python -m nnlib.bench.cuda_figures PART --report FILE [--device cuda] [--seconds S]

Each figure is written to the report as soon as it is known, so that a crash or the end
of the time loses none that came before. Times on CUDA are between two events of the
current stream, on the CPU those of the clock; medians of rounds.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import nnlib
from nnlib import kernels
from nnlib.backend import device as backend
from nnlib.bench.attempts import attempt, stop_if_broken
from nnlib.bench.cuda_compilation import compilation as compilation
from nnlib.bench.options import command
from nnlib.bench.report import Report

__all__ = ["PARTS", "Clock", "build_on_cuda", "main"]

PARTS = (
    "bandwidth", "host", "training", "recurrent", "persistent", "convolution",
    "generative", "attention", "compilation",
)  # fmt: skip
# The aim of a memory-bound kernel on CUDA, as a share of copy bandwidth.
AIM = 0.85


class Clock:
    """Median times of a step on one device.

    Parameters
    ----------
    device : str
        ``"cpu"`` or ``"cuda"``.
    rounds : int, default 7
        Measurements of which the median is taken.
    budget : float, default 0.03
        Seconds of one measurement: the step is repeated to fill it.
    """

    def __init__(self, device: str, rounds: int = 7, budget: float = 0.03) -> None:
        self.cuda = device.startswith("cuda")
        self.rounds = rounds
        self.budget = budget

    def seconds(self, step: Callable[[], Any], count: int) -> float:
        """Return the time of `count` steps, the device's work included."""
        if not self.cuda:
            start = time.perf_counter()
            for _ in range(count):
                step()
            return time.perf_counter() - start
        begin = nnlib.cuda.Event(enable_timing=True)
        end = nnlib.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(count):
            step()
        end.record()
        end.synchronize()
        elapsed = backend.cupy().cuda.get_elapsed_time(begin, end)
        return float(elapsed) / 1e3

    def median(self, step: Callable[[], Any]) -> float:
        """Return the median time of one step, in seconds, after a warm-up."""
        self.seconds(step, 2)
        count = max(1, int(self.budget / max(self.seconds(step, 1), 1e-6)))
        return statistics.median(
            [self.seconds(step, count) / count for _ in range(self.rounds)]
        )


# -- memory-bound kernels -------------------------------------------------------------

# A kernel's name, the function to time, and the bytes that it must read and write.
Item = tuple[str, Callable[[], Any], int]


def _elementwise(x: Any, y: Any, out: Any) -> Iterator[Item]:
    from nnlib.kernels.elementwise import BiasMap, Gradient, Map

    bias = y.reshape(-1)[:1024]
    rows = x.reshape(-1, 1024)
    for family in (kernels.activation, kernels.loss):
        for name, kernel in sorted(vars(family).items()):
            if isinstance(kernel, Map):
                yield name, partial(kernel, x, out, parameter=0.7), 2 * x.nbytes
            elif isinstance(kernel, Gradient):
                yield name, partial(kernel, y, x, out, parameter=0.7), 3 * x.nbytes
            elif isinstance(kernel, BiasMap):
                yield name, partial(kernel, rows, bias), 2 * x.nbytes


def _others(x: Any, y: Any, out: Any) -> Iterator[Item]:
    size = x.nbytes
    yield "dropout", lambda: kernels.dropout.forward(x, 0.5, 0, 0, out), 2 * size
    yield "uniform", lambda: kernels.philox.uniform(out, 0, 0), size
    yield "normal", lambda: kernels.normal.normal(out, 0, 0), size
    add = kernels.reduction.SUM
    yield "sum", lambda: kernels.reduction.reduce_all(x, add), size
    rows = x.reshape(-1, 1024)
    yield "sum of rows", lambda: kernels.reduction.reduce_rows(rows, add), size
    yield "sum of columns", lambda: kernels.column_sum.sum_columns(rows), size
    yield "softmax", lambda: kernels.softmax.softmax(rows), 2 * size
    yield "log_softmax", lambda: kernels.softmax.log_softmax(rows), 2 * size
    loss = kernels.softmax_cross_entropy
    labels = backend.array_module(x).zeros(len(rows), "int64")
    _, lse, _ = loss.forward(rows, labels, None, -100, 0.0)
    factor = rows[:, 0].copy()
    yield (
        "softmax cross-entropy",
        lambda: loss.forward(rows, labels, None, -100, 0.0),
        size,
    )
    yield (
        "softmax cross-entropy backward",
        lambda: loss.backward(rows, labels, lse, factor, None, -100, 0.0),
        2 * size,
    )


def _updates(x: Any, y: Any, out: Any) -> Iterator[Item]:
    optimizer = kernels.optimizer
    part = x.size // 4
    flat = out.reshape(-1)
    weights, m, v = (flat[i * part : (i + 1) * part] for i in range(3))
    m[...] = 0
    v[...] = 0
    gradient = x.reshape(-1)[:part]
    plain = optimizer.ParameterTable([weights])
    plain.set_gradients([gradient])
    yield "SGD", lambda: optimizer.sgd(plain, lr=1e-3), 3 * gradient.nbytes
    table = optimizer.ParameterTable([weights], [[m], [v]])
    table.set_gradients([gradient])
    yield "Adam", lambda: optimizer.adam(table, 1, lr=1e-3), 7 * gradient.nbytes


def _layers(x: Any, y: Any, out: Any) -> Iterator[Item]:
    """Forward passes of layers over images, where this version has them."""
    images = nnlib.as_tensor(x.reshape(-1, 64, 32, 32))
    last = nnlib.as_tensor(x.reshape(-1, 32, 32, 64)).permute(0, 3, 1, 2)
    functional = nnlib.nn.functional
    channel = nnlib.as_tensor(y.reshape(-1)[:64])
    size = x.nbytes
    calls: dict[str, tuple[Callable[[Any], Any], int]] = {
        # In channels-last memory, as layers before leave it.
        "max_pool2d": (lambda f: f(last, 2), size * 5 // 4),
        "avg_pool2d": (lambda f: f(last, 2), size * 5 // 4),
        "batch_norm": (
            lambda f: f(images, None, None, channel, channel, training=True),
            3 * size,
        ),
        "layer_norm": (lambda f: f(images, (32,)), 2 * size),
        "group_norm": (lambda f: f(images, 8), 2 * size),
    }
    for name, (call, moved) in calls.items():
        function = getattr(functional, name, None)
        if function is not None:
            yield name, partial(call, function), moved


def _normalisation(x: Any, y: Any, out: Any) -> Iterator[Item]:
    """Measure passes of normalisation and softmax one by one."""
    size = x.nbytes
    channels, layer = kernels.normalization, kernels.normalization_rows
    images, grad, to = (a.reshape(1, -1, 64) for a in (x, y, out))
    w = y.reshape(-1)[:64]
    mean, _, scale, factor = channels.statistics(images, w, 1e-5)
    *_, slope, start = channels.slopes(grad, images, mean, scale, w)
    yield "channels: statistics", lambda: channels.statistics(images, w, 1e-5), size
    run_map = partial(channels.normalize, images, mean, factor, mean, to)
    yield "channels: normalize", run_map, 2 * size
    sums = partial(channels.slopes, grad, images, mean, scale, w)
    yield "channels: gradient sums", sums, 2 * size
    last = partial(
        channels.input_gradient, grad, images, mean, factor, slope, start, to
    )
    yield "channels: input gradient", last, 3 * size
    rows, slopes = x.reshape(-1, 1024), y.reshape(-1, 1024)
    v = y.reshape(-1)[:1024]
    _, means, scales = layer.forward(rows, v, v, 1e-5)
    yield "layer_norm of 1024", lambda: layer.forward(rows, v, v, 1e-5), 2 * size
    back = partial(layer.backward, slopes, rows, v, means, scales)
    yield "layer_norm of 1024, backward", back, 3 * size
    gradient = partial(kernels.softmax.softmax_backward, slopes, rows)
    yield "softmax backward", gradient, 3 * size


def bandwidth(report: Report, device: str, deadline: float, elements: int = 0) -> None:
    """Measure memory-bound kernels against the copy of an array beyond the cache."""
    clock = Clock(device)
    if not elements:
        elements = 2**26 if clock.cuda else 2**23
        if clock.cuda:
            free, _ = nnlib.cuda.mem_get_info()
            while elements * 4 * 12 > free:
                elements //= 2
    x, y = (nnlib.rand(elements, device=device).array for _ in range(2))
    out = x.copy()

    def copy() -> None:
        out[...] = x

    best = 2 * x.nbytes / clock.median(copy) / 1e9
    report.put("copy_gb_per_s", best)
    report.put("array_mb", x.nbytes / 1e6)
    report.put("aim_share_of_copy", AIM)
    with nnlib.no_grad():
        for group in (_others, _updates, _layers, _normalisation, _elementwise):
            if group.__name__ in report.get("kernels", {}):
                # An earlier process has failed between its kernels.
                continue
            try:
                for name, step, moved in group(x, y, out):
                    if time.monotonic() > deadline:
                        report.put("left_out", "the time was up")
                        return
                    _measure(report, clock, name, step, moved, best)
            except Exception as error:  # noqa: BLE001 - the next group may work
                report.put("kernels", {group.__name__: {"error": repr(error)}})
                stop_if_broken(repr(error))


def _measure(
    report: Report,
    clock: Clock,
    name: str,
    step: Callable[[], Any],
    moved: int,
    best: float,
) -> None:
    def figures() -> dict[str, Any]:
        seconds = clock.median(step)
        rate = moved / seconds / 1e9
        return {"ms": seconds * 1e3, "gb_per_s": rate, "share_of_copy": rate / best}

    found = attempt(report, "kernels", name, figures)
    if found is not None:
        rate = found.get("gb_per_s", 0.0)
        text = f"{rate:8.1f} GB/s  {rate / best:5.0%} of copy"
        print(f"  {name:<32} {found.get('error', text)}", flush=True)


# -- training steps -------------------------------------------------------------------


def build_on_cuda(lib: Any, case: str) -> Callable[[], float]:
    """Return one training step of `nnlib.bench.training` on CUDA."""
    from nnlib.bench.training import build

    return build(lib, case, "cuda")


def build_recurrent_on_cuda(lib: Any, case: str) -> Callable[[], float]:
    """Return one training step of `nnlib.bench.recurrent` on CUDA."""
    from nnlib.bench.recurrent import build

    return build(lib, case, "cuda")


def build_convolution_on_cuda(lib: Any, case: str) -> Callable[[], Any]:
    """Return one step of `nnlib.bench.convolution` on CUDA."""
    from nnlib.bench.convolution import build

    return build(lib, case, "cuda")


def build_generative(lib: Any, case: str, device: str = "cpu") -> Callable[[], float]:
    """Return one step of `nnlib.bench.generative` or `nnlib.bench.word_vectors`."""
    from nnlib.bench import generative, word_vectors

    module = generative if case in generative.CASES else word_vectors
    return module.build(lib, case, device)  # type: ignore[no-any-return]


def build_generative_on_cuda(lib: Any, case: str) -> Callable[[], float]:
    """Return one step of `build_generative` on CUDA."""
    return build_generative(lib, case, "cuda")


def build_attention_on_cuda(lib: Any, case: str) -> Callable[[], Any]:
    """Return one step of `nnlib.bench.attention` on CUDA."""
    from nnlib.bench.attention import build

    return build(lib, case, "cuda")


def torch_can(device: str) -> str:
    """Return "" if PyTorch can be compared with on `device`, else why not."""
    try:
        import torch
    except Exception as error:  # noqa: BLE001 - a broken install is "missing" too
        return f"PyTorch is not to be had here: {error!r}"
    if device.startswith("cuda") and not torch.cuda.is_available():
        return f"PyTorch {torch.__version__} sees no CUDA device"
    return ""


def host(report: Report, device: str, deadline: float) -> None:
    """Measure what calls cost the host."""
    from nnlib.bench.cuda_host import host as measure

    measure(report, device, deadline)


def training(report: Report, device: str, deadline: float) -> None:
    """Measure training steps, against PyTorch on the same device where it is there."""
    from nnlib.bench import graphed
    from nnlib.bench.training import CASES, build

    cases = graphed.beside(CASES) if device.startswith("cuda") else list(CASES)
    _steps(report, device, deadline, cases, build, build_on_cuda)


def recurrent(report: Report, device: str, deadline: float) -> None:
    """Measure training steps of recurrent networks, against cuDNN's under PyTorch."""
    from nnlib.bench.recurrent import CASES, build

    _steps(report, device, deadline, CASES, build, build_recurrent_on_cuda)


def persistent(report: Report, device: str, deadline: float) -> None:
    """Check and measure the three ways of recurrent layers."""
    from nnlib.bench.persistent import measure

    clock = Clock(device, rounds=5, budget=0.01)
    measure(report, device, deadline, clock, torch_can(device))


def convolution(report: Report, device: str, deadline: float) -> None:
    """Measure conv2d by each way and shape by shape, against cuDNN's under PyTorch."""
    from nnlib.bench import convolution_ways
    from nnlib.bench.convolution import BOTH, CHANNELS_LAST, FORWARD, SHAPES, build

    clock = Clock(device, rounds=5, budget=0.01)
    # A third of the time.
    part = time.monotonic() + (deadline - time.monotonic()) / 3
    convolution_ways.measure(report, device, part, clock)
    cases = [
        f"{shape}: {what}, {memory}"
        for shape in SHAPES
        for what in (FORWARD, BOTH)
        for memory in (CHANNELS_LAST, "NCHW")
    ]
    _steps(report, device, deadline, cases, build, build_convolution_on_cuda)


def generative(report: Report, device: str, deadline: float) -> None:
    """Measure steps of generative models and of skip-gram, against PyTorch."""
    from nnlib.bench import generative as models
    from nnlib.bench import word_vectors

    cases = [*models.CASES, *word_vectors.CASES]
    _steps(report, device, deadline, cases, build_generative, build_generative_on_cuda)


def attention(report: Report, device: str, deadline: float) -> None:
    """Measure scaled dot-product attention, against PyTorch's fused kernels."""
    from nnlib.bench.attention import CASES, build

    _steps(report, device, deadline, CASES, build, build_attention_on_cuda)


def _steps(
    report: Report,
    device: str,
    deadline: float,
    cases: Iterable[str],
    build: Callable[..., Callable[[], Any]],
    build_cuda: Callable[[Any, str], Callable[[], Any]],
) -> None:
    """Measure steps, against PyTorch on the same device where it is there."""
    why_not = torch_can(device)
    if why_not:
        print(f"  {why_not}: nnlib alone", flush=True)
        report.put("pytorch", why_not)
    clock = Clock(device, budget=0.1)
    # The processes of both, once they are needed.
    pairs: list[Any] = []
    with contextlib.ExitStack() as stack:
        for case in cases:
            if time.monotonic() > deadline:
                report.put("left_out", "the time was up")
                return
            if why_not:
                measure = partial(_alone, build, case, device, clock)
            else:
                both = build_cuda if clock.cuda else build
                measure = partial(_beside, stack, pairs, both, case)
            figures = attempt(report, "steps", case, measure)
            if figures is not None:
                print(f"  {case}: {_step_text(figures)}", flush=True)
                if "error" in figures:
                    pairs.clear()


def _alone(
    build: Callable[..., Callable[[], Any]], case: str, device: str, clock: Clock
) -> dict[str, Any]:
    """Measure a step of nnlib's."""
    step = build(nnlib, case, device)
    seconds = clock.median(step)
    return {"nnlib_ms": seconds * 1e3, "nnlib_value": float(step())}


def _beside(
    stack: contextlib.ExitStack, pairs: list[Any], build: Any, case: str
) -> dict[str, Any]:
    """Measure a step of nnlib's and PyTorch's."""
    from nnlib.bench.compare import Pair

    if not pairs:
        pairs.append(stack.enter_context(Pair(build)))
    found: dict[str, Any] = pairs[0].time(case, rounds=7, budget=0.05).as_dict()
    return found


def _step_text(figures: dict[str, Any]) -> str:
    if "error" in figures:
        return str(figures["error"])
    text = f"{figures['nnlib_ms']:.3f} ms"
    if "ratio" in figures:
        text += f", PyTorch {figures['torch_ms']:.3f} ms ({figures['ratio']:.2f}x)"
    return text


def main() -> None:
    """Measure one part."""
    parser = command("cuda_figures", __doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=120.0)
    options = parser.parse_args()
    deadline = time.monotonic() + options.seconds
    part: Callable[..., None] = globals()[options.part]
    part(Report(options.report), options.device, deadline)


if __name__ == "__main__":
    main()
