"""Recurrent layers over whole sequences: RNN, LSTM, GRU."""

from __future__ import annotations

import math
import numbers
import warnings
from typing import Any

from nnlib import kernels
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ArgumentError, DTypeError, ShapeError
from nnlib.nn import functional as F
from nnlib.nn import init
from nnlib.nn.linear import check_size, new_parameter
from nnlib.nn.module import Module
from nnlib.nn.utils.rnn import PackedSequence
from nnlib.ops.creation import zeros
from nnlib.ops.joining import cat
from nnlib.ops.recurrent import Recurrent
from nnlib.ops.recurrent_composed import GATES, layer

__all__ = ["GRU", "LSTM", "RNN", "RNNBase"]


class RNNBase(Module):
    """What `RNN`, `LSTM` and `GRU` share: parameters, shapes, layers.

    Parameters
    ----------
    mode : {"RNN_TANH", "RNN_RELU", "LSTM", "GRU"}
    input_size, hidden_size : int
        Features of the input and of the hidden state.
    num_layers : int, default 1
        Layers one above the other: each takes the outputs of the one below.
    bias : bool, default True
    batch_first : bool, default False
        Input and output are (N, T, features) in place of (T, N, features). States are
        (layers, N, features) either way.
    dropout : float, default 0
        Probability of dropping an element of the outputs between layers, in training.
    bidirectional : bool, default False
        A second network runs from the last step to the first; outputs are joined.
    proj_size : int, default 0
        LSTM only: outputs are projected to so many features.
    device, dtype : optional
        Of the parameters.

    Attributes
    ----------
    weight_ih_l{k}, weight_hh_l{k}, bias_ih_l{k}, bias_hh_l{k} : Parameter
        Of layer k; with ``_reverse`` at the end those of the backward direction. The
        gates are blocks of rows, in the order i, f, g, o (LSTM) or r, z, n (GRU).
        Initially U(-s, s) with ``s = 1 / sqrt(hidden_size)``.
    weight_hr_l{k} : Parameter, shape (proj_size, hidden_size)
    """

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.mode = mode
        name = type(self).__name__
        if mode not in GATES:
            raise ArgumentError(
                f"{name}: mode: expected one of {', '.join(GATES)}, got {mode!r}"
            )
        check_size(name, "input_size", input_size)
        check_size(name, "hidden_size", hidden_size, 1)
        check_size(name, "num_layers", num_layers, 1)
        check_size(name, "proj_size", proj_size)
        if proj_size and (mode != "LSTM" or proj_size >= hidden_size):
            raise ArgumentError(
                f"{name}: proj_size: expected 0, or for an LSTM less than hidden_size "
                f"({hidden_size}), got {proj_size}"
            )
        number = isinstance(dropout, numbers.Real) and not isinstance(dropout, bool)
        if not number or not 0 <= dropout <= 1:
            raise ArgumentError(
                f"{name}: dropout: expected a number from 0 to 1, got {dropout!r}"
            )
        if dropout and num_layers == 1:
            warnings.warn(
                f"{name}: dropout={dropout} acts between layers, of which there is one",
                stacklevel=3,
            )
        self.input_size, self.hidden_size = input_size, hidden_size
        self.num_layers, self.proj_size = num_layers, proj_size
        self.bias, self.batch_first = bias, batch_first
        self.dropout, self.bidirectional = float(dropout), bidirectional
        self._names = self._make_parameters({"device": device, "dtype": dtype})
        self.reset_parameters()

    def _make_parameters(self, made: dict[str, Any]) -> list[list[str | None]]:
        """Register the parameters; return for each layer their names by direction."""
        rows = GATES[self.mode] * self.hidden_size
        features = self.proj_size or self.hidden_size
        names = []
        for k in range(self.num_layers):
            of_layer: list[str | None] = []
            inputs = self.input_size if k == 0 else features * self._directions
            for suffix in ("", "_reverse")[: self._directions]:
                shapes: dict[str, tuple[int, ...]] = {
                    "weight_ih": (rows, inputs),
                    "weight_hh": (rows, features),
                }
                if self.bias:
                    shapes["bias_ih"] = shapes["bias_hh"] = (rows,)
                if self.proj_size:
                    shapes["weight_hr"] = (self.proj_size, self.hidden_size)
                for name, shape in shapes.items():
                    full = f"{name}_l{k}{suffix}"
                    self.register_parameter(full, new_parameter(*shape, **made))
                    of_layer.append(full)
                    if not self.bias and name == "weight_hh":
                        of_layer += [None, None]
            names.append(of_layer)
        return names

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def flatten_parameters(self) -> None:
        """Do nothing: the kernels pack the weights themselves."""

    @property
    def all_weights(self) -> list[list[Any]]:
        """The parameters of each layer and direction, the lower layers first."""
        found = []
        for names in self._names:
            size = len(names) // self._directions
            for d in range(self._directions):
                part = names[size * d : size * (d + 1)]
                found.append([getattr(self, name) for name in part if name])
        return found

    # -- running -----------------------------------------------------------------

    def forward(self, input: Any, hx: Any = None) -> Any:
        """Run over sequences.

        Parameters
        ----------
        input : Tensor, shape (T, N, input_size), (N, T, input_size) or (T, input_size)
            Or a `PackedSequence`.
        hx : Tensor, shape (layers * directions, N, hidden_size), optional
            The state before the first step, zeros if None. For an LSTM the pair
            (h_0, c_0), where h_0 has proj_size features if that is not 0.

        Returns
        -------
        output : Tensor, shape (T, N, directions * hidden_size)
            The last layer's outputs, in the form of the input.
        hx : Tensor, or pair of Tensors
            The state after each sequence's last step.

        Raises
        ------
        ShapeError
            If the shapes do not fit the layer, or there is no step.
        DTypeError
            If input, states and parameters differ in dtype.
        """
        if isinstance(input, PackedSequence):
            steps = input.steps
            self._check_input(input.data, 2)
            states = self._states(hx, steps.batch, input.data, input.sorted_indices)
            rows, after = self._layers(input.data, states, steps)
            order = input.unsorted_indices
            if order is not None:
                after = [state.index_select(1, order) for state in after]
            return input.with_data(rows), self._pair(after)
        single = input.ndim == 2
        self._check_input(input, 3)
        x = input
        if not single and self.batch_first:
            x = x.transpose(0, 1)  # (N, T, I) -> (T, N, I)
        count = x.shape[0]
        batch = 1 if single else x.shape[1]
        states = self._states(hx, batch, x, None, single)
        steps = kernels.recurrent.equal_steps(count, batch)
        rows, after = self._layers(x.reshape(-1, self.input_size), states, steps)
        if single:
            return rows, self._pair([state.squeeze(1) for state in after])
        out = rows.reshape(count, batch, rows.shape[1])  # (T*N, H) -> (T, N, H)
        return out.transpose(0, 1) if self.batch_first else out, self._pair(after)

    def _pair(self, states: list[Tensor]) -> Any:
        return tuple(states) if self.mode == "LSTM" else states[0]

    def _check_input(self, x: Any, ndim: int) -> None:
        name = type(self).__name__
        shape = tuple(x.shape)
        if len(shape) not in (2, ndim):
            expected = "(N, T, I)" if self.batch_first else "(T, N, I)"
            raise ShapeError(
                f"{name}: input: expected shape {expected} or (T, I), got {shape}"
            )
        if shape[-1] != self.input_size:
            raise ShapeError(
                f"{name}: input has {shape[-1]} features in its last dimension, "
                f"expected input_size={self.input_size}"
            )
        steps = shape[1] if self.batch_first and len(shape) == 3 else shape[0]
        if not steps:
            raise ShapeError(f"{name}: input: expected at least one step, got {shape}")
        dtype = getattr(self, self._names[0][0] or "").dtype
        if x.dtype != dtype:
            raise DTypeError(f"{name}: input is {x.dtype}, the parameters are {dtype}")

    def _states(
        self, hx: Any, batch: int, x: Any, order: Any, single: bool = False
    ) -> list[Any]:
        """Return the states before the first step, (layers * D, N, features) each."""
        lstm = self.mode == "LSTM"
        name = type(self).__name__
        layers = self.num_layers * self._directions
        widths = [self.proj_size or self.hidden_size, self.hidden_size][: 1 + lstm]
        if hx is None:
            return [
                zeros(layers, batch, width, dtype=x.dtype, device=x.device)
                for width in widths
            ]
        if lstm != isinstance(hx, tuple | list) or (lstm and len(hx) != 2):
            expected = "a pair (h_0, c_0)" if lstm else "a Tensor"
            raise ArgumentError(
                f"{name}: hx: expected {expected}, got {type(hx).__name__}"
            )
        found = []
        for label, state, width in zip(
            ("h_0", "c_0"), hx if lstm else (hx,), widths, strict=False
        ):
            expected_shape = (layers, width) if single else (layers, batch, width)
            if tuple(state.shape) != expected_shape:
                raise ShapeError(
                    f"{name}: {label} has shape {tuple(state.shape)}, expected "
                    f"{expected_shape}: (num_layers * directions, "
                    f"{'' if single else 'N, '}features)"
                )
            if state.dtype != x.dtype:
                raise DTypeError(
                    f"{name}: {label} is {state.dtype}, the input is {x.dtype}"
                )
            if single:
                state = state.unsqueeze(1)
            found.append(state if order is None else state.index_select(1, order))
        return found

    def _layers(self, x: Any, states: list[Any], steps: Any) -> tuple[Any, list[Any]]:
        """Run all layers over rows; return the last one's outputs and all states."""
        count = self._directions
        after: list[Any] = []
        for k, names in enumerate(self._names):
            h, c = states[0], states[1] if len(states) > 1 else None
            if self.num_layers > 1:
                part = slice(k * count, (k + 1) * count)
                h, c = h[part], None if c is None else c[part]
            weights = [None if name is None else getattr(self, name) for name in names]
            if self.proj_size:
                x, *found = layer(self.mode, x, h, c, weights, steps)
            else:
                x, *found = Recurrent.apply(
                    x, h, c, *weights, mode=self.mode, steps=steps
                )
            after.append(found)
            if self.dropout and k < self.num_layers - 1:
                x = F.dropout(x, self.dropout, self.training)
        if self.num_layers == 1:
            return x, after[0]
        return x, [cat(parts) for parts in zip(*after, strict=True)]

    def extra_repr(self) -> str:
        """Return the sizes and what differs from the defaults."""
        text = f"{self.input_size}, {self.hidden_size}"
        for name, default in (
            ("proj_size", 0),
            ("num_layers", 1),
            ("bias", True),
            ("batch_first", False),
            ("dropout", 0.0),
            ("bidirectional", False),
        ):
            value = getattr(self, name)
            if value != default:
                text += f", {name}={value}"
        return text


