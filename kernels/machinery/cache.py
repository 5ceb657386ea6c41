"""The folder of compiled kernels, which cannot hold stale code.

Numba's own check looks at the file of the compiled function alone: a change of a body
in another file went unseen. Here the folder's name holds a hash of every kernel source,
of the versions of Python, Numba, llvmlite, NumPy and nnlib, and of the CPU's name and
features: any change starts an empty folder. Only kernels of this package are cached;
those of other files are compiled in each process.

Environment
-----------
NNLIB_CACHE_DIR
    The folder to use instead of the user's cache folder; empty switches the cache off.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numba
import numpy as np
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator

__all__ = ["attach", "compiles_for_host", "folder", "source_hash", "user_cache_dir"]

SOURCES = Path(__file__).resolve().parent.parent
# A folder of another version that nobody used for this long is removed.
_STALE_SECONDS = 30 * 24 * 3600


def user_cache_dir() -> Path | None:
    """Return the folder under which nnlib caches, or None if that is switched off."""
    chosen = os.environ.get("NNLIB_CACHE_DIR")
    if chosen is not None:
        return Path(chosen).expanduser() if chosen else None
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "nnlib"


@functools.cache
def source_hash() -> str:
    """Return a hash of all kernel sources and of the versions they are compiled by."""
    digest = hashlib.sha256()
    for path in sorted(SOURCES.rglob("*")):
        if path.suffix in (".py", ".cu", ".cuh"):
            digest.update(path.relative_to(SOURCES).as_posix().encode() + b"\0")
            digest.update(path.read_bytes() + b"\0")
    try:
        version = importlib.metadata.version("nnlib-dl")
    except importlib.metadata.PackageNotFoundError:
        version = "uninstalled"
    versions = (
        platform.python_implementation(),
        sys.version,
        numba.__version__,
        llvmlite.__version__,
        np.__version__,
        version,
    )
    digest.update("\0".join(versions).encode())
    return digest.hexdigest()[:20]


def compiles_for_host() -> bool:
    """Tell whether Numba compiles for this processor, with all that it has.

    Its settings may name another one, or forbid AVX.
    """
    config = numba.config
    return bool(config.ENABLE_AVX and not (config.CPU_NAME or config.CPU_FEATURES))


def _processor_hash() -> str:
    features = llvm.get_host_cpu_features().flatten()
    target = "\0".join(
        (
            llvm.get_host_cpu_name(),
            features,
            platform.machine(),
            # Numba compiles for another processor, or less of it, by these.
            str(numba.config.CPU_NAME),
            str(numba.config.CPU_FEATURES),
            str(bool(numba.config.ENABLE_AVX)),
        )
    )
    return hashlib.sha256(target.encode()).hexdigest()[:12]


@functools.cache
def folder() -> Path | None:
    """Return the folder of this version's compiled kernels, made if need be.

    Returns
    -------
    Path or None
        None where nothing can be written; that is said once, as a warning.
    """
    base = user_cache_dir()
    if base is None:
        return None
    path = base / "kernels" / f"{source_hash()}-{_processor_hash()}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            os.utime(path)
    except OSError as error:
        warnings.warn(
            f"nnlib: compiled kernels are not kept, {path} cannot be written "
            f"({error.strerror}); set NNLIB_CACHE_DIR to a folder that can",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    _remove_stale(path)
    return path


def _remove_stale(current: Path) -> None:
    """Remove the folders of other versions that were not used for a month."""
    limit = time.time() - _STALE_SECONDS
    try:
        for path in current.parent.iterdir():
            if path != current and path.is_dir() and path.stat().st_mtime < limit:
                shutil.rmtree(path, ignore_errors=True)
    except OSError:
        # Another process may be cleaning up too; what is left is found next time.
        return


class _Locator(_CacheLocator):  # type: ignore[misc]
    """Numba's questions about where to cache, answered with our folder."""

    def __init__(self, function: Callable[..., Any], path: str) -> None:
        self._py_file = path
        self._module = function.__module__.rpartition(".")[2]

    def get_cache_path(self) -> str:
        return str(folder())

    def ensure_cache_path(self) -> None:
        """Nothing to do: `folder` has made and tried it."""

    def get_source_stamp(self) -> str:
        return source_hash()

    def get_disambiguator(self) -> str:
        return self._module

    @classmethod
    def from_function(cls, function: Callable[..., Any], path: str) -> _Locator:
        return cls(function, path)


class _Implementation(CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = [_Locator]


class _KernelCache(FunctionCache):  # type: ignore[misc]
    _impl_class = _Implementation

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        # Numba adds hashes of the function's code and of what it is a closure over,
        # and the latter differs in each process for a compiled function. Here the
        # folder belongs to one state of all sources, and a name to one function.
        return sig, codegen.magic_tuple()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:
            # A file that a crash of the machine left unfinished, which may raise
            # anything. Without the index Numba writes both files anew.
            with contextlib.suppress(OSError):
                os.unlink(self._cache_file._index_path)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _say_not_kept(error)


def _say_not_kept(error: OSError) -> None:
    """Warn of a full disk or a folder that was removed; Python shows it once."""
    warnings.warn(
        f"nnlib: compiled kernels are not kept, {folder()} cannot be written "
        f"({error.strerror})",
        RuntimeWarning,
        stacklevel=2,
    )


def attach(dispatcher: Any, function: Callable[..., Any]) -> None:
    """Let `dispatcher` keep what it compiles, if `function` is one of our kernels."""
    source = Path(function.__code__.co_filename).resolve()
    if source.is_relative_to(SOURCES) and folder() is not None:
        dispatcher._cache = _KernelCache(function)
