"""PyTorch's files: values, sharing, and what is refused. Large files are mapped."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnlib
from nnlib import nn
from nnlib.io import CheckpointError, load_torch

torch = pytest.importorskip("torch")


def test_a_state_dict_goes_into_a_module(tmp_path: Path) -> None:
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    torch.save(theirs.state_dict(), tmp_path / "m.pt")
    mine = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    mine.load_state_dict(load_torch(tmp_path / "m.pt"))
    for key, value in theirs.state_dict().items():
        np.testing.assert_array_equal(mine.state_dict()[key].numpy(), value.numpy())


DTYPES = "bool uint8 int8 int16 int32 int64 float16 bfloat16 float32 float64 uint16"


def test_every_dtype_and_nested_state(tmp_path: Path) -> None:
    dtypes = {name: torch.tensor([0, 1, 1], dtype=getattr(torch, name)) for name in
              DTYPES.split()}  # fmt: skip
    state = {
        "tensors": dtypes,
        "optimizer": [1, 2.5, "text", None, True, (1, -2), 2**70, {3: "x"}],
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "odd": [torch.Size([1, 2]), torch.float16, torch.device("cpu")],
    }
    torch.save(state, tmp_path / "m.pth")
    back = nnlib.load(tmp_path / "m.pth")
    for name, value in back["tensors"].items():
        assert str(value.dtype) == name
        assert value.double().tolist() == [0, 1, 1]
    assert back["optimizer"] == state["optimizer"]
    assert back["parameter"].tolist() == [1, 1]
    assert back["odd"] == [(1, 2), nnlib.float16, "cpu"]


def test_strides_offsets_and_shared_storages(tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    state = {
        "base": base,
        "part": base[1:3, ::2],
        "turned": base.T,
        "same": base,
        "expanded": torch.ones(1).expand(3, 2),
        "empty": torch.zeros(0, 3),
    }
    torch.save(state, tmp_path / "m.pt")
    back = load_torch(tmp_path / "m.pt")
    for key, value in state.items():
        np.testing.assert_array_equal(back[key].numpy(), value.numpy())
    assert back["same"] is back["base"]
    back["base"][1, 0] = 100
    assert back["part"][0, 0].item() == 100


class Attack:
    def __reduce__(self) -> Any:
        return os.system, ("echo attacked",)


def test_code_is_refused_and_named(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save({"w": torch.ones(1), "x": Attack()}, path)
    with pytest.raises(CheckpointError, match=r"(posix|nt)\.system.*safetensors"):
        load_torch(path)
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(CheckpointError, match="torch.nn.modules.linear.Linear"):
        load_torch(path)
    torch.save({"w": torch.ones(1)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match=r"before PyTorch 1\.6"):
        load_torch(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(CheckpointError, match="no file of PyTorch's"):
        load_torch(path)
    with pytest.raises(FileNotFoundError):
        load_torch(tmp_path / "absent")


def test_damage_is_told(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save({"w": torch.ones(100)}, path)
    whole = path.read_bytes()
    for length in (10, 200, len(whole) // 2, len(whole) - 10):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="load_torch"):
            load_torch(path)


def test_safetensors_both_ways_in_bfloat16(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.torch")
    mine = nnlib.randn(5).bfloat16()
    nnlib.save({"x": mine, "n": nnlib.arange(3)}, tmp_path / "mine")
    found = library.load_file(tmp_path / "mine")
    assert found["x"].dtype == torch.bfloat16 and found["n"].tolist() == [0, 1, 2]
    np.testing.assert_array_equal(found["x"].float().numpy(), mine.float().numpy())
    library.save_file(found, tmp_path / "theirs")
    back = nnlib.load(tmp_path / "theirs")
    assert back["x"].dtype == nnlib.bfloat16
    np.testing.assert_array_equal(back["x"].float().numpy(), mine.float().numpy())


def test_a_large_file_is_mapped(tmp_path: Path) -> None:
    path = tmp_path / "large"
    nnlib.save({f"w{n}": nnlib.full((1 << 20,), float(n)) for n in range(25)}, path)
    seconds = []
    for _ in range(3):
        start = time.thread_time()
        state = nnlib.load(path)
        seconds.append(time.thread_time() - start)
    assert path.stat().st_size > 100e6 and min(seconds) < 0.05
    state["w3"].mul_(2)  # in memory alone
    assert state["w3"][0].item() == 6 and nnlib.load(path)["w3"][0].item() == 3
    nnlib.save({"w3": state["w3"]}, path)  # over the file that is mapped
    assert state["w4"][-1].item() == 4 and nnlib.load(path)["w3"][-1].item() == 6
