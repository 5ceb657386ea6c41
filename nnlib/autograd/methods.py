"""The methods that operations give to tensors.

Empty here: `nnlib.autograd.registry` attaches them. Type checkers read the stub
beside this file, which ``python -m nnlib.ops.stub`` writes from the operations.
"""

from __future__ import annotations

__all__ = ["TensorMethods"]


class TensorMethods:
    """Base of `Tensor` that carries the operations' methods."""
