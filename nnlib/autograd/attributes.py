"""What a tensor tells about its array: shape, dtype, device, layout."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.backend.device import Device, device_of
from nnlib.backend.dtypes import FLOATING
from nnlib.backend.errors import ShapeError
from nnlib.backend.layouts import (
    check_format,
    contiguous_format,
    elements_before,
    lies_in,
)

__all__ = ["Attributes", "Size"]


class Size(tuple[int, ...]):
    """A shape: a tuple that can also count its elements."""

    __slots__ = ()

    def numel(self) -> int:
        """Return the number of elements."""
        count = 1
        for length in self:
            count *= length
        return count

    def __repr__(self) -> str:
        return f"Size({list(self)})"


class Attributes:
    """The part of `Tensor` that describes its array."""

    _array: Any

    @property
    def shape(self) -> Size:
        """The lengths of the dimensions."""
        return Size(self._array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the elements."""
        return self._array.dtype  # type: ignore[no-any-return]

    @property
    def device(self) -> Device:
        """The device that holds the memory."""
        return device_of(self._array)

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return self._array.ndim  # type: ignore[no-any-return]

    @property
    def is_cuda(self) -> bool:
        """Whether the memory is on a CUDA device."""
        return not isinstance(self._array, np.ndarray)

    @property
    def is_cpu(self) -> bool:
        """Whether the memory is the CPU's."""
        return isinstance(self._array, np.ndarray)

    @property
    def itemsize(self) -> int:
        """Bytes per element."""
        return self._array.itemsize  # type: ignore[no-any-return]

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self._array.nbytes  # type: ignore[no-any-return]

    def size(self, dim: int | None = None) -> Any:
        """Return the shape, or the length of one dimension."""
        return self.shape if dim is None else self._array.shape[dim]

    def dim(self) -> int:
        """Return the number of dimensions."""
        return self._array.ndim  # type: ignore[no-any-return]

    ndimension = dim

    def get_device(self) -> int:
        """Return the number of the CUDA device, -1 for the CPU."""
        number = self.device.index if self.is_cuda else None
        return -1 if number is None else number

    def data_ptr(self) -> int:
        """Return the address of the first element."""
        array = self._array
        return int(array.ctypes.data if self.is_cpu else array.data.ptr)

    def numel(self) -> int:
        """Return the number of elements."""
        return self._array.size  # type: ignore[no-any-return]

    nelement = numel

    def element_size(self) -> int:
        """Return the bytes per element."""
        return self._array.itemsize  # type: ignore[no-any-return]

    def stride(self, dim: int | None = None) -> Any:
        """Return the strides in elements (of one dimension if `dim` is given)."""
        steps = tuple(step // self._array.itemsize for step in self._array.strides)
        return steps if dim is None else steps[dim]

    def storage_offset(self) -> int:
        """Return the place of the first element in the memory that it lies in."""
        return elements_before(self._array)[0]

    def is_contiguous(self, memory_format: Any = contiguous_format) -> bool:
        """Tell whether the elements lie in C order, or another, without gaps."""
        if memory_format is contiguous_format:
            return bool(self._array.flags.c_contiguous)
        check_format("is_contiguous", memory_format)
        return lies_in(self._array, memory_format)

    def is_floating_point(self) -> bool:
        """Tell whether the dtype is floating."""
        return self._array.dtype in FLOATING

    def is_signed(self) -> bool:
        """Tell whether the dtype has negative numbers."""
        return self._array.dtype in FLOATING or self._array.dtype.kind == "i"

    def is_same_size(self, other: Any) -> bool:
        """Tell whether `other` has the same shape."""
        return bool(self._array.shape == tuple(other.shape))

    def is_complex(self) -> bool:
        """Return False: elements are real."""
        return False

    def is_pinned(self) -> bool:
        """Return False: the CPU's memory is never locked for a GPU's sake."""
        return False

    @property
    def is_sparse(self) -> bool:
        """False: every element is in memory (of gradients see `RowSparse`)."""
        return False

    @property
    def is_quantized(self) -> bool:
        """False: elements are what they say."""
        return False

    def is_nonzero(self) -> bool:
        """Tell whether the only element is not zero.

        Raises
        ------
        ShapeError
            If there is not one element.
        """
        if self._array.size != 1:
            raise ShapeError(
                f"is_nonzero: expected one element, got shape {self._array.shape}"
            )
        return bool(self)
