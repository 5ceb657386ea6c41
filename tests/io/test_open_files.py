"""`save` and `load` with open files: the same content, the same checks."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnlib
from nnlib.io import CheckpointError, load_torch


def state() -> dict[str, Any]:
    return {"w": nnlib.arange(6.0).reshape(2, 3), "empty": nnlib.ones(0), "epoch": 3}


def check(back: Any) -> None:
    assert back["w"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert tuple(back["empty"].shape) == (0,) and back["epoch"] == 3


def test_memory_and_files_hold_the_same_bytes(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    nnlib.save(state(), buffer)
    nnlib.save(state(), tmp_path / "named")
    with open(tmp_path / "buffered", "wb") as file:
        nnlib.save(state(), file)
    with open(tmp_path / "raw", "wb", buffering=0) as raw:
        nnlib.save(state(), raw)
    for name in ("named", "buffered", "raw"):
        assert (tmp_path / name).read_bytes() == buffer.getvalue()
        with open(tmp_path / name, "rb") as file:
            check(nnlib.load(file))
    buffer.seek(0)
    back = nnlib.load(buffer, "cpu")
    check(back)
    back["w"] += 1
    check(nnlib.load(io.BytesIO(buffer.getvalue())))


def test_from_where_the_file_stands() -> None:
    buffer = io.BytesIO(b"before")
    buffer.seek(6)
    nnlib.save(state(), buffer)
    assert buffer.getvalue().startswith(b"before")
    buffer.seek(6)
    check(nnlib.load(buffer))


def test_a_file_that_takes_little_at_a_time() -> None:
    class Slow(io.RawIOBase):
        taken = b""

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.taken += bytes(data[:7])
            return min(len(data), 7)

    file = Slow()
    nnlib.save(state(), file)
    check(nnlib.load(io.BytesIO(file.taken)))


def test_damage_is_told() -> None:
    buffer = io.BytesIO()
    nnlib.save({"x": nnlib.ones(100)}, buffer)
    whole = buffer.getvalue()
    for length in (0, 5, 8, 60, len(whole) - 1):
        with pytest.raises(CheckpointError, match="BytesIO.*(truncated|damaged)"):
            nnlib.load(io.BytesIO(whole[:length]))
    with pytest.raises(CheckpointError, match="the file goes on to"):
        nnlib.load(io.BytesIO(whole + b"more"))
    with pytest.raises(CheckpointError, match="bare pickle"):
        nnlib.load(io.BytesIO(b"\x80\x04" + b"pickle" * 40))


def test_files_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    buffer = io.BytesIO()
    torch.save({"w": torch.arange(3.0), "epoch": 2}, buffer)
    for read in (nnlib.load, load_torch):
        buffer.seek(0)
        back = read(buffer)
        np.testing.assert_array_equal(back["w"].numpy(), np.arange(3.0))
        assert back["epoch"] == 2
    whole = buffer.getvalue()
    with pytest.raises(CheckpointError, match="BytesIO is damaged"):
        nnlib.load(io.BytesIO(whole[: len(whole) // 2]))
    spoilt = bytearray(whole)
    spoilt[whole.index(np.arange(3, dtype="f4").tobytes())] ^= 1
    with pytest.raises(CheckpointError, match="CRC"):
        nnlib.load(io.BytesIO(bytes(spoilt)))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nnlib.save({}, io.StringIO()), nnlib.DTypeError, "opened for bytes"),
        (lambda: nnlib.load(io.StringIO("x")), nnlib.DTypeError, "load: .*gives str"),
        (
            lambda: nnlib.save({}, 3),
            nnlib.DTypeError,
            "save: path: expected a path or an open file, got int",
        ),
        (lambda: nnlib.load(None), nnlib.DTypeError, "load: path: .* got NoneType"),
        (
            lambda: nnlib.load("x", "cuda", device="cpu"),
            nnlib.ArgumentError,
            "load: expected map_location or device, got both: 'cuda' and 'cpu'",
        ),
        (
            lambda: nnlib.load("x", lambda storage, place: storage),
            nnlib.DTypeError,
            "load: map_location: expected one device for all tensors, got a function",
        ),
        (
            lambda: nnlib.load("x", {"cuda:0": "cpu"}),
            nnlib.DTypeError,
            "load: map_location: .* got a dict",
        ),
        (
            lambda: nnlib.io.safetensors.save_file(
                {"__metadata__": nnlib.ones(1)}, "x"
            ),
            nnlib.ArgumentError,
            "save_file: tensors: the format keeps the name '__metadata__'",
        ),
    ],
)
def test_bad_arguments(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