class RNN(RNNBase):
    """Simple (Elman) recurrent network.

    ``h_t = tanh(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh)``, or ReLU in place of tanh.
    Arguments, shapes and parameters: `RNNBase`.

    Parameters
    ----------
    nonlinearity : {"tanh", "relu"}

    Examples
    --------
    >>> import nnlib
    >>> output, h_n = RNN(10, 20, num_layers=2)(nnlib.zeros(5, 3, 10))
    >>> tuple(output.shape), tuple(h_n.shape)
    ((5, 3, 20), (2, 3, 20))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ArgumentError(
                f"RNN: nonlinearity: expected 'tanh' or 'relu', got {nonlinearity!r}"
            )
        super().__init__(
            f"RNN_{nonlinearity.upper()}", input_size, hidden_size, num_layers, bias,
            batch_first, dropout, bidirectional, 0, device, dtype,
        )  # fmt: skip
        self.nonlinearity = nonlinearity


class LSTM(RNNBase):
    """Long short-term memory (Hochreiter and Schmidhuber 1997; Gers et al. 2000).

    ::

        i, f, o = sigmoid(...), sigmoid(...), sigmoid(...)      g = tanh(...)
        c_t = f c_(t-1) + i g                                   h_t = o tanh(c_t)

    each of ``W_ih x_t + b_ih + W_hh h_(t-1) + b_hh``. With `proj_size` the output is
    ``W_hr h_t`` (Sak et al. 2014). Arguments, shapes and parameters: `RNNBase`.

    Examples
    --------
    >>> import nnlib
    >>> output, (h_n, c_n) = LSTM(10, 20, bidirectional=True)(nnlib.zeros(5, 3, 10))
    >>> tuple(output.shape), tuple(c_n.shape)
    ((5, 3, 40), (2, 3, 20))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            "LSTM", input_size, hidden_size, num_layers, bias, batch_first, dropout,
            bidirectional, proj_size, device, dtype,
        )  # fmt: skip


class GRU(RNNBase):
    """Gated recurrent unit (Cho et al. 2014), in PyTorch's form.

    ::

        r, z = sigmoid(...), sigmoid(...)
        n = tanh(W_in x_t + b_in + r (W_hn h_(t-1) + b_hn))
        h_t = (1 - z) n + z h_(t-1)

    Arguments, shapes and parameters: `RNNBase`.

    Examples
    --------
    >>> import nnlib
    >>> output, h_n = GRU(10, 20, batch_first=True)(nnlib.zeros(3, 5, 10))
    >>> tuple(output.shape), tuple(h_n.shape)
    ((3, 5, 20), (1, 3, 20))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            "GRU", input_size, hidden_size, num_layers, bias, batch_first, dropout,
            bidirectional, 0, device, dtype,
        )  # fmt: skip
