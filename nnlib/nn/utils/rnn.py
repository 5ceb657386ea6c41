"""Sequences of different lengths in one batch: padded, and packed without padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnlib import kernels
from nnlib.autograd.guarding import guarded
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ArgumentError, DTypeError, Error, ShapeError
from nnlib.nn.utils.packed import PackedSequence, invert_permutation
from nnlib.ops.creation import full
from nnlib.ops.dims import raw
from nnlib.ops.packing import Pack, Unpack

__all__ = [
    "PackedSequence",
    "invert_permutation",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
    "unpack_sequence",
    "unpad_sequence",
]


def _order(indices: Tensor | None) -> Any:
    return None if indices is None else indices.detach().cpu().numpy()


def read_lengths(
    op: str, lengths: Any, batch: int, longest: int, shortest: int = 1
) -> Any:
    """Return lengths as an int64 array, or say which of them cannot be."""
    try:
        found = np.asarray(lengths.cpu() if isinstance(lengths, Tensor) else lengths)
    except Error:
        # A tensor that may not be read, as in an export, says so itself.
        raise
    except ValueError:
        raise ShapeError(
            f"{op}: lengths: expected one number for each of {batch} sequences, got "
            f"{lengths!r}"
        ) from None
    if found.ndim != 1 or found.shape[0] != batch:
        raise ShapeError(
            f"{op}: lengths: expected one for each of {batch} sequences, got shape "
            f"{found.shape}"
        )
    if found.size and found.dtype.kind not in "iu":
        raise DTypeError(f"{op}: lengths: expected integers, got {found.dtype}")
    found = found.astype(np.int64)
    for position, length in enumerate(found.tolist()):
        if not shortest <= length <= longest:
            raise ArgumentError(
                f"{op}: lengths: sequence {position} has length {length}, expected "
                f"{shortest} to {longest}"
            )
    return found


@guarded
def pack_padded_sequence(
    input: Tensor, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """Leave the padding out of a batch of sequences.

    Parameters
    ----------
    input : Tensor, shape (T, N, *), or (N, T, *) if `batch_first`
    lengths : sequence of int or Tensor, N of them
        From 1 to T.
    batch_first : bool, default False
    enforce_sorted : bool, default True
        Refuse lengths that do not descend. False sorts; layers and
        `pad_packed_sequence` give everything back in the given order.

    Raises
    ------
    ShapeError
        If `input` has fewer than two dimensions, or the number of lengths is not N.
    ArgumentError
        If a length is not from 1 to T, or lengths ascend under `enforce_sorted`.

    Examples
    --------
    >>> import nnlib
    >>> x = nnlib.tensor([[1, 2], [3, 4], [5, 0]])  # (T, N)
    >>> packed = pack_padded_sequence(x, [3, 2])
    >>> packed.data, packed.batch_sizes
    (tensor([1, 2, 3, 4, 5]), tensor([2, 2, 1]))
    """
    op = "pack_padded_sequence"
    if input.ndim < 2:
        raise ShapeError(
            f"{op}: input: expected (T, N, ...), got shape {tuple(input.shape)}"
        )
    x = input.transpose(0, 1) if batch_first else input
    sizes = read_lengths(op, lengths, x.shape[1], x.shape[0])
    if not sizes.size:
        raise ShapeError(f"{op}: input: expected at least one sequence, got none")
    order = None
    if (np.diff(sizes) > 0).any():
        if enforce_sorted:
            raise ArgumentError(
                f"{op}: lengths: expected descending ones, got {sizes.tolist()}; "
                "enforce_sorted=False sorts them"
            )
    if not enforce_sorted:
        order = np.argsort(-sizes, kind="stable")
        sizes = sizes[order]
    counts = (sizes > np.arange(sizes[0])[:, None]).sum(1)
    steps = kernels.recurrent.steps_of(counts)
    return PackedSequence(
        Pack.apply(x, steps=steps, order=order),
        Tensor._from_array(counts),
        None if order is None else Tensor._from_array(order),
        None if order is None else Tensor._from_array(np.argsort(order)),
    )


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Return a packed batch padded, and the lengths.

    Parameters
    ----------
    sequence : PackedSequence
    batch_first : bool, default False
    padding_value : float, default 0
    total_length : int, optional
        Pad to this length; at least that of the longest sequence.

    Returns
    -------
    output : Tensor, shape (T, N, *), or (N, T, *) if `batch_first`
    lengths : Tensor, int64, shape (N,)

    Raises
    ------
    ArgumentError
        If `total_length` is less than the longest sequence.
    DTypeError
        If `sequence` is not packed.

    Examples
    --------
    >>> import nnlib
    >>> x = nnlib.tensor([[1, 2], [3, 4], [5, 0]])
    >>> pad_packed_sequence(pack_padded_sequence(x, [3, 2]), batch_first=True)
    (tensor([[1, 3, 5],
            [2, 4, 0]]), tensor([3, 2]))
    """
    if not isinstance(sequence, PackedSequence):
        raise DTypeError(
            "pad_packed_sequence: sequence: expected a PackedSequence, got "
            f"{type(sequence).__name__}"
        )
    steps = sequence.steps
    longest = steps.offsets.size - 1
    if total_length is not None and total_length < longest:
        raise ArgumentError(
            f"pad_packed_sequence: total_length: expected at least {longest}, the "
            f"longest sequence, got {total_length}"
        )
    length = longest if total_length is None else total_length
    order = _order(sequence.sorted_indices)
    out = Unpack.apply(
        sequence.data, steps=steps, order=order, length=length, value=padding_value
    )
    counts = raw(sequence.batch_sizes)
    lengths = (np.arange(steps.batch)[:, None] < counts).sum(1)
    if order is not None:
        lengths = lengths[np.argsort(order)]
    return (
        out.transpose(0, 1) if batch_first else out,
        Tensor._from_array(lengths),
    )


