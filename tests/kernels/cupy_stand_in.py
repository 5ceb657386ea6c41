"""A stand-in for CuPy, on NumPy, with streams that record and memory that is reused.

It plays what CUDA graphs rest on: within ``begin_capture`` nothing runs, whatever
changes memory is noted with the addresses that it reads and writes, and `Graph.launch`
does it. Memory comes from the current allocator, is used again once nobody has it, and
is spoilt at that moment, so that a graph that reads what it did not keep goes wrong.
Waiting for results, copies from the host and CuPy's own calls of cuBLAS raise while a
stream records, as CuPy's do.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from memory_stand_in import Memory, MemoryPointer, MemoryPool, UnownedMemory, recording


class CUDARuntimeError(RuntimeError):
    """What CUDA's runtime refuses."""


# -- streams and graphs ---------------------------------------------------------------


class Graph:
    """What was recorded: functions without arguments."""

    def __init__(self) -> None:
        self.work: list[Callable[[], None]] = []

    def launch(self, stream: Any = None) -> None:
        for item in self.work:
            item()


class _Machine:
    """The stream that is current, and the graph that it records."""

    def __init__(self) -> None:
        self.stream: Any = None
        self.graph: Graph | None = None
        self.broken = False

    def do(self, work: Callable[[], None]) -> None:
        """Do what changes memory, or note it."""
        if self.graph is None:
            work()
        else:
            self.graph.work.append(work)

    def wait(self) -> None:
        """Refuse what waits."""
        if self.graph is not None:
            self.broken = True
            raise CUDARuntimeError("cudaErrorStreamCaptureUnsupported")


machine = _Machine()


class Stream:
    """A stream; the default one has the address 0."""

    def __init__(self, ptr: int = 7, non_blocking: bool = False) -> None:
        self.ptr = ptr
        self._before: list[Any] = []

    def __enter__(self) -> Any:
        self._before.append(machine.stream)
        machine.stream = self
        return self

    def __exit__(self, *error: Any) -> None:
        machine.stream = self._before.pop()

    def synchronize(self) -> None:
        machine.wait()

    def is_capturing(self) -> bool:
        return machine.graph is not None

    def begin_capture(self) -> None:
        assert self.ptr and machine.graph is None
        machine.graph, machine.broken = Graph(), False
        recording.append(machine.graph)

    def end_capture(self) -> Graph:
        graph, machine.graph = machine.graph, None
        recording.clear()
        if machine.broken or graph is None:
            raise CUDARuntimeError("cudaErrorStreamCaptureInvalidated")
        return graph


machine.stream = Stream(0)


# -- arrays ---------------------------------------------------------------------------


class ndarray:  # noqa: N801 - CuPy's name
    """An array: NumPy's, on the device's memory."""

    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, shape: Any, dtype: Any = float, data: Any = None) -> None:
        if isinstance(shape, np.ndarray):
            self._a, self.data = shape, data
            return
        made = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * made.itemsize
        self.data = data or allocate(size)
        memory = (ctypes.c_char * max(size, 1)).from_address(self.data.ptr or _NULL)
        self._a = np.ndarray(shape, made, memory)

    device = property(lambda self: Device(0))
    _c_contiguous = property(lambda self: self._a.flags.c_contiguous)

    def get(self) -> Any:
        machine.wait()
        return self._a.copy()

    def set(self, host: Any) -> None:
        machine.wait()
        self._a[...] = host

    def item(self) -> Any:
        return self.get().item()

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._a, name)
        if not callable(value):
            return value if not isinstance(value, np.ndarray) else _view(self, value)
        return lambda *args, **kwargs: _call(
            lambda me, *rest, **more: getattr(me, name)(*rest, **more),
            (self, *args), kwargs, changes=name in ("fill",),
        )  # fmt: skip

    def __getitem__(self, key: Any) -> Any:
        return _call(lambda me, key: me[key], (self, key), {})

    def __setitem__(self, key: Any, value: Any) -> None:
        def put(me: Any, key: Any, value: Any) -> None:
            me[key] = value

        _call(put, (self, key, value), {}, changes=True)

    def __len__(self) -> int:
        return len(self._a)

    def __bool__(self) -> bool:
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    def __array_ufunc__(self, function: Any, how: str, *args: Any, **kw: Any) -> Any:
        return _call(getattr(function, how), args, kw)


def _operator(name: str, inplace: bool) -> Any:
    def call(self: Any, *others: Any) -> Any:
        def run(me: Any, *rest: Any) -> Any:
            return getattr(me, name)(*rest)

        found = _call(run, (self, *others), {}, changes=inplace)
        return self if inplace else found

    return call


for _name in ("add sub mul truediv floordiv mod pow and or xor lshift rshift").split():
    for _form in ("__{}__", "__r{}__", "__i{}__"):
        setattr(
            ndarray, _form.format(_name), _operator(_form.format(_name), "i" in _form)
        )
for _name in ("lt", "le", "gt", "ge", "eq", "ne", "neg", "pos", "abs", "invert"):
    setattr(ndarray, f"__{_name}__", _operator(f"__{_name}__", False))
ndarray.__module__ = "cupy"
_null = np.zeros(64, np.uint8)
_NULL = _null.ctypes.data


def _plain(value: Any) -> Any:
    """Return (nested) arguments with NumPy arrays for the device's."""
    if isinstance(value, ndarray):
        return value._a
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(value, list | tuple):
        return type(value)([_plain(item) for item in value])
    return value


def _view(of: ndarray, array: Any) -> ndarray:
    place = MemoryPointer(of.data, array.ctypes.data - of.data.ptr)
    return ndarray(array, data=place)


