"""Measurements of which one may take the process down, or break the CUDA context.

A part of `nnlib.bench.cuda_check` notes in its report what it begins, and measures
nothing that is in the report already: after a crash, or an access that CUDA punishes by
refusing all that follows, another process goes on behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nnlib.bench.report import Report

__all__ = ["BROKEN", "attempt", "is_broken", "stop_if_broken"]

# How a process ends whose CUDA context is broken.
BROKEN = 70
# What CUDA says then, in errors of the runtime and of the driver.
_SIGNS = (
    "IllegalAddress",
    "illegal memory access",
    "LaunchFailure",
    "unspecified launch failure",
    "misaligned address",
    "illegal instruction",
    "invalid program counter",
    "hardware stack error",
    "LaunchTimeout",
    "launch timed out",
    "device-side assert",
)
_DIED = {"error": "the process ended here"}


def is_broken(text: str) -> bool:
    """Tell whether an error says that the CUDA context is beyond use.

    Examples
    --------
    >>> is_broken("CUDA_ERROR_MISALIGNED_ADDRESS: misaligned address")
    True
    """
    return any(sign in text for sign in _SIGNS)


def stop_if_broken(text: str) -> None:
    """End the process where an error says that nothing will work any more."""
    if is_broken(text):
        raise SystemExit(BROKEN)


def attempt(
    report: Report, group: str, name: str, measure: Callable[[], dict[str, Any]]
) -> dict[str, Any] | None:
    """Put what is measured, or the error, into a group of the report.

    Parameters
    ----------
    report : Report
    group, name : str
        Where it goes.
    measure : callable
        Returns the figures.

    Returns
    -------
    dict or None
        What was put there; None if an earlier process has tried it.

    Raises
    ------
    SystemExit
        If the CUDA context is broken.
    """
    if name in report.get(group, {}):
        return None
    report.put(group, {name: _DIED})
    try:
        figures = measure()
    except Exception as error:  # noqa: BLE001 - what follows is worth having
        figures = {"error": repr(error)}
    report.put(group, {name: figures})
    stop_if_broken(str(figures.get("error", "")))
    return figures
