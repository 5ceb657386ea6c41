"""Autoencoders: networks that learn to give back their input through a narrow code.

The base class takes any encoder and decoder; the others build the usual ones. All
return the reconstruction, so that `nnlib.train.fit` trains them on batches of one
tensor, with `mse_loss` or `binary_cross_entropy`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nnlib import nn
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ShapeError
from nnlib.nn import functional as F
from nnlib.ops import zeros

__all__ = [
    "Autoencoder",
    "ConvAutoencoder",
    "DeepAutoencoder",
    "LinearAutoencoder",
    "TiedAutoencoder",
]

Activation = Callable[[], nn.Module]


class Autoencoder(nn.Module):
    """An encoder, then a decoder.

    Parameters
    ----------
    encoder, decoder : Module
        From inputs to codes, and back.
    noise : Module, optional
        Disturbs the input in training: a denoising autoencoder, whose target is the
        undisturbed input (`nn.GaussianNoise`, `nn.MaskingNoise`; P. Vincent et al.,
        2008).

    Examples
    --------
    >>> import nnlib
    >>> from nnlib import nn
    >>> model = Autoencoder(nn.Linear(6, 2), nn.Linear(2, 6), nn.GaussianNoise(0.1))
    >>> x = nnlib.zeros(3, 6)
    >>> tuple(model(x).shape), tuple(model.encode(x).shape)
    ((3, 6), (3, 2))
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, noise: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.noise = noise

    def encode(self, input: Tensor) -> Tensor:
        """Return the codes."""
        codes: Tensor = self.encoder(input)
        return codes

    def decode(self, codes: Tensor) -> Tensor:
        """Return what the codes stand for."""
        output: Tensor = self.decoder(codes)
        return output

    def forward(self, input: Tensor) -> Tensor:
        """Return the reconstruction, of the input's shape."""
        disturbed = input if self.noise is None else self.noise(input)
        return self.decode(self.encode(disturbed)).reshape(input.shape)

    def interpolate(self, first: Tensor, last: Tensor, steps: int = 8) -> Tensor:
        """Return what lies between two inputs, on the straight line of their codes.

        Parameters
        ----------
        first, last : Tensor
            One input each, without a batch dimension.
        steps : int, default 8
            How many, both ends among them.

        Returns
        -------
        Tensor, shape ``(steps, ...)``, each of the inputs' shape
        """
        way = self.decode(code_line(self.encode, first, last, steps))
        return way.reshape(steps, *first.shape)


def code_line(
    encode: Callable[[Tensor], Tensor], first: Tensor, last: Tensor, steps: int
) -> Tensor:
    """Return `steps` codes from that of one input to that of another."""
    if steps < 2:
        raise ShapeError(f"interpolate: steps: expected at least 2, got {steps}")
    ends = [encode(one.unsqueeze(0)) for one in (first, last)]
    way = zeros(steps, *(1,) * (ends[0].ndim - 1), device=first.device)
    for step in range(steps):
        way[step] = step / (steps - 1)
    return ends[0] + way.to(ends[0].dtype) * (ends[1] - ends[0])


def _stack(sizes: Sequence[int], activation: Activation) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n_in, n_out in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [nn.Linear(n_in, n_out), activation()]
    return nn.Sequential(*layers[:-1])


def _check_sizes(name: str, sizes: Sequence[int]) -> None:
    if len(sizes) < 2 or min(sizes) < 1:
        raise ShapeError(
            f"{name}: sizes: expected positive sizes of at least input and code, got "
            f"{list(sizes)}"
        )


class LinearAutoencoder(Autoencoder):
    """One linear layer each way.

    With the squared error its best codes span the space of the first principal
    components (P. Baldi and K. Hornik: Neural networks and principal component
    analysis, 1989), though not in their order or at right angles.

    Parameters
    ----------
    features, codes : int
    bias : bool, default True
        Without it, inputs should have zero mean.
    """

    def __init__(self, features: int, codes: int, *, bias: bool = True) -> None:
        _check_sizes("LinearAutoencoder", (features, codes))
        super().__init__(
            nn.Linear(features, codes, bias=bias), nn.Linear(codes, features, bias=bias)
        )


