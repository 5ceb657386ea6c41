"""Activation functions and their derivatives, and a few maps of the same kind.

Each function is one scalar definition for both targets; `elementwise` makes the loops.
A gradient takes what its text says was saved: the output where that is enough (relu,
sigmoid, tanh), else the input. A NaN passes through every one of them.

Examples
--------
>>> import numpy as np
>>> relu(np.array([-1.0, 2.0]))
array([0., 2.])
>>> relu_backward(np.array([3.0, 3.0]), np.array([0.0, 2.0]))
array([0., 3.])
"""

from __future__ import annotations

from typing import Any

from nnlib.kernels import special
from nnlib.kernels.elementwise import BiasMap, Gradient, Map, scalar
from nnlib.kernels.special import divide, maximum, minimum, select

# Where softplus is linear to the last bit of a float32; PyTorch's default threshold.
_LINEAR = 20.0


@scalar
def relu_at(x: Any, parameter: Any) -> Any:
    """Rectified linear unit: max(x, 0)."""
    return maximum(x, type(x)(0))


@scalar
def relu_backward_at(g: Any, y: Any, parameter: Any) -> Any:
    """Gradient of relu from its output (or input): g where y > 0 or y is NaN."""
    return select(y <= type(y)(0), type(g)(0), g)


@scalar
def leaky_relu_at(x: Any, slope: Any) -> Any:
    """Leaky rectified linear unit: x above 0, else parameter * x (Maas 2013)."""
    return select(x > type(x)(0), x, x * slope)


@scalar
def leaky_relu_backward_at(g: Any, x: Any, slope: Any) -> Any:
    """Gradient of leaky_relu from its input."""
    return select(x > type(x)(0), g, g * slope)


@scalar
def sigmoid_at(x: Any, parameter: Any) -> Any:
    """Logistic function: 1 / (1 + exp(-x))."""
    one = type(x)(1)
    return divide(one, one + special.exp(-x))


@scalar
def sigmoid_backward_at(g: Any, y: Any, parameter: Any) -> Any:
    """Gradient of sigmoid from its output: g * y * (1 - y)."""
    return g * ((type(y)(1) - y) * y)


@scalar
def tanh_at(x: Any, parameter: Any) -> Any:
    """Hyperbolic tangent."""
    return special.tanh(x)


@scalar
def tanh_backward_at(g: Any, y: Any, parameter: Any) -> Any:
    """Gradient of tanh from its output: g * (1 - y * y)."""
    return g * (type(y)(1) - y * y)


@scalar
def gelu_at(x: Any, parameter: Any) -> Any:
    """Gaussian error linear unit: x * Phi(x) (Hendrycks and Gimpel 2016)."""
    kind = type(x)
    return x * (kind(0.5) * (kind(1) + special.erf(x * kind(0.7071067811865476))))


@scalar
def gelu_backward_at(g: Any, x: Any, parameter: Any) -> Any:
    """Gradient of gelu from its input: g * (Phi(x) + x * phi(x))."""
    kind = type(x)
    cumulative = kind(0.5) * (kind(1) + special.erf(x * kind(0.7071067811865476)))
    density = special.exp(kind(-0.5) * x * x) * kind(0.3989422804014327)
    return g * (cumulative + x * density)


@scalar
def gelu_tanh_at(x: Any, parameter: Any) -> Any:
    """Tanh form of gelu: x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 * x**3)))."""
    kind = type(x)
    inner = kind(0.7978845608028654) * (x + kind(0.044715) * x * x * x)
    return kind(0.5) * x * (kind(1) + special.tanh(inner))


@scalar
def gelu_tanh_backward_at(g: Any, x: Any, parameter: Any) -> Any:
    """Gradient of gelu_tanh from its input."""
    kind = type(x)
    square = x * x
    inner = kind(0.7978845608028654) * (x + kind(0.044715) * square * x)
    t = special.tanh(inner)
    slope = kind(0.7978845608028654) * (kind(1) + kind(0.134145) * square)
    left = kind(0.5) * (kind(1) + t)
    return g * (left + kind(0.5) * x * (kind(1) - t * t) * slope)


@scalar
def silu_at(x: Any, parameter: Any) -> Any:
    """Sigmoid linear unit: x / (1 + exp(-x)) (Elfwing et al. 2018)."""
    return divide(x, type(x)(1) + special.exp(-x))


@scalar
def silu_backward_at(g: Any, x: Any, parameter: Any) -> Any:
    """Gradient of silu from its input: g * s * (1 + x * (1 - s)), s = sigmoid(x)."""
    one = type(x)(1)
    s = divide(one, one + special.exp(-x))
    return g * (s * (one + x * (one - s)))


@scalar
def softplus_at(x: Any, beta: Any) -> Any:
    """Smooth rectifier: log(1 + exp(beta * x)) / beta; x where beta * x > 20."""
    scaled = x * beta
    soft = divide(special.log1p(special.exp(scaled)), beta)
    return select(scaled > type(x)(_LINEAR), x, soft)


