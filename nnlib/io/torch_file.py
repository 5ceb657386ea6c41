"""PyTorch's own files (``.pt``, ``.pth``), read without running code of theirs.

Such a file is a zip archive: a pickle that describes nested state, and one entry of raw
bytes for each storage. Tensors that share a storage share memory here too.
"""

from __future__ import annotations

import math
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import Device, resolve_device, to_device
from nnlib.backend.dtypes import bfloat16
from nnlib.io.pickled import Call, checked_key, interpret
from nnlib.io.safetensors import CheckpointError
from nnlib.io.source import Opened, Place, source

__all__ = ["is_bare_pickle", "is_torch_file", "load_torch", "refusal"]

_LIMIT = 100_000_000  # bytes of a description; those of real files are far below
# Elements that an expanded tensor may have: they are not in the file.
_MOST_EXPANDED = 1 << 28

_DTYPES: dict[str, np.dtype[Any]] = {
    "Float": np.dtype(np.float32),
    "Double": np.dtype(np.float64),
    "Half": np.dtype(np.float16),
    "BFloat16": bfloat16,
    "Long": np.dtype(np.int64),
    "Int": np.dtype(np.int32),
    "Short": np.dtype(np.int16),
    "Char": np.dtype(np.int8),
    "Byte": np.dtype(np.uint8),
    "Bool": np.dtype(np.bool_),
}
_NAMES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
    "float16": np.dtype(np.float16),
    "bfloat16": bfloat16,
    "int64": np.dtype(np.int64),
    "int32": np.dtype(np.int32),
    "int16": np.dtype(np.int16),
    "int8": np.dtype(np.int8),
    "uint8": np.dtype(np.uint8),
    "uint16": np.dtype(np.uint16),
    "uint32": np.dtype(np.uint32),
    "uint64": np.dtype(np.uint64),
    "bool": np.dtype(np.bool_),
}


class _Kind(NamedTuple):
    """A class of storages; None: of bytes of any type."""

    dtype: np.dtype[Any] | None


class _Storage(NamedTuple):
    """One entry of the archive: its bytes, and their type if the file tells it."""

    data: np.ndarray[Any, Any]
    dtype: np.dtype[Any] | None