class DeepAutoencoder(Autoencoder):
    """Fully connected layers down to the code, and their mirror image up again.

    G. Hinton and R. Salakhutdinov: Reducing the dimensionality of data with neural
    networks, 2006.

    Parameters
    ----------
    sizes : sequence of int
        Features of the input, of the hidden layers, of the code: ``(784, 256, 32)``.
    activation : callable, default ReLU
        Makes the activation between layers; the code itself is linear.
    output : callable, optional
        Makes the activation of the reconstruction, e.g. ``nn.Sigmoid`` for pixels from
        0 to 1.
    noise : Module, optional
        As of `Autoencoder`.

    Examples
    --------
    >>> import nnlib
    >>> model = DeepAutoencoder((784, 256, 32))
    >>> tuple(model(nnlib.zeros(5, 1, 28, 28)).shape)
    (5, 1, 28, 28)
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        activation: Activation = nn.ReLU,
        output: Activation | None = None,
        noise: nn.Module | None = None,
    ) -> None:
        _check_sizes("DeepAutoencoder", sizes)
        encoder = nn.Sequential(nn.Flatten(), *_stack(sizes, activation))
        decoder = _stack(sizes[::-1], activation)
        if output is not None:
            decoder.append(output())
        super().__init__(encoder, decoder, noise)
        self.sizes = tuple(sizes)


class TiedAutoencoder(nn.Module):
    """A deep autoencoder whose decoder uses the encoder's weights, transposed.

    Half the weights, and each is one Parameter: its gradient is the sum of what both
    uses give. Biases are their own.

    Parameters
    ----------
    sizes : sequence of int
        Features of the input, of the hidden layers, of the code.
    activation : callable, default Sigmoid
        Makes the activation between layers.
    output : callable, optional
        Makes the activation of the reconstruction.
    noise : Module, optional
        As of `Autoencoder`.

    Examples
    --------
    >>> model = TiedAutoencoder((784, 100, 10))
    >>> [tuple(p.shape) for p in model.parameters()]
    [(100, 784), (100,), (10, 100), (10,), (100,), (784,)]
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        activation: Activation = nn.Sigmoid,
        output: Activation | None = None,
        noise: nn.Module | None = None,
    ) -> None:
        super().__init__()
        _check_sizes("TiedAutoencoder", sizes)
        self.layers = nn.ModuleList(
            nn.Linear(n_in, n_out)
            for n_in, n_out in zip(sizes[:-1], sizes[1:], strict=True)
        )
        self.decoder_bias = nn.ParameterList(
            nn.Parameter(zeros(size)) for size in reversed(sizes[:-1])
        )
        self.activation = activation()
        self.output = None if output is None else output()
        self.noise = noise

    def encode(self, input: Tensor) -> Tensor:
        """Return the codes, shape (N, codes)."""
        hidden = input.flatten(1)
        for number, layer in enumerate(self.layers):
            hidden = layer(self.activation(hidden) if number else hidden)
        return hidden

    def decode(self, codes: Tensor) -> Tensor:
        """Return what the codes stand for, shape (N, features)."""
        hidden = codes
        pairs = zip(reversed(list(self.layers)), self.decoder_bias, strict=True)
        for number, (layer, bias) in enumerate(pairs):
            hidden = self.activation(hidden) if number else hidden
            hidden = F.linear(hidden, layer.weight.t(), bias)
        return hidden if self.output is None else self.output(hidden)

    def forward(self, input: Tensor) -> Tensor:
        """Return the reconstruction, of the input's shape."""
        disturbed = input if self.noise is None else self.noise(input)
        return self.decode(self.encode(disturbed)).reshape(input.shape)

    def interpolate(self, first: Tensor, last: Tensor, steps: int = 8) -> Tensor:
        """Return what lies between two inputs; see `Autoencoder.interpolate`."""
        way = self.decode(code_line(self.encode, first, last, steps))
        return way.reshape(steps, *first.shape)


class ConvAutoencoder(Autoencoder):
    """Strided convolutions down, transposed convolutions up.

    Each step halves the image and the last ends in a code by a linear layer:
    ``1x28x28 -> 16x14x14 -> 32x7x7 -> codes`` by default.

    Parameters
    ----------
    channels : int, default 1
        Of the images.
    size : int, default 28
        Height and width, divisible by two for each of `widths`.
    widths : sequence of int, default (16, 32)
        Channels after each step down.
    codes : int, default 32
    output : callable, optional
        Makes the activation of the reconstruction.
    noise : Module, optional
        As of `Autoencoder`.

    Examples
    --------
    >>> import nnlib
    >>> tuple(ConvAutoencoder()(nnlib.zeros(2, 1, 28, 28)).shape)
    (2, 1, 28, 28)
    """

    def __init__(
        self,
        channels: int = 1,
        size: int = 28,
        widths: Sequence[int] = (16, 32),
        codes: int = 32,
        *,
        output: Activation | None = None,
        noise: nn.Module | None = None,
    ) -> None:
        if not widths or size % 2 ** len(widths):
            raise ShapeError(
                f"ConvAutoencoder: size: expected a multiple of {2 ** len(widths)} for "
                f"{len(widths)} steps, got {size}"
            )
        inner = size // 2 ** len(widths)
        chain = (channels, *widths)
        down: list[nn.Module] = []
        for n_in, n_out in zip(chain[:-1], chain[1:], strict=True):
            down += [nn.Conv2d(n_in, n_out, 3, stride=2, padding=1), nn.ReLU()]
        up: list[nn.Module] = []
        for n_in, n_out in zip(chain[:0:-1], chain[-2::-1], strict=True):
            up += [nn.ReLU(), nn.ConvTranspose2d(n_in, n_out, 4, stride=2, padding=1)]
        features = widths[-1] * inner * inner
        encoder = nn.Sequential(*down, nn.Flatten(), nn.Linear(features, codes))
        decoder = nn.Sequential(
            nn.Linear(codes, features),
            nn.Unflatten(1, (widths[-1], inner, inner)),
            *up,
        )
        if output is not None:
            decoder.append(output())
        super().__init__(encoder, decoder, noise)
