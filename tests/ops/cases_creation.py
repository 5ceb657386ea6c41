"""Cases of new tensors, ranges and grids."""

from __future__ import annotations

import numpy as np
from harness import Case, Sample, integers, normal

import nnlib
from nnlib.backend.errors import ArgumentError, DeviceError, DTypeError, ShapeError


def creation(name, samples, reference, errors=(), **options):
    options.setdefault("half", False)
    options.setdefault("empty", False)
    return Case(
        name,
        samples=samples,
        reference=reference,
        grad=False,
        errors=list(errors),
        **options,
    )


def shaped(name, value):
    """Return the case of zeros, ones or empty."""
    make = getattr(nnlib, name)
    errors = [
        (lambda: make(2, -1), ShapeError, rf"{name}: size: negative length"),
        (lambda: make(2.5), DTypeError, f"{name}: size: expected integers"),
        (lambda: make(2, dtype="complex64"), DTypeError, "dtype: a tensor holds"),
        (lambda: make(2, device="tpu"), DeviceError, "device: expected 'cpu'"),
        (
            lambda: make(2, dtype="int64", requires_grad=True),
            DTypeError,
            "requires_grad: only floating",
        ),
    ]
    return creation(
        name,
        [(2, 3), ((2, 3),), ([4],), (0, 2), ()],
        lambda *size: np.full(flat(size), value),
        errors,
        call=filled(make, value),
        torch=lambda torch, *size: torch.full(flat(size), value, dtype=torch.float32),
    )


def flat(size):
    return tuple(size[0]) if len(size) == 1 and not isinstance(size[0], int) else size


def filled(make, value):
    """Call `make`; give its elements a value where it gives them none."""
    if make is not nnlib.empty:
        return make
    return lambda *size: make(*size).fill_(value)


def alike(name, value):
    make = getattr(nnlib, name)
    return creation(
        name,
        [normal(2, 3), integers(4), np.zeros((0, 2))],
        lambda x: np.full_like(x, value),
        call=(lambda x: make(x).fill_(value)) if "empty" in name else None,
        torch=lambda torch, x: torch.full_like(x, value),
        empty=True,
    )


def new(name, value):
    return creation(
        f"new_{name}",
        [(normal(1), 2, 3), (integers(1), (2,))],
        lambda x, *size: np.full(flat(size), value, x.dtype),
        call=(lambda x, *size: x.new_empty(*size).fill_(value))
        if name == "empty"
        else None,
        torch=lambda torch, x, *size: x.new_full(flat(size), value),
    )


CASES = [
    shaped("zeros", 0.0),
    shaped("ones", 1.0),
    shaped("empty", 3.0),
    creation(
        "full",
        [((2, 3), 2.5), (2, 7), ((1,), True)],
        np.full,
        torch=lambda torch, size, value: torch.full(
            (size,) if isinstance(size, int) else size, value
        ),
        errors=[
            (lambda: nnlib.full((-1,), 0), ShapeError, "full: size: negative"),
            (
                lambda: nnlib.full((2,), 300, dtype=nnlib.int8),
                DTypeError,
                "full: fill_value: 300 is out of the range of int8",
            ),
        ],
    ),
    alike("zeros_like", 0),
    alike("ones_like", 1),
    alike("empty_like", 3),
    creation("full_like", [(normal(2, 3), 2.5), (integers(3), 4)], np.full_like),
    new("zeros", 0),
    new("ones", 1),
    new("empty", 3),
    creation(
        "new_full",
        [(normal(1), (2, 3), 0.5), (integers(1), (2,), 4)],
        lambda x, size, value: np.full(size, value, x.dtype),
        torch=lambda torch, x, size, value: x.new_full(size, value),
    ),
    creation(
        "new_tensor",
        [(normal(1), [1.0, 2.0]), (integers(1), [[1], [2]])],
        lambda x, data: np.asarray(data, x.dtype),
        torch=lambda torch, x, data: x.new_tensor(data),
    ),
    creation(
        "new",
        [(normal(1), [1.0, 2.0]), (integers(1), [[1], [2]])],
        lambda x, data: np.asarray(data, x.dtype),
        torch=lambda torch, x, data: x.new(data),
    ),
    creation("eye", [(3,), (2, 4), (0,)], np.eye),
    creation(
        "arange",
        [(5,), (2, 9, 3), (5, 0, -2), (0.0, 2.0, 0.25), (3.5,), (1, 1)],
        np.arange,
        errors=[
            (
                lambda: nnlib.arange(1, 5, 0),
                ArgumentError,
                "arange: step: expected a number other than zero",
            ),
            (
                lambda: nnlib.arange(1, 5, -1),
                ArgumentError,
                "arange: step -1 leads from 1 away from 5",
            ),
        ],
    ),
    creation(
        "linspace",
        [(0, 1, 5), (1.0, -3.0, 9), (2, 3, 1), (0, 1, 0)],
        np.linspace,
        errors=[(lambda: nnlib.linspace(0, 1, -1), ShapeError, "linspace: size")],
    ),
    creation("logspace", [(0, 2, 3), Sample((0, 3, 4), {"base": 2})], np.logspace),
    Case(
        "meshgrid",
        samples=[
            Sample((normal(2), normal(3)), {"indexing": "ij"}),
            Sample((normal(2), normal(3), normal(4)), {"indexing": "xy"}),
            Sample((integers(2),), {"indexing": "ij"}),
        ],
        reference=lambda *axes, indexing: tuple(np.meshgrid(*axes, indexing=indexing)),
        errors=[
            (
                lambda: nnlib.meshgrid(nnlib.ones(2), indexing="yx"),
                DTypeError,
                "meshgrid: indexing: expected 'ij' or 'xy', got 'yx'",
            ),
            (
                lambda: nnlib.meshgrid(nnlib.ones(2, 2)),
                ShapeError,
                r"meshgrid: tensor 0 has shape \(2, 2\)",
            ),
            (
                lambda: nnlib.meshgrid(nnlib.ones(2), nnlib.tensor([1])),
                DTypeError,
                "meshgrid: tensor 1 is int64, the first float32",
            ),
        ],
    ),
]
