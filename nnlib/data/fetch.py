"""Find a data file on this machine, or download it once; check its hash either way.

Places are tried in this order: the `root` the caller names, the folder that the
environment variable ``NNLIB_DATA`` names, the cache (``NNLIB_CACHE_DIR`` or the
system's cache folder), and last the network.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nnlib.data.errors import DataError, DownloadError

__all__ = ["DataFile", "cache_folder", "data_roots", "locate"]


@dataclass(frozen=True)
class DataFile:
    """A published file: where it belongs, what it must hold, where it can be had.

    Parameters
    ----------
    folder : str
        The data set's folder below a data root, e.g. ``mnist``.
    name : str
        The file's name, with its ``.gz`` or ``.xz`` if it is published compressed.
    sha256 : str
        The hash of the file as published.
    mirrors : tuple of str
        Addresses that end in ``/``, to which the name is added.
    sha256_raw : str, optional
        The hash of the decompressed file, which may lie there without ``.gz`` or
        ``.xz``.
    raw_mirrors : tuple of str
        Addresses that have the decompressed file.
    """

    folder: str
    name: str
    sha256: str
    mirrors: tuple[str, ...] = ()
    sha256_raw: str | None = None
    raw_mirrors: tuple[str, ...] = ()

    def forms(self) -> Iterator[tuple[str, str]]:
        """Yield each accepted (file name, expected hash)."""
        yield self.name, self.sha256
        if self.sha256_raw is not None:
            yield self.name.removesuffix(".gz").removesuffix(".xz"), self.sha256_raw


def cache_folder() -> Path:
    """Return the folder that keeps downloaded data (it need not exist yet)."""
    named = os.environ.get("NNLIB_CACHE_DIR")
    if named:
        return Path(named).expanduser() / "data"
    import pooch  # here, for it takes longer to import than nnlib itself

    return Path(pooch.os_cache("nnlib")) / "data"


def data_roots(root: str | os.PathLike[str] | None = None) -> list[Path]:
    """Return the folders to look in before the cache: `root`, then NNLIB_DATA."""
    places = [Path(root).expanduser()] if root is not None else []
    if os.environ.get("NNLIB_DATA"):
        places.append(Path(os.environ["NNLIB_DATA"]).expanduser())
    return places


def locate(file: DataFile, root: str | os.PathLike[str] | None = None) -> Path:
    """Return the path of `file`, checked; download it if it is nowhere.

    Parameters
    ----------
    file : DataFile
        What to look for, as ``<place>/<folder>/<name>`` or ``<place>/<name>``.
    root : str or os.PathLike, optional
        A data root to look in first. If it is given, a download goes there.

    Raises
    ------
    DataError
        If a file of that name lies there but its hash differs.
    DownloadError
        If the file is nowhere and no mirror gave it.
    """
    places = data_roots(root)
    found = _first(file, places)
    if found is not None:
        return found
    for name, expected in file.forms():
        cached = cache_folder() / file.folder / name
        if cached.is_file() and _hash(cached) == expected:
            return cached
    # A damaged file in the cache is ours to replace: pooch does so by itself.
    target = places[0] if root is not None else cache_folder()
    return _download(file, target / file.folder)


def _first(file: DataFile, places: list[Path]) -> Path | None:
    for place in places:
        for folder in (place / file.folder, place):
            for name, expected in file.forms():
                path = folder / name
                if path.is_file():
                    _check(path, expected)
                    return path
    return None


def _check(path: Path, expected: str) -> None:
    got = _hash(path)
    if got != expected:
        raise DataError(
            f"{path}: hash mismatch: the file is corrupt or another one: expected "
            f"sha256 {expected}, got {got} ({path.stat().st_size} bytes); delete it "
            f"to have it downloaded again"
        )


def _hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _download(file: DataFile, folder: Path) -> Path:
    import pooch

    failures = []
    forms = list(file.forms())
    for mirror, (name, expected) in [
        *((mirror, forms[0]) for mirror in file.mirrors),
        *((mirror, forms[-1]) for mirror in file.raw_mirrors),
    ]:
        try:
            return Path(
                pooch.retrieve(
                    mirror + name,
                    known_hash=f"sha256:{expected}",
                    fname=name,
                    path=folder,
                    progressbar=True,
                )
            )
        # pooch raises ValueError on a hash mismatch, requests' errors are OSErrors
        except (OSError, ValueError) as error:
            failures.append(f"{mirror}: {type(error).__name__}: {error}")
    tried = "; ".join(failures) or "no mirror is known, or download=False"
    raise DownloadError(
        f"{file.folder}/{file.name}: not found and not downloaded ({tried}). Put it "
        f"into a folder {file.folder}/ and set NNLIB_DATA to that folder's parent"
    )
