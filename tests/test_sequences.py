"""tiny-shakespeare, time series, streams and windows."""

from __future__ import annotations

import numpy as np
import pytest

from nnlib.backend.errors import ArgumentError, BoundsError, DTypeError, ShapeError
from nnlib.data import (
    DataError,
    TinyShakespeare,
    airline_passengers,
    melbourne_temperatures,
    read_series,
    sliding_windows,
    streams,
)
from nnlib.data.fetch import data_roots


def needs(folder):
    there = any((root / folder).is_dir() for root in data_roots())
    return pytest.mark.skipif(not there, reason=f"{folder} is not in NNLIB_DATA")


@needs("text/tinyshakespeare")
def test_tiny_shakespeare():
    whole, train, rest = (
        TinyShakespeare(split) for split in ("all", "train", "validation")
    )
    assert len(whole) == 1_115_394 and len(whole.alphabet) == 65
    assert train.text + rest.text == whole.text
    assert len(rest) / len(whole) == pytest.approx(0.1, abs=1e-4)
    assert train.decode(train.numbers()[:13]) == "First Citizen"
    with pytest.raises(DataError, match="'é' at position 1"):
        train.encode("aé")
    for bad in (-1, 65):
        with pytest.raises(BoundsError, match=f"{bad} at position 1"):
            train.decode([0, bad])
    with pytest.raises(DTypeError, match="expected integers, got float64"):
        train.decode([0.5])
    with pytest.raises(DTypeError, match="expected a str, got bytes"):
        train.encode(b"a")
    with pytest.raises(ArgumentError, match="split: expected one of train"):
        TinyShakespeare("test")


@needs("timeseries")
def test_series():
    passengers, temperatures = airline_passengers(), melbourne_temperatures()
    assert passengers.values.shape == (144,) and passengers.values[0] == 112
    assert str(passengers.dates[-1]) == "1960-12" and passengers.name == "Passengers"
    assert temperatures.values.shape == (3650,)
    assert temperatures.values[:2] == pytest.approx([20.7, 17.9])
    assert str(temperatures.dates[0]) == "1981-01-01"


def test_damaged_series(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("Date,Temp\n2001-01-01,3\n2001-01-02,cold\n")
    with pytest.raises(DataError, match=r"line 3: expected a date and a number"):
        read_series(path)
    path.write_text("Date,Temp\n")
    with pytest.raises(DataError, match="expected a line of names and values"):
        read_series(path)


def test_chunks_of_streams_follow_one_another():
    inputs, targets = streams(np.arange(100), batch=3, steps=5)
    assert inputs.shape == (6, 3, 5)
    assert (targets == inputs + 1).all()
    assert (inputs[1:, :, 0] == inputs[:-1, :, -1] + 1).all()
    with pytest.raises(ArgumentError, match="expected at least 16"):
        streams(np.arange(15), batch=3, steps=5)
    for name in ("batch", "steps"):
        with pytest.raises(ArgumentError, match=f"{name}: expected at least 1, got 0"):
            streams(np.arange(15), **{"batch": 2, "steps": 2, name: 0})
    with pytest.raises(ShapeError, match=r"expected shape \(L,\), got \(5, 3\)"):
        streams(np.zeros((5, 3)), batch=1, steps=1)
    assert streams(list(range(9)), 2, 2)[0].tolist() == [
        [[0, 1], [4, 5]],
        [[2, 3], [6, 7]],
    ]


def test_windows():
    inputs, targets = sliding_windows(np.arange(10.0), 4, 2)
    assert inputs.shape == (5, 4, 1) and targets.shape == (5, 2)
    assert (targets[:, 0] == inputs[:, -1, 0] + 1).all()
    with pytest.raises(ArgumentError, match="at least length \\+ horizon = 11"):
        sliding_windows(np.arange(10.0), 9, 2)
    with pytest.raises(ShapeError, match=r"expected shape \(N,\), got \(5, 2\)"):
        sliding_windows(np.zeros((5, 2)), 2)
