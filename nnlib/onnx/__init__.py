"""Models in the ONNX format: files as Modules, and Modules as files.

The ``onnx`` package is needed, which reads and writes the format; nnlib itself runs the
models.
"""

from nnlib.onnx.errors import OnnxError
from nnlib.onnx.export import export
from nnlib.onnx.model import OnnxModule, load

__all__ = ["OnnxError", "OnnxModule", "export", "load"]