@guarded
def pad_sequence(
    sequences: Sequence[Tensor],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> Tensor:
    """Stack sequences of different lengths, padded to the longest.

    Parameters
    ----------
    sequences : sequence of Tensor, shape (L_i, *)
    batch_first : bool, default False
    padding_value : float, default 0
    padding_side : {"right", "left"}

    Returns
    -------
    Tensor, shape (T, N, *), or (N, T, *) if `batch_first`

    Examples
    --------
    >>> import nnlib
    >>> pad_sequence([nnlib.tensor([1, 2, 3]), nnlib.tensor([4])], batch_first=True)
    tensor([[1, 2, 3],
            [4, 0, 0]])
    """
    from nnlib.ops.joining import cat, stack  # here, for few programs need them

    op = "pad_sequence"
    rows = list(sequences)
    if not rows:
        raise ArgumentError(f"{op}: sequences: expected at least one, got none")
    if padding_side not in ("right", "left"):
        raise ArgumentError(
            f"{op}: padding_side: expected 'right' or 'left', got {padding_side!r}"
        )
    for position, row in enumerate(rows):
        if row.ndim < 1 or tuple(row.shape[1:]) != tuple(rows[0].shape[1:]):
            raise ShapeError(
                f"{op}: sequence {position} has shape {tuple(row.shape)}, expected "
                f"(L, {', '.join(map(str, rows[0].shape[1:]))})"
            )
    longest = max(row.shape[0] for row in rows)
    padded = []
    for row in rows:
        missing = longest - row.shape[0]
        if missing:
            rest = full(
                (missing, *row.shape[1:]),
                padding_value,
                dtype=row.dtype,
                device=row.device,
            )
            row = cat((rest, row) if padding_side == "left" else (row, rest))
        padded.append(row)
    return stack(padded, 0 if batch_first else 1)


@guarded
def unpad_sequence(
    padded_sequences: Tensor, lengths: Any, batch_first: bool = False
) -> list[Tensor]:
    """Return the sequences of a padded batch, without the padding.

    Examples
    --------
    >>> import nnlib
    >>> unpad_sequence(nnlib.tensor([[1, 2], [4, 0]]), [2, 1], batch_first=True)
    [tensor([1, 2]), tensor([4])]
    """
    x = padded_sequences if batch_first else padded_sequences.transpose(0, 1)
    sizes = read_lengths("unpad_sequence", lengths, x.shape[0], x.shape[1], 0)
    return [x[i, :length] for i, length in enumerate(sizes.tolist())]


@guarded
def pack_sequence(
    sequences: Sequence[Tensor], enforce_sorted: bool = True
) -> PackedSequence:
    """Pack sequences of different lengths; see `pack_padded_sequence`.

    Examples
    --------
    >>> import nnlib
    >>> pack_sequence([nnlib.tensor([1, 2, 3]), nnlib.tensor([4])]).data
    tensor([1, 4, 2, 3])
    """
    rows = list(sequences)
    lengths = [row.shape[0] for row in rows]
    return pack_padded_sequence(
        pad_sequence(rows), lengths, enforce_sorted=enforce_sorted
    )


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """Return the sequences of a packed batch.

    Examples
    --------
    >>> import nnlib
    >>> unpack_sequence(pack_sequence([nnlib.tensor([1, 2, 3]), nnlib.tensor([4])]))
    [tensor([1, 2, 3]), tensor([4])]
    """
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)
