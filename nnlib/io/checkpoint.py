"""`save` and `load`: nested state in one safetensors file.

Tensors are stored under their dotted paths, so that any tool that reads safetensors
finds a model's weights under the names of its ``state_dict``; everything else is JSON
in the file's metadata. Loading never runs code.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import Device, resolve_device, to_device
from nnlib.backend.errors import ArgumentError, DTypeError
from nnlib.io import safetensors
from nnlib.io.safetensors import CheckpointError
from nnlib.io.source import Place, source, target
from nnlib.io.torch_file import is_bare_pickle, is_torch_file, load_torch, refusal

__all__ = ["load", "save"]

_FORMAT = "1"


def save(obj: Any, path: Place) -> None:
    """Write state to a file, whole or not at all.

    Parameters
    ----------
    obj : nested dict, list and tuple
        Of tensors, NumPy arrays, numbers, strings, bools and None; keys are strings or
        integers. For instance ``{"model": model.state_dict(), "epoch": 3}``.
    path : str, path or binary file
        A file of this name is replaced only when the new one is complete. An open file
        (``io.BytesIO``) is written to from where it stands.

    Raises
    ------
    DTypeError
        If there is anything else in it; named by its place. If `path` is neither a path
        nor a file opened for bytes.

    Examples
    --------
    >>> import nnlib, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> name = folder.name + "/state.safetensors"
    >>> save({"w": nnlib.ones(2), "epoch": 3}, name)
    >>> load(name)
    {'w': tensor([1., 1.]), 'epoch': 3}
    >>> folder.cleanup()
    """
    writer = _Writer()
    tree = json.dumps(writer.encode(obj, ""), allow_nan=False)
    metadata = {"format": "pt", "nnlib.version": _FORMAT, "nnlib.tree": tree}
    safetensors.write(target("save", path), writer.arrays, metadata)


def load(
    path: Place,
    map_location: str | Device | None = None,
    *,
    device: str | Device | None = None,
    weights_only: bool = True,
) -> Any:
    """Read what `save` wrote, any safetensors file, or a file of PyTorch's.

    A large file is mapped into memory: its tensors are read from the disk when they are
    first used, and what is written to them stays in memory.

    Parameters
    ----------
    path : str, path or binary file
        A zip archive of ``torch.save`` is read as `nnlib.io.load_torch` does. An open
        file (``io.BytesIO``) is read from where it stands to its end.
    map_location, device : str or Device, optional
        Where to put all tensors, wherever they were; default the CPU. The first is
        PyTorch's name.
    weights_only : bool, default True
        Taken, so that PyTorch code runs: whatever it says, no code of a file is run.

    Raises
    ------
    CheckpointError
        If the file is truncated, damaged or of another format.
    ArgumentError
        If both `map_location` and `device` are given.
    DTypeError
        If `map_location` is a function or a mapping, or `path` neither a path nor a
        file opened for bytes.
    """
    place = resolve_device(_place(map_location, device))
    where = source("load", path)
    if is_torch_file(where):
        return load_torch(where, device=place)
    if is_bare_pickle(where):
        raise CheckpointError(refusal(where))
    if where.suffix == ".onnx":
        raise CheckpointError(f"load: {where} holds a model: nnlib.onnx.load reads it")
    arrays, metadata = safetensors.read(where)
    tensors = {
        name: Tensor._from_array(to_device(array, place))
        for name, array in arrays.items()
    }
    if "nnlib.tree" not in metadata:
        return tensors
    if metadata.get("nnlib.version") != _FORMAT:
        raise CheckpointError(
            f"load: {where} has format {metadata.get('nnlib.version')!r}, this version "
            f"of nnlib reads {_FORMAT!r}"
        )
    try:
        return _decode(json.loads(metadata["nnlib.tree"]), tensors)
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        RecursionError,
    ) as error:
        raise CheckpointError(
            f"load: {where}: its description of the state is damaged ({error!r})"
        ) from None


def _place(map_location: Any, device: Any) -> Any:
    """Return where to put the tensors."""
    if map_location is not None and device is not None:
        raise ArgumentError(
            f"load: expected map_location or device, got both: {map_location!r} and "
            f"{device!r}"
        )
    if callable(map_location) or isinstance(map_location, Mapping):
        raise DTypeError(
            "load: map_location: expected one device for all tensors, got a "
            f"{type(map_location).__name__}"
        )
    return map_location if device is None else device


class _Writer:
    """Turns nested state into JSON and collects the arrays on the way."""

    def __init__(self) -> None:
        self.arrays: dict[str, Any] = {}
        self._known: dict[Any, str] = {}

    def encode(self, value: Any, place: str) -> Any:
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else {"float": repr(value)}
        if isinstance(value, Tensor):
            return {"tensor": self._store(value, place)}
        if isinstance(value, np.ndarray):
            return {"array": self._store(Tensor._from_array(value), place)}
        if isinstance(value, np.generic):
            return self.encode(value.item(), place)
        if isinstance(value, Mapping):
            return self._encode_mapping(value, place)
        if isinstance(value, list | tuple):
            items = [self.encode(x, _join(place, i)) for i, x in enumerate(value)]
            return items if isinstance(value, list) else {"tuple": items}
        raise DTypeError(
            f"save: {place or 'the object'}: expected tensors, numbers, strings, lists "
            f"and dicts, got {type(value).__name__}"
        )

    def _encode_mapping(self, value: Mapping[Any, Any], place: str) -> Any:
        for key in value:
            if isinstance(key, bool) or not isinstance(key, str | int):
                raise DTypeError(
                    f"save: {place or 'the object'}: key {key!r}: expected a str or "
                    f"int, got {type(key).__name__}"
                )
        items = [[key, self.encode(x, _join(place, key))] for key, x in value.items()]
        if all(isinstance(key, str) for key in value):
            return {"dict": dict(items)}
        return {"items": items}

    def _store(self, tensor: Tensor, place: str) -> str:
        """Keep a tensor's array; one that is there already is stored once."""
        array = to_device(tensor._array, resolve_device("cpu"))
        pointer = array.__array_interface__["data"][0]
        known = pointer, array.shape, array.strides, array.dtype
        # A copy from CUDA is new memory each time: only its own tensor is the same.
        identity = known if array is tensor._array and array.size else place
        if identity not in self._known:
            name = place or "tensor"
            while name in self.arrays or name == "__metadata__":
                name += "_"
            self.arrays[name] = array
            self._known[identity] = name
        return self._known[identity]


def _join(place: str, key: Any) -> str:
    return f"{place}.{key}" if place else str(key)


def _decode(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_decode(x, tensors) for x in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "dict":
        return {key: _decode(x, tensors) for key, x in content.items()}
    if kind == "items":
        return {key: _decode(x, tensors) for key, x in content}
    if kind == "tuple":
        return tuple(_decode(x, tensors) for x in content)
    if kind == "tensor":
        return tensors[content]
    if kind == "array":
        return to_device(tensors[content]._array, resolve_device("cpu"))
    if kind == "float":
        return float(content)
    raise ValueError(f"unknown kind {kind!r}")
