"""Unsupervised pretraining: a stack of autoencoders, one layer after the other.

Y. Bengio, P. Lamblin, D. Popovici, H. Larochelle: Greedy layer-wise training of deep
networks, 2007.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nnlib import nn
from nnlib.autograd.mode import no_grad
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ShapeError
from nnlib.data import DataLoader, TensorDataset
from nnlib.nn import Module
from nnlib.nn.functional import mse_loss
from nnlib.optim import Adam
from nnlib.train.fit import fit, predict

__all__ = ["pretrain_stack"]


class _OneLayer(nn.Module):
    """A denoising autoencoder of one layer; the decoder is thrown away."""

    def __init__(
        self, layer: nn.Linear, activation: Module, noise: Module | None
    ) -> None:
        super().__init__()
        self.encoder = nn.Sequential(layer, activation)
        self.decoder = nn.Linear(layer.out_features, layer.in_features)
        self.noise = noise

    def forward(self, input: Tensor) -> Tensor:
        disturbed = input if self.noise is None else self.noise(input)
        output: Tensor = self.decoder(self.encoder(disturbed))
        return output


def pretrain_stack(
    layers: Sequence[nn.Linear],
    inputs: Tensor,
    *,
    activation: Callable[[], Module] = nn.ReLU,
    noise: Module | None = None,
    epochs: int = 10,
    batch_size: int = 128,
    lr: float = 1e-3,
    seed: int = 0,
    progress: bool = True,
) -> list[float]:
    """Train each layer, in place, to encode what the layers before it give.

    No labels are used. Each layer learns, with a decoder of its own, to reconstruct
    its input by the squared error; then it is left alone and the next one learns from
    its outputs.

    Parameters
    ----------
    layers : sequence of Linear
        From the input up, for instance those of an `nnlib.models.MLP` but its last.
    inputs : Tensor, shape (N, features)
    activation : callable, default ReLU
        Makes the activation behind each layer.
    noise : Module, optional
        Disturbs each layer's input: stacked denoising autoencoders (P. Vincent et al.,
        2010).
    epochs : int, default 10
        Of each layer.
    batch_size : int, default 128
    lr : float, default 0.001
        Of Adam.
    seed : int, default 0
        Of the order of the samples.
    progress : bool, default True

    Returns
    -------
    list of float
        The last training loss of each layer.

    Raises
    ------
    ShapeError
        If the layers do not follow each other.
    """
    losses = []
    with no_grad():
        hidden = inputs.flatten(1)
    for number, layer in enumerate(layers):
        if layer.in_features != hidden.shape[1]:
            raise ShapeError(
                f"pretrain_stack: layers[{number}] takes {layer.in_features} features, "
                f"but {hidden.shape[1]} come before it"
            )
        model = _OneLayer(layer, activation(), noise).to(hidden.device)
        history = fit(
            model,
            DataLoader(TensorDataset(hidden), batch_size, shuffle=True, generator=seed),
            optimizer=Adam(model.parameters(), lr=lr),
            loss=mse_loss,
            epochs=epochs,
            progress=progress,
        )
        losses.append(history["loss"][-1] if epochs else float("nan"))
        hidden = predict(model.encoder, hidden, 1024)
    return losses
