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


class _State(threading.local):
    """What the door reads on every call; class attributes are the defaults."""

    grad: bool = True
    inference: bool = False
    # A function (cls, args, params) -> result that stands in for the door: how
    # `vmap` sees every op.
    interpreter: Callable[..., Any] | None = None
    # An object with `after_forward(node, args, out)`: how anomaly detection and
    # profilers see every op.
    watcher: Any = None


state = _State()


def is_grad_enabled() -> bool:
    """Tell whether operations are recorded for `backward` in this thread."""
    return state.grad


def is_inference_mode_enabled() -> bool:
    """Tell whether this thread is inside `inference_mode`."""
    return state.inference


class _Mode(ContextDecorator):
    """Set both flags inside a ``with`` block or a decorated function."""

    def __init__(self, grad: bool, inference: bool | None = None) -> None:
        self._flags = grad, inference
        self._previous: list[tuple[bool, bool]] = []

    def __enter__(self) -> None:
        self._previous.append((state.grad, state.inference))
        grad, inference = self._flags
        state.grad = grad
        if inference is not None:
            state.inference = inference

    def __exit__(self, *_: object) -> None:
        state.grad, state.inference = self._previous.pop()


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

    def __init__(self) -> None:
        super().__init__(False)


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
        self._outer = (state.grad, state.inference)
        state.grad = bool(mode)

    def __enter__(self) -> None:
        self._previous.append(self._outer)
        state.grad = self._flags[0]
