"""How tensors are printed: `set_printoptions`."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from nnlib.backend.errors import ArgumentError

__all__ = ["set_printoptions", "shown"]

_DEFAULT = {"precision": 4, "threshold": 1000, "edgeitems": 3}
_PROFILES: dict[str, dict[str, int]] = {
    "default": _DEFAULT,
    "short": {"precision": 2, "threshold": 1000, "edgeitems": 2},
    "full": {"precision": 4, "threshold": sys.maxsize, "edgeitems": 3},
}
# The line's width and the notation are NumPy's as long as nobody sets them.
_options: dict[str, Any] = dict(_DEFAULT)


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Choose how tensors are printed, for the whole program.

    Parameters
    ----------
    precision : int, optional
        Digits behind the point, 4 at first.
    threshold : int or inf, optional
        Tensors of more elements (1000 at first) are shown by their edges.
    edgeitems : int, optional
        How many elements of an edge are shown, 3 at first.
    linewidth : int, optional
        Characters of a line.
    profile : {"default", "short", "full"}, optional
        Sets the first three and takes the last two back; the others then change it.
    sci_mode : bool, optional
        Whether numbers are shown in scientific notation; chosen by their sizes where
        nothing is said.

    Raises
    ------
    ArgumentError
        If a number is negative or the profile unknown.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.set_printoptions(precision=2)
    >>> nnlib.tensor([1 / 3])
    tensor([0.33])
    >>> nnlib.set_printoptions(profile="default")
    """
    given = {
        "precision": precision,
        "threshold": threshold,
        "edgeitems": edgeitems,
        "linewidth": linewidth,
    }
    for name, value in given.items():
        if value is not None and not value >= 0:
            raise ArgumentError(
                f"set_printoptions: {name}: expected at least 0, got {value}"
            )
    if profile is not None:
        if profile not in _PROFILES:
            raise ArgumentError(
                f"set_printoptions: profile: expected one of {tuple(_PROFILES)}, got "
                f"{profile!r}"
            )
        _options.clear()
        _options.update(_PROFILES[profile])
    for name, value in given.items():
        if value is not None:
            _options[name] = sys.maxsize if value == float("inf") else int(value)
    if sci_mode is not None:
        _options["sci_mode"] = sci_mode


def shown(array: Any, prefix: str) -> str:
    """Return the elements of an array as they are printed."""
    options = dict(_options)
    scientific = options.pop("sci_mode", None)
    digits, width = options["precision"], options.pop("linewidth", None)
    if scientific:
        options["formatter"] = {"float_kind": lambda value: f"{value:.{digits}e}"}
    return np.array2string(
        array,
        max_line_width=width,
        suppress_small=None if scientific is None else not scientific,
        separator=", ",
        prefix=prefix,
        **options,
    )