@scalar
def softplus_backward_at(g: Any, x: Any, beta: Any) -> Any:
    """Gradient of softplus from its input: g * sigmoid(beta * x)."""
    one = type(x)(1)
    scaled = x * beta
    slope = divide(one, one + special.exp(-scaled))
    return select(scaled > type(x)(_LINEAR), g, g * slope)


@scalar
def elu_at(x: Any, alpha: Any) -> Any:
    """Exponential linear unit: x above 0, alpha * (exp(x) - 1) below (Clevert 2016)."""
    return select(x > type(x)(0), x, alpha * special.expm1(x))


@scalar
def elu_backward_at(g: Any, x: Any, alpha: Any) -> Any:
    """Gradient of elu from its input."""
    return select(x > type(x)(0), g, g * alpha * special.exp(x))


@scalar
def mish_at(x: Any, parameter: Any) -> Any:
    """Mish: x * tanh(log(1 + exp(x))) (Misra 2019).

    With e = exp(x) and n = e * (e + 2), the tanh is n / (n + 2).
    """
    kind = type(x)
    # Beyond the threshold the tanh is 1 to the last bit of a float64.
    e = special.exp(minimum(x, kind(_LINEAR)))
    n = e * (e + kind(2))
    return x * divide(n, n + kind(2))


@scalar
def mish_backward_at(g: Any, x: Any, parameter: Any) -> Any:
    """Gradient of mish from its input: g * (t + x * sigmoid(x) * (1 - t * t))."""
    kind = type(x)
    e = special.exp(minimum(x, kind(_LINEAR)))
    n = e * (e + kind(2))
    rest = divide(kind(2), n + kind(2))
    t = divide(n, n + kind(2))
    s = divide(e, e + kind(1))
    # Beyond the threshold x would grow and the rest not shrink.
    slope = t + x * (s * rest * (kind(1) + t))
    return select(x > kind(_LINEAR), g, g * slope)


@scalar
def log_sigmoid_at(x: Any, parameter: Any) -> Any:
    """Logarithm of sigmoid: min(x, 0) - log(1 + exp(-|x|))."""
    return minimum(x, type(x)(0)) - special.log1p(special.exp(-abs(x)))


@scalar
def log_sigmoid_backward_at(g: Any, x: Any, parameter: Any) -> Any:
    """Gradient of log_sigmoid from its input: g * sigmoid(-x)."""
    one = type(x)(1)
    return g * divide(one, one + special.exp(x))


@scalar
def erf_at(x: Any, parameter: Any) -> Any:
    """Error function."""
    return special.erf(x)


@scalar
def erf_backward_at(g: Any, x: Any, parameter: Any) -> Any:
    """Gradient of erf from its input: g * 2 / sqrt(pi) * exp(-x * x)."""
    return g * (type(x)(1.1283791670955126) * special.exp(-x * x))


@scalar
def exp_at(x: Any, parameter: Any) -> Any:
    """Exponential; its gradient from the output is g * y."""
    return special.exp(x)


@scalar
def expm1_at(x: Any, parameter: Any) -> Any:
    """Exponential less 1."""
    return special.expm1(x)


@scalar
def log_at(x: Any, parameter: Any) -> Any:
    """Natural logarithm; its gradient from the input is g / x."""
    return special.log(x)


@scalar
def log1p_at(x: Any, parameter: Any) -> Any:
    """Natural logarithm of 1 + x."""
    return special.log1p(x)


@scalar
def identity_at(x: Any, parameter: Any) -> Any:
    """Return x: with a bias, the sum of both."""
    return x


relu = Map(relu_at)
relu_backward = Gradient(relu_backward_at)
bias_relu = BiasMap(relu_at)
leaky_relu = Map(leaky_relu_at)
leaky_relu_backward = Gradient(leaky_relu_backward_at)
sigmoid = Map(sigmoid_at)
sigmoid_backward = Gradient(sigmoid_backward_at)
bias_sigmoid = BiasMap(sigmoid_at)
bias_tanh = BiasMap(tanh_at)
bias_add = BiasMap(identity_at)
bias_gelu = BiasMap(gelu_at)
bias_silu = BiasMap(silu_at)
gelu = Map(gelu_at)
gelu_backward = Gradient(gelu_backward_at)
gelu_tanh = Map(gelu_tanh_at)
gelu_tanh_backward = Gradient(gelu_tanh_backward_at)
silu = Map(silu_at)
silu_backward = Gradient(silu_backward_at)
softplus = Map(softplus_at)
softplus_backward = Gradient(softplus_backward_at)
elu = Map(elu_at)
elu_backward = Gradient(elu_backward_at)
mish = Map(mish_at)
mish_backward = Gradient(mish_backward_at)
log_sigmoid = Map(log_sigmoid_at)
log_sigmoid_backward = Gradient(log_sigmoid_backward_at)
erf = Map(erf_at)
erf_backward = Gradient(erf_backward_at)
exp = Map(exp_at)
expm1 = Map(expm1_at)
log = Map(log_at)
log1p = Map(log1p_at)
tanh = Map(tanh_at)
tanh_backward = Gradient(tanh_backward_at)
