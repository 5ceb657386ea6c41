"""The safetensors format: a JSON header, then the tensors' bytes.

Written without a second copy of the tensors in memory, and read with every number in
the header checked: a damaged file gives a `CheckpointError`, never a wrong tensor.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import secrets
from collections.abc import Mapping
from operator import index
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import CPU, Device, resolve_device, to_device
from nnlib.backend.dtypes import (
    bfloat16,
    bool_,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
)
from nnlib.backend.errors import ArgumentError, DTypeError, Error
from nnlib.io.source import Opened

__all__ = ["CheckpointError", "load_file", "read", "save_file", "write"]

Array = np.ndarray[Any, Any]

_DTYPES = {
    "BOOL": bool_,
    "U8": uint8,
    "I8": int8,
    "I16": int16,
    "I32": int32,
    "I64": int64,
    "F16": float16,
    "BF16": bfloat16,
    "F32": float32,
    "F64": float64,
    "U16": np.dtype(np.uint16),
    "U32": np.dtype(np.uint32),
    "U64": np.dtype(np.uint64),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}

# Others that the format knows.
_UNREAD = ("F4", "F6_E2M3", "F6_E3M2", "F8_E4M3", "F8_E5M2", "F8_E8M0", "C64", "C128")

# The format's own bound on its header.
_MOST_HEADER = 100_000_000

# Files of that many bytes are mapped, not read: each keeps a file open.
_MAPPED = 1 << 22


class CheckpointError(Error, ValueError):
    """A file is no checkpoint, or is damaged."""


def save_file(
    tensors: Mapping[str, Any],
    filename: str | os.PathLike[str],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write named tensors to a file, as ``safetensors.torch.save_file`` does.

    Parameters
    ----------
    tensors : dict of str to Tensor or NumPy array
    filename : str or path
        Replaced only when the new file is complete.
    metadata : dict of str to str, optional
        Notes that other tools may read.

    Raises
    ------
    DTypeError
        If there is anything else in it; nested state is what `nnlib.save` is for.
    ArgumentError
        If a tensor is named ``__metadata__``, which the format does not allow.

    Examples
    --------
    >>> import nnlib, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> save_file({"w": nnlib.ones(2)}, folder.name + "/w.safetensors")
    >>> load_file(folder.name + "/w.safetensors")
    {'w': tensor([1., 1.])}
    >>> folder.cleanup()
    """
    arrays = {}
    for name, tensor in tensors.items():
        array = tensor.array if isinstance(tensor, Tensor) else tensor
        if not isinstance(name, str) or not hasattr(array, "dtype"):
            raise DTypeError(
                "save_file: tensors: expected strings as names and tensors, got "
                f"{name!r}: {type(tensor).__name__}"
            )
        if name == "__metadata__":
            raise ArgumentError(
                "save_file: tensors: the format keeps the name '__metadata__' for notes"
            )
        arrays[name] = to_device(array, CPU)
    for name, note in (metadata or {}).items():
        if not isinstance(name, str) or not isinstance(note, str):
            raise DTypeError(
                f"save_file: metadata: expected strings, got {name!r}: {note!r}"
            )
    write(Path(filename), arrays, metadata or {})


def load_file(
    filename: str | os.PathLike[str], device: str | Device = "cpu"
) -> dict[str, Tensor]:
    """Read the tensors of a file, as ``safetensors.torch.load_file`` does.

    Raises
    ------
    CheckpointError
        If the file is truncated, damaged or of another format.
    """
    place = resolve_device(device)
    arrays, _ = read(Path(filename))
    return {
        name: Tensor._from_array(to_device(array, place))
        for name, array in arrays.items()
    }


def write(
    path: Path | BinaryIO, arrays: Mapping[str, Array], metadata: Mapping[str, str]
) -> None:
    """Write a file, whole or not at all; or to an open one, from where it stands.

    The bytes go to a temporary file beside `path`, are forced to the disk, and the file
    is renamed: whenever the process is killed, `path` is the old file or the new one.
    """
    text, order = _header(arrays, metadata)
    if not isinstance(path, Path):
        _put(path, text, [arrays[name] for name in order])
        return
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with open(temporary, "xb") as file:
            _put(file, text, [arrays[name] for name in order])
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _header(
    arrays: Mapping[str, Array], metadata: Mapping[str, str]
) -> tuple[bytes, list[str]]:
    """Return the header, and the order in which the tensors follow it."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    # Wide elements first keep every tensor aligned to its own size.
    order = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    start = 0
    for name in order:
        array = arrays[name]
        if array.dtype not in _NAMES:
            raise DTypeError(f"save: {name}: a file cannot hold dtype {array.dtype}")
        end = start + array.nbytes
        header[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8), order


def _put(file: BinaryIO, text: bytes, arrays: list[Array]) -> None:
    """Write the header and the tensors' bytes."""
    _write_all(file, len(text).to_bytes(8, "little") + text)
    for array in arrays:
        _write_all(file, np.ascontiguousarray(array).reshape(-1).view("u1").data)


