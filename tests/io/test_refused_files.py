"""Files that are damaged on purpose, and what is said of files of other kinds."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import pickle
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest

import nnlib
from nnlib import models
from nnlib.backend.errors import ArgumentError
from nnlib.data.errors import DownloadError
from nnlib.io import CheckpointError


def entry(start: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {
        "dtype": dtype,
        "shape": [(end - start) // 4],
        "data_offsets": [start, end],
    }


def written(path: Path, header: dict[str, Any] | bytes, size: int) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(size))
    return path


TWICE = b'{"a": %s, "a": %s}' % (
    json.dumps(entry(0, 4)).encode(),
    json.dumps(entry(4, 8)).encode(),
)


@pytest.mark.parametrize(
    ("header", "size", "said"),
    [
        ({"a": entry(0, 8), "b": entry(4, 12)}, 12, "'b' shares bytes"),
        ({"a": entry(0, 4), "b": entry(8, 12)}, 12, "'b' leaves a hole"),
        ({"a": entry(0, 4)}, 12, "the file goes on to 12"),
        ({"a": entry(0, 4), "b": entry(0, 4)}, 4, "shares bytes"),
        ({"a": entry(0, 4, "F8_E4M3")}, 4, "dtype F8_E4M3"),
        (TWICE, 8, "a name comes twice"),
    ],
)
def test_a_header_that_does_not_cover_the_file(
    tmp_path: Path, header: Any, size: int, said: str
) -> None:
    with pytest.raises(CheckpointError, match=said):
        nnlib.load(written(tmp_path / "x.safetensors", header, size))


def test_a_deeply_nested_dict_key_is_refused(tmp_path: Path) -> None:
    deep = b"\x80\x02}(" + b")" + b"\x85" * 1_000_000 + b"K\x01u."
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("x/data.pkl", deep)
    with pytest.raises(CheckpointError, match="dict key"):
        nnlib.load(tmp_path / "x.pt")


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_bare_pickle_is_refused_with_how_to_convert(
    tmp_path: Path, protocol: int
) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(pickle.dumps({"a": [1.0] * 50}, protocol))
    with pytest.raises(CheckpointError, match="safetensors.torch.save_file"):
        nnlib.load(path)


def test_an_onnx_file_is_sent_to_its_reader(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"\x08\x07\x12\x00")
    with pytest.raises(CheckpointError, match="nnlib.onnx.load"):
        nnlib.load(tmp_path / "x.onnx")


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *parts: Any) -> None:
        """Say nothing."""


def test_weights_from_an_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pooch")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = models.get("mlp", [4, 3, 2])
    nnlib.save(model.state_dict(), tmp_path / "w.safetensors")
    digest = hashlib.sha256((tmp_path / "w.safetensors").read_bytes()).hexdigest()
    serve = functools.partial(_Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = f"http://127.0.0.1:{server.server_port}"
        load = functools.partial(models.get, "mlp", [4, 3, 2])
        again = load(weights=f"{place}/w.safetensors", sha256=digest)
        with pytest.raises(ArgumentError, match="sha256"):
            load(weights=f"{place}/w.safetensors", sha256="0" * 64)
        with pytest.raises(DownloadError, match="404"):
            load(weights=f"{place}/none.safetensors", sha256=digest)
        server.shutdown()
    x = nnlib.randn(3, 4)
    assert bool((again(x) == model(x)).all())
