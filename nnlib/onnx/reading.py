"""From a file's bytes to a model's description and the arrays of its tensors.

Everything a file says about itself is checked before it is believed: sizes against the
bytes that are there, and paths of external data against the folder of the model.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from nnlib.backend.dtypes import bfloat16
from nnlib.onnx.errors import OnnxError, package

__all__ = ["DTYPES", "HIGHEST_OPSET", "LOWEST_OPSET", "dtype_of", "read", "to_array"]

LOWEST_OPSET, HIGHEST_OPSET = 7, 28

# TensorProto.DataType to NumPy's; what is not here no tensor of nnlib can hold.
DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype(np.float32),
    2: np.dtype(np.uint8),
    3: np.dtype(np.int8),
    4: np.dtype(np.uint16),
    5: np.dtype(np.int16),
    6: np.dtype(np.int32),
    7: np.dtype(np.int64),
    9: np.dtype(np.bool_),
    10: np.dtype(np.float16),
    11: np.dtype(np.float64),
    12: np.dtype(np.uint32),
    13: np.dtype(np.uint64),
    16: bfloat16,
}
# Which repeated field holds the values where there are no raw bytes.
_FIELDS = {
    1: "float_data",
    7: "int64_data",
    11: "double_data",
    12: "uint64_data",
    13: "uint64_data",
}


def dtype_of(number: int) -> np.dtype[Any]:
    """Return the dtype that a number of ``TensorProto.DataType`` stands for.

    Raises
    ------
    OnnxError
        If tensors cannot hold it (strings, complex numbers, 8-bit floats, ...).
    """
    found = DTYPES.get(number)
    if found is None:
        try:
            name = package().TensorProto.DataType.Name(number).lower()
        except ValueError:
            name = str(number)
        raise OnnxError(f"the element type {name} is not supported")
    return found


def read(path: str | os.PathLike[str] | Any) -> tuple[Any, Path]:
    """Return the model of a file (or a model as it is) and the folder of its data.

    Raises
    ------
    OnnxError
        If the bytes are no ONNX model, or the opset is not supported.
    """
    onnx = package()
    if isinstance(path, onnx.ModelProto):
        model, folder, name = path, Path("."), "the model"
    else:
        name, folder = str(path), Path(path).parent
        data = Path(path).read_bytes()
        model = onnx.ModelProto()
        try:
            model.ParseFromString(data)
        except Exception as error:  # protobuf's decoders differ in what they raise
            raise OnnxError(f"load: {name} is no ONNX file: {error}") from None
    if not model.HasField("graph") or not model.graph.output:
        raise OnnxError(
            f"load: {name} is no ONNX file, or is truncated: no graph in it"
        )
    if model.functions:
        try:
            model = onnx.inliner.inline_local_functions(model)
        except Exception as error:
            raise OnnxError(f"load: {name}: its functions: {error}") from None
    return model, folder


def opsets_of(model: Any) -> dict[str, int]:
    """Return the version of each operator set; checks the main one.

    Raises
    ------
    OnnxError
        If the version is not supported.
    """
    versions = {
        "" if entry.domain == "ai.onnx" else entry.domain: entry.version
        for entry in model.opset_import
    }
    version = versions.get("")
    if version is None and model.ir_version < 3:
        version = 1
    if version is not None and not LOWEST_OPSET <= version <= HIGHEST_OPSET:
        raise OnnxError(
            f"load: the model uses opset {version}; nnlib reads {LOWEST_OPSET} to "
            f"{HIGHEST_OPSET} (onnx.version_converter brings it there)"
        )
    return versions


def to_array(tensor: Any, folder: Path) -> np.ndarray[Any, Any]:
    """Return the array of a TensorProto, with memory of its own.

    Raises
    ------
    OnnxError
        If the dtype is not supported, its size is not that of its data, or the data
        is in another file that is absent, too short, or outside `folder`.
    """
    name = tensor.name or "(unnamed)"
    try:
        dtype = dtype_of(tensor.data_type)
    except OnnxError as error:
        raise OnnxError(f"load: tensor {name!r}: {error}") from None
    shape = tuple(tensor.dims)
    if min(shape, default=0) < 0 or len(shape) > 32:
        raise OnnxError(f"load: tensor {name!r}: no shape: {shape}")
    count = math.prod(shape)
    if tensor.data_location == 1:
        array = _external(tensor, name, dtype, count, folder)
    elif tensor.HasField("raw_data"):
        raw = tensor.raw_data
        if len(raw) != count * dtype.itemsize:
            raise OnnxError(
                f"load: tensor {name!r} of shape {shape} and dtype {dtype} needs "
                f"{count * dtype.itemsize} bytes, the file holds {len(raw)}"
            )
        array = np.frombuffer(raw, dtype.newbyteorder("<")).astype(dtype)
    else:
        array = _from_field(tensor, name, dtype, count)
    return array.reshape(shape)


def _from_field(
    tensor: Any, name: str, dtype: np.dtype[Any], count: int
) -> np.ndarray[Any, Any]:
    values = getattr(tensor, _FIELDS.get(tensor.data_type, "int32_data"))
    if len(values) != count:
        raise OnnxError(
            f"load: tensor {name!r} of shape {tuple(tensor.dims)} needs {count} "
            f"values, the file holds {len(values)}"
        )
    if dtype in (np.float16, bfloat16):  # as bits
        return np.array(values, np.int32).astype(np.uint16).view(dtype)
    return np.array(values).astype(dtype)


def _external(
    tensor: Any, name: str, dtype: np.dtype[Any], count: int, folder: Path
) -> np.ndarray[Any, Any]:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    place = (folder / location).resolve()
    inside = place.is_relative_to(folder.resolve())
    if not location or os.path.isabs(location) or not inside:
        raise OnnxError(
            f"load: tensor {name!r}: external data in {location!r}: refused, it is not "
            "in the folder of the model"
        )
    if not place.is_file():
        raise OnnxError(
            f"load: tensor {name!r}: external data is missing: there is no file {place}"
        )
    try:
        offset = int(entries.get("offset", 0))
        length = int(entries.get("length", count * dtype.itemsize))
    except ValueError:
        raise OnnxError(f"load: tensor {name!r}: external data: no numbers") from None
    total = place.stat().st_size
    if length != count * dtype.itemsize or offset < 0 or offset + length > total:
        raise OnnxError(
            f"load: tensor {name!r} needs {count * dtype.itemsize} bytes; its external "
            f"data is said to be bytes {offset} to {offset + length} of {total} in "
            f"{place}"
        )
    return np.fromfile(place, dtype, count, offset=offset)
