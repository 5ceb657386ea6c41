"""An autoencoder of sequences."""

from __future__ import annotations

from nnlib import nn
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ArgumentError, ShapeError

__all__ = ["RecurrentAutoencoder"]


class RecurrentAutoencoder(nn.Module):
    """One recurrent layer reads a sequence into a code, another writes it from there.

    The code is the reader's last state, through a linear layer; the writer gets it at
    every step (sequence to vector, vector to sequence; N. Srivastava, E. Mansimov,
    R. Salakhutdinov: Unsupervised learning of video representations using LSTMs, 2015,
    in its unconditional form).

    Parameters
    ----------
    features, hidden, codes : int
    cell : {"lstm", "gru", "rnn"}

    Examples
    --------
    >>> import nnlib
    >>> model = RecurrentAutoencoder(3, 16, 4)
    >>> x = nnlib.zeros(5, 12, 3)
    >>> tuple(model.encode(x).shape), tuple(model(x).shape)
    ((5, 4), (5, 12, 3))
    """

    def __init__(
        self, features: int, hidden: int, codes: int, cell: str = "lstm"
    ) -> None:
        super().__init__()
        layers = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
        if cell not in layers:
            raise ArgumentError(
                f"RecurrentAutoencoder: cell: expected one of {tuple(layers)}, got "
                f"{cell!r}"
            )
        if min(features, hidden, codes) < 1:
            raise ShapeError(
                "RecurrentAutoencoder: expected positive sizes, got "
                f"{(features, hidden, codes)}"
            )
        self.reader = layers[cell](features, hidden, batch_first=True)
        self.to_code = nn.Linear(hidden, codes)
        self.writer = layers[cell](codes, hidden, batch_first=True)
        self.to_features = nn.Linear(hidden, features)

    def encode(self, input: Tensor) -> Tensor:
        """Return the codes (N, codes) of sequences (N, T, features)."""
        outputs, _ = self.reader(input)
        code: Tensor = self.to_code(outputs[:, -1])
        return code

    def decode(self, codes: Tensor, steps: int) -> Tensor:
        """Return sequences (N, steps, features) for codes (N, codes)."""
        repeated = codes.unsqueeze(1).expand(codes.shape[0], steps, codes.shape[1])
        outputs, _ = self.writer(repeated)
        sequence: Tensor = self.to_features(outputs)
        return sequence

    def forward(self, input: Tensor) -> Tensor:
        """Return the reconstruction, of the input's shape."""
        return self.decode(self.encode(input), input.shape[1])
