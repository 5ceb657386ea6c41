"""One step of a recurrent network: RNNCell, LSTMCell, GRUCell."""

from __future__ import annotations

import math
from typing import Any

from nnlib import kernels
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ArgumentError, DTypeError, ShapeError
from nnlib.nn import init
from nnlib.nn.linear import check_size, new_parameter
from nnlib.nn.module import Module
from nnlib.ops.creation import zeros
from nnlib.ops.recurrent import Recurrent
from nnlib.ops.recurrent_composed import GATES

__all__ = ["GRUCell", "LSTMCell", "RNNCell"]


class RNNCellBase(Module):
    """What the cells share.

    Parameters
    ----------
    mode : {"RNN_TANH", "RNN_RELU", "LSTM", "GRU"}
    input_size, hidden_size : int
    bias : bool
    device, dtype : optional
        Of the parameters.

    Attributes
    ----------
    weight_ih : Parameter, shape (gates * hidden_size, input_size)
    weight_hh : Parameter, shape (gates * hidden_size, hidden_size)
    bias_ih, bias_hh : Parameter, shape (gates * hidden_size,), or None
        All U(-s, s) initially, ``s = 1 / sqrt(hidden_size)``.
    """

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        check_size(name, "input_size", input_size)
        check_size(name, "hidden_size", hidden_size, 1)
        self.mode = mode
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        rows = GATES[mode] * hidden_size
        made = {"device": device, "dtype": dtype}
        self.weight_ih = new_parameter(rows, input_size, **made)
        self.weight_hh = new_parameter(rows, hidden_size, **made)
        for label in ("bias_ih", "bias_hh"):
            offset = new_parameter(rows, **made) if bias else None
            self.register_parameter(label, offset)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def _check(self, label: str, x: Any, shape: tuple[int, ...]) -> None:
        name = type(self).__name__
        if tuple(x.shape) != shape:
            raise ShapeError(
                f"{name}: {label} has shape {tuple(x.shape)}, expected {shape}"
            )
        if x.dtype != self.weight_ih.dtype:
            raise DTypeError(
                f"{name}: {label} is {x.dtype}, the parameters are "
                f"{self.weight_ih.dtype}"
            )

    def _run(self, input: Any, states: Any) -> list[Any]:
        """Return the states after one step, in the form of `input`."""
        if input.ndim not in (1, 2):
            raise ShapeError(
                f"{type(self).__name__}: input: expected shape (N, I) or (I,), got "
                f"{tuple(input.shape)}"
            )
        lead = tuple(input.shape[:-1])
        self._check("input", input, (*lead, self.input_size))
        count = 2 if self.mode == "LSTM" else 1
        if states is None:
            made = {"dtype": input.dtype, "device": input.device}
            states = [zeros(*lead, self.hidden_size, **made)] * count
        for label, state in zip(("h_0", "c_0"), states, strict=False):
            self._check(label, state, (*lead, self.hidden_size))
        batch = lead[0] if lead else 1
        # (N, H) or (H,) -> (1, N, H)
        h, *c = (state.reshape(1, batch, self.hidden_size) for state in states)
        after = Recurrent.apply(
            input.reshape(batch, self.input_size), h, c[0] if c else None,
            self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh, mode=self.mode,
            steps=kernels.recurrent.equal_steps(1, batch),
        )[1:]  # fmt: skip
        return [state.reshape(*lead, self.hidden_size) for state in after]

    def extra_repr(self) -> str:
        """Return the sizes."""
        text = f"{self.input_size}, {self.hidden_size}"
        return text if self.bias else f"{text}, bias=False"


class RNNCell(RNNCellBase):
    """One step of `nnlib.nn.RNN`; parameters as for `RNNCellBase`.

    Parameters
    ----------
    nonlinearity : {"tanh", "relu"}

    Examples
    --------
    >>> import nnlib
    >>> tuple(RNNCell(10, 20)(nnlib.zeros(3, 10)).shape)
    (3, 20)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ArgumentError(
                f"RNNCell: nonlinearity: expected 'tanh' or 'relu', got "
                f"{nonlinearity!r}"
            )
        mode = f"RNN_{nonlinearity.upper()}"
        super().__init__(mode, input_size, hidden_size, bias, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """Return the output for `input` (N, I) or (I,) after the output `hx`."""
        return self._run(input, None if hx is None else (hx,))[0]  # type: ignore[no-any-return]


class GRUCell(RNNCellBase):
    """One step of `nnlib.nn.GRU`; parameters as for `RNNCellBase`.

    Examples
    --------
    >>> import nnlib
    >>> tuple(GRUCell(10, 20)(nnlib.zeros(3, 10)).shape)
    (3, 20)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__("GRU", input_size, hidden_size, bias, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """Return the output for `input` (N, I) or (I,) after the output `hx`."""
        return self._run(input, None if hx is None else (hx,))[0]  # type: ignore[no-any-return]


class LSTMCell(RNNCellBase):
    """One step of `nnlib.nn.LSTM`; parameters as for `RNNCellBase`.

    Examples
    --------
    >>> import nnlib
    >>> h, c = LSTMCell(10, 20)(nnlib.zeros(3, 10))
    >>> tuple(h.shape), tuple(c.shape)
    ((3, 20), (3, 20))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__("LSTM", input_size, hidden_size, bias, device, dtype)

    def forward(
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return output and cell state for `input` after the pair `hx` of them."""
        if hx is not None and (not isinstance(hx, tuple | list) or len(hx) != 2):
            raise ArgumentError(
                f"LSTMCell: hx: expected a pair (h_0, c_0), got {type(hx).__name__}"
            )
        h, c = self._run(input, hx)
        return h, c
