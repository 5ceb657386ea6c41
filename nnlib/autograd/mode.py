"""Grad modes: whether the door records what it computes, per thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ContextDecorator
from typing import Any

__all__ = [
    "enable_grad",
    "inference_mode",
    "is_grad_enabled",
    "is_inference_mode_enabled",
    "no_grad",
    "set_grad_enabled",
]


class Modes:
    """What the door and the engine read: one object per thread.

    Attributes
    ----------
    grad : bool
        Whether operations are recorded.
    inference : bool
        Whether the thread is inside `inference_mode`.
    derived : bool
        Whether a backward pass under way is itself recorded: `Function.saved` then
        gives Tensors instead of arrays.
    interpreter : object or None
        Stands in for the door, as ``interpreter(cls, args, params)``, and for in-place
        methods, as its ``run_inplace``: how `vmap` sees every op.
    watcher : object or None
        Its ``after_forward(node, args, out)`` sees every op: anomaly detection,
        profilers.
    """

    __slots__ = ("derived", "grad", "inference", "interpreter", "watcher")

    def __init__(self) -> None:
        self.grad = True
        self.inference = False
        self.derived = False
        self.interpreter: Any = None
        self.watcher: Any = None


class _State(threading.local):
    """The thread's `Modes` (read once per op), and shortcuts to its fields."""

    def __init__(self) -> None:
        self.modes = Modes()

    @property
    def grad(self) -> bool:
        return self.modes.grad

    @grad.setter
    def grad(self, value: bool) -> None:
        self.modes.grad = value


state = _State()


def is_grad_enabled() -> bool:
    """Tell whether operations are recorded for `backward` in this thread."""
    return state.modes.grad


def is_inference_mode_enabled() -> bool:
    """Tell whether this thread is inside `inference_mode`."""
    return state.modes.inference


class _Mode(ContextDecorator):
    """Set both flags inside a ``with`` block or a decorated function."""

    def __init__(self, grad: bool, inference: bool | None = None) -> None:
        self._flags = grad, inference
        self._previous: list[tuple[bool, bool]] = []

    def _recreate_cm(self) -> _Mode:
        # A decorated function may run in several threads at once, or call itself.
        return _Mode(*self._flags)

    def __enter__(self) -> None:
        modes = state.modes
        self._previous.append((modes.grad, modes.inference))
        modes.grad, inference = self._flags
        if inference is not None:
            modes.inference = inference

    def __exit__(self, *_: object) -> None:
        modes = state.modes
        modes.grad, modes.inference = self._previous.pop()


class no_grad(_Mode):  # noqa: N801 - PyTorch's name
    """Context or decorator in which nothing is recorded.

    Examples
    --------
    >>> import nnlib
    >>> x = nnlib.ones(2, requires_grad=True)
    >>> with nnlib.no_grad():
    ...     (x * 2).requires_grad
    False
    """

    def __init__(self, function: Callable[..., Any] | None = None) -> None:
        super().__init__(False)

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        """Return the context, or the decorated `function` (``@no_grad``)."""
        made = super().__new__(cls)
        if function is None:
            return made
        cls.__init__(made)
        return made(function)


class enable_grad(_Mode):  # noqa: N801 - PyTorch's name
    """Context or decorator that records again inside `no_grad`."""

    def __init__(self) -> None:
        super().__init__(True)


class inference_mode(_Mode):  # noqa: N801 - PyTorch's name
    """Like `no_grad`; its results can never be recorded by mistake.

    A tensor made inside is an ordinary tensor without history.
    """

    def __init__(self, mode: bool = True) -> None:
        super().__init__(not mode, mode)


class set_grad_enabled(_Mode):  # noqa: N801 - PyTorch's name
    """Turn recording on or off: at once, and back at the end of a ``with``."""

    def __init__(self, mode: bool) -> None:
        super().__init__(bool(mode))
        modes = state.modes
        self._outer = (modes.grad, modes.inference)
        modes.grad = bool(mode)

    def __enter__(self) -> None:
        self._previous.append(self._outer)
        state.modes.grad = self._flags[0]
