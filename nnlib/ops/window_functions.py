"""Window functions: weights that fall towards both ends, for cutting signals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnlib.autograd.registry import public
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import device_context, module_of, resolve_device
from nnlib.backend.dtypes import FLOATING, get_default_dtype, resolve_dtype
from nnlib.backend.errors import DTypeError, ShapeError
from nnlib.ops.creation import finish

__all__ = [
    "bartlett_window",
    "blackman_window",
    "hamming_window",
    "hann_window",
    "kaiser_window",
]


def _window(
    op: str,
    length: int,
    periodic: bool,
    weigh: Any,
    dtype: Any,
    device: Any,
    requires_grad: bool,
) -> Tensor:
    """Make a window of ``weigh(t)`` for t from 0 to 1, computed in float64.

    A periodic one is a window of one more element without its last.
    """
    if not isinstance(length, int | np.integer):
        raise DTypeError(f"{op}: window_length: expected an integer, got {length!r}")
    if length < 0:
        raise ShapeError(f"{op}: window_length: expected at least 0, got {length}")
    kind = get_default_dtype() if dtype is None else resolve_dtype(dtype)
    if kind not in FLOATING:
        raise DTypeError(f"{op}: dtype: expected a floating dtype, got {kind}")
    place = resolve_device(device)
    with device_context(place):
        module = module_of(place)
        if length == 1:
            return finish(module.ones(1, kind), requires_grad)
        steps = length if periodic else length - 1
        t = module.arange(length, dtype=np.float64) / max(steps, 1)
        return finish(weigh(module, t).astype(kind), requires_grad)


def _cosines(*weights: float) -> Any:
    """Return a sum of cosines: ``w0 - w1 cos(2 pi t) + w2 cos(4 pi t)``."""

    def weigh(module: Any, t: Any) -> Any:
        total = 0.0 * t
        for k, weight in enumerate(weights):
            total = total + (-1) ** k * weight * module.cos(2 * math.pi * k * t)
        return total

    return weigh


@public(method=False)
def hann_window(
    window_length: int,
    periodic: bool = True,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return ``(1 - cos(2 pi t)) / 2`` for t from 0 to 1.

    Parameters
    ----------
    window_length : int
    periodic : bool, default True
        Leave out the last element, which the next period begins with; False: the window
        is symmetric.
    dtype, device, requires_grad
        As for `zeros`.

    Raises
    ------
    ShapeError
        If the length is negative.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.hann_window(4)
    tensor([0. , 0.5, 1. , 0.5])
    """
    weigh = _cosines(0.5, 0.5)
    return _window(
        "hann_window", window_length, periodic, weigh, dtype, device, requires_grad
    )


@public(method=False)
def hamming_window(
    window_length: int,
    periodic: bool = True,
    alpha: float = 0.54,
    beta: float = 0.46,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return ``alpha - beta cos(2 pi t)`` for t from 0 to 1; see `hann_window`.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.hamming_window(3, periodic=False)
    tensor([0.08, 1.  , 0.08])
    """
    weigh = _cosines(alpha, beta)
    return _window(
        "hamming_window", window_length, periodic, weigh, dtype, device, requires_grad
    )


@public(method=False)
def blackman_window(
    window_length: int,
    periodic: bool = True,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return ``0.42 - 0.5 cos(2 pi t) + 0.08 cos(4 pi t)``; see `hann_window`.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.blackman_window(4).round(decimals=2)
    tensor([-0.  ,  0.34,  1.  ,  0.34])
    """
    weigh = _cosines(0.42, 0.5, 0.08)
    return _window(
        "blackman_window", window_length, periodic, weigh, dtype, device, requires_grad
    )


@public(method=False)
def bartlett_window(
    window_length: int,
    periodic: bool = True,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return a triangle, ``1 - |2 t - 1|`` for t from 0 to 1; see `hann_window`.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.bartlett_window(4)
    tensor([0. , 0.5, 1. , 0.5])
    """
    return _window(
        "bartlett_window",
        window_length,
        periodic,
        lambda module, t: 1 - module.abs(2 * t - 1),
        dtype,
        device,
        requires_grad,
    )


@public(method=False)
def kaiser_window(
    window_length: int,
    periodic: bool = True,
    beta: float = 12.0,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return ``i0(beta sqrt(1 - (2 t - 1)^2)) / i0(beta)``; see `hann_window`.

    ``i0`` is the modified Bessel function of order 0; the larger `beta`, the narrower
    the window.

    Examples
    --------
    >>> import nnlib
    >>> nnlib.kaiser_window(3, periodic=False, beta=0.0)
    tensor([1., 1., 1.])
    """

    def weigh(module: Any, t: Any) -> Any:
        inside = module.maximum(1 - (2 * t - 1) ** 2, 0.0)
        return module.i0(beta * module.sqrt(inside)) / module.i0(
            module.asarray([float(beta)])
        )

    return _window(
        "kaiser_window", window_length, periodic, weigh, dtype, device, requires_grad
    )
