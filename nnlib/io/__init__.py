"""Files of weights and state: checkpoints, safetensors, and PyTorch's own files."""

from nnlib.io.checkpoint import load, save
from nnlib.io.safetensors import CheckpointError
from nnlib.io.torch_file import load_torch

__all__ = ["CheckpointError", "load", "load_torch", "save"]
