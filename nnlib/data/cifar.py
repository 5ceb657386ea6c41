"""CIFAR-10: 60,000 small colour photographs of ten classes.

A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009. Two
published forms are read: the "binary version", records of a label byte and 3,072 pixel
bytes, and the "python version", pickled dicts, of which nothing but plain values and
arrays of bytes is ever built.
"""

from __future__ import annotations

import io
import os
import pickle
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nnlib.backend.errors import ShapeError
from nnlib.data.errors import DataError, DownloadError
from nnlib.data.fetch import cache_folder, data_roots
from nnlib.data.images import ImageDataset

__all__ = ["CIFAR10", "parse_cifar_binary", "parse_cifar_pickle"]

_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32
_RECORD = 1 + _PIXELS
_PER_FILE = 10_000
_FOLDERS = ("", "cifar-10-batches-bin", "cifar-10-batches-py")
_ARCHIVES = ("cifar-10-binary.tar.gz", "cifar-10-python.tar.gz")
_ADDRESS = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
_PUBLISHED = "md5:c32a1d4ab5d03f1284b67883e8d87530"

Batch = tuple[NDArray[np.uint8], NDArray[np.int64]]


def parse_cifar_binary(content: bytes, name: str = "cifar10") -> Batch:
    """Read records of the binary version: a label, then red, green and blue planes.

    Parameters
    ----------
    content : bytes
        Whole records of 3,073 bytes.
    name : str
        What messages call it.

    Returns
    -------
    images : numpy.ndarray
        uint8, ``(N, 3, 32, 32)``.
    labels : numpy.ndarray
        int64, ``(N,)``.

    Raises
    ------
    DataError
        If there is no record, the last one is cut off, or a label is not in 0 to 9.

    Examples
    --------
    >>> images, labels = parse_cifar_binary(bytes([7]) + bytes(3072))
    >>> images.shape, labels
    ((1, 3, 32, 32), array([7]))
    """
    if not content or len(content) % _RECORD:
        raise DataError(
            f"{name}: truncated: expected records of {_RECORD} bytes, got "
            f"{len(content)} bytes: {len(content) // _RECORD} records and "
            f"{len(content) % _RECORD} bytes"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, _RECORD)
    images = records[:, 1:].reshape(-1, *_SHAPE)  # (N, 3072) -> (N, C, H, W), a copy
    return np.ascontiguousarray(images), _checked_labels(records[:, 0].tolist(), name)


def _checked_labels(labels: Sequence[int], name: str) -> NDArray[np.int64]:
    for record, label in enumerate(labels):
        if not 0 <= label <= 9:
            raise DataError(
                f"{name}: not CIFAR-10: record {record} has the label {label}, "
                "expected 0 to 9"
            )
    return np.array(labels, np.int64)


# -- the python version ---------------------------------------------------------------


class _Array:
    """What a pickled array becomes: its state, of which nothing is run."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def pixels(self) -> NDArray[np.uint8]:
        _, shape, dtype, fortran, content = self.state
        if dtype.name not in ("u1", b"u1") or fortran or not isinstance(content, bytes):
            raise ValueError(f"expected an array of bytes, got {dtype.name}")
        return np.frombuffer(content, np.uint8).reshape(shape)


class _Dtype:
    """What a pickled dtype becomes: its name."""

    def __init__(self, name: Any = "", *arguments: Any) -> None:
        self.name = name

    def __setstate__(self, state: Any) -> None:
        """Byte order and fields: a byte has none."""


def _new_array(*arguments: Any) -> _Array:
    return _Array()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    # How Python 3 writes bytes in Python 2's protocol.
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _new_array,
    ("numpy._core.multiarray", "_reconstruct"): _new_array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    """Builds numbers, strings, lists, dicts and the stand-ins above; nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, which no CIFAR-10 file does"
            ) from None


def parse_cifar_pickle(content: bytes, name: str = "cifar10") -> Batch:
    """Read a batch of the python version without running what it may hold.

    Parameters
    ----------
    content : bytes
        A pickled dict with ``data``, uint8 of shape ``(N, 3072)``, and ``labels``.
    name : str
        What messages call it.

    Returns
    -------
    images : numpy.ndarray
        uint8, ``(N, 3, 32, 32)``.
    labels : numpy.ndarray
        int64, ``(N,)``.

    Raises
    ------
    DataError
        If the file is truncated, is not such a dict, or asks for anything but arrays
        of bytes.
    """
    try:
        batch = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        fields = {
            k.decode() if isinstance(k, bytes) else k: v for k, v in batch.items()
        }
        pixels, labels = fields["data"].pixels(), fields["labels"]
        if not isinstance(labels, list) or any(type(x) is not int for x in labels):
            raise ValueError("expected a list of ints as labels")
    except Exception as error:
        # A damaged pickle can raise nearly anything.
        raise DataError(
            f"{name}: truncated or no CIFAR-10 batch: {type(error).__name__}: {error}"
        ) from None
    if pixels.ndim != 2 or pixels.shape != (len(labels), _PIXELS):
        raise DataError(
            f"{name}: expected data of shape (N, {_PIXELS}) and N labels, got "
            f"{pixels.shape} and {len(labels)} labels"
        )
    images = pixels.reshape(-1, *_SHAPE).copy()  # (N, 3072) -> (N, C, H, W)
    return images, _checked_labels(labels, name)


