"""Time series with dates: airline passengers, minimum temperatures; sliding windows.

Airline passengers: G. Box and G. Jenkins, "Time series analysis: forecasting and
control", 1970, series G: thousands of passengers a month, 1949 to 1960. Temperatures:
the daily minimum in Melbourne in degrees Celsius, 1981 to 1990 (Australian Bureau of
Meteorology), without the 29th of February.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnlib.backend.errors import ArgumentError, ShapeError
from nnlib.data.errors import DataError
from nnlib.data.fetch import DataFile, locate

__all__ = [
    "Series",
    "airline_passengers",
    "melbourne_temperatures",
    "read_series",
    "sliding_windows",
]

_MIRROR = ("https://raw.githubusercontent.com/jbrownlee/Datasets/master/",)
_PASSENGERS = DataFile(
    "timeseries",
    "airline-passengers.csv",
    "8cb51be753a718d9be5d76d7e238cc224792754676adc21faa59e954b0201621",
    _MIRROR,
)
_TEMPERATURES = DataFile(
    "timeseries",
    "daily-min-temperatures.csv",
    "8b9de63ed6789492bf497625e7f9beb96a63d367b4b0a21754006f749fa5e5da",
    _MIRROR,
)


class Series(NamedTuple):
    """Values and when they were taken.

    Attributes
    ----------
    dates : numpy.ndarray, shape (N,), datetime64
        To the month or to the day.
    values : numpy.ndarray, shape (N,), float32
    name : str
        The column's.
    """

    dates: NDArray[np.datetime64]
    values: NDArray[np.float32]
    name: str


def read_series(path: str | os.PathLike[str]) -> Series:
    """Read a file of two columns, date and value, with a line of names above.

    Raises
    ------
    DataError
        If a line does not hold a date and a number; with its number.
    """
    with Path(path).open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    if len(rows) < 2:
        raise DataError(f"{path}: expected a line of names and values, got {len(rows)}")
    dates, values = [], []
    for number, row in enumerate(rows[1:], 2):
        try:
            date, value = row
            dates.append(np.datetime64(date))
            values.append(float(value))
        except ValueError as error:
            raise DataError(
                f"{path}, line {number}: expected a date and a number, got {row!r}"
            ) from error
    return Series(np.array(dates), np.array(values, np.float32), rows[0][1])


def airline_passengers(root: str | os.PathLike[str] | None = None) -> Series:
    """Return thousands of airline passengers in each of 144 months.

    Parameters
    ----------
    root : str or os.PathLike, optional
        A data root to look in first.
    """
    return read_series(locate(_PASSENGERS, root))


def melbourne_temperatures(root: str | os.PathLike[str] | None = None) -> Series:
    """Return the minimum temperature of each of 3,650 days.

    Parameters
    ----------
    root : str or os.PathLike, optional
        A data root to look in first.
    """
    return read_series(locate(_TEMPERATURES, root))


def sliding_windows(
    values: ArrayLike, length: int, horizon: int = 1
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return all runs of `length` values, and the `horizon` values after each.

    Parameters
    ----------
    values : array_like, shape (N,)
    length, horizon : int

    Returns
    -------
    inputs : numpy.ndarray, shape (M, length, 1)
        M is ``N - length - horizon + 1``.
    targets : numpy.ndarray, shape (M, horizon)

    Raises
    ------
    ArgumentError
        If there are not enough values for one window.
    ShapeError
        If `values` has other dimensions.

    Examples
    --------
    >>> inputs, targets = sliding_windows(np.arange(5.0), 3)
    >>> inputs[:, :, 0].tolist(), targets.tolist()
    ([[0.0, 1.0, 2.0], [1.0, 2.0, 3.0]], [[3.0], [4.0]])
    """
    line = np.asarray(values)
    if line.ndim != 1:
        raise ShapeError(
            f"sliding_windows: values: expected shape (N,), got {line.shape}"
        )
    if length < 1 or horizon < 1 or len(line) < length + horizon:
        raise ArgumentError(
            f"sliding_windows: expected at least length + horizon = "
            f"{length + horizon} values, both positive, got {len(line)}"
        )
    runs = np.lib.stride_tricks.sliding_window_view(line, length + horizon)
    return runs[:, :length, None].copy(), runs[:, length:].copy()
