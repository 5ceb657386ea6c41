"""Initial values of parameters, with PyTorch's names, defaults and distributions.

Every function writes into the memory of its tensor, outside the graph, and returns
the tensor. Random ones take a `Generator`; without one they draw from the default
generator, which `nnlib.manual_seed` seeds.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnlib.autograd.guarding import guarded
from nnlib.autograd.mode import no_grad
from nnlib.autograd.places import on_its_device
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module, context_of, device_of
from nnlib.backend.dtypes import FLOATING, HALF, float32
from nnlib.backend.errors import ArgumentError, DTypeError, ShapeError
from nnlib.backend.random import Generator
from nnlib.nn.normal import inverse_cdf

__all__ = [
    "calculate_gain",
    "constant_",
    "dirac_",
    "eye_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "lecun_normal_",
    "lecun_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "sparse_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]

_GAINS = {
    "linear": 1.0,
    "conv1d": 1.0,
    "conv2d": 1.0,
    "conv3d": 1.0,
    "conv_transpose1d": 1.0,
    "conv_transpose2d": 1.0,
    "conv_transpose3d": 1.0,
    "sigmoid": 1.0,
    "tanh": 5.0 / 3.0,
    "relu": math.sqrt(2.0),
    "selu": 3.0 / 4.0,
}


def _write(name: str, tensor: Tensor, values: Any) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise DTypeError(f"{name}: expected a Tensor, got {type(tensor).__name__}")
    array = tensor._array
    with context_of(array):
        array[...] = values
    tensor._bump()
    return tensor


def _check_floating(name: str, tensor: Any) -> None:
    if not isinstance(tensor, Tensor):
        raise DTypeError(f"{name}: expected a Tensor, got {type(tensor).__name__}")
    if tensor.dtype not in FLOATING:
        raise DTypeError(f"{name}: expected a floating tensor, got {tensor.dtype}")


def _draw(kind: str, shape: Any, tensor: Tensor, generator: Generator | None) -> Any:
    """Draw an array (float32 or float64) for `tensor`: "rand" or "randn"."""
    from nnlib import ops

    dtype = float32 if tensor.dtype in HALF else tensor.dtype
    with no_grad():
        made = getattr(ops, kind)(
            *shape, dtype=dtype, device=device_of(tensor._array), generator=generator
        )
    return made._array


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Return the factor that keeps the variance through a nonlinearity.

    Parameters
    ----------
    nonlinearity : str
        "linear", "sigmoid", a convolution ("conv2d", ...): 1; "tanh": 5/3; "relu":
        sqrt(2); "leaky_relu": sqrt(2 / (1 + param^2)); "selu": 3/4.
    param : float, optional
        The negative slope of "leaky_relu"; default 0.01.

    Raises
    ------
    Error
        If the nonlinearity is unknown.

    Examples
    --------
    >>> round(calculate_gain("relu"), 4)
    1.4142
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, int | float):
            raise DTypeError(f"calculate_gain: param: expected a number, got {param!r}")
        return math.sqrt(2.0 / (1 + slope**2))
    if nonlinearity not in _GAINS:
        known = ", ".join([*_GAINS, "leaky_relu"])
        raise ArgumentError(
            f"calculate_gain: nonlinearity: expected one of {known}; got "
            f"{nonlinearity!r}"
        )
    return _GAINS[nonlinearity]


@on_its_device
def uniform_(
    tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Fill with values uniform in [a, b).

    Raises
    ------
    Error
        If ``a > b``.
    """
    _check_floating("uniform_", tensor)
    if a > b:
        raise ArgumentError(f"uniform_: expected a <= b, got a={a}, b={b}")
    values = _draw("rand", tensor.shape, tensor, generator)
    values *= values.dtype.type(b - a)
    values += values.dtype.type(a)
    return _write("uniform_", tensor, values)


@on_its_device
def normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    generator: Generator | None = None,
) -> Tensor:
    """Fill with values of the normal distribution N(mean, std^2).

    Raises
    ------
    Error
        If `std` is negative.
    """
    _check_floating("normal_", tensor)
    if std < 0:
        raise ArgumentError(f"normal_: std: expected at least 0, got {std}")
    values = _draw("randn", tensor.shape, tensor, generator)
    values *= values.dtype.type(std)
    values += values.dtype.type(mean)
    return _write("normal_", tensor, values)


