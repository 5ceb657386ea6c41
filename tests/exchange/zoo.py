"""The pretrained models of the data folder, with inputs and expected outputs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

MODELS = ("mnist-8", "super-resolution-10", "dtln-1", "squeezenet1.0-deepcompressed-13")


def folder(name: str) -> Path:
    root = os.environ.get("NNLIB_DATA")
    place = Path(root or ".") / "onnx" / name
    if root is None or not place.is_dir():
        pytest.skip(f"NNLIB_DATA has no onnx/{name}")
    return place


def samples(name: str) -> list[tuple[list[Any], list[Any]]]:
    """Return (inputs, expected outputs) of every set."""
    onnx = pytest.importorskip("onnx")

    def read(place: Path, kind: str) -> list[Any]:
        found = []
        for path in sorted(place.glob(f"{kind}_*.pb")):
            tensor = onnx.TensorProto.FromString(path.read_bytes())
            found.append(np.array(onnx.numpy_helper.to_array(tensor)))
        return found

    places = sorted(folder(name).glob("test_data_set_*"))
    return [(read(place, "input"), read(place, "output")) for place in places]
