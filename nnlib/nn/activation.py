"""Activations as Modules; each formula stands at the function in `functional`."""

from __future__ import annotations

from typing import Any

from nnlib.autograd.tensor import Parameter, Tensor
from nnlib.backend.errors import ArgumentError
from nnlib.nn import functional as F
from nnlib.nn import init
from nnlib.nn.linear import new_parameter
from nnlib.nn.module import Module

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "GLU",
    "Exponential",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "LogSigmoid",
    "Mish",
    "PReLU",
    "RReLU",
    "ReLU",
    "ReLU6",
    "SELU",
    "SiLU",
    "Sigmoid",
    "Softplus",
    "Softshrink",
    "Softsign",
    "Tanh",
    "Tanhshrink",
    "Threshold",
]


class _Inplace(Module):
    """An activation that may overwrite its input."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def extra_repr(self) -> str:
        """Return whether it works in place."""
        return "inplace=True" if self.inplace else ""

    def _with_inplace(self, text: str) -> str:
        return f"{text}, inplace=True" if self.inplace else text


class ReLU(_Inplace):
    """``max(x, 0)``; see `nnlib.nn.functional.relu`."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the activation."""
        return F.relu(input, self.inplace)


class ReLU6(_Inplace):
    """``min(max(x, 0), 6)``; see `nnlib.nn.functional.relu6`."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the activation."""
        return F.relu6(input, self.inplace)


class LeakyReLU(_Inplace):
    """A line with another slope below 0; see `nnlib.nn.functional.leaky_relu`.

    Parameters
    ----------
    negative_slope : float, default 0.01
    inplace : bool, default False
    """

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.negative_slope = negative_slope

    def forward(self, input: Tensor) -> Tensor:
        """Return the activation."""
        return F.leaky_relu(input, self.negative_slope, self.inplace)

    def extra_repr(self) -> str:
        """Return the slope."""
        return self._with_inplace(f"negative_slope={self.negative_slope}")


