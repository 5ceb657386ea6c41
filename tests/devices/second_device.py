"""Models and operations on ``cuda:1`` while ``cuda:0`` is current, CuPy played.

Run by `test_second_device`, in a process of its own: CuPy is looked for once.
"""

from __future__ import annotations

import copy
import itertools
import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
# The folder is on no path of the tests' own process, which would take it for CuPy.
PLACES = (HERE / "played", HERE.parent / "ops", HERE.parent / "cuda")
sys.path[:0] = map(str, PLACES)

import cupy  # noqa: E402 - the one in played/
import numpy as np  # noqa: E402
import on_device  # noqa: E402
from harness import as_tensors, outputs  # noqa: E402

import nnlib  # noqa: E402
from nnlib import nn  # noqa: E402
from nnlib.backend import cublas  # noqa: E402
from nnlib.backend.errors import LinAlgError  # noqa: E402
from nnlib.kernels.machinery import compile as compiler  # noqa: E402
from nnlib.kernels.machinery import gpu  # noqa: E402
from nnlib.nn import functional as F  # noqa: E402, N812

DEVICE = "cuda:1"


def launch(launch: Any) -> None:
    """Stand for a launch: the arrays must lie on the current device."""
    cupy.check(launch.kernel.name, *launch.args)
    compiler.signature_of(launch.args)


def multiply(a: Any, b: Any, out: Any, accumulate: bool = False) -> bool:
    """Stand for cuBLAS."""
    cupy.check("cublas", a, b, out)
    out.host[...] = a.host @ b.host + (out.host if accumulate else 0)
    return True


def on(number: int, *tensors: Any) -> None:
    """Fail unless tensors are there, and the current device is still the first."""
    assert cupy.current() == 0, "the current device has changed"
    for x in tensors:
        if isinstance(x, nnlib.Tensor):
            assert x.device == f"cuda:{number}", f"on {x.device}"


# -- training --------------------------------------------------------------------------

IMAGES = nnlib.ones(4, 3, 8, 8, device=DEVICE)
WORDS = nnlib.tensor([[1, 2, 3], [3, 2, 0], [1, 1, 1], [2, 0, 0]], device=DEVICE)
LABELS = nnlib.tensor([0, 1, 2, 3], device=DEVICE)


class Reader(nn.Module):
    """Words, a layer that goes through them, labels."""

    def __init__(self, layer: Any, features: int = 8, sparse: bool = False) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 8, sparse=sparse)
        self.layer = layer
        self.out = nn.Linear(features, 4)

    def forward(self, words: Any) -> Any:
        found = self.layer(self.table(words))
        return self.out((found[0] if isinstance(found, tuple) else found).sum(1))


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Dropout(0.5), nn.Dropout2d(0.5), nn.GroupNorm(2, 8), nn.GELU(),
        nn.ConvTranspose2d(8, 4, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.LayerNorm(16), nn.Linear(16, 4),
    )  # fmt: skip


def train(model: nn.Module, inputs: Any, make: Any) -> None:
    """Make two steps of training."""
    model.to(DEVICE)
    optimizer = make(model.parameters())
    weights = list(model.parameters())
    for _ in range(2):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), LABELS)
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        nn.utils.clip_grad_value_(weights, 1.0)
        optimizer.step()
        on(1, loss, *weights, *[p.grad for p in weights], *model.buffers())
    kept = [x for state in optimizer.state.values() for x in state.values()]
    on(1, *kept, *copy.deepcopy(model).parameters())
    model.load_state_dict(model.cpu().state_dict())
    model.to(DEVICE).zero_grad(set_to_none=False)
    on(1, *model.parameters())


def networks() -> None:
    for name in "SGD Adam AdamW Adagrad RMSprop Adadelta Rprop ASGD NAdam".split():
        train(network(), IMAGES, lambda p, name=name: getattr(nnlib.optim, name)(p))
    for layer in (nn.LSTM, nn.GRU, nn.RNN):
        train(Reader(layer(8, 8, 2, batch_first=True)), WORDS, nnlib.optim.Adam)
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    train(Reader(encoder), WORDS, nnlib.optim.AdamW)