def is_torch_file(path: Path | Opened) -> bool:
    """Tell whether a file is a zip archive, as PyTorch writes them."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def is_bare_pickle(path: Path | Opened) -> bool:
    """Tell whether a file begins as a pickle of protocol 2 or above does."""
    with path.open("rb") as file:
        start = file.read(8)
    # Those of a safetensors file are its header's length, at most _LIMIT.
    long = int.from_bytes(start, "little") > _LIMIT
    return long and start[0] == 0x80 and 2 <= start[1] <= 5


def load_torch(path: Place | Opened, *, device: str | Device | None = None) -> Any:
    """Read a file that ``torch.save`` wrote, without running code of the file.

    Parameters
    ----------
    path : str, path or binary file
        In PyTorch's zip format (since 1.6): a ``state_dict``, or nested dicts, lists
        and tuples of tensors, numbers and strings.
    device : str or Device, optional
        Where to put the tensors, default the CPU: whatever they were on.

    Returns
    -------
    object
        As it was saved, with Tensors; an ``OrderedDict`` as a dict, a Parameter as a
        Tensor.

    Raises
    ------
    CheckpointError
        If the file is damaged or of another format, or if its pickle asks for anything
        but tensors: the message names what, and how to convert the file.

    Examples
    --------
    Weights go into a Module of the same keys:

    >>> import nnlib
    >>> model = nnlib.nn.Linear(3, 2)
    >>> state = nnlib.io.load_torch("linear.pt")  # doctest: +SKIP
    >>> model.load_state_dict(state)  # doctest: +SKIP
    IncompatibleKeys(missing_keys=[], unexpected_keys=[])
    """
    place = resolve_device(device)
    path = source("load_torch", path)
    if not is_torch_file(path):
        raise CheckpointError(refusal(path))
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            return _Reader(archive, place).read()
    except CheckpointError as error:
        raise CheckpointError(f"load_torch: {path}: {error}") from None
    except (
        zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError, IndexError,
        NotImplementedError, RuntimeError, RecursionError, OverflowError, OSError,
    ) as error:  # fmt: skip
        raise CheckpointError(f"load_torch: {path} is damaged: {error}") from None


def refusal(path: Path | Opened) -> str:
    """Return what is wrong with a file that is no zip archive."""
    with path.open("rb") as file:
        start = file.read(16)
    if start.startswith(b"\x80") or b"ustar" in start:
        return (
            f"load_torch: {path} is a bare pickle or a tar archive, the formats before "
            "PyTorch 1.6: refused. If you trust the file, load and save it again with "
            "PyTorch, best as safetensors: "
            "safetensors.torch.save_file(state_dict, 'weights.safetensors')"
        )
    return f"load_torch: {path} is no file of PyTorch's, or is truncated"


class _Reader:
    def __init__(self, archive: zipfile.ZipFile, place: Any) -> None:
        self.archive = archive
        self.place = place
        self.storages: dict[str, _Storage] = {}
        self.tensors: dict[Any, Tensor] = {}
        names = archive.namelist()
        found = [name for name in names if name.split("/")[-1] == "data.pkl"]
        if len(found) != 1:
            raise CheckpointError("it is a zip archive, but not one of torch.save")
        self.root = found[0].removesuffix("data.pkl")
        if f"{self.root}constants.pkl" in names:
            raise CheckpointError(
                "it is a TorchScript program, which holds code: refused. Save its "
                "state_dict() in place of it"
            )
        order = f"{self.root}byteorder"
        self.swapped = (
            order in names and self.entry(order, 16).decode().strip() != sys.byteorder
        )

    def entry(self, name: str, most: int) -> bytes:
        """Return the bytes of an entry of at most that size."""
        info = self.archive.getinfo(name)
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > most:
            raise CheckpointError(f"its entry {name} is compressed or too large")
        return self.archive.read(name)

    def read(self) -> Any:
        """Return the object of the archive."""
        names: dict[str, Any] = {
            "collections.OrderedDict": Call("OrderedDict", _dict),
            "torch._utils._rebuild_tensor_v2": Call("tensor", self.tensor),
            "torch._utils._rebuild_tensor_v3": Call("tensor", self.tensor_v3),
            "torch._utils._rebuild_parameter": Call("Parameter", _parameter),
            "torch._utils._rebuild_parameter_with_state": Call("Parameter", _parameter),
            "torch.Size": Call("Size", tuple),
            "torch.device": Call("device", lambda *parts: ":".join(map(str, parts))),
            "torch.storage.UntypedStorage": _Kind(None),
        }
        names |= {f"torch.{x}Storage": _Kind(dtype) for x, dtype in _DTYPES.items()}
        names |= {f"torch.{x}": dtype for x, dtype in _NAMES.items()}
        data = self.entry(f"{self.root}data.pkl", _LIMIT)
        return interpret(data, names, self.storage)

    def storage(self, key: Any) -> _Storage:
        """Return the storage that a persistent identifier names."""
        if not isinstance(key, tuple) or len(key) != 5 or key[0] != "storage":
            raise CheckpointError("its description names something else than a storage")
        _, kind, name, _, count = key
        if not isinstance(kind, _Kind) or not isinstance(count, int) or count < 0:
            raise CheckpointError("the description of a storage is damaged")
        name = str(name)
        if name not in self.storages:
            width = 1 if kind.dtype is None else kind.dtype.itemsize
            raw = self.entry(f"{self.root}data/{name}", sys.maxsize)
            if len(raw) < count * width:
                raise CheckpointError(
                    f"storage {name} has {len(raw)} bytes, {count * width} are expected"
                )
            data = np.frombuffer(bytearray(raw), np.uint8)
            self.storages[name] = _Storage(data, kind.dtype)
        return self.storages[name]

    def tensor(
        self,
        storage: Any,
        offset: Any,
        size: Any,
        stride: Any,
        *rest: Any,
        dtype: Any = None,
    ) -> Tensor:
        """Return a tensor: a view of a storage."""
        dtype = dtype or getattr(storage, "dtype", None)
        if not isinstance(storage, _Storage) or dtype is None:
            raise CheckpointError("a tensor's storage or dtype is damaged")
        shape, steps = tuple(map(int, size)), tuple(map(int, stride))
        key = id(storage.data), offset, shape, steps, dtype
        if key not in self.tensors:
            array = self._view(storage.data, int(offset), shape, steps, dtype)
            self.tensors[key] = Tensor._from_array(to_device(array, self.place))
        return self.tensors[key]

    def tensor_v3(
        self, storage: Any, offset: Any, size: Any, stride: Any, *r: Any
    ) -> Any:
        """Return a tensor whose dtype is told apart from its storage."""
        dtype = r[2] if len(r) > 2 else None
        if not isinstance(dtype, np.dtype):
            raise CheckpointError("a tensor's dtype is damaged")
        return self.tensor(storage, offset, size, stride, dtype=dtype)

    def _view(
        self,
        data: Any,
        offset: int,
        shape: tuple[int, ...],
        steps: tuple[int, ...],
        dtype: np.dtype[Any],
    ) -> Any:
        flat = data[: len(data) // dtype.itemsize * dtype.itemsize].view(dtype)
        if len(shape) != len(steps) or min((offset, *shape, *steps)) < 0:
            raise CheckpointError(f"a tensor's shape {shape} or strides are damaged")
        last = offset + sum((n - 1) * s for n, s in zip(shape, steps, strict=True))
        if math.prod(shape) == 0:
            return np.zeros(shape, dtype)
        if last >= len(flat) or len(shape) > 32:
            raise CheckpointError(
                f"a tensor of shape {shape} reaches beyond its storage of {len(flat)}"
            )
        view = np.lib.stride_tricks.as_strided(
            flat[offset:], shape, [s * dtype.itemsize for s in steps]
        )
        # An expanded tensor would be written to in many places at once.
        expands = any(s == 0 and n > 1 for n, s in zip(shape, steps, strict=True))
        if math.prod(shape) > max(_MOST_EXPANDED, len(flat)):
            raise CheckpointError(f"an expanded tensor of shape {shape} is too large")
        if self.swapped:
            return view.byteswap()
        return view.copy() if expands else view


def _dict(*items: Any) -> dict[Any, Any]:
    pairs = [(key, value) for part in items for key, value in part]
    return {checked_key(key): value for key, value in pairs}


def _parameter(data: Any, *_: Any) -> Any:
    if not isinstance(data, Tensor):
        raise CheckpointError("a parameter's data are damaged")
    return data
