"""Checkpoints: what comes back, tools that read them, damage, and a kill half-way."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

import nnlib
from nnlib import nn, optim
from nnlib.backend.errors import DTypeError
from nnlib.io import CheckpointError


def test_nested_state_comes_back(tmp_path: Path) -> None:
    state = {
        "model": {"w": nnlib.arange(6.0).reshape(2, 3), "n": nnlib.tensor(3)},
        "list": [1, 2.5, "text", None, True, [nnlib.tensor([True, False])]],
        "tuple": (1, (2,)),
        "numbers": {0: {"step": 3}, 7: {}},
        "special": [math.inf, -math.inf, math.nan, np.float32(1.5), np.int64(4)],
        "empty": nnlib.zeros(0, 3),
        "array": np.arange(3, dtype=np.int16),
        "tensor": {"dict": 1},
    }
    path = tmp_path / "state.safetensors"
    nnlib.save(state, path)
    back = nnlib.load(path)
    assert list(back) == list(state)
    np.testing.assert_array_equal(
        back["model"]["w"].numpy(), np.arange(6.0).reshape(2, 3)
    )
    assert back["model"]["n"].item() == 3 and back["model"]["n"].dtype == np.int64
    assert back["list"][:5] == state["list"][:5]
    assert back["list"][5][0].tolist() == [True, False]
    assert back["tuple"] == (1, (2,)) and back["numbers"] == {0: {"step": 3}, 7: {}}
    assert back["special"][:2] == [math.inf, -math.inf] and math.isnan(
        back["special"][2]
    )
    assert back["special"][3:] == [1.5, 4]
    assert back["empty"].shape == (0, 3) and back["tensor"] == {"dict": 1}
    assert isinstance(back["array"], np.ndarray) and back["array"].dtype == np.int16


@pytest.mark.parametrize(
    "dtype",
    "bool uint8 int8 int16 int32 int64 float16 bfloat16 float32 float64".split(),
)
def test_every_dtype(tmp_path: Path, dtype: str) -> None:
    value = nnlib.tensor([0, 1, 1], dtype=dtype)
    nnlib.save({"x": value.reshape(3, 1), "turned": value}, tmp_path / "x")
    back = nnlib.load(tmp_path / "x")["x"]
    assert back.dtype == value.dtype and back.shape == (3, 1)
    np.testing.assert_array_equal(back.double().numpy().ravel(), [0, 1, 1])


def test_training_goes_on_bit_for_bit(tmp_path: Path) -> None:
    def build() -> tuple[Any, Any, Any]:
        model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        optimizer = optim.Adam(model.parameters(), lr=0.05)
        return model, optimizer, optim.lr_scheduler.MultiStepLR(optimizer, [3, 6])

    def train(model: Any, optimizer: Any, scheduler: Any, steps: int) -> None:
        x = nnlib.linspace(-1, 1, 40).reshape(10, 4)
        for _ in range(steps):
            optimizer.zero_grad()
            (model(x) ** 2).mean().backward()
            optimizer.step()
            scheduler.step()

    first, second = build(), build()
    train(*first, 4)
    names = ("model", "optimizer", "scheduler")
    state = {k: x.state_dict() for k, x in zip(names, first, strict=True)}
    nnlib.save(state, tmp_path / "run")
    back = nnlib.load(tmp_path / "run")
    for name, part in zip(names, second, strict=True):
        part.load_state_dict(back[name])
    train(*first, 5)
    train(*second, 5)
    for a, b in zip(first[0].parameters(), second[0].parameters(), strict=True):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())


def test_other_tools_read_it_and_theirs_is_read(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.numpy")
    layer = nn.Linear(3, 2)
    nnlib.save(layer.state_dict(), tmp_path / "mine")
    found = library.load_file(tmp_path / "mine")
    np.testing.assert_array_equal(found["weight"], layer.weight.detach().numpy())
    library.save_file({"a.b": np.arange(4.0)}, tmp_path / "theirs")
    back = nnlib.load(tmp_path / "theirs")
    np.testing.assert_array_equal(back["a.b"].numpy(), np.arange(4.0))


def test_the_arguments_of_pytorch_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    nnlib.save({"w": nnlib.ones(2)}, path)
    for loaded in (
        nnlib.load(path, "cpu"),
        nnlib.load(path, map_location="cpu", weights_only=True),
    ):
        assert loaded["w"].tolist() == [1, 1]
    with pytest.raises(nnlib.DeviceError, match="'mps'"):
        nnlib.load(path, map_location="mps")


def test_the_functions_of_the_safetensors_library(tmp_path: Path) -> None:
    path = tmp_path / "ours.safetensors"
    tensors = {"a": nnlib.arange(3.0), "b": np.ones((2, 1), dtype=np.int8)}
    files = nnlib.io.safetensors
    files.save_file(tensors, path, metadata={"note": "text"})
    with safe_open(path, "numpy") as opened:
        assert opened.metadata() == {"note": "text"}
        assert opened.get_tensor("a").tolist() == [0, 1, 2]
    back = files.load_file(path, device="cpu")
    assert back["b"].tolist() == [[1], [1]]
    assert back["a"].dtype == nnlib.float32
    with pytest.raises(DTypeError, match="save_file: tensors: .* got 'm': dict"):
        files.save_file({"m": {}}, path)
    with pytest.raises(DTypeError, match="save_file: metadata: expected strings"):
        files.save_file({}, path, {"epoch": 3})


def test_tied_weights_are_stored_once(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(50, 50), nn.Linear(50, 50))
    model[1].weight = model[0].weight
    nnlib.save(model.state_dict(), tmp_path / "tied")
    assert (tmp_path / "tied").stat().st_size < 1.2 * 50 * 50 * 4 + 2000
    back = nnlib.load(tmp_path / "tied")
    np.testing.assert_array_equal(back["0.weight"].numpy(), back["1.weight"].numpy())


def test_what_cannot_be_saved_is_named(tmp_path: Path) -> None:
    bad: list[tuple[Any, str]] = [
        ({"a": [1, {"b": object()}]}, r"save: a.1.b: expected tensors.*got object"),
        ({"a": {1.5: 2}}, "save: a: key 1.5: expected a str or int, got float"),
        (print, "save: the object: expected tensors"),
    ]
    for value, message in bad:
        with pytest.raises(nnlib.DTypeError, match=message):
            nnlib.save(value, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_the_old_file_stays_when_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state"
    nnlib.save({"x": nnlib.ones(3)}, path)

    def fail(number: int) -> None:
        raise OSError("no space left on the device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="no space"):
        nnlib.save({"x": nnlib.zeros(3)}, path)
    monkeypatch.undo()
    assert nnlib.load(path)["x"].tolist() == [1, 1, 1]
    assert [p.name for p in tmp_path.iterdir()] == ["state"]


def test_damage_is_told(tmp_path: Path) -> None:
    path = tmp_path / "state"
    nnlib.save({"x": nnlib.ones(100)}, path)
    whole = path.read_bytes()
    for length in (0, 5, 8, 60, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="truncated|damaged"):
            nnlib.load(path)
    path.write_bytes(b"\x80\x04" + b"pickle" * 40)
    with pytest.raises(CheckpointError, match="bare pickle"):
        nnlib.load(path)
    with pytest.raises(FileNotFoundError):
        nnlib.load(tmp_path / "absent")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]}, "cannot lie"),
        ({"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}, "cannot lie"),
        ({"dtype": "C64", "shape": [1], "data_offsets": [0, 4]}, "dtype C64"),
        ({"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}, "is truncated"),
        ({"dtype": "F32", "shape": [1.5], "data_offsets": [0, 4]}, "is damaged"),
        ({"dtype": "F32", "shape": [1], "data_offsets": [0, math.inf]}, "is damaged"),
        ({"dtype": "F32", "shape": [0, 10**30], "data_offsets": [0, 0]}, "dimension"),
        ({"dtype": "F32", "shape": [1] * 70, "data_offsets": [0, 4]}, "dimension"),
        ([1, 2], "is damaged"),
    ],
)
def test_headers_that_lie(tmp_path: Path, entry: Any, message: str) -> None:
    header = json.dumps({"x": entry}).encode()
    path = tmp_path / "x"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(CheckpointError, match=message):
        nnlib.load(path)


def test_trees_that_lie(tmp_path: Path) -> None:
    for tree, version in (
        ('{"run": "code"}', "1"),
        ('{"tensor": "y"}', "1"),
        ("[" * 100_000 + "]" * 100_000, "1"),
        ("1", "9"),
    ):
        metadata = {"nnlib.tree": tree, "nnlib.version": version}
        header = json.dumps({"__metadata__": metadata}).encode()
        path = tmp_path / "x"
        path.write_bytes(len(header).to_bytes(8, "little") + header)
        with pytest.raises(CheckpointError, match="damaged|has format '9'"):
            nnlib.load(path)