def layers() -> None:
    """Run every layer that can be made of a few numbers, on inputs of all kinds."""
    made = 0
    numbers: tuple[Any, ...] = ((), (4,), (8,), (2,), (4, 4, 3), (8, 8), (0.5,))
    inputs = [
        nnlib.ones(*shape, device=DEVICE, requires_grad=True)
        for shape in ((2, 4, 8, 8), (2, 4, 8), (2, 8))
    ]
    kinds = [x for x in vars(nn).values() if isinstance(x, type) and x is not nn.Module]
    for kind, given in itertools.product(kinds, numbers):
        try:
            layer = kind(*given).to(DEVICE) if issubclass(kind, nn.Module) else None
        except Exception:  # noqa: BLE001, S112 - no layer of these numbers
            continue
        for x in inputs if layer is not None else ():
            try:
                outputs(layer(x))[0].sum().backward()
            except cupy.ElsewhereError:
                raise
            except Exception:  # noqa: BLE001, S112 - no input of this layer
                cupy.Device(0).use()
                continue
            made += 1
            on(1, *layer.parameters(), *layer.buffers())
    assert made > 150, made


def loops() -> None:
    """Train by `fit`, and draw from distributions."""
    batches = [(nnlib.ones(4, 3, 8, 8), nnlib.tensor([0, 1, 2, 3]))] * 2
    model = network()
    nnlib.train.fit(
        model, batches, optimizer=nnlib.optim.SGD(model.parameters(), lr=0.1),
        epochs=1, validation=batches, clip_norm=1.0, device=DEVICE, progress=False,
        metrics={"accuracy": nnlib.train.accuracy},
    )  # fmt: skip
    on(1, *model.parameters())
    data = nnlib.data.TensorDataset(IMAGES, LABELS)
    mix = nnlib.data.MixUp(4)
    for batch in nnlib.data.DataLoader(data, batch_size=2, shuffle=True):
        on(1, *batch, *mix(batch))
    sentences = [["a", "b", "c", "a"], ["c", "b"]] * 3
    words = nnlib.text.Word2Vec(sentences, size=4, min_count=1, device=DEVICE)
    assert len(words.train(1).vectors) == 3
    one = nnlib.ones(3, device=DEVICE)
    for kind in (nnlib.distributions.Normal, nnlib.distributions.Laplace):
        spread = kind(one, one)
        drawn = spread.rsample()
        on(1, drawn, spread.log_prob(drawn))


def sparse() -> None:
    for kind in (nnlib.optim.SGD, nnlib.optim.Adagrad, nnlib.optim.SparseAdam):
        table = nn.Embedding(5, 4, sparse=True).to(DEVICE)
        optimizer = kind(table.parameters(), lr=0.1)
        for _ in range(2):
            loss = F.cross_entropy(table(WORDS).sum(1), LABELS)
            loss.backward()
            nn.utils.clip_grad_norm_(table.parameters(), 1.0)
            optimizer.step()
        on(1, table.weight, *[x for s in optimizer.state.values() for x in s.values()])


def halves() -> None:
    weight = nn.Parameter(nnlib.ones(3, device=DEVICE, dtype=nnlib.float16))
    optimizer = nnlib.optim.Adam([weight])
    (weight * weight).float().sum().backward()
    optimizer.step()
    on(1, weight, weight.grad)


def whole_batch() -> None:
    weight = nnlib.ones(3, device=DEVICE, requires_grad=True)
    optimizer = nnlib.optim.LBFGS([weight], line_search_fn="strong_wolfe")

    def closure() -> Any:
        assert cupy.current() == 0
        optimizer.zero_grad()
        loss = (weight * weight).sum()
        loss.backward()
        return loss

    on(1, optimizer.step(closure), weight)


# -- what else there is ----------------------------------------------------------------


def gradients() -> None:
    x = nnlib.ones(3, device=DEVICE, requires_grad=True)
    for _ in range(2):
        (x * x + x).sum().backward()
    (first,) = nnlib.autograd.grad((x**3).sum(), x, create_graph=True)
    (second,) = nnlib.autograd.grad(first.sum(), x)
    on(1, x.grad, first, second)
    run = nnlib.utils.checkpoint.checkpoint
    run(lambda y: y.exp() * y, x, use_reentrant=False).sum().backward()
    on(1, x.grad, nnlib.func.vmap(lambda row: row.sum())(nnlib.ones_like(IMAGES)))


