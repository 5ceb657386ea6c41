"""The figures of a training run, epoch by epoch."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

from nnlib.backend.errors import Error, ShapeError

__all__ = ["DivergenceError", "History", "is_better"]


class DivergenceError(Error, FloatingPointError):
    """The loss became infinite or not a number."""


def is_better(name: str, value: float, best: float, min_delta: float = 0.0) -> bool:
    """Tell whether `value` improves on `best` by more than `min_delta`.

    Whatever is named after a loss or an error should fall; everything else should
    rise. NaN never improves.

    Examples
    --------
    >>> is_better("val_loss", 0.3, 0.4), is_better("val_accuracy", 0.3, 0.4)
    (True, False)
    """
    if math.isnan(best):
        return not math.isnan(value)
    if name.endswith(("loss", "error")):
        return value < best - min_delta
    return value > best + min_delta


class History(dict[str, list[float]]):
    """A dict of lists: one number per epoch for each of ``loss``, ``accuracy``, ...

    Figures of the validation data carry the prefix ``val_``.

    Examples
    --------
    >>> history = History()
    >>> history.append(loss=0.9, val_loss=1.0)
    >>> history.append(loss=0.5, val_loss=1.1)
    >>> history["loss"], history.last("val_loss"), history.best("val_loss")
    ([0.9, 0.5], 1.1, (1, 1.0))
    """

    def append(self, **figures: float) -> None:
        """Add the figures of one epoch."""
        for name, value in figures.items():
            self.setdefault(name, []).append(float(value))

    @property
    def epochs(self) -> int:
        """The number of epochs that were finished."""
        return max(map(len, self.values()), default=0)

    def last(self, name: str) -> float:
        """Return the latest figure called `name`."""
        return self._series(name)[-1]

    def best(self, name: str) -> tuple[int, float]:
        """Return the epoch (from 1) of the best figure called `name`, and it.

        The best is the lowest for names that end in ``loss`` or ``error``, else the
        highest.
        """
        best = (0, math.nan)
        for epoch, value in enumerate(self._series(name), start=1):
            if best[0] == 0 or is_better(name, value, best[1]):
                best = (epoch, value)
        return best

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the lists as JSON."""
        Path(path).write_text(json.dumps(self, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> History:
        """Read what `save` wrote."""
        return cls(json.loads(Path(path).read_text(encoding="utf-8")))

    def _series(self, name: str) -> list[float]:
        if not self.get(name):
            known = ", ".join(sorted(self)) or "nothing"
            raise ShapeError(f"History: no figure {name!r}; it holds {known}")
        return self[name]
