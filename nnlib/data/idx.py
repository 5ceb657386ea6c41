"""The idx format of MNIST: a typed array behind a header of big-endian integers.

Layout (LeCun, Cortes and Burges, "The MNIST database"): two zero bytes, a type code,
the number of dimensions, one unsigned 32-bit size per dimension, then the values in
C order. A file that starts with gzip's magic number is decompressed first.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnlib.data.errors import DataError

__all__ = ["parse_idx", "read_bytes", "read_idx"]

_GZIP_MAGIC = b"\x1f\x8b"
_DTYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype(np.uint8),
    0x09: np.dtype(np.int8),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}


def read_idx(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read an idx file, gzip-compressed or raw.

    Parameters
    ----------
    path : str or os.PathLike
        The file; whether it is compressed is seen from its first bytes, not its name.

    Returns
    -------
    numpy.ndarray
        A new array in native byte order, with the shape that the header states.

    Raises
    ------
    DataError
        If the file is damaged, truncated, longer than its header says, or no idx file.
    FileNotFoundError
        If there is no such file.
    """
    return parse_idx(read_bytes(path), name=str(path))


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Return a file's content, decompressed if it is a gzip file.

    Raises
    ------
    DataError
        If the gzip stream is damaged or ends early.
    """
    content = Path(path).read_bytes()
    if not content.startswith(_GZIP_MAGIC):
        return content
    try:
        return gzip.decompress(content)
    except EOFError:
        raise DataError(
            f"{path}: the gzip stream ends early: the file is truncated "
            f"({len(content)} bytes)"
        ) from None
    except (zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: the gzip stream is corrupt: {error}") from None


def parse_idx(content: bytes, name: str = "idx") -> NDArray[Any]:
    """Turn the bytes of an idx file into an array.

    Parameters
    ----------
    content : bytes
        The whole file, decompressed.
    name : str, default "idx"
        What error messages call it.

    Returns
    -------
    numpy.ndarray
        A new array in native byte order.

    Raises
    ------
    DataError
        If the header is no idx header or the length differs from what it says.

    Examples
    --------
    >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 3, 5, 0, 4]))
    array([5, 0, 4], dtype=uint8)
    """
    if len(content) < 4 or content[:2] != b"\x00\x00":
        raise DataError(
            f"{name}: not an idx file: expected it to begin with two zero bytes, "
            f"got {content[:4].hex(' ') or 'an empty file'}"
        )
    code, ndim = content[2], content[3]
    if code not in _DTYPES:
        known = ", ".join(f"0x{key:02x}" for key in _DTYPES)
        raise DataError(
            f"{name}: not an idx file: type code 0x{code:02x}, expected one of {known}"
        )
    start = 4 + 4 * ndim
    if len(content) < start:
        raise DataError(
            f"{name}: truncated: the header takes {start} bytes, "
            f"the file has {len(content)}"
        )
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", ndim, offset=4))
    dtype = _DTYPES[code]
    expected = math.prod(shape) * dtype.itemsize
    got = len(content) - start
    if got != expected:
        state = "truncated" if got < expected else "too long"
        raise DataError(
            f"{name}: {state}: shape {shape} of {dtype.newbyteorder('=')} takes "
            f"{expected} bytes after the header, the file has {got}"
        )
    values = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return values.astype(dtype.newbyteorder("="))
