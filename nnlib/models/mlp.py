"""The multi-layer perceptron."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nnlib.backend.errors import ShapeError
from nnlib.nn import Dropout, Flatten, Linear, Module, ReLU, Sequential

__all__ = ["MLP"]


class MLP(Sequential):
    """Fully connected layers with an activation after each but the last.

    Inputs of more than two dimensions are flattened first.

    Parameters
    ----------
    sizes : sequence of int
        Features of the input, of each hidden layer, and of the output.
    activation : callable, default ReLU
        Makes the activation Module that follows each hidden layer.
    dropout : float, default 0.0
        The probability of dropping an activation, after each hidden layer.

    Raises
    ------
    ShapeError
        If there are fewer than two sizes, or one is not positive.

    Examples
    --------
    >>> import nnlib
    >>> model = MLP([784, 100, 10])
    >>> tuple(model(nnlib.zeros(32, 1, 28, 28)).shape)
    (32, 10)
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        activation: Callable[[], Module] = ReLU,
        dropout: float = 0.0,
    ) -> None:
        if len(sizes) < 2 or min(sizes) < 1:
            raise ShapeError(
                f"MLP: sizes: expected positive sizes of at least input and output, "
                f"got {list(sizes)}"
            )
        layers: list[Module] = [Flatten()]
        for n_in, n_out in zip(sizes[:-2], sizes[1:-1], strict=True):
            layers += [Linear(n_in, n_out), activation()]
            if dropout:
                layers.append(Dropout(dropout))
        layers.append(Linear(sizes[-2], sizes[-1]))
        super().__init__(*layers)
