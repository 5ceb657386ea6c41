"""`PackedSequence`: sequences of different lengths in one batch, without padding."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from nnlib import kernels
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import Device, array_module
from nnlib.backend.dtypes import (
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
)
from nnlib.backend.errors import DeviceError, ShapeError
from nnlib.ops.dims import raw

__all__ = ["PackedSequence", "invert_permutation"]


class _Fields(NamedTuple):
    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None
    unsorted_indices: Tensor | None


class PackedSequence(_Fields):
    """A batch of sequences without padding, step after step, longest sequence first.

    Made by `pack_padded_sequence` and `pack_sequence`; recurrent layers take and return
    it.

    Attributes
    ----------
    data : Tensor, shape (sum of lengths, *)
        All first steps, then all second steps, and so on.
    batch_sizes : Tensor, int64, on the CPU
        How many sequences have each step.
    sorted_indices : Tensor or None, on the device of the data
        The order that sorts the given batch by length; None if it was sorted.
    unsorted_indices : Tensor or None, on the device of the data
        The order that undoes it.

    Raises
    ------
    DeviceError
        If `batch_sizes` are not on the CPU.
    """

    __slots__ = ()

    def __new__(
        cls,
        data: Tensor,
        batch_sizes: Tensor,
        sorted_indices: Tensor | None = None,
        unsorted_indices: Tensor | None = None,
    ) -> PackedSequence:
        """Join the parts; `unsorted_indices` follow from `sorted_indices`."""
        if batch_sizes.is_cuda:
            raise DeviceError(
                "PackedSequence: batch_sizes: expected on the CPU, got on "
                f"{batch_sizes.device}"
            )
        if sorted_indices is not None:
            if unsorted_indices is None:
                unsorted_indices = invert_permutation(sorted_indices)
            # The layers order states by them, which lie where the data do.
            sorted_indices = sorted_indices.to(data.device)
        if unsorted_indices is not None:
            unsorted_indices = unsorted_indices.to(data.device)
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    @property
    def steps(self) -> Any:
        """Where each step's rows lie, as the kernels want it.

        Raises
        ------
        ShapeError
            If `batch_sizes` and the other parts, made by hand, do not fit.
        """
        sizes = np.asarray(raw(self.batch_sizes))
        rows = self.data.shape[0]
        falling = sizes.ndim == 1 and sizes.size and not (np.diff(sizes) > 0).any()
        if not falling or sizes[-1] < 1 or sizes.sum() != rows:
            raise ShapeError(
                "PackedSequence: batch_sizes: expected positive numbers that do not "
                f"rise, {rows} (the rows of data) in all, got {sizes.tolist()}"
            )
        order = self.sorted_indices
        if order is not None and tuple(order.shape) != (sizes[0],):
            raise ShapeError(
                f"PackedSequence: sorted_indices has shape {tuple(order.shape)}, "
                f"expected ({sizes[0]},), the first of batch_sizes"
            )
        return kernels.recurrent.steps_of(sizes)

    def with_data(self, data: Tensor) -> PackedSequence:
        """Return the same layout with other data."""
        return PackedSequence(
            data, self.batch_sizes, self.sorted_indices, self.unsorted_indices
        )

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """Return it with the data on another device or of another dtype."""
        return self.with_data(self.data.to(*args, **kwargs))

    def cpu(self) -> PackedSequence:
        """Return it on the CPU."""
        return self.to("cpu")

    def cuda(self) -> PackedSequence:
        """Return it on the GPU."""
        return self.to("cuda")

    def double(self) -> PackedSequence:
        """Return it in float64."""
        return self.to(float64)

    def float(self) -> PackedSequence:
        """Return it in float32."""
        return self.to(float32)

    def half(self) -> PackedSequence:
        """Return it in float16."""
        return self.to(float16)

    def long(self) -> PackedSequence:
        """Return it in int64."""
        return self.to(int64)

    def int(self) -> PackedSequence:
        """Return it in int32."""
        return self.to(int32)

    def short(self) -> PackedSequence:
        """Return it in int16."""
        return self.to(int16)

    def char(self) -> PackedSequence:
        """Return it in int8."""
        return self.to(int8)

    def byte(self) -> PackedSequence:
        """Return it in uint8."""
        return self.to(uint8)

    @property
    def device(self) -> Device:
        """The device of the data."""
        return self.data.device

    @property
    def is_cuda(self) -> bool:
        """Whether the data are on a GPU."""
        return bool(self.data.is_cuda)


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """Return the permutation that undoes `permutation`.

    Examples
    --------
    >>> import nnlib
    >>> invert_permutation(nnlib.tensor([2, 0, 1]))
    tensor([1, 2, 0])
    """
    if permutation is None:
        return None
    order = raw(permutation)
    module = array_module(order)
    inverse = module.empty_like(order)
    inverse[order] = module.arange(order.size, dtype=order.dtype)
    return Tensor._from_array(inverse)
