"""Find the operation and the line that made the first NaN or infinity."""

from __future__ import annotations

import linecache
import sys
from contextlib import ContextDecorator
from typing import Any

import numpy as np

from nnlib.autograd.mode import state
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module
from nnlib.backend.dtypes import FLOATING
from nnlib.backend.errors import Error

__all__ = ["AnomalyError", "detect_anomaly", "set_detect_anomaly", "user_line"]


class AnomalyError(Error):
    """An operation made a NaN or an infinity out of finite numbers."""


class detect_anomaly(ContextDecorator):  # noqa: N801 - PyTorch's name
    """Raise where the first NaN or infinity appears, in forward or backward.

    The error names the operation, the first bad element and the line of the user's
    program that called the operation. An operation that is given a NaN or an infinity
    (``masked_fill(mask, -inf)``) may return one. Every operation is checked, which
    costs a pass over its output and waits for the GPU: for debugging only.

    Parameters
    ----------
    check_nan : bool, default True
        Check the values. Otherwise only note the lines: an exception inside a backward
        then tells where the forward was called.

    Raises
    ------
    AnomalyError
        From inside the block, or from a backward through what was recorded in it.

    Examples
    --------
    >>> import nnlib
    >>> with detect_anomaly():
    ...     nnlib.log(nnlib.tensor([1.0, 0.0]))
    Traceback (most recent call last):
    nnlib.autograd.anomaly.AnomalyError: Log: forward made -inf ...
    """

    def __init__(self, check_nan: bool = True) -> None:
        self.check_nan = check_nan
        self._outer: list[Any] = []

    def __enter__(self) -> detect_anomaly:
        self._outer.append(state.modes.watcher)
        state.modes.watcher = _Watcher(self.check_nan, self._outer[-1])
        return self

    def __exit__(self, *_: object) -> None:
        state.modes.watcher = self._outer.pop()


class set_detect_anomaly(detect_anomaly):  # noqa: N801 - PyTorch's name
    """Turn the detection on or off: at once, and back at the end of a ``with``."""

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        super().__init__(check_nan)
        self._before = state.modes.watcher
        state.modes.watcher = _Watcher(check_nan, None) if mode else None

    def __enter__(self) -> set_detect_anomaly:
        self._outer.append(self._before)
        return self


class _Watcher:
    """What the door calls after each operation."""

    def __init__(self, check_nan: bool, outer: Any) -> None:
        self.check_nan, self.outer = check_nan, outer

    def after_forward(self, node: Any, args: Any, out: Any) -> None:
        if self.outer is not None:
            self.outer.after_forward(node, args, out)
        line = user_line()
        if node.edges is not None:
            node.origin = _Origin(line, self.check_nan)
        if not self.check_nan:
            return
        for x in out if isinstance(out, tuple) else (out,):
            found = _first_bad(x)
            if found and all(_first_bad(given) == "" for given in args):
                raise AnomalyError(
                    f"{node.name()}: forward made {found} from finite inputs\n  {line}"
                )


class _Origin:
    """Where a node was recorded; the engine asks it to look at the gradients."""

    def __init__(self, line: str, check_nan: bool) -> None:
        self.line, self.check_nan = line, check_nan

    def check_backward(self, node: Any, results: Any) -> None:
        """Raise if a gradient that the node returned is not finite."""
        if not self.check_nan:
            return
        for position, value in enumerate(results):
            found = _first_bad(value)
            if found:
                raise AnomalyError(
                    f"{node.name()}: backward made {found} in the gradient of argument "
                    f"{position}; its forward was called here:\n  {self.line}"
                )

    def explain(self, node: Any, error: BaseException) -> None:
        """Add to an exception where the forward was called."""
        if not isinstance(error, AnomalyError):
            error.add_note(
                f"{node.name()}: its forward was called here:\n  {self.line}"
            )


def _first_bad(value: Any) -> str:
    """Describe the first element that is not finite; empty if there is none."""
    if isinstance(value, float):
        return "" if np.isfinite(value) else str(value)
    array = value._array if isinstance(value, Tensor) else value
    if getattr(array, "dtype", None) not in FLOATING:
        return ""
    bad = ~array_module(array).isfinite(array)
    count = int(bad.sum())
    if not count:
        return ""
    place = tuple(int(i) for i in np.unravel_index(int(bad.argmax()), array.shape))
    return f"{float(array[place])} at {place} ({count} of {array.size} elements)"


def user_line() -> str:
    """Return the innermost line outside the library, as ``file:line: code``."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package != "nnlib":
            code = linecache.getline(name, frame.f_lineno, frame.f_globals).strip()
            return f"{name}:{frame.f_lineno}: {code}"
        frame = frame.f_back
    return "(called from inside nnlib)"
