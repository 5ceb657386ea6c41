"""What an optimiser does to one element: the rules of `nnlib.kernels.optimizer`.

A rule takes an element of the parameter, of its gradient and of up to three kept arrays
(a, b, c), and the settings h; it returns the parameter and what is kept. The formulas
are PyTorch's, operation by operation.
"""

from __future__ import annotations

from typing import Any

from nnlib.kernels import special
from nnlib.kernels.elementwise import scalar

# Every rule reads these three settings first: sign (-1 to maximise), decay, l1.


@scalar
def penalised(p: Any, g: Any, h: Any) -> Any:
    """Return the gradient with the penalties' added: h is sign, decay, l1, ..."""
    zero = type(p)(0)
    g = g * h[0]
    # Without decay an infinite parameter must not make a NaN.
    g = special.select(h[1] == zero, g, g + h[1] * p)
    one = type(p)(1)
    sign = special.select(p > zero, one, special.select(p < zero, -one, zero))
    return special.select(h[2] == zero, g, g + h[2] * sign)


@scalar
def sgd_at(p: Any, g: Any, a: Any, b: Any, c: Any, h: Any) -> Any:
    """Gradient descent; settings: sign, decay, l1, lr."""
    return p - h[3] * penalised(p, g, h), a, b, c


@scalar
def momentum_at(p: Any, g: Any, a: Any, b: Any, c: Any, h: Any) -> Any:
    """With momentum; further settings: momentum, 1 - dampening, Nesterov, first."""
    zero = type(p)(0)
    g = penalised(p, g, h)
    a = special.select(h[7] != zero, g, h[4] * a + h[5] * g)
    g = special.select(h[6] != zero, g + h[4] * a, a)
    return p - h[3] * g, a, b, c


@scalar
def moments(p: Any, g: Any, a: Any, b: Any, h: Any) -> Any:
    """Return p after its decay, both moments and the penalised gradient.

    h[3:7]: the factor of the decoupled decay, 1 - beta1, beta2, 1 - beta2.
    """
    g = penalised(p, g, h)
    return p * h[3], a + (g - a) * h[4], h[5] * b + h[6] * (g * g), g


@scalar
def adam_at(p: Any, g: Any, a: Any, b: Any, c: Any, h: Any) -> Any:
    """Adam; settings: those of `moments`, root, eps, step size."""
    p, a, b, g = moments(p, g, a, b, h)
    return p - h[9] * (a / (special.sqrt(b) / h[7] + h[8])), a, b, c


@scalar
def amsgrad_at(p: Any, g: Any, a: Any, b: Any, c: Any, h: Any) -> Any:
    """Adam with the largest second moment so far, which c keeps."""
    p, a, b, g = moments(p, g, a, b, h)
    c = special.maximum(c, b)
    return p - h[9] * (a / (special.sqrt(c) / h[7] + h[8])), a, b, c


@scalar
def nadam_at(p: Any, g: Any, a: Any, b: Any, c: Any, h: Any) -> Any:
    """NAdam; settings: those of `moments`, correction, eps, two step sizes."""
    p, a, b, g = moments(p, g, a, b, h)
    root = special.sqrt(b / h[7]) + h[8]
    return p - h[9] * (g / root) - h[10] * (a / root), a, b, c


@scalar
def radam_at(p: Any, g: Any, a: Any, b: Any, c: Any, h: Any) -> Any:
    """RAdam; settings: those of `moments`, root, eps, step size, rectified."""
    p, a, b, g = moments(p, g, a, b, h)
    one = type(p)(1)
    root = special.select(h[10] != type(p)(0), h[7] / (special.sqrt(b) + h[8]), one)
    return p - h[9] * a * root, a, b, c


@scalar
def adamax_at(p: Any, g: Any, a: Any, b: Any, c: Any, h: Any) -> Any:
    """Adamax; further settings: 1 - beta1, beta2, eps, step size."""
    g = penalised(p, g, h)
    a = a + (g - a) * h[3]
    b = special.maximum(h[4] * b, abs(g) + h[5])
    return p - h[6] * (a / b), a, b, c


@scalar
def adagrad_at(p: Any, g: Any, a: Any, b: Any, c: Any, h: Any) -> Any:
    """Adagrad; further settings: step size, eps."""
    g = penalised(p, g, h)
    a = a + g * g
    return p - h[3] * (g / (special.sqrt(a) + h[4])), a, b, c


@scalar
def adadelta_at(p: Any, g: Any, a: Any, b: Any, c: Any, h: Any) -> Any:
    """Adadelta; further settings: lr, rho, 1 - rho, eps."""
    g = penalised(p, g, h)
    a = h[4] * a + h[5] * (g * g)
    delta = special.sqrt(b + h[6]) / special.sqrt(a + h[6]) * g
    return p - h[3] * delta, a, h[4] * b + h[5] * (delta * delta), c


@scalar
def rmsprop_at(p: Any, g: Any, a: Any, b: Any, c: Any, h: Any) -> Any:
    """RMSprop; further settings: lr, alpha, 1 - alpha, eps, momentum (kept in b)."""
    g = penalised(p, g, h)
    a = h[4] * a + h[5] * (g * g)
    b = h[7] * b + g / (special.sqrt(a) + h[6])
    return p - h[3] * b, a, b, c


@scalar
def rmsprop_centred_at(p: Any, g: Any, a: Any, b: Any, c: Any, h: Any) -> Any:
    """Centred RMSprop: b keeps the mean gradient, c the momentum."""
    g = penalised(p, g, h)
    a = h[4] * a + h[5] * (g * g)
    b = b + (g - b) * h[5]
    c = h[7] * c + g / (special.sqrt(a - b * b) + h[6])
    return p - h[3] * c, a, b, c


@scalar
def rprop_at(p: Any, g: Any, a: Any, b: Any, c: Any, h: Any) -> Any:
    """Rprop: a keeps the gradient, b the step; further: eta-, eta+, least, most."""
    g = penalised(p, g, h)
    zero, one = type(p)(0), type(p)(1)
    agreement = g * a
    turned = agreement < zero
    factor = special.select(turned, h[3], special.select(agreement > zero, h[4], one))
    b = special.minimum(special.maximum(b * factor, h[5]), h[6])
    g = special.select(turned, zero, g)
    sign = special.select(g > zero, one, special.select(g < zero, -one, zero))
    return p - sign * b, g, b, c


@scalar
def asgd_at(p: Any, g: Any, a: Any, b: Any, c: Any, h: Any) -> Any:
    """Averaged SGD: a keeps the average; further settings: shrink, eta, mu."""
    g = penalised(p, g, h)
    p = p * h[3] - h[4] * g
    return p, special.select(h[5] == type(p)(1), p, a + (p - a) * h[5]), b, c
