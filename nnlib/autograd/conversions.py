"""The ways from a tensor to Python, NumPy, other libraries, and the screen."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nnlib.autograd.attributes import Attributes
from nnlib.autograd.printing import shown
from nnlib.backend.device import context_of, resolve_device, run_checks, to_device
from nnlib.backend.dlpack import export_array
from nnlib.backend.dtypes import get_default_dtype, int64
from nnlib.backend.errors import DeviceError, DTypeError, Error, ShapeError
from nnlib.backend.recording import refuse

__all__ = ["Conversions"]

_new = object.__new__
# What is read without a GPU.
_ON_HOST = frozenset({np.ndarray, np.bool_})


class Conversions(Attributes):
    """The part of `Tensor` that leads out of nnlib."""

    _requires_grad: bool
    _grad_fn: Any
    _grad: Any

    def item(self) -> Any:
        """Return the only element as a Python number.

        Raises
        ------
        ShapeError
            If there is not exactly one element.
        BoundsError
            On CUDA, if an index has been out of bounds since the last wait for it.
        """
        if self._array.size != 1:
            raise ShapeError(
                f"item: expected a tensor of one element, got shape {self._array.shape}"
            )
        value = _read(self._array)
        return value if isinstance(value, bool | int | float) else float(value)

    def tolist(self) -> Any:
        """Return nested lists of Python numbers."""
        return to_device(self._array, resolve_device("cpu")).tolist()

    def numpy(self, *, force: bool = False) -> np.ndarray[Any, Any]:
        """Return the NumPy array on the same memory.

        Raises
        ------
        Error
            If the tensor requires a gradient (use ``detach()`` first or `force`).
        DeviceError
            If it is on CUDA (use ``cpu()`` first or `force`).
        """
        if self._requires_grad and not force:
            raise Error(
                "numpy: this tensor requires a gradient; call detach().numpy(), or "
                "numpy(force=True)"
            )
        if not isinstance(self._array, np.ndarray):
            if not force:
                raise DeviceError(
                    f"numpy: this tensor is on {self.device}; call cpu().numpy(), or "
                    "numpy(force=True)"
                )
            return to_device(self._array, resolve_device("cpu"))  # type: ignore[no-any-return]
        return self._array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        array = self.numpy()
        if dtype is not None and array.dtype != dtype:
            if copy is False:
                raise Error("__array__: a change of dtype needs a copy")
            return array.astype(dtype)
        return array.copy() if copy else array

    def __array_ufunc__(
        self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any
    ) -> Any:
        from nnlib.autograd.registry import ufunc_op

        op = ufunc_op(ufunc) if method == "__call__" and not kwargs else None
        if op is not None:
            return op(*inputs)
        return _through_numpy(getattr(ufunc, method), inputs, kwargs)

    def __array_function__(
        self, function: Any, types: Any, args: Any, kwargs: Any
    ) -> Any:
        from nnlib.autograd.registry import numpy_op

        op = numpy_op(function.__name__, kwargs)
        if op is not None:
            renamed = {"axis": "dim", "keepdims": "keepdim"}
            return op(*args, **{renamed.get(k, k): v for k, v in kwargs.items()})
        return _through_numpy(function, args, kwargs)

    def __dlpack__(self, **kwargs: Any) -> Any:
        if self._requires_grad:
            raise Error("__dlpack__: this tensor requires a gradient; detach() it")
        return export_array(self._array, **kwargs)

    def __dlpack_device__(self) -> Any:
        return self._array.__dlpack_device__()

    @property
    def __cuda_array_interface__(self) -> Any:
        """CUDA arrays in other libraries can use this memory."""
        if isinstance(self._array, np.ndarray):
            raise AttributeError("__cuda_array_interface__: this tensor is on the CPU")
        return self._array.__cuda_array_interface__

    def __len__(self) -> int:
        if not self._array.ndim:
            raise DTypeError("len: a tensor without dimensions has no length")
        return len(self._array)

    def __iter__(self) -> Iterator[Any]:
        if not self._array.ndim:
            raise DTypeError("iter: a tensor without dimensions cannot be iterated")
        tensor: Any = self
        return (tensor[index] for index in range(len(self._array)))

    def __bool__(self) -> bool:
        if self._array.size != 1:
            raise ShapeError(
                "bool: the truth of a tensor with "
                f"{self._array.size} elements is ambiguous; use any() or all()"
            )
        return bool(_read(self._array))

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self._array.dtype.kind not in "iu":
            raise DTypeError(
                f"index: expected an integer tensor, got {self._array.dtype}"
            )
        return int(self.item())

    def __contains__(self, value: Any) -> bool:
        other = getattr(value, "_array", value)
        with context_of(self._array):
            return bool(_read((self._array == other).any()))

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self._array.ndim == 0 else repr(self)

    # By identity, and in C: the engine's dictionaries hold tensors.
    __hash__ = object.__hash__

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if self._grad_fn is not None:
            raise Error("deepcopy: only leaf tensors can be copied; detach() it first")
        result = _new(type(self))
        memo[id(self)] = result
        with context_of(self._array):
            result._array = self._array.copy(order="K")
        result._requires_grad = self._requires_grad
        if self._grad is not None:
            result._grad = self._grad.__deepcopy__(memo)
        for name, value in self.__dict__.items():
            # What the user hung on it.
            if not hasattr(type(self), name) and name != "_array":
                setattr(result, name, copy.deepcopy(value, memo))
        return result

    def __reduce__(self) -> Any:
        array = to_device(self._array, resolve_device("cpu"))
        return _rebuild, (type(self), array, str(self.device), self._requires_grad)

    def __repr__(self) -> str:
        array = to_device(self._array, resolve_device("cpu"))
        if array.dtype.kind == "V":
            array = array.astype(np.float32)
        body = shown(array, "tensor(")
        notes = []
        if self.is_cuda:
            notes.append(f"device='{self.device}'")
        if self.dtype not in (get_default_dtype(), int64, np.dtype(bool)):
            notes.append(f"dtype={self.dtype}")
        if self._array.size == 0 and self._array.ndim != 1:
            notes.append(f"size={tuple(self.shape)}")
        if self._grad_fn is not None:
            notes.append(f"grad_fn={self._grad_fn!r}")
        elif self._requires_grad:
            notes.append("requires_grad=True")
        return f"tensor({', '.join([body, *notes])})"


def _through_numpy(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Call a NumPy function that no operation stands for; it sees plain arrays."""

    def plain(value: Any) -> Any:
        if isinstance(value, Conversions):
            return value.numpy()
        if isinstance(value, tuple | list):
            return type(value)(plain(item) for item in value)
        return value

    return function(*plain(args), **{k: plain(v) for k, v in kwargs.items()})


def _read(array: Any) -> Any:
    """Return the only element of an array; on CUDA this waits for it."""
    if type(array) in _ON_HOST:
        return array.item()
    refuse("item")
    # On the stream of its own device, where it is made.
    with context_of(array):
        value = array.item()
    run_checks()
    return value


def _rebuild(cls: type[Any], array: Any, device: str, requires_grad: bool) -> Any:
    result = _new(cls)
    result._array = to_device(array, resolve_device(device))
    result._requires_grad = requires_grad
    return result