@on_its_device
def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Fill from N(mean, std^2) restricted to [a, b] (bounds, not standard deviations).

    Draws uniform values between the cumulative probabilities of the bounds and inverts
    the cumulative distribution, in float64.

    Raises
    ------
    Error
        If ``a > b`` or `std` is not positive.
    """
    _check_floating("trunc_normal_", tensor)
    if a > b or std <= 0:
        raise ArgumentError(
            f"trunc_normal_: expected a <= b and std > 0, got a={a}, b={b}, std={std}"
        )
    low, high = (a - mean) / std, (b - mean) / std
    # Far in the upper tail the probabilities are all 1: use the mirrored lower one.
    mirrored = low > 0
    if mirrored:
        low, high = -high, -low
    p_low, p_high = (0.5 * math.erfc(-x / math.sqrt(2)) for x in (low, high))
    module = array_module(tensor._array)
    p = _draw("rand", tensor.shape, tensor, generator).astype(np.float64)
    p = p_low + (p_high - p_low) * p
    values = inverse_cdf(module.clip(p, 1e-300, 1 - 1e-16))
    values = (-values if mirrored else values) * std + mean
    return _write("trunc_normal_", tensor, module.clip(values, a, b))


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Fill with one value."""
    return _write("constant_", tensor, val)


def ones_(tensor: Tensor) -> Tensor:
    """Fill with ones."""
    return _write("ones_", tensor, 1)


def zeros_(tensor: Tensor) -> Tensor:
    """Fill with zeros."""
    return _write("zeros_", tensor, 0)


