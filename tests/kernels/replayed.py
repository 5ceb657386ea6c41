"""CUDA graphs, kernels in the simulator; `test_graphs.py` runs this in a process."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from typing import Any

import cupy_stand_in
import numpy as np
import pytest
from kernel_cases import simulator
from test_cublas import Cublas

import nnlib
from nnlib import nn
from nnlib.backend import cublas, cublas_recorded, graphs
from nnlib.kernels.machinery import gpu
from nnlib.kernels.machinery.arrays import DeviceArray

# The simulator replaces CUDA for the whole process, and this CuPy.
assert os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
cupy = cupy_stand_in.install()
machine = cupy_stand_in.machine


class Recordable:
    """cuBLAS called by ctypes: what it multiplies is recorded."""

    def __init__(self) -> None:
        self._library = Cublas()
        self.asked: list[str] = []

    def create(self, to: int) -> None:
        self.asked.append("create")

    def setStream(self, handle: int, stream: int) -> None:  # noqa: N802
        assert stream
        self.asked.append("stream")

    def setWorkspace(self, handle: int, at: int, size: int) -> None:  # noqa: N802
        assert size == 32 << 20 and self.asked[-1] == "stream"
        self.asked.append("workspace")

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._library, name)
        return lambda *args: machine.do(lambda: function(*args))


class Refusing(Cublas):
    """cuBLAS as CuPy calls it."""

    def _gemm(self, *args: Any, **kwargs: Any) -> None:
        if machine.graph is not None:
            raise NotImplementedError("calling cuBLAS API during stream capture")
        super()._gemm(*args, **kwargs)


@pytest.fixture(autouse=True)
def gpu_at_hand(monkeypatch):
    """Launch in the simulator, now or at each replay."""
    library = Recordable()
    refusing = Refusing()
    monkeypatch.setattr(cublas, "bindings", lambda: (refusing, lambda: 7))
    monkeypatch.setattr(cublas_recorded, "library", lambda: library)
    with simulator() as ran:
        run = gpu.tests_launcher

        def launch(item: Any) -> None:
            item.args = tuple(
                x._a.view(DeviceArray) if isinstance(x, cupy_stand_in.ndarray) else x
                for x in item.args
            )
            machine.do(lambda: run(item))

        gpu.tests_launcher = launch
        yield ran


# -- whole steps ----------------------------------------------------------------------

SIZE, ROWS = 3, 2


def network() -> Any:
    """Return a network whose kernels take the simulator little time."""
    nnlib.manual_seed(3)
    linear = nn.Linear(SIZE, 2, bias=False)
    return nn.Sequential(linear, nn.Dropout(0.2)).to("cuda")


class Trained:
    """Training with everything that changes from step to step."""

    def __init__(self, name: str = "SGD", **options: Any) -> None:
        self.model = network()
        kind = getattr(nnlib.optim, name)
        self.optimizer = kind(self.model.parameters(), lr=0.1, **options)
        schedule = nnlib.optim.lr_scheduler.ExponentialLR(self.optimizer, 0.7)
        self.schedule = schedule
        self.x = nnlib.zeros(ROWS, SIZE, device="cuda")
        self.target = nnlib.ones(ROWS, 2, device="cuda")
        rng = np.random.default_rng(0)
        self.batches = rng.standard_normal((6, ROWS, SIZE)).astype(np.float32)
        self.count = 0

    def step(self) -> Any:
        self.optimizer.zero_grad()
        off = (self.model(self.x) - self.target).reshape(1, -1)
        # A sum of squares that is no reduction, which is slow in the simulator.
        loss = (off @ off.t()).reshape(())
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def run(self, steps: int, step: Any = None) -> list[float]:
        losses = []
        for _ in range(steps):
            batch = nnlib.tensor(self.batches[self.count])
            self.count += 1
            self.x.copy_(batch.to("cuda"))
            losses.append((step or self.step)().item())
            self.schedule.step()
        return losses

    def record(self) -> Any:
        graph = nnlib.cuda.CUDAGraph()
        with nnlib.cuda.graph(graph):
            loss = self.step()

        def replay() -> Any:
            graph.replay()
            return loss

        replay.graph = graph
        return replay

    def state(self) -> Any:
        """Return all there is to compare."""
        weights = [p.tolist() for p in self.model.parameters()]
        kept = self.optimizer.state_dict()["state"]
        numbers = [
            (key, value if np.isscalar(value) else value.tolist())
            for state in kept.values() for key, value in state.items()
        ]  # fmt: skip
        return weights, numbers, nnlib.default_generator.get_state()


@pytest.mark.parametrize(
    ("name", "options"), [("SGD", {"momentum": 0.9}), ("NAdam", {})]
)
def test_replayed_steps_are_the_eager_ones(name, options):
    eager, graphed = Trained(name, **options), Trained(name, **options)
    nnlib.manual_seed(5)
    expected = eager.run(4)
    nnlib.manual_seed(5)
    found = graphed.run(1)
    replay = graphed.record()
    found += graphed.run(1, replay)
    # What lies in no pool of the graph, and nobody else has, is used again here.
    rubbish = [nnlib.ones(n, device="cuda") for n in range(1, 400, 20)]
    del rubbish
    found += graphed.run(1, replay)
    found += graphed.run(1)
    assert found == expected and len(set(found)) == 4
    assert graphed.state() == eager.state()


def test_numbers_drawn_anew():
    x = nnlib.zeros(3, device="cuda")
    nnlib.manual_seed(1)
    expected = [nnlib.rand(3, device="cuda").tolist() for _ in range(4)]
    normal = nnlib.randn(2, device="cuda").tolist()
    nnlib.manual_seed(1)
    graph = nnlib.cuda.CUDAGraph()
    with nnlib.cuda.graph(graph):
        x.copy_(nnlib.rand(3, device="cuda"))
        y = nnlib.rand(3, device="cuda")
    for number in (0, 2):
        graph.replay()
        assert [x.tolist(), y.tolist()] == expected[number : number + 2]
    assert nnlib.randn(2, device="cuda").tolist() == normal


def test_what_the_cpu_and_other_threads_draw_is_not_drawn_again():
    nnlib.manual_seed(1)
    expected = [nnlib.rand(2).tolist() for _ in range(5)]
    nnlib.manual_seed(1)
    with nnlib.cuda.graph(nnlib.cuda.CUDAGraph()):
        found = [nnlib.rand(2).tolist()]
    found.append(nnlib.rand(2).tolist())
    graph = nnlib.cuda.CUDAGraph()
    with nnlib.cuda.graph(graph):
        nnlib.rand(2, device="cuda")
        other = threading.Thread(target=lambda: found.append(nnlib.rand(2).tolist()))
        other.start()
        other.join()
    found.append(nnlib.rand(2).tolist())
    assert found == [*expected[:2], expected[3], expected[4]]


# -- memory ---------------------------------------------------------------------------


def test_results_outlive_the_graph_and_the_graph_its_inputs():
    x = nnlib.ones(3, device="cuda")
    w = nnlib.full((3,), 2.0, device="cuda")
    graph = nnlib.cuda.CUDAGraph()
    with nnlib.cuda.graph(graph):
        y = nnlib.relu(x * w)
        z = nnlib.relu(y) + 1
    graph.replay()
    assert z.tolist() == [3, 3, 3]
    pool = graph.pool()
    assert pool.owns(z.array.data.ptr) and not pool.owns(x.array.data.ptr)
    del graph, pool
    rubbish = [nnlib.rand(3, device="cuda") for _ in range(20)]
    assert z.tolist() == [3, 3, 3] and len(rubbish) == 20


def test_nothing_of_a_graph_waits_for_the_collector():
    graph = nnlib.cuda.CUDAGraph()
    with nnlib.cuda.graph(graph):
        x = nnlib.rand(2, device="cuda")
    graph.replay()
    found = weakref.ref(graph._recording)
    del graph
    assert found() is None and x.shape == (2,)


def test_graphs_share_a_pool():
    pool = nnlib.cuda.graph_pool_handle()
    x = nnlib.ones(3, device="cuda")
    graphs, found = [], []
    for factor in (2.0, 3.0):
        graphs.append(nnlib.cuda.CUDAGraph())
        with nnlib.cuda.graph(graphs[-1], pool=pool):
            found.append((x * factor) + 1)
    for graph in graphs:
        graph.replay()
    assert [y.tolist()[0] for y in found] == [3, 4]
    assert graphs[0].pool() is graphs[1].pool() is pool


# -- what cannot be recorded ----------------------------------------------------------


def refused(work: Any, words: str) -> None:
    """Fail unless `work` is refused, and all is well afterwards."""
    graph = nnlib.cuda.CUDAGraph()
    with pytest.raises(nnlib.DeviceError, match=words), nnlib.cuda.graph(graph):
        work()
    assert not nnlib.cuda.is_current_stream_capturing()
    with pytest.raises(nnlib.DeviceError, match="nothing has been recorded"):
        graph.replay()
    x = nnlib.ones(2, device="cuda")
    with nnlib.cuda.graph(graph):
        y = x + 1
    graph.replay()
    assert y.tolist() == [2, 2]


@pytest.mark.parametrize(
    ("work", "words"),
    [
        (lambda x: x.sum().item(), "item: not while a CUDA graph"),
        (lambda x: bool(x[0, 0]), "item: not while"),
        (lambda x: x.tolist(), "a copy to another device: not while"),
        (lambda x: nnlib.ones(2).to("cuda"), "a copy to another device"),
        (lambda x: nnlib.tensor([1.0, 2.0], device="cuda"), "a copy to another device"),
        (lambda x: cupy.asarray(np.ones(3)), "a copy from the CPU: not while"),
        (lambda x: nnlib.cuda.synchronize(), "synchronize: not while"),
        (lambda x: nnlib.manual_seed(3), "manual_seed: not while"),
        (lambda x: x.array.get(), "cannot be recorded: CUDARuntimeError"),
        (lambda x: x.double() @ x.double(), None),
        (lambda x: nnlib.cuda.graph(nnlib.cuda.CUDAGraph()).__enter__(), "another"),
    ],
)
def test_what_cannot_be_recorded(work, words):
    x = nnlib.ones(2, 2, device="cuda")
    words = words or "product cannot be recorded .*none has run before"
    refused(lambda: work(x), words)


def test_a_hidden_wait_spoils_the_recording():
    x = nnlib.ones(2, device="cuda")

    def work() -> None:
        with contextlib.suppress(RuntimeError):
            x.array.get()

    refused(work, "cannot make a graph of what was recorded.*waited")


def test_an_error_of_the_block_stays_what_it_is():
    with pytest.raises(NotImplementedError, match="^to be written"):
        with nnlib.cuda.graph(nnlib.cuda.CUDAGraph()):
            raise NotImplementedError("to be written")


def test_a_recording_that_begins_is_the_only_one(monkeypatch):
    with monkeypatch.context() as patch:
        other = nnlib.cuda.CUDAGraph()
        patch.setattr(graphs.gc, "collect", other.capture_begin)
        with pytest.raises(nnlib.DeviceError, match="another CUDA graph"):
            nnlib.cuda.CUDAGraph().capture_begin()
    with nnlib.cuda.graph(other):
        pass


class Halving(nnlib.optim.Optimizer):
    """An optimiser that computes by itself."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {})

    def slots(self, group: Any) -> tuple[str, ...]:
        return ()

    def update(self, batch: Any, group: Any) -> None:
        for array in batch.arrays:
            array *= 0.5


