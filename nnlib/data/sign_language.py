"""Sign-language digits: 2,062 photographs of hands that show 0 to 9.

A. Mavi and Z. Dikle: "A new 27 class sign language dataset collected from 173
individuals", arXiv:2203.03859, 2022; digits collected at Turkey Ankara Ayrancı Anadolu
High School (Apache-2.0). There is no official split.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from nnlib.data.errors import DataError, DownloadError
from nnlib.data.fetch import cache_folder, data_roots
from nnlib.data.images import ImageDataset

__all__ = ["SignLanguageDigits"]

_FOLDER = "sign-language-digits"
_ARCHIVE = "sign-language-digits.tar.xz"
_ADDRESS = "https://github.com/ardamavi/Sign-Language-Digits-Dataset"
_COUNT = 2062
_NAME = re.compile(r"(?:^|/)(\d)/[^/]+\.jpe?g$", re.IGNORECASE)


class SignLanguageDigits(ImageDataset):
    """2,062 colour photographs of 100x100 pixels, ten classes.

    They are read from ``sign-language-digits.tar.xz`` (``Dataset/<digit>/*.JPG``
    inside), or from the folder ``Dataset`` of the authors' repository, below `root`,
    ``NNLIB_DATA`` or the cache. Reading JPEG needs Pillow (extra ``examples``).

    Parameters
    ----------
    root : str or os.PathLike, optional
        A data root to look in first.

    Raises
    ------
    DownloadError
        If the photographs are nowhere, or Pillow is not installed.
    DataError
        If one is missing or cannot be decoded.
    """

    folder: ClassVar[str] = _FOLDER
    classes: ClassVar[tuple[str, ...]] = tuple("0123456789")
    mean: ClassVar[tuple[float, ...]] = (0.5, 0.5, 0.5)
    std: ClassVar[tuple[float, ...]] = (0.25, 0.25, 0.25)

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        images, labels = [], []
        for name, content in _photographs(root):
            match = _NAME.search(name)
            if match is None:
                continue
            images.append(_decode(name, content))
            labels.append(int(match[1]))
        if len(images) != _COUNT:
            raise DataError(
                f"{_FOLDER}: expected {_COUNT} photographs, got {len(images)}: the "
                "archive or folder is incomplete"
            )
        super().__init__(np.stack(images), np.array(labels, np.int64))


def _photographs(root: str | os.PathLike[str] | None) -> Iterator[tuple[str, bytes]]:
    """Yield (name, bytes) in the order of names."""
    for place in (*data_roots(root), cache_folder()):
        for folder in (place / _FOLDER, place):
            if (folder / _ARCHIVE).is_file():
                yield from _from_archive(folder / _ARCHIVE)
                return
            if (folder / "Dataset").is_dir():
                for path in sorted((folder / "Dataset").glob("[0-9]/*")):
                    yield f"{path.parent.name}/{path.name}", path.read_bytes()
                return
    raise DownloadError(
        f"{_FOLDER}: found neither {_ARCHIVE} nor a folder Dataset in "
        f"{', '.join(map(str, (*data_roots(root), cache_folder())))}. Fetch "
        f"{_ADDRESS} and set NNLIB_DATA to the folder that holds its Dataset"
    )


def _from_archive(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(path) as archive:
            members = sorted(archive.getmembers(), key=lambda member: member.name)
            for member in members:
                stream = archive.extractfile(member) if member.isfile() else None
                if stream is not None:
                    yield member.name, stream.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{path}: the archive is corrupt: {error}") from error
    except Exception as error:
        # lzma has an error class of its own, and may be missing from Python
        if type(error).__name__ != "LZMAError":
            raise
        raise DataError(f"{path}: the archive is corrupt: {error}") from error


def _decode(name: str, content: bytes) -> NDArray[np.uint8]:
    """Return the pixels of a JPEG, (3, 100, 100)."""
    try:
        from PIL import Image
    except ImportError as error:
        raise DownloadError(
            f"{_FOLDER}: reading JPEG needs Pillow: pip install pillow"
        ) from error
    try:
        with Image.open(io.BytesIO(content)) as picture:
            pixels = np.asarray(picture.convert("RGB"))
    except OSError as error:
        raise DataError(f"{name}: not a readable JPEG: {error}") from error
    if pixels.shape != (100, 100, 3):
        raise DataError(
            f"{name}: expected 100x100 pixels, got {pixels.shape[1]}x{pixels.shape[0]}"
        )
    return pixels.transpose(2, 0, 1)  # (H, W, C) -> (C, H, W)
