"""Ready architectures, built from the layers of `nnlib.nn`."""

from nnlib.models.mlp import MLP

__all__ = ["MLP"]