def test_an_update_that_is_no_kernel_is_refused():
    training = Trained()
    training.optimizer = Halving(training.model.parameters())
    training.run(1)
    refused(training.step, "^Halving.step: its update is not one kernel")
    assert [x["step"] for x in training.optimizer.state.values()] == [1]


def test_products_only_by_cublas_itself(monkeypatch):
    x = nnlib.ones(2, 2, device="cuda")
    monkeypatch.setitem(cublas._routines, "f", None)
    monkeypatch.setitem(cublas._problems, "f", "NNLIB_DIRECT_CUBLAS is 0")
    refused(lambda: x @ x, "CuPy refuses.*NNLIB_DIRECT_CUBLAS is 0")


def test_an_optimizer_takes_its_first_step_before():
    training = Trained("Adam")
    refused(training.step, "first step, which makes what it keeps")
    training = Trained("SGD")
    refused(training.step, "optimiser: a table must be copied")


def test_other_state_than_recorded_is_refused():
    training = Trained("Adam")
    training.run(1)
    replay = training.record()
    training.optimizer.load_state_dict(training.optimizer.state_dict())
    with pytest.raises(nnlib.DeviceError, match="Adam .*other arrays.*record anew"):
        replay()


# -- bad indices ----------------------------------------------------------------------


def test_bad_indices_are_told_after_a_replay():
    table = nnlib.arange(4.0, device="cuda").reshape(4, 1)
    index = nnlib.tensor([1, 2], device="cuda")
    look = nn.functional.embedding
    look(index, table)
    nnlib.cuda.synchronize()
    graph = nnlib.cuda.CUDAGraph()
    with nnlib.cuda.graph(graph):
        y = look(index, table)
    graph.replay()
    assert y.tolist() == [[1], [2]]
    index.copy_(nnlib.tensor([3, 9]).to("cuda"))
    for _ in range(2):
        graph.replay()
        with pytest.raises(IndexError, match="9") as told:
            nnlib.cuda.synchronize()
        assert "replayed CUDA graph" in told.value.__notes__[0]
        nnlib.cuda.synchronize()
    index.copy_(nnlib.tensor([3, 0]).to("cuda"))
    graph.replay()
    assert y.tolist() == [[3], [0]]
    del graph
    nnlib.cuda.synchronize()


@pytest.mark.parametrize("count", [1, 7])
def test_gradients_of_rows_without_a_sort(count, monkeypatch):
    draw = np.random.default_rng(count)
    rows = nnlib.tensor(draw.integers(0, 4, count)).to("cuda")
    slopes = nnlib.rand(count, 1, device="cuda")
    table = nnlib.rand(4, 1, device="cuda").requires_grad_()

    def work() -> Any:
        table.grad = None
        nn.functional.embedding(rows, table).backward(slopes)
        return table.grad

    work()
    graph = nnlib.cuda.CUDAGraph()
    with nnlib.cuda.graph(graph):
        found = work()
    for _ in range(2):
        rows.copy_(nnlib.tensor(draw.integers(0, 4, count)).to("cuda"))
        graph.replay()
        replayed = found.tolist()
        assert replayed == work().tolist()
    monkeypatch.setattr(nnlib.kernels.add_rows, "_COUNTED", 0)
    refused(work, "gradient of more than 0 looked-up rows, which CuPy sorts: not while")
