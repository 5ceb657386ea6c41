"""Files that nnlib writes and reads: checkpoints."""

from nnlib.io.checkpoint import load, save
from nnlib.io.safetensors import CheckpointError

__all__ = ["CheckpointError", "load", "save"]
