"""From Python, NumPy and other libraries to tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnlib.autograd.tensor import Size, Tensor
from nnlib.backend.device import (
    Device,
    array_module,
    cupy,
    device_of,
    resolve_device,
    to_device,
)
from nnlib.backend.dlpack import import_array
from nnlib.backend.dtypes import FLOATING, get_default_dtype, resolve_dtype
from nnlib.backend.errors import ArgumentError, DTypeError, ShapeError

__all__ = [
    "as_tensor",
    "asarray",
    "from_dlpack",
    "from_numpy",
    "is_floating_point",
    "is_tensor",
    "tensor",
]


def tensor(
    data: Any,
    *,
    dtype: Any = None,
    device: str | Device | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Copy `data` into a new tensor.

    Parameters
    ----------
    data : number, nested sequence, array or Tensor
        Python floats become the default dtype, Python integers int64; arrays
        (NumPy's, CuPy's, tensors of other libraries) keep their dtype.
    dtype : numpy.dtype or str, optional
        The dtype of the result.
    device : str or Device, optional
        Where to put it; default: where `data` is, else the CPU.
    requires_grad : bool, default False
        Record operations on it.

    Raises
    ------
    DTypeError
        If `data` holds no numbers, or integers that `dtype` cannot hold.
    ShapeError
        If nested sequences have unequal lengths.

    Examples
    --------
    >>> tensor([[1, 2], [3, 4]]).shape
    Size([2, 2])
    """
    if isinstance(data, Tensor):
        data = data._array
    known = hasattr(data, "dtype")
    data = _array_of(data) if known else _from_python(data)
    wanted = None if dtype is None else resolve_dtype(dtype)
    if wanted is None and not known and data.dtype == np.float64:
        wanted = get_default_dtype()
    if wanted is not None and not known:
        _check_fits(data, wanted)
    place = device_of(data) if device is None else resolve_device(device)
    if isinstance(data, np.ndarray) and not data.dtype.isnative:
        data = data.astype(data.dtype.newbyteorder("="))
    if data.dtype not in FLOATING and data.dtype.kind not in "biu":
        raise DTypeError(f"tensor: expected numbers, got dtype {data.dtype}")
    module = array_module(data)
    copy = module.array(data, dtype=wanted)
    result = Tensor._from_array(to_device(copy, place))
    return result.requires_grad_() if requires_grad else result


def _check_fits(data: Any, dtype: Any) -> None:
    """Refuse Python integers that an integer dtype would wrap around."""
    if dtype.kind not in "iu" or data.dtype.kind not in "iu" or not data.size:
        return
    limits = np.iinfo(dtype)
    for value in (int(data.min()), int(data.max())):
        if not limits.min <= value <= limits.max:
            raise DTypeError(
                f"tensor: {value} is out of range for {dtype} "
                f"({limits.min} to {limits.max})"
            )


def _array_of(data: Any) -> Any:
    """Return a NumPy or CuPy array on the memory of an array of any library."""
    if isinstance(data, np.ndarray) or type(data).__module__.startswith("cupy"):
        return data
    if isinstance(data, np.generic):
        return np.asarray(data)
    if hasattr(data, "__cuda_array_interface__"):
        return cupy().asarray(data)
    if hasattr(data, "__dlpack__"):
        return import_array(data)
    return np.asarray(data)


def _from_python(data: Any) -> Any:
    """Read nested Python data, which may hold arrays and Tensors."""
    if isinstance(data, list | tuple) and data:
        first = data[0]
        if isinstance(first, Tensor) or hasattr(first, "__cuda_array_interface__"):
            parts = [x._array if isinstance(x, Tensor) else x for x in data]
            module = array_module(parts[0])
            if any(np.shape(part) != np.shape(parts[0]) for part in parts):
                raise ShapeError("tensor: the tensors in the list differ in shape")
            return module.stack([module.asarray(part) for part in parts])
        if hasattr(first, "dtype"):
            return np.stack([np.asarray(part) for part in data])
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise ShapeError(f"tensor: data is not rectangular: {error}") from None
    except OverflowError as error:
        raise DTypeError(f"tensor: {error}") from None
    if array.dtype.kind == "c":
        raise DTypeError(f"tensor: expected real numbers, got dtype {array.dtype}")
    if array.dtype.kind == "O" and isinstance(data, int):
        raise DTypeError(f"tensor: {data} is out of range for int64")
    if array.dtype.kind not in "biuf":
        raise DTypeError(f"tensor: expected numbers, got {type(data).__name__}")
    return array


