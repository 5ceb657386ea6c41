"""Whether the installed CuPy has the functions that were called of the played one.

    python -P cupy_has.py FILE

FILE is what `second_device` writes. Prints what is missing, or is called with arguments
that it does not take. CuPy is imported; no GPU is needed.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cupy

PLACES = (cupy, cupy.linalg, cupy.lib.stride_tricks)
# What a ufunc takes by name.
UFUNC = frozenset({"out", "dtype", "casting", "where"})


def found(kind: str, name: str) -> Any:
    """Return a function of CuPy, or a method of its arrays; None if there is none."""
    places = PLACES if kind == "function" else (cupy.ndarray,)
    return next((getattr(x, name) for x in places if hasattr(x, name)), None)


def signature(function: Callable[..., Any]) -> inspect.Signature | None:
    """Return the signature, of compiled methods from the first line of their text."""
    try:
        return inspect.signature(function)
    except ValueError:
        pass
    match = re.match(
        r"\S+?\((self(?:, )?)?(.*)\)", (function.__doc__ or "").split("\n")[0]
    )
    if match is None:
        return None
    # Without the types of C before the names.
    names = [re.sub(r"^\w+ (?=\w)", "", part) for part in match[2].split(", ") if part]
    scope: dict[str, Any] = {}
    exec(f"def f({', '.join(names)}): pass", scope)
    return inspect.signature(scope["f"])


def problem(kind: str, name: str, count: int, names: list[str]) -> str | None:
    """Return what is wrong with a call."""
    function = found(kind, name)
    if function is None:
        return "missing"
    if isinstance(function, cupy.ufunc):
        fits = count <= function.nin + function.nout and UFUNC.issuperset(names)
        return None if fits else "a ufunc"
    known = signature(function)
    if known is None:
        return "no signature"
    try:
        known.bind(*range(count), **dict.fromkeys(names))
    except TypeError as error:
        return f"{error}: {known}"
    return None


def main() -> int:
    wrong = 0
    for kind, name, count, names in json.loads(Path(sys.argv[1]).read_text()):
        text = problem(kind, name, count, names)
        if text is not None:
            print(f"{kind} {name} of {count} arguments and {names}: {text}")
            wrong += 1
    return wrong > 0


if __name__ == "__main__":
    raise SystemExit(main())
