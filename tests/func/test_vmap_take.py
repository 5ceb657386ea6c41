"""`vmap` of `take`, for which PyTorch has no rule and warns."""

from __future__ import annotations

import numpy as np
import pytest

import nnlib
from nnlib.func import vmap


@pytest.mark.parametrize("shared", [False, True])
def test_take_equals_a_loop(shared: bool) -> None:
    rng = np.random.default_rng(11)
    x = rng.standard_normal((5, 3, 4))
    index = nnlib.tensor(rng.integers(-12, 12, (2, 3) if shared else (5, 2, 3)))
    take = vmap(lambda a, i: a.take(i), (0, None if shared else 0))
    found = take(nnlib.tensor(x), index)
    expected = [x[k].take(index.array if shared else index.array[k]) for k in range(5)]
    assert (found.array == np.stack(expected)).all()
