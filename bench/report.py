"""A results file that is whole at any moment, whatever happens to its writer."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

__all__ = ["Report", "read_report"]


class Report:
    """A dict that is written to a file at each change, in one step.

    Parameters
    ----------
    path : Path
        The JSON file; its folder is made. What it holds already is kept.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "found.json"
    >>> Report(path).put("kernels", {"relu": 1})
    >>> Report(path).put("kernels", {"tanh": 2})
    >>> read_report(path)
    {'kernels': {'relu': 1, 'tanh': 2}}
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.found: dict[str, Any] = read_report(path)

    def put(self, key: str, value: Any) -> None:
        """Set an entry and write the file; a dict is added to the dict there."""
        before = self.found.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            before.update(value)
        else:
            self.found[key] = value
        temporary = self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
        text = json.dumps(self.found, indent=1, default=str) + "\n"
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, self.path)

    def get(self, key: str, default: Any = None) -> Any:
        """Return an entry."""
        return self.found.get(key, default)


def read_report(path: Path) -> dict[str, Any]:
    """Return what a report holds; an absent or torn file is an empty one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