def _write_all(file: BinaryIO, data: bytes | memoryview) -> None:
    """Write all bytes: a file without a buffer may take fewer at a time."""
    rest = memoryview(data)
    while len(rest):
        taken = file.write(rest)
        # What is no file of Python's may tell nothing.
        rest = rest[taken if isinstance(taken, int) else len(rest) :]


def _sync_folder(folder: Path) -> None:
    """Force the new name to the disk, where the system can."""
    if os.name != "posix":
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def read(path: Path | Opened) -> tuple[dict[str, Array], dict[str, str]]:
    """Return the arrays and the metadata of a file.

    Raises
    ------
    CheckpointError
        If the file is truncated, damaged or of another format.
    """
    with path.open("rb") as file:
        header, begin, size = _read_header(path, file)
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict):
            raise CheckpointError(f"load: {path}: its metadata is no JSON object")
        mapped = None
        if size >= _MAPPED and isinstance(path, Path):
            # Private: what is written to the arrays stays in memory.
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        arrays = {
            name: _read_array(path, file, name, entry, begin, size, mapped)
            for name, entry in header.items()
        }
    _check_cover(path, header, size)
    return arrays, metadata


def _check_cover(path: Path | Opened, header: Mapping[str, Any], size: int) -> None:
    """Raise unless the tensors lie one behind the other, to the end of the file."""
    reached = 0
    for start, end, name in sorted(
        (*entry["data_offsets"], name) for name, entry in header.items()
    ):
        if start != reached:
            what = "shares bytes with another" if start < reached else "leaves a hole"
            raise CheckpointError(
                f"load: {path}: tensor {name!r} {what}: it begins at byte {start}, the "
                f"one before it ends at {reached}"
            )
        reached = end
    if reached != size:
        raise CheckpointError(
            f"load: {path}: its tensors end at byte {reached}, the file goes on to "
            f"{size}"
        )


def _read_header(
    path: Path | Opened, file: BinaryIO
) -> tuple[dict[str, Any], int, int]:
    """Return the header, where the tensors begin, and how many bytes follow."""
    total = file.seek(0, os.SEEK_END)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if total < 8 or length > min(total - 8, _MOST_HEADER):
        raise CheckpointError(
            f"load: {path} is no safetensors file, or is truncated ({total} bytes)"
        )
    try:
        header = json.loads(file.read(length).decode(), object_pairs_hook=_unique)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"load: {path} is no safetensors file, or its header is damaged: {error}"
        ) from None
    if not isinstance(header, dict):
        raise CheckpointError(f"load: {path}: its header is no JSON object")
    return header, 8 + length, total - 8 - length


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice")
    return found


def _read_array(
    path: Path | Opened,
    file: BinaryIO,
    name: str,
    entry: Any,
    begin: int,
    size: int,
    mapped: Any,
) -> Array:
    kind = entry.get("dtype") if isinstance(entry, dict) else None
    if kind in _UNREAD:
        raise CheckpointError(
            f"load: {path}: tensor {name!r} has dtype {kind}, which nnlib's tensors "
            "cannot hold; convert it before"
        )
    try:
        dtype = _DTYPES[entry["dtype"]]
        shape = list(map(index, entry["shape"]))
        start, end = map(index, entry["data_offsets"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"load: {path}: the entry of tensor {name!r} is damaged ({error!r})"
        ) from None
    count = math.prod(shape)
    if min(shape, default=0) < 0 or start < 0 or end - start != count * dtype.itemsize:
        raise CheckpointError(
            f"load: {path}: tensor {name!r} of shape {shape} and dtype {dtype} cannot "
            f"lie in bytes {start} to {end}"
        )
    if end > size:
        raise CheckpointError(
            f"load: {path} is truncated: tensor {name!r} ends at byte {end} of {size}"
        )
    if mapped is not None and not (begin + start) % dtype.itemsize:
        array = np.frombuffer(mapped, dtype, count, begin + start)
        return _shaped(path, name, array, shape)
    array = np.empty(count, dtype)
    file.seek(begin + start)
    if file.readinto(array.view("u1").data) != end - start:  # type: ignore[attr-defined]
        raise CheckpointError(f"load: {path} is truncated at tensor {name!r}")
    return _shaped(path, name, array, shape)


def _shaped(path: Path | Opened, name: str, array: Array, shape: list[int]) -> Array:
    try:
        return array.reshape(shape)
    except ValueError as error:  # too many dimensions, or too long a one beside a 0
        raise CheckpointError(
            f"load: {path}: tensor {name!r} of shape {shape}: {error}"
        ) from None
