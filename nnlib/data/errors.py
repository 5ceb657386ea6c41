"""What can go wrong with a data file."""

from __future__ import annotations

from nnlib.backend.errors import Error

__all__ = ["DataError", "DownloadError"]


class DataError(Error, ValueError):
    """A data file is corrupt, truncated, or not the file it should be."""


class DownloadError(Error, OSError):
    """A data file is not on this machine and could not be downloaded."""
