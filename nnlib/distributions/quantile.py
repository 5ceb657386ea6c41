"""The quantile function of the standard normal distribution.

M. J. Wichura: Algorithm AS 241, The percentage points of the normal distribution,
Applied Statistics 37 (1988), 477-484: ratios of polynomials of degree seven, right to
1e-16.
"""

from __future__ import annotations

from nnlib import ops
from nnlib.autograd.tensor import Tensor
from nnlib.backend.dtypes import float32, float64

__all__ = ["normal_quantile"]

# Numerators and denominators, from the constant up: in the middle, in the tails, far
# out.
_MIDDLE = (
    (
        3.3871328727963666080, 1.3314166789178437745e2, 1.9715909503065514427e3,
        1.3731693765509461125e4, 4.5921953931549871457e4, 6.7265770927008700853e4,
        3.3430575583588128105e4, 2.5090809287301226727e3,
    ),
    (
        1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
        2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4,
        5.2264952788528545610e3,
    ),
)  # fmt: skip
_TAIL = (
    (
        1.42343711074968357734, 4.63033784615654529590, 5.76949722146069140550,
        3.64784832476320460504, 1.27045825245236838258, 2.41780725177450611770e-1,
        2.27238449892691845833e-2, 7.74545014278341407640e-4,
    ),
    (
        1.0, 2.05319162663775882187, 1.67638483018380384940, 6.89767334985100004550e-1,
        1.48103976427480074590e-1, 1.51986665636164571966e-2,
        5.47593808499534494600e-4, 1.05075007164441684324e-9,
    ),
)  # fmt: skip
_FAR = (
    (
        6.65790464350110377720, 5.46378491116411436990, 1.78482653991729133580,
        2.96560571828504891230e-1, 2.65321895265761230930e-2,
        1.24266094738807843860e-3, 2.71155556874348757815e-5,
        2.01033439929228813265e-7,
    ),
    (
        1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1,
        1.48753612908506148525e-2, 7.86869131145613259100e-4,
        1.84631831751005468180e-5, 1.42151175831644588870e-7,
        2.04426310338993978564e-15,
    ),
)  # fmt: skip


def _ratio(both: tuple[tuple[float, ...], ...], x: Tensor) -> Tensor:
    parts = []
    for numbers in both:
        value = ops.full_like(x, numbers[-1])
        for number in numbers[-2::-1]:
            value = value * x + number
        parts.append(value)
    return parts[0] / parts[1]


def normal_quantile(chance: Tensor) -> Tensor:
    """Return z of which a standard normal number is below with that probability.

    Infinite at 0 and 1, NaN outside.

    Examples
    --------
    >>> import nnlib
    >>> normal_quantile(nnlib.tensor([0.5, 0.975]))
    tensor([0.  , 1.96])
    """
    dtype = chance.dtype
    p = chance.to(float64 if dtype == float64 else float32)
    off = p - 0.5
    side = off.sign()
    middle = off.abs() <= 0.425
    smaller = ops.where(off < 0, p, 1 - p)
    inside = (smaller > 0) & ~middle
    # Where another branch is taken, a harmless number keeps NaN out of gradients.
    depth = (-ops.where(inside, smaller, ops.full_like(p, 0.05)).log()).sqrt()
    near = ops.where(middle, off, ops.zeros_like(off))
    tails = ops.where(depth <= 5, _ratio(_TAIL, depth - 1.6), _ratio(_FAR, depth - 5.0))
    ends = ops.where(smaller == 0, float("inf"), float("nan")).to(p.dtype)
    tails = ops.where(inside, tails, ends) * side
    found = ops.where(middle, near * _ratio(_MIDDLE, 0.180625 - near * near), tails)
    result: Tensor = found.to(dtype)
    return result
