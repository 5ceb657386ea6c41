"""2,000 damaged files: each loads or fails with an error of nnlib's, and soon."""

from __future__ import annotations

import faulthandler
import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnlib
from nnlib import nn

# Seconds that one file may take, and the whole test.
SLOW, HANGS = 5.0, 240.0


@pytest.fixture(autouse=True)
def ends() -> Iterator[None]:
    faulthandler.dump_traceback_later(HANGS, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def mutated(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Yield copies with flipped bits, other bytes, lying numbers, cut or doubled."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        made = bytearray(data)
        kind = number % 5
        at = int(rng.integers(len(made)))
        if kind == 0:
            for place in rng.integers(len(made), size=int(rng.integers(1, 4))):
                made[place] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            del made[at:]
        elif kind == 2:
            wide = int(rng.choice([1, 2, 4, 8]))
            lie = int(rng.choice([0, 2**7, 2**31, 2**62, 2**63 - 1])) % 256**wide
            made[at : at + wide] = lie.to_bytes(wide, "little")
        elif kind == 3:
            length = int(rng.integers(1, 40))
            made[at : at + length] = rng.bytes(int(rng.integers(0, 40)))
        else:
            other = int(rng.integers(len(made)))
            made[at:at] = made[other : other + int(rng.integers(1, 60))]
        yield bytes(made)


def survive(
    path: Path, data: bytes, count: int, seed: int, load: Callable[[Path], Any]
) -> None:
    loaded = 0
    for made in mutated(data, count, seed):
        path.write_bytes(made)
        start = time.thread_time()
        try:
            load(path)
            loaded += 1
        except nnlib.Error:
            pass
        assert time.thread_time() - start < SLOW
    assert 0 < loaded < count


def test_checkpoints(tmp_path: Path) -> None:
    state = {"model": nn.Linear(3, 2).state_dict(), "epoch": 3, "x": [1.5, (None,)]}
    nnlib.save(state, tmp_path / "whole")
    data = (tmp_path / "whole").read_bytes()
    survive(tmp_path / "file", data, 600, 0, nnlib.load)


def test_files_of_pytorch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    buffer = io.BytesIO()
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    torch.save({"model": model.state_dict(), "epoch": [1, 2.5, "x"]}, buffer)
    survive(tmp_path / "m.pt", buffer.getvalue(), 600, 1, nnlib.io.load_torch)


def test_descriptions_within_files_of_pytorch() -> None:
    """The zip archive's checksums catch most damage: go past them."""
    import pickle

    from nnlib.io.pickled import interpret

    nested = {"a": [1, 2.5, None, (True, "text")], 3: {"b": (), "c": 2**70}}
    for protocol in (2, 4):
        data = pickle.dumps(nested, protocol=protocol)
        assert interpret(data, {}, lambda key: None) == nested
        for made in mutated(data, 200, protocol):
            try:
                interpret(made, {}, lambda key: None)
            except nnlib.Error:
                pass


@pytest.mark.parametrize("kind", ["network", "shapes", "recurrent"])
def test_onnx_models(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("onnx")
    examples: dict[str, tuple[nn.Module, Any]] = {
        "network": (
            nn.Sequential(
                nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2)
            ),
            nnlib.ones(1, 1, 6, 6),
        ),
        "shapes": (Shapes(), nnlib.ones(2, 3, 4)),
        "recurrent": (nn.GRU(2, 3), nnlib.ones(2, 1, 2)),
    }
    model, x = examples[kind]
    made = nnlib.onnx.export(model, x, dynamic_axes={"input": [0]})

    def load(path: Path) -> None:
        found = nnlib.onnx.load(path)
        with nnlib.no_grad():
            found(*[x] * len(found.input_names))

    data = made.SerializeToString()
    survive(tmp_path / "m.onnx", data, 270, 3, load)


class Shapes(nn.Module):
    def forward(self, x: Any) -> Any:
        y = x.reshape(x.shape[0], -1)[:, 1:9].permute(1, 0)
        z = nn.functional.pad(y, (1, 2)).sum(0)
        return z.expand(3, z.shape[0]), y.topk(2, 0).values, y[::2].softmax(0)