class PReLU(Module):
    """A leaky ReLU whose slope is learnt; see `nnlib.nn.functional.prelu`.

    Parameters
    ----------
    num_parameters : int, default 1
        One slope for all, or one per channel (dimension 1).
    init : float, default 0.25
        The initial slope.

    Attributes
    ----------
    weight : Parameter, shape (num_parameters,)
    """

    weight: Parameter

    def __init__(
        self,
        num_parameters: int = 1,
        init: float = 0.25,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.num_parameters = num_parameters
        self.init = init
        self.weight = new_parameter(num_parameters, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the initial slope."""
        init.constant_(self.weight, self.init)

    def forward(self, input: Tensor) -> Tensor:
        """Return the activation."""
        return F.prelu(input, self.weight)

    def extra_repr(self) -> str:
        """Return the number of slopes."""
        return f"num_parameters={self.num_parameters}"


class ELU(_Inplace):
    """The exponential linear unit; see `nnlib.nn.functional.elu`."""

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.alpha = alpha

    def forward(self, input: Tensor) -> Tensor:
        """Return the activation."""
        return F.elu(input, self.alpha, self.inplace)

    def extra_repr(self) -> str:
        """Return alpha."""
        return self._with_inplace(f"alpha={self.alpha}")


class CELU(_Inplace):
    """The continuously differentiable ELU; see `nnlib.nn.functional.celu`."""

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.alpha = alpha

    def forward(self, input: Tensor) -> Tensor:
        """Return the activation."""
        return F.celu(input, self.alpha, self.inplace)

    def extra_repr(self) -> str:
        """Return alpha."""
        return self._with_inplace(f"alpha={self.alpha}")


class SELU(_Inplace):
    """The self-normalising ELU; see `nnlib.nn.functional.selu`."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the activation."""
        return F.selu(input, self.inplace)


class GELU(Module):
    """``x P(Z < x)``; see `nnlib.nn.functional.gelu`.

    Parameters
    ----------
    approximate : {"none", "tanh"}
    """

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        if approximate not in ("none", "tanh"):
            raise ArgumentError(
                f"GELU: approximate: expected 'none' or 'tanh', got {approximate!r}"
            )
        self.approximate = approximate

    def forward(self, input: Tensor) -> Tensor:
        """Return the activation."""
        return F.gelu(input, approximate=self.approximate)

    def extra_repr(self) -> str:
        """Return the form."""
        return f"approximate={self.approximate!r}"


class GLU(Module):
    """Half of the entries, gated by the other half; see `nnlib.nn.functional.glu`."""

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        """Return the activation."""
        return F.glu(input, self.dim)

    def extra_repr(self) -> str:
        """Return the dimension."""
        return f"dim={self.dim}"


class RReLU(_Inplace):
    """Random slopes below 0 while training; see `nnlib.nn.functional.rrelu`."""

    def __init__(
        self, lower: float = 1 / 8, upper: float = 1 / 3, inplace: bool = False
    ) -> None:
        super().__init__(inplace)
        self.lower = lower
        self.upper = upper

    def forward(self, input: Tensor) -> Tensor:
        """Return the activation."""
        return F.rrelu(input, self.lower, self.upper, self.training, self.inplace)

    def extra_repr(self) -> str:
        """Return the bounds of the slope."""
        return self._with_inplace(f"lower={self.lower}, upper={self.upper}")


class SiLU(_Inplace):
    """``x sigmoid(x)``, also called swish; see `nnlib.nn.functional.silu`."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the activation."""
        return F.silu(input, self.inplace)


class Mish(_Inplace):
    """``x tanh(softplus(x))``; see `nnlib.nn.functional.mish`."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the activation."""
        return F.mish(input, self.inplace)


class Softplus(Module):
    """A smooth ReLU; see `nnlib.nn.functional.softplus`."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta = beta
        self.threshold = threshold

    def forward(self, input: Tensor) -> Tensor:
        """Return the activation."""
        return F.softplus(input, self.beta, self.threshold)

    def extra_repr(self) -> str:
        """Return beta and threshold."""
        return f"beta={self.beta}, threshold={self.threshold}"


class Softsign(Module):
    """``x / (1 + |x|)``; see `nnlib.nn.functional.softsign`."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the activation."""
        return F.softsign(input)


class Hardtanh(_Inplace):
    """Clamp to an interval; see `nnlib.nn.functional.hardtanh`."""

    def __init__(
        self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
    ) -> None:
        super().__init__(inplace)
        if min_val >= max_val:
            raise ArgumentError(
                f"Hardtanh: expected min_val < max_val, got {min_val} and {max_val}"
            )
        self.min_val = min_val
        self.max_val = max_val

    def forward(self, input: Tensor) -> Tensor:
        """Return the activation."""
        return F.hardtanh(input, self.min_val, self.max_val, self.inplace)

    def extra_repr(self) -> str:
        """Return the interval."""
        return self._with_inplace(f"min_val={self.min_val}, max_val={self.max_val}")


class Hardsigmoid(_Inplace):
    """A sigmoid of three lines; see `nnlib.nn.functional.hardsigmoid`."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the activation."""
        return F.hardsigmoid(input, self.inplace)


class Hardswish(_Inplace):
    """``x hardsigmoid(x)``; see `nnlib.nn.functional.hardswish`."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the activation."""
        return F.hardswish(input, self.inplace)


class Sigmoid(Module):
    """``1 / (1 + exp(-x))``; see `nnlib.sigmoid`."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the activation."""
        return F.sigmoid(input)


class LogSigmoid(Module):
    """``log(sigmoid(x))``; see `nnlib.nn.functional.logsigmoid`."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the activation."""
        return F.logsigmoid(input)


class Tanh(Module):
    """The hyperbolic tangent; see `nnlib.tanh`."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the activation."""
        return F.tanh(input)


class Exponential(Module):
    """``exp(x)``, the output of models of positive quantities.

    See `nnlib.nn.functional.exponential`.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the activation."""
        return F.exponential(input)


class Hardshrink(Module):
    """Zero within [-lambd, lambd]; see `nnlib.nn.functional.hardshrink`."""

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = lambd

    def forward(self, input: Tensor) -> Tensor:
        """Return the activation."""
        return F.hardshrink(input, self.lambd)

    def extra_repr(self) -> str:
        """Return the limit."""
        return f"{self.lambd}"


class Softshrink(Hardshrink):
    """Moved towards zero by `lambd`; see `nnlib.nn.functional.softshrink`."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the activation."""
        return F.softshrink(input, self.lambd)


class Tanhshrink(Module):
    """``x - tanh(x)``; see `nnlib.nn.functional.tanhshrink`."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the activation."""
        return F.tanhshrink(input)


class Threshold(_Inplace):
    """Another value up to a threshold; see `nnlib.nn.functional.threshold`."""

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.threshold = threshold
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        """Return the activation."""
        return F.threshold(input, self.threshold, self.value, self.inplace)

    def extra_repr(self) -> str:
        """Return threshold and value."""
        return self._with_inplace(f"threshold={self.threshold}, value={self.value}")
