"""Models by name, with weights from a file or an address."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nnlib import io
from nnlib.backend.errors import ArgumentError
from nnlib.data.errors import DownloadError
from nnlib.nn import Module

__all__ = ["get", "list", "register"]

_MODELS: dict[str, Callable[..., Module]] = {}


def register(name: str, build: Callable[..., Module] | None = None) -> Any:
    """Give a model's class or builder a name: a call, or a decorator.

    Parameters
    ----------
    name : str
        Lower case; it must be new.
    build : callable, optional
        Makes the model; without it, a decorator is returned.

    Raises
    ------
    ArgumentError
        If the name is taken.

    Examples
    --------
    >>> from nnlib import nn
    >>> @register("one_layer")
    ... def one_layer(features=3):
    ...     return nn.Linear(features, 1)
    >>> get("one_layer", features=5)
    Linear(in_features=5, out_features=1, bias=True)
    """
    if build is None:
        return lambda built: register(name, built)
    if _MODELS.get(name, build) is not build:
        raise ArgumentError(f"models.register: name: {name!r} is taken")
    _MODELS[name] = build
    return build


def list(pattern: str = "*") -> Any:
    """Return the names of all registered models, sorted.

    Parameters
    ----------
    pattern : str, default "*"
        With shell wildcards.

    Examples
    --------
    >>> list("resnet*")
    ['resnet18', 'resnet20', 'resnet34', 'resnet50', 'resnet56', 'resnet_cifar']
    """
    import fnmatch

    return sorted(name for name in _MODELS if fnmatch.fnmatchcase(name, pattern))


def get(
    name: str,
    *args: Any,
    weights: str | os.PathLike[str] | None = None,
    sha256: str | None = None,
    strict: bool = True,
    **options: Any,
) -> Module:
    """Build a registered model, and load weights into it.

    Parameters
    ----------
    name : str
        One of `list`.
    *args, **options
        For the model.
    weights : str or path, optional
        A safetensors file (or PyTorch's ``.pt``, read without running its code), or an
        address that starts with ``https://`` or ``http://``.
    sha256 : str, optional
        The file's hash. An address needs it; a file is checked if it is given.
    strict : bool, default True
        Every key must fit; see `Module.load_state_dict`.

    Raises
    ------
    ArgumentError
        For an unknown name, an address without a hash, or a file of another hash.
    CheckpointError
        If the file is damaged.
    DownloadError
        If the address cannot be read.

    Examples
    --------
    >>> model = get("lenet5", num_classes=4)
    >>> model[-1].out_features
    4
    """
    build = _MODELS.get(name)
    if build is None:
        raise ArgumentError(
            f"models.get: name: there is no model {name!r}; there are "
            f"{', '.join(sorted(_MODELS))}"
        )
    model = build(*args, **options)
    if weights is not None:
        state = _read(_find(os.fspath(weights), sha256))
        model.load_state_dict(state, strict=strict)
    elif sha256 is not None:
        raise ArgumentError("models.get: sha256 was given without weights")
    return model


def _find(weights: str, sha256: str | None) -> Path:
    """Return a local file of the right hash."""
    if weights.startswith(("https://", "http://")):
        if sha256 is None:
            raise ArgumentError(
                f"models.get: sha256: an address needs its file's hash: {weights}"
            )
        import pooch

        folder = Path(pooch.os_cache("nnlib")) / "weights"
        try:
            found = pooch.retrieve(weights, f"sha256:{sha256}", path=folder)
        except ValueError as error:  # pooch's word for another hash
            raise ArgumentError(f"models.get: sha256: {error}") from error
        except OSError as error:  # requests' errors are of this kind
            raise DownloadError(f"models.get: {weights}: {error}") from error
        return Path(found)
    path = Path(weights).expanduser()
    if sha256 is not None:
        import hashlib

        with path.open("rb") as stream:
            got = hashlib.file_digest(stream, "sha256").hexdigest()
        if got != sha256.lower():
            raise ArgumentError(
                f"models.get: sha256: expected {sha256}, got {got} for {path}"
            )
    return path


def _read(path: Path) -> Any:
    if path.suffix in (".pt", ".pth"):
        return io.load_torch(path)
    return io.load(path)
