"""What the command lines of the benchmarks share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sized

import nnlib

__all__ = ["at_least", "command", "read_threads", "require_cases"]


def command(name: str, text: str | None) -> argparse.ArgumentParser:
    """Return the parser of ``python -m nnlib.bench.NAME``.

    Parameters
    ----------
    name : str
    text : str
        A module's docstring: its first line tells what the program does.
    """
    return argparse.ArgumentParser(
        prog=f"python -m nnlib.bench.{name}".removesuffix("."),
        description=(text or "").splitlines()[0],
    )


def at_least(least: int) -> Callable[[str], int]:
    """Return a reader of whole numbers that refuses smaller ones.

    Examples
    --------
    >>> at_least(2)("7")
    7
    """

    def whole(text: str) -> int:
        number = int(text)
        if number < least:
            raise argparse.ArgumentTypeError(f"expected at least {least}, got {number}")
        return number

    return whole


def read_threads(text: str) -> int:
    """Read a number of threads that this machine has."""
    number = at_least(1)(text)
    if number > nnlib.get_num_threads():
        raise argparse.ArgumentTypeError(
            f"there are {nnlib.get_num_threads()} threads, got {number}"
        )
    return number


def require_cases(found: Sized, only: list[str] | None) -> None:
    """End the program if `only` left no case.

    Raises
    ------
    SystemExit
    """
    if only and not len(found):
        raise SystemExit(f"no case's name contains {' or '.join(only)}")
