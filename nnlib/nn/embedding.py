"""Embedding layers: a learned vector for each number."""

from __future__ import annotations

from typing import Any

from nnlib.autograd.mode import no_grad
from nnlib.autograd.tensor import Parameter, Tensor
from nnlib.backend.errors import ArgumentError, ShapeError
from nnlib.nn import functional as F
from nnlib.nn import init
from nnlib.nn.linear import check_size, new_parameter
from nnlib.nn.module import Module

__all__ = ["Embedding", "EmbeddingBag"]


class _Table(Module):
    """A table of vectors, one for each number."""

    num_embeddings: int
    embedding_dim: int
    padding_idx: int | None

    def _make(
        self, rows: int, columns: int, padding_idx: int | None, given: Any,
        freeze: bool, device: Any, dtype: Any,
    ) -> None:  # fmt: skip
        layer = type(self).__name__
        check_size(layer, "num_embeddings", rows)
        check_size(layer, "embedding_dim", columns)
        if padding_idx is not None:
            if not -rows <= padding_idx < rows:
                raise ArgumentError(
                    f"{layer}: padding_idx: expected {-rows} to {rows - 1}, got "
                    f"{padding_idx}"
                )
            padding_idx %= rows
        self.num_embeddings, self.embedding_dim = rows, columns
        self.padding_idx = padding_idx
        if given is None:
            weight = new_parameter(rows, columns, device=device, dtype=dtype)
            self.weight = weight.requires_grad_(not freeze)
            self.reset_parameters()
            return
        if tuple(given.shape) != (rows, columns):
            raise ShapeError(
                f"{layer}: _weight has shape {tuple(given.shape)}, expected "
                f"({rows}, {columns})"
            )
        self.weight = Parameter(given.detach(), requires_grad=not freeze)

    def reset_parameters(self) -> None:
        """Draw new initial values; the padding's row is zero."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            with no_grad():
                self.weight[self.padding_idx] = 0

    def extra_repr(self) -> str:
        """Return the arguments that were set."""
        parts = [f"{self.num_embeddings}, {self.embedding_dim}"]
        for name, default in (
            ("padding_idx", None), ("max_norm", None), ("norm_type", 2.0),
            ("scale_grad_by_freq", False), ("sparse", False),
        ):  # fmt: skip
            value = getattr(self, name)
            if value != default:
                parts.append(f"{name}={value}")
        return ", ".join(parts)


def _check_vectors(layer: str, embeddings: Any) -> tuple[int, int]:
    if not isinstance(embeddings, Tensor) or embeddings.ndim != 2:
        raise ShapeError(
            f"{layer}.from_pretrained: embeddings: expected a Tensor of shape "
            f"(rows, features), got {type(embeddings).__name__} of shape "
            f"{tuple(getattr(embeddings, 'shape', ()))}"
        )
    return int(embeddings.shape[0]), int(embeddings.shape[1])


class Embedding(_Table):
    """A learned vector for each number; see `nnlib.nn.functional.embedding`.

    Parameters
    ----------
    num_embeddings, embedding_dim : int
        How many vectors there are, and their length.
    padding_idx : int, optional
        A row that begins at zero and gets no gradient.
    max_norm, norm_type, scale_grad_by_freq, sparse
        As for the function.

    Attributes
    ----------
    weight : Parameter, shape (num_embeddings, embedding_dim)
        Initially N(0, 1).

    Examples
    --------
    >>> import nnlib
    >>> layer = Embedding(10, 3, padding_idx=0)
    >>> tuple(layer(nnlib.tensor([[1, 2], [0, 9]])).shape)
    (2, 2, 3)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Any = None,
        _freeze: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.max_norm = max_norm
        self.norm_type = norm_type
        self.scale_grad_by_freq = scale_grad_by_freq
        self.sparse = sparse
        self._make(
            num_embeddings, embedding_dim, padding_idx, _weight, _freeze, device, dtype
        )

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> Embedding:
        """Make a layer of vectors that there are; it shares their memory.

        Parameters
        ----------
        embeddings : Tensor, shape (rows, features)
        freeze : bool, default True
            Do not train them.
        """
        rows, columns = _check_vectors(cls.__name__, embeddings)
        return cls(
            rows, columns, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse,
            _weight=embeddings, _freeze=freeze,
        )  # fmt: skip

    def forward(self, input: Tensor) -> Tensor:
        """Return the vectors, shape (*input.shape, embedding_dim)."""
        return F.embedding(
            input, self.weight, self.padding_idx, self.max_norm, self.norm_type,
            self.scale_grad_by_freq, self.sparse,
        )  # fmt: skip


class EmbeddingBag(_Table):
    """Sums, means or maxima of vectors; see `nnlib.nn.functional.embedding_bag`.

    Parameters
    ----------
    num_embeddings, embedding_dim : int
    max_norm, norm_type, scale_grad_by_freq, mode, sparse, include_last_offset,
    padding_idx
        As for the function.

    Attributes
    ----------
    weight : Parameter, shape (num_embeddings, embedding_dim)
        Initially N(0, 1).

    Examples
    --------
    >>> import nnlib
    >>> layer = EmbeddingBag(10, 3, mode="sum")
    >>> tuple(layer(nnlib.tensor([1, 2, 4, 5]), nnlib.tensor([0, 3])).shape)
    (2, 3)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        _weight: Any = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        device: Any = None,
        dtype: Any = None,
        *,
        _freeze: bool = False,
    ) -> None:
        super().__init__()
        if mode not in ("sum", "mean", "max"):
            raise ArgumentError(
                f"EmbeddingBag: mode: expected 'mean', 'sum' or 'max', got {mode!r}"
            )
        self.max_norm = max_norm
        self.norm_type = norm_type
        self.scale_grad_by_freq = scale_grad_by_freq
        self.mode = mode
        self.sparse = sparse
        self.include_last_offset = include_last_offset
        self._make(
            num_embeddings, embedding_dim, padding_idx, _weight, _freeze, device, dtype
        )

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
    ) -> EmbeddingBag:
        """Make a layer of vectors that there are; see `Embedding.from_pretrained`."""
        rows, columns = _check_vectors(cls.__name__, embeddings)
        return cls(
            rows, columns, max_norm, norm_type, scale_grad_by_freq, mode, sparse,
            embeddings, include_last_offset, padding_idx, _freeze=freeze,
        )  # fmt: skip

    def forward(
        self,
        input: Tensor,
        offsets: Tensor | None = None,
        per_sample_weights: Tensor | None = None,
    ) -> Tensor:
        """Return one vector for each bag, shape (B, embedding_dim)."""
        return F.embedding_bag(
            input, self.weight, offsets, self.max_norm, self.norm_type,
            self.scale_grad_by_freq, self.mode, self.sparse, per_sample_weights,
            self.include_last_offset, self.padding_idx,
        )  # fmt: skip

    def extra_repr(self) -> str:
        """Return the arguments that were set, and the mode."""
        return f"{super().extra_repr()}, mode={self.mode!r}"