# -- places ---------------------------------------------------------------------------


def _candidates(root: str | os.PathLike[str] | None) -> Iterator[Path]:
    for place in [*data_roots(root), cache_folder()]:
        for folder in (place / "cifar10", place):
            for name in _FOLDERS:
                yield folder / name


def _read_batches(stems: Sequence[str], folders: Sequence[Path]) -> dict[str, Batch]:
    """Return those batches that the folders hold, as files or in an archive."""
    found: dict[str, Batch] = {}
    for folder in folders:
        for stem in stems:
            for path in (folder / f"{stem}.bin", folder / stem):
                if stem not in found and path.is_file():
                    found[stem] = _parse(
                        path.read_bytes(), path.suffix == ".bin", str(path)
                    )
        for archive in _ARCHIVES:
            missing = [stem for stem in stems if stem not in found]
            path = folder / archive
            if missing and path.is_file():
                found |= _from_archive(path, missing)
    return found


def _parse(content: bytes, binary: bool, name: str) -> Batch:
    batch = (parse_cifar_binary if binary else parse_cifar_pickle)(content, name)
    if len(batch[1]) != _PER_FILE:
        raise DataError(
            f"{name}: truncated: expected {_PER_FILE} images, got {len(batch[1])}"
        )
    return batch


def _from_archive(path: Path, stems: Sequence[str]) -> dict[str, Batch]:
    found: dict[str, Batch] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                base = Path(member.name).name
                stem = base.removesuffix(".bin")
                if stem in stems and member.isfile():
                    stream = archive.extractfile(member)
                    content = b"" if stream is None else stream.read()
                    name = f"{path}: {base}"
                    found[stem] = _parse(content, base.endswith(".bin"), name)
            # The checksum stands behind the last member: read to the end.
            while archive.fileobj is not None and archive.fileobj.read(1 << 20):
                pass
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path}: the archive is damaged: {error}") from None
    missing = [stem for stem in stems if stem not in found]
    if missing:
        raise DataError(f"{path}: the archive holds no {', '.join(missing)}")
    return found


def _download(root: str | os.PathLike[str] | None) -> Path:
    import pooch

    folder = (cache_folder() if root is None else Path(root).expanduser()) / "cifar10"
    try:
        pooch.retrieve(
            _ADDRESS, _PUBLISHED, fname=_ARCHIVES[0], path=folder, progressbar=True
        )
    # As in `fetch`: pooch raises ValueError on a hash mismatch
    except (OSError, ValueError) as error:
        raise DownloadError(
            f"cifar10: not found and not downloaded ({_ADDRESS}: "
            f"{type(error).__name__}: {error}). Put data_batch_1.bin to "
            f"data_batch_5.bin and test_batch.bin into a folder cifar10/ and set "
            f"NNLIB_DATA to that folder's parent"
        ) from None
    return folder


class CIFAR10(ImageDataset):
    """CIFAR-10: 50,000 training and 10,000 test photographs, 32x32 in colour.

    Parameters
    ----------
    root : str or os.PathLike, optional
        A folder that holds ``cifar10/`` with the files of the binary or the python
        version, or the published archive. Without it ``NNLIB_DATA`` is looked at, then
        the cache; the last resort is a download.
    train : bool, default True
        The training set, or the test set.
    batches : int or sequence of int, default (1, 2, 3, 4, 5)
        Which files of the training set, of 10,000 images each.

    Raises
    ------
    DataError
        If a file is truncated or no CIFAR-10 file.
    DownloadError
        If a file is neither here nor to be had.
    ShapeError
        If `batches` is empty or names another file.
    """

    classes = (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    )
    mean: ClassVar[float | tuple[float, ...]] = (0.4914, 0.4822, 0.4465)
    std: ClassVar[float | tuple[float, ...]] = (0.2470, 0.2435, 0.2616)

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        train: bool = True,
        *,
        batches: int | Sequence[int] = (1, 2, 3, 4, 5),
    ) -> None:
        numbers = [batches] if isinstance(batches, int) else list(batches)
        if not numbers or any(number not in (1, 2, 3, 4, 5) for number in numbers):
            raise ShapeError(
                f"CIFAR10: batches: expected numbers from 1 to 5, got {numbers}"
            )
        self.train = train
        stems = [f"data_batch_{int(n)}" for n in numbers] if train else ["test_batch"]
        found = _read_batches(stems, list(_candidates(root)))
        if len(found) < len(set(stems)):
            found |= _read_batches(stems, [_download(root)])
        for stem in stems:
            if stem not in found:
                raise DownloadError(f"cifar10/{stem}.bin: not in the download")
        parts = zip(*(found[stem] for stem in stems), strict=True)
        images, labels = (np.concatenate(part) for part in parts)
        super().__init__(images, labels)
