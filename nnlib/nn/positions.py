"""Positional encodings: sinusoidal, learned, rotary."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ShapeError
from nnlib.nn import functional as F
from nnlib.nn.embedding import Embedding
from nnlib.nn.module import Module
from nnlib.ops.joining import cat
from nnlib.ops.ranges import arange

__all__ = ["LearnedPositions", "RotaryPositions", "SinusoidalPositions"]


def _angles(length: int, width: int) -> Any:
    """Return position times frequency, shape (length, width / 2), in float64."""
    rates = 10000.0 ** (-np.arange(0, width, 2) / width)
    return np.arange(length)[:, None] * rates


def _end(layer: str, input: Any, width: int, start: int, most: int) -> int:
    """Return the position behind the last one of `input`, or say what does not fit."""
    shape = tuple(input.shape)
    if len(shape) < 2 or shape[-1] != width:
        raise ShapeError(f"{layer}: input: expected (..., L, {width}), got {shape}")
    end = int(start + shape[-2])
    if start < 0 or end > most:
        raise ShapeError(
            f"{layer}: the sequence goes from position {start} to {end}, expected 0 to "
            f"{most} (max_len)"
        )
    return end


class SinusoidalPositions(Module):
    """Add sines and cosines of the position: ``sin(t / 10000^(2 i / d))``, and cos.

    Source: Vaswani et al., "Attention is all you need", 2017, section 3.5.

    Parameters
    ----------
    d_model : int
        Even width.
    max_len : int, default 5000
    dropout : float, default 0.0
        Applied to the sum.

    Examples
    --------
    >>> import nnlib
    >>> SinusoidalPositions(2)(nnlib.zeros(1, 1, 2))
    tensor([[[0., 1.]]])
    """

    def __init__(self, d_model: int, max_len: int = 5000, dropout: float = 0.0) -> None:
        super().__init__()
        if d_model % 2:
            raise ShapeError(
                f"SinusoidalPositions: d_model: expected an even number, got {d_model}"
            )
        angles = _angles(max_len, d_model)
        table = np.stack([np.sin(angles), np.cos(angles)], -1)  # sin and cos in turn
        table = table.reshape(max_len, d_model).astype(np.float32)
        self.register_buffer("table", Tensor._from_array(table), persistent=False)
        self.max_len, self.dropout = max_len, dropout

    def forward(self, input: Tensor, start: int = 0) -> Tensor:
        """Return (..., L, d_model) with the positions from `start` on added."""
        width = self.table.shape[1]
        end = _end("SinusoidalPositions", input, width, start, self.max_len)
        out = input + self.table[start:end].to(input.dtype)
        return F.dropout(out, self.dropout, self.training)


class LearnedPositions(Module):
    """Add a learned vector for each position.

    Parameters
    ----------
    d_model, max_len : int
    dropout : float, default 0.0
        Applied to the sum.
    """

    def __init__(
        self, d_model: int, max_len: int, dropout: float = 0.0, device: Any = None,
        dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.table = Embedding(max_len, d_model, device=device, dtype=dtype)
        self.max_len, self.dropout = max_len, dropout

    def forward(self, input: Tensor, start: int = 0) -> Tensor:
        """Return (..., L, d_model) with the positions from `start` on added."""
        width = self.table.embedding_dim
        end = _end("LearnedPositions", input, width, start, self.max_len)
        out = input + self.table(arange(start, end, device=input.device))
        return F.dropout(out, self.dropout, self.training)


class RotaryPositions(Module):
    """Turn pairs of features of queries and keys by angles that grow with position.

    The product of a query and a key then depends on their distance alone. Feature i is
    paired with feature ``i + d / 2``. Source: Su et al., "RoFormer", 2021.

    Parameters
    ----------
    head_dim : int
        Even width of a head.
    max_len : int, default 5000

    Examples
    --------
    >>> import nnlib
    >>> turn = RotaryPositions(2)
    >>> x = nnlib.ones(1, 1, 5, 2)
    >>> y = turn(x)
    >>> bool(nnlib.allclose((y * y).sum(-1), nnlib.tensor(2.0)))
    True
    """

    def __init__(self, head_dim: int, max_len: int = 5000) -> None:
        super().__init__()
        if head_dim % 2:
            raise ShapeError(
                f"RotaryPositions: head_dim: expected an even number, got {head_dim}"
            )
        angles = np.tile(_angles(max_len, head_dim), 2)
        for name, table in (("cos", np.cos(angles)), ("sin", np.sin(angles))):
            made = Tensor._from_array(table.astype(np.float32))
            self.register_buffer(name, made, persistent=False)
        self.max_len = max_len

    def forward(self, input: Tensor, start: int = 0) -> Tensor:
        """Return (..., L, head_dim), turned by the positions from `start` on."""
        width = self.cos.shape[1]
        end = _end("RotaryPositions", input, width, start, self.max_len)
        half = input.shape[-1] // 2
        turned = cat([-input[..., half:], input[..., :half]], -1)
        cos, sin = (x[start:end].to(input.dtype) for x in (self.cos, self.sin))
        return input * cos + turned * sin  # type: ignore[no-any-return]
