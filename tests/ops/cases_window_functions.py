"""Cases of window functions."""

from __future__ import annotations

import numpy as np
from harness import Case, Sample

import nnlib
from nnlib.backend.errors import DTypeError, ShapeError


def case(name, *options):
    function = getattr(nnlib, name)
    # The first argument only lends its dtype.
    like = np.zeros(1)
    lengths = [(n, periodic) for n in (0, 1, 2, 7) for periodic in (True, False)]
    samples = [Sample((like, *args)) for args in lengths]
    samples += [Sample((like, 6, True, *options))] if options else []
    return Case(
        name,
        samples=samples,
        call=lambda x, *args: function(*args, dtype=x.dtype),
        torch=lambda torch, x, *args: getattr(torch, name)(*args, dtype=x.dtype),
        grad=False,
        half=False,
        empty=False,
        errors=[
            (
                lambda: function(-1),
                ShapeError,
                f"{name}: window_length: expected at least 0, got -1",
            ),
            (
                lambda: function(4.0),
                DTypeError,
                f"{name}: window_length: expected an integer, got 4.0",
            ),
            (
                lambda: function(3, dtype=nnlib.int64),
                DTypeError,
                f"{name}: dtype: expected a floating dtype, got int64",
            ),
        ],
    )


CASES = [
    case("hann_window"),
    case("hamming_window", 0.6, 0.4),
    case("blackman_window"),
    case("bartlett_window"),
    case("kaiser_window", 3.5),
]