def two_devices() -> None:
    near = nnlib.ones(2, 3, device="cuda:0", requires_grad=True)
    far = nnlib.ones(2, 3, device=DEVICE, requires_grad=True)
    there = (near * 2 + near * near).to(DEVICE) * far
    total = (there.to("cuda:0") + near + near).sum() + far.cpu().sum().to("cuda:0")
    total.backward()
    on(0, near.grad, total)
    on(1, far.grad, there)
    # A copy waits for what made the array, and what follows there for the copy.
    turned = nnlib.ones(4, 3, 2, device="cuda:0").transpose(0, 2)[:, :2]
    del cupy.waits[:]
    moved = turned.to(DEVICE)
    on(1, moved)
    assert moved.shape == turned.shape
    assert cupy.waits == [("record", 0), ("wait", 1), ("record", 1), ("wait", 0)]


def changes() -> None:
    x = nnlib.zeros(3, 4, device=DEVICE)
    x += 1
    x.mul_(2).add_(x).clamp_(0, 1).fill_(3).zero_().uniform_().normal_()
    x[0], x[:, 1] = 5, x[:, 2]
    x[x > 0] = 1.0
    x[np.array([0, 2])] = 2.0
    x.masked_fill_(x > 0, 2.0).copy_(nnlib.ones(3, 4))
    weight = nn.Linear(4, 3, device=DEVICE).weight
    for (
        name
    ) in "xavier_uniform_ kaiming_normal_ orthogonal_ trunc_normal_ eye_".split():
        getattr(nn.init, name)(weight)
    vector = nn.utils.parameters_to_vector([weight])
    nn.utils.vector_to_parameters(vector, [weight])
    made = [nnlib.zeros_like(x), nnlib.rand_like(x), x.new_zeros(3), x.new_tensor([1])]
    on(1, x, weight, *made, x.clone(), x.double(), x.to(x), x[np.array([[0, 1]])])
    assert x.tolist() == x.cpu().tolist()
    assert "cuda:1" in repr(x)


# -- all operations --------------------------------------------------------------------

# These ask for a device.
FREE = frozenset({"to", "cpu", "cuda", "to_cpu", "to_cuda"})


def move(value: Any) -> Any:
    """Return (nested) arguments with every tensor on the second device."""
    if isinstance(value, nnlib.Tensor):
        there = cupy.ndarray._of(np.array(value.array, order="K"), 1)
        return nnlib.Tensor._from_array(there).requires_grad_(value.requires_grad)
    if isinstance(value, list | tuple):
        parts = [move(item) for item in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, dict):
        return {key: move(item) for key, item in value.items()}
    return value


def run_sample(case: Any, sample: Any) -> None:
    """Run a sample forward and backward."""
    args = move(as_tensors(sample.args, "float32", requires_grad=case.grad))
    kwargs = move(as_tensors(sample.kwargs, "float32"))
    if not any(isinstance(x, nnlib.Tensor) for x in outputs([args, *kwargs.values()])):
        return
    results = outputs(case.run(*args, **kwargs))
    on(1, *results)
    wanted = [x for x in results if isinstance(x, nnlib.Tensor) and x.requires_grad]
    if case.grad and wanted:
        parts = [(x * x.detach()).sum() for x in wanted]
        sum(parts[1:], parts[0]).backward()
        on(1, *[x.grad for x in outputs(args) if isinstance(x, nnlib.Tensor)])


def operations() -> None:
    failed = {}
    cases = [
        case
        for case in on_device.all_cases()
        if case.name not in FREE and case.call is None
    ]
    for case, number in itertools.product(cases, range(3)):
        for sample in case.samples[number : number + 1]:
            try:
                run_sample(case, sample)
            except LinAlgError:
                # Kernels do nothing here: of zeros there is no inverse.
                continue
            except Exception as error:  # noqa: BLE001 - all of them are told
                cupy.Device(0).use()
                failed[case.name] = f"{type(error).__name__}: {error}"
    assert not failed, "\n".join(f"{name}: {text}" for name, text in failed.items())


def main() -> None:
    gpu.tests_launcher = launch
    cublas.multiply = multiply
    for part in (
        networks, layers, loops, sparse, halves, whole_batch, gradients, two_devices,
        changes, operations,
    ):  # fmt: skip
        try:
            part()
        except Exception as error:
            error.add_note(f"in {part.__name__}")
            raise


if __name__ == "__main__":
    main()
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(json.dumps(sorted(cupy.calls)))
