"""Fixtures of the kernel tests."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def rng():
    """Return a seeded source of random numbers."""
    return np.random.default_rng(0)
