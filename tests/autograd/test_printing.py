"""How tensors are printed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import nnlib


@pytest.fixture(autouse=True)
def _default() -> Iterator[None]:
    yield
    nnlib.set_printoptions(profile="default")


def test_options() -> None:
    x = nnlib.tensor([1 / 3, 2000.0, 1e-5])
    before = repr(x)
    nnlib.set_printoptions(precision=2, sci_mode=False)
    assert repr(x) == "tensor([   0.33, 2000.  ,    0.  ])"
    nnlib.set_printoptions(sci_mode=True)
    assert repr(x) == "tensor([3.33e-01, 2.00e+03, 1.00e-05])"
    nnlib.set_printoptions(profile="default")
    assert repr(x) == before
    long = nnlib.zeros(2000)
    assert "..." in repr(long)
    nnlib.set_printoptions(threshold=float("inf"))
    assert repr(long).count("0.") == 2000
    nnlib.set_printoptions(profile="short", linewidth=20)
    assert repr(nnlib.arange(2000)).count("...") == 1
    assert all(len(line) <= 20 for line in repr(nnlib.arange(30)).splitlines())


def test_bad_options() -> None:
    with pytest.raises(nnlib.ArgumentError, match="profile: expected one of"):
        nnlib.set_printoptions(profile="long")
    with pytest.raises(nnlib.ArgumentError, match="precision: expected at least 0"):
        nnlib.set_printoptions(precision=-1)
