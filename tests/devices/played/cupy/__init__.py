"""NumPy in the place of CuPy, with two devices: what is done where is checked.

An array knows the device that it was made on: the current one. Only views, copies to
the host and what CuPy itself allows may be asked of an array while another device is
the current one; anything else raises, as does a kernel or a copy by `ndarray.copy`,
which CuPy makes on the current device. Kernels do nothing.
"""

from __future__ import annotations

import threading
import types
from typing import Any

import numpy as np

__version__ = "14.2 (played)"

_current = threading.local()


def current() -> int:
    return getattr(_current, "number", 0)


class ElsewhereError(Exception):
    """Something was done on one device with an array of another."""


class Device:
    def __init__(self, number: int | None = None) -> None:
        self.id = current() if number is None else int(number)
        self._before: list[int] = []

    def __enter__(self) -> Device:
        self._before.append(current())
        _current.number = self.id
        return self

    def __exit__(self, *_: object) -> None:
        _current.number = self._before.pop()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self.id == other.id

    def __hash__(self) -> int:
        return self.id

    def use(self) -> None:
        _current.number = self.id

    def synchronize(self) -> None:
        pass

    compute_capability = "90"
    attributes = {"MultiProcessorCount": 132}


_VIEWS = frozenset(
    "reshape transpose swapaxes squeeze ravel view diagonal expand_dims broadcast_to "
    "moveaxis rollaxis atleast_1d permute_dims".split()
)


def check(what: str, *arrays: Any) -> None:
    for x in arrays:
        if isinstance(x, ndarray) and x.number != current():
            raise ElsewhereError(
                f"{what}: an array of device {x.number} on device {current()}"
            )


def bare(what: str, x: Any, view: bool = False) -> Any:
    """Return (nested) arguments as NumPy's arrays."""
    if isinstance(x, ndarray):
        if not view:
            check(what, x)
        return x.host
    if isinstance(x, np.ndarray) and not x.ndim:
        # What NumPy makes of its own numbers on the way here.
        return x[()]
    if isinstance(x, np.ndarray) and x.size:
        raise TypeError(f"{what}: a NumPy array")
    if isinstance(x, tuple | list):
        return type(x)([bare(what, item, view) for item in x])
    if isinstance(x, dict):
        return {key: bare(what, item, view) for key, item in x.items()}
    return x


def dressed(x: Any, number: int | None = None) -> Any:
    """Return (nested) results of NumPy's as arrays of a device."""
    if isinstance(x, np.ndarray | np.generic):
        if type(x.base) is np.ndarray and x.base.flags.writeable:
            # A diagonal, too, can be written to.
            x.flags.writeable = True
        return ndarray._of(np.asarray(x), current() if number is None else number)
    if isinstance(x, tuple | list):
        parts = [dressed(item, number) for item in x]
        return type(x)(*parts) if hasattr(x, "_fields") else type(x)(parts)
    return x


def _number_of(args: Any) -> int | None:
    for x in args:
        if isinstance(x, ndarray):
            return x.number
        if isinstance(x, tuple | list) and (found := _number_of(x)) is not None:
            return found
    return None


# What was asked of CuPy: a method or a function, how many arguments, which by name.
calls: set[tuple[str, str, int, tuple[str, ...]]] = set()


def _call(name: str, function: Any, args: Any, kwargs: Any, owner: Any = None) -> Any:
    kind = "function" if owner is None else "method"
    calls.add((kind, name, len(args), tuple(sorted(kwargs))))
    view = name in _VIEWS
    out = kwargs.pop("out", None)
    if isinstance(out, tuple):
        (out,) = out
    if out is not None:
        check(name, out)
        kwargs["out"] = out.host
    plain = {key: bare(name, x) for key, x in kwargs.items() if key != "out"}
    if out is not None:
        plain["out"] = out.host
    result = function(*bare(name, args, view), **plain)
    if out is not None:
        return out
    given = (owner, *args)
    return dressed(result, _number_of(given) if view else None)


