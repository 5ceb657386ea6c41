"""Special functions: those of ``torch.special`` that there are.

Each is documented where it is defined, in ``nnlib/ops`` (``special_functions``,
``exponential``, ``trigonometric``, ``reduction``, ``softmax``).
"""

from nnlib.ops import digamma as digamma
from nnlib.ops import digamma as psi
from nnlib.ops import (
    erf,
    erfc,
    erfinv,
    exp2,
    expm1,
    log1p,
    log_softmax,
    logit,
    logsumexp,
    polygamma,
    round,
    sinc,
    softmax,
    xlogy,
)
from nnlib.ops import igamma as gammainc
from nnlib.ops import igammac as gammaincc
from nnlib.ops import lgamma as gammaln
from nnlib.ops import mvlgamma as multigammaln
from nnlib.ops import sigmoid as expit
from nnlib.ops.special_functions import special_entr as entr
from nnlib.ops.special_functions import special_ndtr as ndtr
from nnlib.ops.special_functions import special_xlog1py as xlog1py

__all__ = [
    "digamma",
    "entr",
    "erf",
    "erfc",
    "erfinv",
    "exp2",
    "expit",
    "expm1",
    "gammainc",
    "gammaincc",
    "gammaln",
    "log1p",
    "log_softmax",
    "logit",
    "logsumexp",
    "multigammaln",
    "ndtr",
    "polygamma",
    "psi",
    "round",
    "sinc",
    "softmax",
    "xlog1py",
    "xlogy",
]
