"""The error of files in the ONNX format."""

from __future__ import annotations

from typing import Any

from nnlib.backend.errors import Error

__all__ = ["OnnxError", "package"]


class OnnxError(Error, ValueError):
    """A model is no ONNX file, is damaged, or holds what nnlib does not support."""


def package() -> Any:
    """Return the ``onnx`` package, which reads and writes the files' format.

    Raises
    ------
    OnnxError
        If it is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise OnnxError(
            f"nnlib.onnx needs the onnx package ({error}): pip install 'nnlib-dl[onnx]'"
        ) from None
    return onnx
