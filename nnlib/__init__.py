"""nnlib: neural networks on NumPy and CuPy with hand-written kernels."""

from nnlib import autograd as autograd
from nnlib import ops as ops
from nnlib.autograd.mode import (
    enable_grad as enable_grad,
)
from nnlib.autograd.mode import (
    inference_mode as inference_mode,
)
from nnlib.autograd.mode import (
    is_grad_enabled as is_grad_enabled,
)
from nnlib.autograd.mode import (
    no_grad as no_grad,
)
from nnlib.autograd.mode import (
    set_grad_enabled as set_grad_enabled,
)
from nnlib.autograd.tensor import (
    Size as Size,
)
from nnlib.autograd.tensor import (
    Tensor as Tensor,
)
from nnlib.autograd.tensor import (
    as_tensor as as_tensor,
)
from nnlib.autograd.tensor import (
    from_dlpack as from_dlpack,
)
from nnlib.autograd.tensor import (
    from_numpy as from_numpy,
)
from nnlib.autograd.tensor import (
    tensor as tensor,
)
from nnlib.ops import *  # noqa: F403