def from_class(data: tuple[Any, ...], *, dtype: Any = None, **kwargs: Any) -> Tensor:
    """Return what ``Tensor(*data)`` is: values, or zeros where there are only sizes."""
    kind = get_default_dtype() if dtype is None else dtype
    sizes = data[0] if len(data) == 1 and isinstance(data[0], Size) else data or (0,)
    if all(isinstance(size, int) and not isinstance(size, bool) for size in sizes):
        if min(sizes, default=0) < 0:
            raise ShapeError(f"Tensor: negative length in {tuple(sizes)}")
        return tensor(np.zeros(tuple(sizes)), dtype=kind, **kwargs)
    if len(data) != 1:
        raise DTypeError(f"Tensor: expected data or sizes, got {len(data)} arguments")
    return tensor(data[0], dtype=kind, **kwargs)


def as_tensor(
    data: Any, *, dtype: Any = None, device: str | Device | None = None
) -> Tensor:
    """Return `data` as a tensor, sharing memory where dtype and device allow."""
    if isinstance(data, Tensor):
        array = data._array
        wanted = array.dtype if dtype is None else resolve_dtype(dtype)
        place = device_of(array) if device is None else resolve_device(device)
        if array.dtype == wanted and device_of(array) == place:
            return data
        return data.to(place, wanted)
    if not hasattr(data, "dtype") or not hasattr(data, "ndim"):
        return tensor(data, dtype=dtype, device=device)
    array = _array_of(data)
    if isinstance(array, np.ndarray):
        return as_tensor(from_numpy(array), dtype=dtype, device=device)
    return as_tensor(Tensor._from_array(array[...]), dtype=dtype, device=device)


def asarray(
    obj: Any,
    *,
    dtype: Any = None,
    device: str | Device | None = None,
    copy: bool | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return `obj` as a tensor: shared where that is possible, unless `copy` says.

    Parameters
    ----------
    obj : Tensor, array, object with DLPack, number or nested sequence
    dtype, device : optional
        Default: those of `obj`.
    copy : bool, optional
        True: always new memory; False: an error where memory cannot be shared.
    requires_grad : bool, default False
        With False the result has no history.

    Raises
    ------
    ArgumentError
        If `copy` is False and the dtype, the device or the kind of `obj` needs a copy.

    Examples
    --------
    >>> array = np.zeros(2)
    >>> shared = asarray(array)
    >>> array[0] = 1
    >>> shared
    tensor([1., 0.], dtype=float64)
    """
    made = as_tensor(obj, dtype=dtype, device=device).detach()
    source = obj._array if isinstance(obj, Tensor) else obj
    if type(source) is type(made._array):
        shared = Tensor._from_array(source).data_ptr() == made.data_ptr()
    else:
        shared = hasattr(source, "__dlpack__") and dtype is device is None
    if copy is False and not shared:
        raise ArgumentError("asarray: copy=False, but the memory cannot be shared")
    if copy and hasattr(source, "dtype"):
        made = Tensor._from_array(made._array.copy())
    return made.requires_grad_() if requires_grad else made


def from_numpy(array: np.ndarray[Any, Any]) -> Tensor:
    """Return a tensor on the memory of a NumPy array.

    Raises
    ------
    DTypeError
        If `array` is no NumPy array of numbers.
    """
    if not isinstance(array, np.ndarray):
        raise DTypeError(
            f"from_numpy: expected a numpy.ndarray, got {type(array).__name__}"
        )
    if not array.dtype.isnative:
        raise DTypeError(
            f"from_numpy: expected this machine's order of bytes, got "
            f"{array.dtype.str}; tensor() copies and converts"
        )
    resolve_dtype(array.dtype)
    return Tensor._from_array(np.asarray(array)[...])


def from_dlpack(source: Any) -> Tensor:
    """Return a tensor on the memory of any object that speaks DLPack.

    Raises
    ------
    DTypeError
        If it does not, or its numbers are of a type that nnlib does not have.

    Examples
    --------
    >>> from_dlpack(np.arange(3))
    tensor([0, 1, 2])
    """
    return Tensor._from_array(import_array(source))


def is_tensor(obj: Any) -> bool:
    """Tell whether `obj` is a Tensor."""
    return isinstance(obj, Tensor)


def is_floating_point(input: Tensor) -> bool:
    """Tell whether the dtype of a tensor is floating."""
    return input.is_floating_point()