@on_its_device
def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """Write a convolution's kernel that hands as many channels through as it can.

    Parameters
    ----------
    tensor : Tensor, shape (out_channels, in_channels / groups, *kernel)
        With one to three dimensions of the kernel.
    groups : int, default 1
        Each group hands its own channels through.

    Raises
    ------
    ShapeError
        If the shape is another, or `groups` does not divide out_channels.

    Examples
    --------
    >>> import nnlib
    >>> dirac_(nnlib.empty(2, 2, 3))
    tensor([[[0., 1., 0.],
             [0., 0., 0.]],
    <BLANKLINE>
            [[0., 0., 0.],
             [0., 1., 0.]]])
    """
    _check_floating("dirac_", tensor)
    shape = tuple(tensor.shape)
    if len(shape) not in (3, 4, 5):
        raise ShapeError(f"dirac_: expected 3 to 5 dimensions, got shape {shape}")
    if groups < 1 or shape[0] % groups:
        raise ShapeError(
            f"dirac_: {shape[0]} output channels are not divisible by groups={groups}"
        )
    values = np.zeros(shape, np.float32)
    each = shape[0] // groups
    middle = tuple(length // 2 for length in shape[2:])
    for group in range(groups):
        for channel in range(min(each, shape[1])):
            values[(group * each + channel, channel, *middle)] = 1
    return _write("dirac_", tensor, array_module(tensor._array).asarray(values))


@guarded
@on_its_device
def eye_(tensor: Tensor) -> Tensor:
    """Make a matrix the identity (ones on the diagonal, also if it is not square).

    Raises
    ------
    ShapeError
        If the tensor is no matrix.
    """
    if tensor.ndim != 2:
        raise ShapeError(
            f"eye_: expected 2 dimensions, got shape {tuple(tensor.shape)}"
        )
    module = array_module(tensor._array)
    return _write("eye_", tensor, module.eye(*tensor.shape))


def _fans(name: str, tensor: Tensor) -> tuple[int, int]:
    """Return how many inputs and outputs each unit has: (fan_in, fan_out)."""
    _check_floating(name, tensor)
    if tensor.ndim < 2:
        raise ShapeError(
            f"{name}: fan_in and fan_out need at least 2 dimensions (out, in, ...), "
            f"got shape {tuple(tensor.shape)}"
        )
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def xavier_uniform_(
    tensor: Tensor, gain: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Fill by Glorot's uniform rule.

    The bounds are -r and r with ``r = gain sqrt(6 / (fan_in + fan_out))``.

    X. Glorot, Y. Bengio: Understanding the difficulty of training deep feedforward
    neural networks, AISTATS 2010, eq. 16.

    Parameters
    ----------
    tensor : Tensor, shape (fan_out, fan_in, *field)
    gain : float, default 1.0
        See `calculate_gain`.
    """
    fan_in, fan_out = _fans("xavier_uniform_", tensor)
    bound = gain * math.sqrt(6.0 / max(1, fan_in + fan_out))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(
    tensor: Tensor, gain: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Fill by Glorot's normal rule: ``std = gain sqrt(2 / (fan_in + fan_out))``."""
    fan_in, fan_out = _fans("xavier_normal_", tensor)
    std = gain * math.sqrt(2.0 / max(1, fan_in + fan_out))
    return normal_(tensor, 0.0, std, generator)


def _chosen_fan(name: str, tensor: Tensor, mode: str) -> int:
    if mode not in ("fan_in", "fan_out"):
        raise ArgumentError(
            f"{name}: mode: expected 'fan_in' or 'fan_out', got {mode!r}"
        )
    fan_in, fan_out = _fans(name, tensor)
    return max(1, fan_in if mode == "fan_in" else fan_out)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Fill by He's uniform rule: U(-r, r) with ``r = gain sqrt(3 / fan)``.

    K. He et al.: Delving deep into rectifiers, ICCV 2015, eq. 14.

    Parameters
    ----------
    tensor : Tensor, shape (fan_out, fan_in, *field)
    a : float, default 0
        The negative slope of "leaky_relu".
    mode : {"fan_in", "fan_out"}
        Keep the variance in the forward or in the backward pass.
    nonlinearity : str, default "leaky_relu"
        See `calculate_gain`.
    """
    fan = _chosen_fan("kaiming_uniform_", tensor, mode)
    bound = calculate_gain(nonlinearity, a) * math.sqrt(3.0 / fan)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Fill by He's normal rule: ``std = gain / sqrt(fan)``; see `kaiming_uniform_`."""
    fan = _chosen_fan("kaiming_normal_", tensor, mode)
    std = calculate_gain(nonlinearity, a) / math.sqrt(fan)
    return normal_(tensor, 0.0, std, generator)


def lecun_uniform_(tensor: Tensor, generator: Generator | None = None) -> Tensor:
    """Fill by LeCun's uniform rule: U(-r, r) with ``r = sqrt(3 / fan_in)``.

    Y. LeCun et al.: Efficient BackProp, 1998, section 4.6 (variance 1 / fan_in).
    """
    bound = math.sqrt(3.0 / _chosen_fan("lecun_uniform_", tensor, "fan_in"))
    return uniform_(tensor, -bound, bound, generator)


def lecun_normal_(tensor: Tensor, generator: Generator | None = None) -> Tensor:
    """Fill by LeCun's normal rule: ``std = sqrt(1 / fan_in)`` (for SELU networks)."""
    std = math.sqrt(1.0 / _chosen_fan("lecun_normal_", tensor, "fan_in"))
    return normal_(tensor, 0.0, std, generator)


@on_its_device
def orthogonal_(
    tensor: Tensor, gain: float = 1, generator: Generator | None = None
) -> Tensor:
    """Fill with a (semi-)orthogonal matrix, uniform over all of them.

    A. Saxe, J. McClelland, S. Ganguli: Exact solutions to the nonlinear dynamics of
    learning in deep linear neural networks, 2013.

    Parameters
    ----------
    tensor : Tensor, shape (rows, ...)
        Trailing dimensions count as one.
    gain : float, default 1
    """
    _check_floating("orthogonal_", tensor)
    if tensor.ndim < 2:
        raise ShapeError(
            f"orthogonal_: expected at least 2 dimensions, got shape "
            f"{tuple(tensor.shape)}"
        )
    if tensor.numel() == 0:
        return tensor
    module = array_module(tensor._array)
    rows = tensor.shape[0]
    columns = tensor.numel() // rows
    tall = _draw("randn", (max(rows, columns), min(rows, columns)), tensor, generator)
    q, r = module.linalg.qr(tall)
    # Signs make the distribution uniform: QR alone prefers some matrices.
    q = q * module.sign(module.diagonal(r))
    q = q.T if rows < columns else q
    return _write("orthogonal_", tensor, (gain * q).reshape(tensor.shape))


@on_its_device
def sparse_(
    tensor: Tensor,
    sparsity: float,
    std: float = 0.01,
    generator: Generator | None = None,
) -> Tensor:
    """Fill a matrix from N(0, std^2), then set a share of each column to zero.

    J. Martens: Deep learning via Hessian-free optimization, ICML 2010.

    Parameters
    ----------
    tensor : Tensor, shape (rows, columns)
    sparsity : float
        The share of zeros in each column, rounded up to whole elements.
    std : float, default 0.01
    """
    _check_floating("sparse_", tensor)
    if tensor.ndim != 2:
        raise ShapeError(
            f"sparse_: expected 2 dimensions, got shape {tuple(tensor.shape)}"
        )
    normal_(tensor, 0.0, std, generator)
    zeros = math.ceil(sparsity * tensor.shape[0])
    module = array_module(tensor._array)
    order = module.argsort(_draw("rand", tensor.shape, tensor, generator), axis=0)
    tensor._array[module.argsort(order, axis=0) < zeros] = 0
    tensor._bump()
    return tensor
