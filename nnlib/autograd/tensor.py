"""`Tensor`: an array with a place in the graph. It holds no mathematics.

Operators and methods are attached by `nnlib.ops` (see `nnlib.autograd.registry`);
what stands here is what a tensor *is*: its array, its history, its conversions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nnlib.autograd.methods import TensorMethods
from nnlib.backend.device import (
    Device,
    array_module,
    cupy,
    device_context,
    device_of,
    module_of,
    resolve_device,
    to_device,
)
from nnlib.backend.dtypes import FLOATING, get_default_dtype, int64, resolve_dtype
from nnlib.backend.errors import DTypeError, Error, ShapeError

if TYPE_CHECKING:
    from nnlib.autograd.function import Function

__all__ = ["Parameter", "Size", "Tensor", "as_tensor", "from_numpy", "tensor"]

_new = object.__new__

# Tensor and its subclasses: asking this set is faster than isinstance.
TENSOR_TYPES: set[type] = set()


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


class Tensor(TensorMethods):
    """An n-dimensional array that remembers how it was computed.

    Made by `tensor`, `zeros`, `from_numpy`, ... and by every operation; not by
    calling the class.

    Attributes
    ----------
    array : numpy.ndarray or cupy.ndarray
        The memory itself.
    grad : Tensor or None
        The gradient that `backward` accumulated (leaves only).
    grad_fn : Function or None
        The operation that made it, if recorded.

    Examples
    --------
    >>> import nnlib
    >>> x = nnlib.tensor([1.0, 2.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    tensor([2., 4.])
    """

    # Class attributes are the defaults: the door then sets only what differs.
    _array: Any
    _requires_grad: bool = False
    _grad_fn: Function | None = None
    _index: int = 0
    _grad: Tensor | None = None
    _hooks: dict[int, Callable[..., Any]] | None = None
    _post_hooks: dict[int, Callable[..., Any]] | None = None
    _retains: bool = False
    # Views: the tensor that owns the memory, how to take the view from it again,
    # and how often the owner's history had been rewritten when it was taken.
    _base: Tensor | None = None
    # Once detached, a tensor and its detached twins count changes in common, in an
    # owner without history: a twin must not keep the graph alive.
    _owner: Tensor | None = None
    _replay: tuple[Any, ...] = ()
    _birth: int = 0
    _version: int = 0
    # Whether it is a view, has detached twins or was changed in place: the door
    # looks closer then.
    _entangled: bool = False
    _rebased: int = 0

    # NumPy hands operators with a Tensor to the Tensor.
    __array_priority__ = 1000

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        TENSOR_TYPES.add(cls)

    def __init__(self, data: Any = (), **kwargs: Any) -> None:
        made = tensor(data, **kwargs)
        self._array = made._array
        self._requires_grad = made._requires_grad

    @staticmethod
    def _from_array(array: Any) -> Tensor:
        """Wrap an array without a copy or a check."""
        result = _new(Tensor)
        result._array = array
        return result

    # -- the array -------------------------------------------------------------

    @property
    def array(self) -> Any:
        """The array itself, sharing memory; changes to it are not tracked."""
        return self._array

    @property
    def data(self) -> Tensor:
        """A tensor on the same memory without history."""
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        if not isinstance(value, Tensor):
            raise DTypeError(
                f"Tensor.data: expected a Tensor, got {type(value).__name__}"
            )
        self._array = value._array[...]
        self._bump()

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

    def is_contiguous(self) -> bool:
        """Tell whether the elements lie in C order without gaps."""
        return bool(self._array.flags.c_contiguous)

    def is_floating_point(self) -> bool:
        """Tell whether the dtype is floating."""
        return self._array.dtype in FLOATING

    # -- history ---------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """Whether operations on this tensor are recorded."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Ask for (or give up) gradients of this leaf; return it."""
        if requires_grad and self._array.dtype not in FLOATING:
            raise DTypeError(
                "requires_grad: only floating tensors have gradients, this one is "
                f"{self._array.dtype}"
            )
        if not requires_grad and self._grad_fn is not None:
            raise Error(
                "requires_grad: only leaf tensors can be changed; use detach() for "
                "a tensor without history"
            )
        self._requires_grad = bool(requires_grad)
        return self

    @property
    def grad_fn(self) -> Function | None:
        """The node that computed this tensor, or None for a leaf."""
        return self._grad_fn

    @property
    def is_leaf(self) -> bool:
        """Whether this tensor was made by the user, not by a recorded operation."""
        return self._grad_fn is None

    @property
    def grad(self) -> Tensor | None:
        """The accumulated gradient, or None."""
        return self._grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            if not isinstance(value, Tensor):
                raise DTypeError(
                    f"Tensor.grad: expected a Tensor or None, got "
                    f"{type(value).__name__}"
                )
            if value._array.shape != self._array.shape:
                raise ShapeError(
                    f"Tensor.grad: expected shape {self._array.shape}, got "
                    f"{value._array.shape}"
                )
        self._grad = value

    def retain_grad(self) -> None:
        """Keep the gradient of this non-leaf tensor in ``grad``."""
        if self._grad_fn is None or self._retains:
            return
        self._retains = True

        def keep(grad: Tensor) -> None:
            # A copy: the engine may add to its buffer or hand it on.
            kept = Tensor._from_array(grad._array.copy())
            self._grad = grad if grad._requires_grad else kept

        self.register_hook(keep)

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
        """Call ``hook(grad)`` when this tensor's gradient is known.

        A Tensor that it returns replaces the gradient.
        """
        if not self._requires_grad:
            raise Error("register_hook: this tensor does not require a gradient")
        if self._grad_fn is None:
            if self._hooks is None:
                self._hooks = {}
            return RemovableHandle(self._hooks, hook)
        node = self._grad_fn
        if node.hooks is None:
            node.hooks = {}
        index = self._index

        def pick(grads: list[Any]) -> None:
            if grads[index] is not None:
                changed = hook(grads[index])
                if changed is not None:
                    grads[index] = changed

        return RemovableHandle(node.hooks, pick)

    def register_post_accumulate_grad_hook(
        self, hook: Callable[[Tensor], None]
    ) -> RemovableHandle:
        """Call ``hook(self)`` after `backward` wrote this leaf's ``grad``."""
        if self._grad_fn is not None:
            raise Error("register_post_accumulate_grad_hook: only leaves accumulate")
        if self._post_hooks is None:
            self._post_hooks = {}
        return RemovableHandle(self._post_hooks, hook)

    def backward(
        self,
        gradient: Tensor | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Sequence[Tensor] | None = None,
    ) -> None:
        """Accumulate the gradient of this tensor in the leaves it came from.

        Parameters
        ----------
        gradient : Tensor, optional
            The gradient of some scalar by this tensor; needed unless it has one
            element.
        retain_graph : bool, optional
            Keep what was saved, for another pass; default `create_graph`.
        create_graph : bool, default False
            Record the pass itself, for higher derivatives.
        inputs : sequence of Tensor, optional
            Accumulate in these leaves only.

        Raises
        ------
        Error
            Without history, or through a graph that was freed.
        ShapeError
            If `gradient` is missing for a non-scalar or has another shape.
        """
        from nnlib.autograd.engine import backward

        backward(
            self, gradient, retain_graph, create_graph, inputs, name="Tensor.backward"
        )

    def detach(self) -> Tensor:
        """Return a tensor on the same memory without history."""
        result = _new(Tensor)
        result._array = self._array[...]
        result._owner = self._shared_counter()
        result._entangled = True
        return result

    def _shared_counter(self) -> Tensor:
        root = self if self._base is None else self._base
        counter = root._owner
        if counter is None:
            root._owner = counter = _new(Tensor)
            root._entangled = True
            counter._version = root._version
            # What the root's node saved of its output is in this memory.
            node, memory = root._grad_fn, root._array
            if node is not None and node._saved:
                _share_counter(node, memory, counter)
        return counter

    def detach_(self) -> Tensor:
        """Forget the history of this tensor."""
        self._grad_fn, self._requires_grad, self._index = None, False, 0
        return self

    @property
    def version(self) -> int:
        """How often this memory was changed in place."""
        return self._holder()._version

    def _is_stale(self) -> bool:
        return bool(
            self._replay
            and self._base is not None
            and self._birth != self._base._rebased
        )

    def _holder(self) -> Tensor:
        """Return the tensor that counts the changes of this memory."""
        root = self if self._base is None else self._base
        return root if root._owner is None else root._owner

    def _bump(self) -> Tensor:
        holder = self._holder()
        holder._version += 1
        holder._entangled = True
        return holder

    # -- conversions -----------------------------------------------------------

    def item(self) -> Any:
        """Return the only element as a Python number.

        Raises
        ------
        ShapeError
            If there is not exactly one element.
        """
        if self._array.size != 1:
            raise ShapeError(
                f"item: expected a tensor of one element, got shape {self._array.shape}"
            )
        value = self._array.item()
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
                from nnlib.backend.errors import DeviceError

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
        if op is None:
            plain = [x.numpy() if isinstance(x, Tensor) else x for x in inputs]
            return getattr(ufunc, method)(*plain, **kwargs)
        return op(*inputs)

    def __dlpack__(self, **kwargs: Any) -> Any:
        if self._requires_grad:
            raise Error("__dlpack__: this tensor requires a gradient; detach() it")
        return self._array.__dlpack__(**kwargs)

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

    def __iter__(self) -> Iterator[Tensor]:
        if not self._array.ndim:
            raise DTypeError("iter: a tensor without dimensions cannot be iterated")
        return (self[index] for index in range(len(self._array)))

    def __bool__(self) -> bool:
        if self._array.size != 1:
            raise ShapeError(
                "bool: the truth of a tensor with "
                f"{self._array.size} elements is ambiguous; use any() or all()"
            )
        return bool(self._array.item())

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
        other = value._array if isinstance(value, Tensor) else value
        return bool((self._array == other).any())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self._array.ndim == 0 else repr(self)

    # By identity, and in C: the engine's dictionaries hold tensors.
    __hash__ = object.__hash__

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if self._grad_fn is not None:
            raise Error("deepcopy: only leaf tensors can be copied; detach() it first")
        result = _new(type(self))
        memo[id(self)] = result
        result._array = self._array.copy()
        result._requires_grad = self._requires_grad
        if self._grad is not None:
            result._grad = self._grad.__deepcopy__(memo)
        return result

    def __reduce__(self) -> Any:
        array = to_device(self._array, resolve_device("cpu"))
        return _rebuild, (type(self), array, str(self.device), self._requires_grad)

    def __repr__(self) -> str:
        array = to_device(self._array, resolve_device("cpu"))
        if array.dtype.kind == "V":
            array = array.astype(np.float32)
        body = np.array2string(
            array, precision=4, separator=", ", prefix="tensor(", threshold=1000
        )
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


TENSOR_TYPES.add(Tensor)


class Parameter(Tensor):
    """A tensor that a Module registers: a leaf that requires a gradient."""

    _requires_grad = True

    def __init__(self, data: Any = (), requires_grad: bool = True) -> None:
        source = data if isinstance(data, Tensor) else tensor(data)
        self._array = source._array[...]
        self._requires_grad = bool(requires_grad)

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()


class RemovableHandle:
    """What a hook's registration returns: ``remove()`` takes the hook away."""

    _count = 0

    def __init__(self, hooks: dict[int, Any], hook: Any) -> None:
        RemovableHandle._count += 1
        self.id = RemovableHandle._count
        self._hooks = hooks
        hooks[self.id] = hook

    def remove(self) -> None:
        """Take the hook away; a second call does nothing."""
        self._hooks.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


def _share_counter(node: Function, memory: Any, counter: Tensor) -> None:
    """Let `counter` guard what `node` saved of its output in `memory`."""
    owners = list(node._owners)
    for position, (value, owner) in enumerate(zip(node._saved, owners, strict=True)):
        if value is memory and type(owner) is tuple and owner[1] is None:
            owners[position] = (owner[0], counter)
            node._changes += counter._version
    node._owners = owners


def _rebuild(cls: type[Tensor], array: Any, device: str, requires_grad: bool) -> Any:
    result = _new(cls)
    result._array = to_device(array, resolve_device(device))
    result._requires_grad = requires_grad
    return result


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
    data : number, nested sequence, numpy.ndarray, cupy.ndarray or Tensor
        Python floats become the default dtype, Python integers int64; arrays keep
        their dtype.
    dtype : numpy.dtype or str, optional
        The dtype of the result.
    device : str or Device, optional
        Where to put it; default: where `data` is, else the CPU.
    requires_grad : bool, default False
        Record operations on it.

    Raises
    ------
    DTypeError
        If `data` holds no numbers.
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
    if not known:
        data = _from_python(data)
    wanted = None if dtype is None else resolve_dtype(dtype)
    if wanted is None and not known and data.dtype == np.float64:
        wanted = get_default_dtype()
    place = device_of(data) if device is None else resolve_device(device)
    if data.dtype not in FLOATING and data.dtype.kind not in "biu":
        raise DTypeError(f"tensor: expected numbers, got dtype {data.dtype}")
    module = array_module(data)
    copy = module.array(data, dtype=wanted)
    result = Tensor._from_array(to_device(copy, place))
    return result.requires_grad_() if requires_grad else result


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
    if array.dtype.kind not in "biuf":
        raise DTypeError(f"tensor: expected numbers, got {type(data).__name__}")
    return array


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
    if isinstance(data, np.generic):
        data = np.asarray(data)
    result = from_numpy(data) if isinstance(data, np.ndarray) else _share(data)
    return as_tensor(result, dtype=dtype, device=device)


def _share(data: Any) -> Tensor:
    return Tensor._from_array(cupy().asarray(data)[...])


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
    resolve_dtype(array.dtype)
    return Tensor._from_array(np.asarray(array)[...])


def from_dlpack(source: Any) -> Tensor:
    """Return a tensor on the memory of any object that speaks DLPack."""
    kind = source.__dlpack_device__()[0]
    place = resolve_device("cpu" if int(kind) == 1 else "cuda")
    with device_context(place):
        return Tensor._from_array(module_of(place).from_dlpack(source))