class ndarray:  # noqa: N801 - CuPy's name
    __array_priority__ = 100

    def __new__(cls, shape: Any, dtype: Any = float, *rest: Any, **more: Any) -> Any:
        return cls._of(np.zeros(shape, dtype), current())

    @classmethod
    def _of(cls, host: np.ndarray, number: int) -> ndarray:
        self = object.__new__(cls)
        object.__setattr__(self, "host", host)
        object.__setattr__(self, "number", number)
        return self

    @property
    def data(self) -> Any:
        address = self.host.__array_interface__["data"][0]
        return types.SimpleNamespace(ptr=address, device_id=self.number)

    @property
    def device(self) -> Device:
        return Device(self.number)

    @property
    def base(self) -> Any:
        base = self.host.base
        return ndarray._of(base, self.number) if type(base) is np.ndarray else None

    @property
    def _c_contiguous(self) -> bool:
        return self.host.flags.c_contiguous

    @property
    def T(self) -> ndarray:  # noqa: N802 - NumPy's name
        return dressed(self.host.T, self.number)

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    def __array_ufunc__(
        self, ufunc: Any, method: str, *args: Any, **kwargs: Any
    ) -> Any:
        if method != "__call__":
            return NotImplemented
        return _call(ufunc.__name__, ufunc, args, kwargs)

    def __array_function__(
        self, function: Any, kinds: Any, args: Any, kwargs: Any
    ) -> Any:
        return _call(function.__name__, function, args, kwargs)

    def get(self, *_: Any, **__: Any) -> np.ndarray:
        check("get", self)
        return self.host.copy()

    def __getitem__(self, key: Any) -> Any:
        keys = key if isinstance(key, tuple) else (key,)
        if any(isinstance(x, ndarray | list | np.ndarray) for x in keys):
            check("getitem", self)
            keys = tuple(x.host if isinstance(x, ndarray) else x for x in keys)
            return dressed(self.host[keys])
        return dressed(self.host[key], self.number)

    def __setitem__(self, key: Any, value: Any) -> None:
        check("setitem", self)
        value = value if isinstance(value, np.ndarray) else bare("setitem", value)
        self.host[bare("setitem", key)] = value

    def __len__(self) -> int:
        return len(self.host)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.host, name, value)

    def __getattr__(self, name: str) -> Any:
        if name in ("ctypes", "__array_interface__"):
            raise AttributeError(name)
        value = getattr(self.host, name)
        if not callable(value):
            return dressed(value, self.number)
        if name in ("item", "tolist", "tobytes"):
            check(name, self)
            return value

        def method(*args: Any, **kwargs: Any) -> Any:
            if name not in _VIEWS:
                check(name, self)
            return _call(name, value, args, kwargs, self)

        return method


def _operator(name: str) -> Any:
    def operator(self: ndarray, *others: Any) -> Any:
        check(name, self)
        result = getattr(self.host, name)(*bare(name, others))
        if result is NotImplemented:
            return result
        return self if name.startswith("__i") and others else dressed(result)

    return operator


for _name in "add sub mul truediv floordiv mod pow matmul and or xor".split():
    for _form in ("__%s__", "__r%s__", "__i%s__"):
        if hasattr(np.ndarray, _form % _name):
            setattr(ndarray, _form % _name, _operator(_form % _name))
for _name in "lt le gt ge eq ne neg pos abs invert".split():
    setattr(ndarray, f"__{_name}__", _operator(f"__{_name}__"))
for _name in "bool int float complex index repr".split():
    setattr(
        ndarray,
        f"__{_name}__",
        lambda self, name=f"__{_name}__": getattr(self.get(), name)(),
    )
ndarray.__hash__ = object.__hash__  # type: ignore[method-assign]


def asnumpy(a: Any, *_: Any, **__: Any) -> np.ndarray:
    return a.get() if isinstance(a, ndarray) else np.asarray(a)


def array(a: Any, dtype: Any = None, copy: Any = True, **_: Any) -> Any:
    """Make an array on the current device, of one on any device or of the host."""
    if isinstance(a, list | tuple):
        a = bare("array", a)
    source = a.host if isinstance(a, ndarray) else np.asarray(a)
    return dressed(np.array(source, dtype=dtype, order="K"))


def asarray(a: Any, dtype: Any = None, order: Any = None, **_: Any) -> Any:
    if isinstance(a, ndarray) and (dtype is None or a.dtype == dtype):
        if a.number == current():
            return a
    return array(a, dtype)


def _played(source: Any, name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    value = getattr(source, name)
    if isinstance(value, type) or not callable(value):
        return value

    def function(*args: Any, **kwargs: Any) -> Any:
        return _call(name, value, args, kwargs)

    return function


class _Linalg:
    def __getattr__(self, name: str) -> Any:
        return _played(np.linalg, name)


def _as_strided(x: ndarray, shape: Any = None, strides: Any = None) -> ndarray:
    strided = np.lib.stride_tricks.as_strided(x.host, shape, strides)
    return dressed(strided, x.number)


linalg = _Linalg()
lib = types.SimpleNamespace(stride_tricks=types.SimpleNamespace(as_strided=_as_strided))


def empty(*args: Any, **kwargs: Any) -> ndarray:
    return dressed(np.zeros(*args, **kwargs))


def empty_like(a: Any, *args: Any, **kwargs: Any) -> ndarray:
    return dressed(np.zeros_like(bare("empty_like", a), *args, **kwargs))


def __getattr__(name: str) -> Any:
    return _played(np, name)


# What streams were asked, and on which device.
waits: list[tuple[str, int]] = []


class Stream:
    ptr = 0

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def synchronize(self) -> None:
        pass

    def record(self) -> Any:
        waits.append(("record", current()))

    def wait_event(self, event: Any) -> None:
        waits.append(("wait", current()))

    def is_capturing(self) -> bool:
        return False


cuda = types.SimpleNamespace(
    Device=Device,
    Stream=Stream,
    get_current_stream=Stream,
    runtime=types.SimpleNamespace(
        driverGetVersion=lambda: 13000,
        runtimeGetVersion=lambda: 13000,
        getDeviceCount=lambda: 2,
        getDevice=current,
        setDevice=lambda number: setattr(_current, "number", number),
        deviceSynchronize=lambda: None,
        memGetInfo=lambda: (1 << 36, 1 << 36),
    ),
)
