"""How many random configurations a run compared with PyTorch, by family."""

from __future__ import annotations

from collections import Counter

compared: Counter[str] = Counter()
# The family whose test runs: set by conftest.
current = ""


def count() -> None:
    """Note one more configuration of the family."""
    compared[current] += 1