def _fresh(array: Any) -> ndarray:
    """Return new memory of an array's shape, its strides in the same order."""
    order = sorted(range(array.ndim), key=lambda axis: -array.strides[axis])
    made = ndarray(tuple(array.shape[axis] for axis in order), array.dtype)
    return _view(made, made._a.transpose(np.argsort(order)))


def _call(function: Any, args: Any, kwargs: Any, changes: bool = False) -> Any:
    """Call a function of NumPy's, now or at each launch of the graph."""
    out = kwargs.pop("out", None)
    out = out[0] if isinstance(out, tuple) else out
    plain = [_plain(arg) for arg in args]
    named = {key: _plain(value) for key, value in kwargs.items()}
    if changes:
        machine.do(lambda: function(*plain, **named))
        return None
    with np.errstate(all="ignore"):
        # While recording too: for the shapes. The numbers are none.
        try:
            found = function(*plain, **named)
        except IndexError:
            if machine.graph is None:
                raise
            # Indices that are none yet.
            found = function(*map(_zeroed, plain), **named)
    if out is not None:
        machine.do(lambda: _put(out._a, function(*plain, **named)))
        return out
    return _wrapped(function, args, plain, named, found)


def _zeroed(value: Any) -> Any:
    whole = isinstance(value, np.ndarray) and value.dtype.kind in "iu"
    return np.zeros_like(value) if whole else value


def _put(to: Any, value: Any) -> None:
    to[...] = value


def _wrapped(function: Any, args: Any, plain: Any, named: Any, found: Any) -> Any:
    if isinstance(found, tuple | list):
        parts = []
        for number, part in enumerate(found):

            def one(*a: Any, number: int = number, **k: Any) -> Any:
                return function(*a, **k)[number]

            parts.append(_wrapped(one, args, plain, named, part))
        return type(found)(parts)
    if not isinstance(found, np.ndarray | np.generic):
        return found
    found = np.asarray(found)
    arrays = [x for arg in args for x in (arg if isinstance(arg, list) else [arg])]
    for arg in arrays:
        if isinstance(arg, ndarray) and np.may_share_memory(arg._a, found):
            return _view(arg, found)
    made = _fresh(found)
    target = made._a
    machine.do(lambda: _put(target, function(*plain, **named)))
    return made


# -- the module -----------------------------------------------------------------------

_pool = MemoryPool()
_allocators: list[Any] = [_pool.malloc]
_pinned: list[Any] = [lambda size: None]


def allocate(size: int) -> Any:
    """Return memory of the current allocator."""
    return _allocators[-1](size)


@contextlib.contextmanager
def using_allocator(allocator: Any) -> Iterator[None]:
    _allocators.append(allocator)
    try:
        yield
    finally:
        _allocators.pop()


class Device:
    """The only device."""

    compute_capability = "90"
    attributes = {"MultiProcessorCount": 4}

    def __init__(self, number: Any = 0) -> None:
        self.id = number or 0

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: Any) -> None:
        pass


def asarray(value: Any, dtype: Any = None, blocking: bool = False, **_: Any) -> Any:
    if isinstance(value, ndarray):
        return value if dtype in (None, value.dtype) else value.astype(dtype)
    host = np.array(value, dtype)
    if host.ndim:
        _pinned[-1](host.nbytes)
    made = _fresh(host)
    machine.do(lambda: _put(made._a, host))
    if blocking:
        machine.wait()
    return made


def array(value: Any, dtype: Any = None, **_: Any) -> Any:
    made = asarray(value, dtype)
    return made.copy() if made is value else made


def ascontiguousarray(value: Any, dtype: Any = None) -> Any:
    if value._c_contiguous and dtype in (None, value.dtype):
        return value
    return _call(np.ascontiguousarray, (value, dtype), {})


class _Cupy(types.ModuleType):
    ndarray = ndarray

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = getattr(np, name)
        if isinstance(value, type) or not callable(value):
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            if isinstance(value, np.ufunc) and len(args) > value.nin:
                kwargs["out"] = args[-1]
                args = args[: value.nin]
            return _call(value, args, kwargs)

        return call


def _runtime() -> Any:
    return types.SimpleNamespace(
        driverGetVersion=lambda: 13000, runtimeGetVersion=lambda: 13000,
        getDeviceCount=lambda: 1, getDevice=lambda: 0, deviceSynchronize=machine.wait,
        memGetInfo=lambda: (1 << 36, 1 << 36),
    )  # fmt: skip


def install() -> Any:
    """Put the stand-in where CuPy is imported from; return it."""
    cupy = _Cupy("cupy")
    cuda = types.ModuleType("cupy.cuda")
    pool = types.SimpleNamespace(malloc=lambda size: None, free_all_blocks=int)
    vars(cuda).update(
        Device=Device, Stream=Stream, Memory=Memory, MemoryPointer=MemoryPointer,
        UnownedMemory=UnownedMemory, MemoryPool=MemoryPool, runtime=_runtime(),
        using_allocator=using_allocator, get_current_stream=lambda: machine.stream,
        set_pinned_memory_allocator=lambda found: _pinned.__setitem__(0, found),
    )  # fmt: skip
    vars(cupy).update(
        cuda=cuda, asarray=asarray, array=array, ascontiguousarray=ascontiguousarray,
        asnumpy=lambda x, **_: x.get(), empty=lambda *a, **k: ndarray(*a, **k),
        get_default_memory_pool=lambda: _pool,
        get_default_pinned_memory_pool=lambda: pool,
    )  # fmt: skip
    cupy.__spec__ = types.SimpleNamespace()  # type: ignore[assignment]
    sys.modules.update({"cupy": cupy, "cupy.cuda": cuda})
    return cupy
