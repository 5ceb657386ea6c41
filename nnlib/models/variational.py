"""Variational autoencoders: generative models of latent variables.

D. P. Kingma and M. Welling: Auto-Encoding Variational Bayes, 2014. The encoder gives a
normal distribution of codes for each input, the decoder a distribution of inputs for
each code; training maximises a lower bound of the data's log likelihood (ELBO).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from nnlib import nn
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ArgumentError, ShapeError
from nnlib.backend.random import Generator
from nnlib.distributions import Independent, Normal
from nnlib.models.autoencoder import code_line
from nnlib.models.mlp import MLP
from nnlib.nn import functional as F
from nnlib.ops import cat, randn, randn_like, stack

__all__ = ["VAE", "ConditionalVAE", "VAELoss", "VAEOutput", "kl_to_standard_normal"]


class VAEOutput(NamedTuple):
    """What a variational autoencoder returns in training.

    Attributes
    ----------
    reconstruction : Tensor
        What the decoder gives: logits of Bernoulli pixels, or means of normal ones.
    mean, log_variance : Tensor, shape (N, latents)
        Of the codes.
    """

    reconstruction: Tensor
    mean: Tensor
    log_variance: Tensor


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the divergence of each code's distribution from the standard normal.

    ``(mean^2 + variance - 1 - log variance) / 2``, in nats, elementwise.

    Examples
    --------
    >>> import nnlib
    >>> kl_to_standard_normal(nnlib.ones(1), nnlib.zeros(1))
    tensor([0.5])
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)


class VAELoss:
    """The negative lower bound, in nats per sample: a loss for `nnlib.train.fit`.

    ``-log p(x | z) + beta KL(q(z | x) || N(0, 1))``, averaged over the batch.

    Parameters
    ----------
    likelihood : {"bernoulli", "normal"}
        Of a pixel: Bernoulli with the decoder's logits (inputs from 0 to 1), or normal
        with the decoder's means and the deviation `std`.
    beta : float, default 1.0
        Above one, codes are pushed to the prior (I. Higgins et al.: beta-VAE, 2017);
        the value is then no longer a bound of the likelihood.
    free_bits : float, default 0.0
        Nats that each latent dimension, averaged over the batch, may use without cost
        (D. P. Kingma et al.: Improved variational inference with inverse
        autoregressive flow, 2016).
    std : float, default 1.0
        Of normal pixels.

    Raises
    ------
    ArgumentError
        For an unknown likelihood, or a number below 0.
    """

    def __init__(
        self,
        likelihood: str = "bernoulli",
        *,
        beta: float = 1.0,
        free_bits: float = 0.0,
        std: float = 1.0,
    ) -> None:
        if likelihood not in ("bernoulli", "normal"):
            raise ArgumentError(
                "VAELoss: likelihood: expected 'bernoulli' or 'normal', got "
                f"{likelihood!r}"
            )
        if beta < 0 or free_bits < 0 or std <= 0:
            raise ArgumentError(
                "VAELoss: expected beta and free_bits of at least 0 and a positive "
                f"std, got {beta}, {free_bits} and {std}"
            )
        self.likelihood = likelihood
        self.beta = beta
        self.free_bits = free_bits
        self.std = std

    def __call__(self, output: VAEOutput, target: Tensor) -> Tensor:
        """Return the mean over the batch."""
        count = max(1, target.shape[0])
        divergence = kl_to_standard_normal(output.mean, output.log_variance)
        if self.free_bits:
            cost = divergence.mean(0).clamp(min=self.free_bits).sum()
        else:
            cost = divergence.sum() / count
        return self.distortion(output.reconstruction, target) / count + self.beta * cost

    def distortion(self, reconstruction: Tensor, target: Tensor) -> Tensor:
        """Return the sum of ``-log p(x | z)`` over the batch."""
        if self.likelihood == "bernoulli":
            return F.binary_cross_entropy_with_logits(
                reconstruction, target, reduction="sum"
            )
        scaled = F.mse_loss(reconstruction, target, reduction="sum")
        constant = math.log(self.std) + 0.5 * math.log(2 * math.pi)
        return scaled / (2 * self.std**2) + constant * target.numel()


def _check_samples(samples: int) -> None:
    if samples < 1:
        raise ArgumentError(f"elbo: samples: expected at least 1, got {samples}")


class VAE(nn.Module):
    """A variational autoencoder.

    Parameters
    ----------
    encoder : Module
        From inputs to (N, 2 * latents): the codes' means, then log variances.
    decoder : Module
        From codes (N, latents) to logits or means of the inputs.
    latents : int
    loss : VAELoss, optional
        What `elbo` reports by; Bernoulli pixels by default.

    Examples
    --------
    >>> import nnlib
    >>> model = VAE.fully_connected((784, 400), latents=20)
    >>> output = model(nnlib.zeros(3, 784))
    >>> tuple(output.reconstruction.shape), tuple(output.mean.shape)
    ((3, 784), (3, 20))
    >>> tuple(model.sample(4).shape)
    (4, 784)
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        latents: int,
        loss: VAELoss | None = None,
    ) -> None:
        super().__init__()
        if latents < 1:
            raise ShapeError(f"VAE: latents: expected at least 1, got {latents}")
        self.encoder = encoder
        self.decoder = decoder
        self.latents = latents
        self.loss = VAELoss() if loss is None else loss

    @classmethod
    def fully_connected(
        cls,
        sizes: Sequence[int],
        latents: int,
        *,
        activation: Callable[[], nn.Module] = nn.ReLU,
        loss: VAELoss | None = None,
    ) -> VAE:
        """Build it from linear layers.

        Parameters
        ----------
        sizes : sequence of int
            Features of the input and of the hidden layers; mirrored in the decoder.
        latents : int
        activation : callable, default ReLU
        loss : VAELoss, optional
        """
        encoder = MLP([*sizes, 2 * latents], activation=activation)
        decoder = MLP([latents, *sizes[::-1]], activation=activation)
        return cls(encoder, decoder, latents, loss)

    def encode(self, input: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of the codes, (N, latents) each."""
        both = self.encoder(input)
        if both.ndim != 2 or both.shape[1] != 2 * self.latents:
            raise ShapeError(
                f"VAE: the encoder must give (N, {2 * self.latents}): means and log "
                f"variances of {self.latents} latents; got {tuple(both.shape)}"
            )
        return both[:, : self.latents], both[:, self.latents :]

    def posterior(self, input: Tensor) -> Independent:
        """Return the distribution of the codes, given inputs."""
        mean, log_variance = self.encode(input)
        return Independent(Normal(mean, (0.5 * log_variance).exp()), 1)

    def decode(self, codes: Tensor) -> Tensor:
        """Return logits (or means) of the inputs for codes (N, latents)."""
        output: Tensor = self.decoder(codes)
        return output

    def forward(self, input: Tensor) -> VAEOutput:
        """Return the reconstruction: of drawn codes; in evaluation, of their mean."""
        mean, log_variance = self.encode(input)
        codes = self._draw(mean, log_variance) if self.training else mean
        return VAEOutput(self._shaped(codes, input), mean, log_variance)

    def _draw(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        return mean + (0.5 * log_variance).exp() * randn_like(mean.detach())

    def _shaped(self, codes: Tensor, input: Tensor) -> Tensor:
        return self.decode(codes).reshape(input.shape)

    def elbo(self, input: Tensor, samples: int = 1) -> Tensor:
        """Return the evidence lower bound in nats, averaged over the batch.

        Codes are drawn also in evaluation mode: the bound is an expectation.

        Parameters
        ----------
        input : Tensor, shape (N, ...)
        samples : int, default 1
            Codes drawn for each input, at least 1.
        """
        _check_samples(samples)
        mean, log_variance = self.encode(input)
        count = max(1, input.shape[0])
        cost = kl_to_standard_normal(mean, log_variance).sum()
        for _ in range(samples):
            drawn = self._shaped(self._draw(mean, log_variance), input)
            cost = cost + self.loss.distortion(drawn, input) / samples
        return -cost / count

    def expected(self, output: Tensor) -> Tensor:
        """Return the expected inputs from what the decoder gives."""
        return output.sigmoid() if self.loss.likelihood == "bernoulli" else output

    def sample(self, count: int, *, generator: Generator | None = None) -> Tensor:
        """Return the expected inputs of codes drawn from the prior, (count, ...)."""
        return self.expected(self.decode(self.draw_codes(count, generator)))

    def draw_codes(self, count: int, generator: Generator | None = None) -> Tensor:
        """Return codes drawn from the prior, (count, latents)."""
        like = next(self.parameters())
        return randn(
            count, self.latents, dtype=like.dtype, device=like.device,
            generator=generator,
        )  # fmt: skip

    def interpolate(self, first: Tensor, last: Tensor, steps: int = 8) -> Tensor:
        """Return what lies between two inputs on the line of their mean codes.

        Parameters
        ----------
        first, last : Tensor
            One input each, without a batch dimension.
        steps : int, default 8

        Returns
        -------
        Tensor, shape ``(steps, ...)``, each of the inputs' shape
        """
        codes = code_line(lambda x: self.encode(x)[0], first, last, steps)
        return self.expected(self.decode(codes)).reshape(steps, *first.shape)


class ConditionalVAE(VAE):
    """A variational autoencoder of inputs with known classes.

    Encoder and decoder see the class, one-hot, beside the input and beside the code, so
    that samples of a chosen class can be drawn (K. Sohn, H. Lee, X. Yan, 2015).

    Parameters
    ----------
    sizes : sequence of int
        Features of the input and of the hidden layers.
    latents, num_classes : int
    activation : callable, default ReLU
    loss : VAELoss, optional

    Examples
    --------
    >>> import nnlib
    >>> model = ConditionalVAE((784, 100), latents=8, num_classes=10)
    >>> tuple(model.sample(nnlib.tensor([3, 3, 7])).shape)
    (3, 784)
    """

    def __init__(
        self,
        sizes: Sequence[int],
        latents: int,
        num_classes: int,
        *,
        activation: Callable[[], nn.Module] = nn.ReLU,
        loss: VAELoss | None = None,
    ) -> None:
        features, *hidden = sizes
        down = [features + num_classes, *hidden, 2 * latents]
        up = [latents + num_classes, *hidden[::-1], features]
        encoder, decoder = (MLP(way, activation=activation) for way in (down, up))
        super().__init__(encoder, decoder, latents, loss)
        self.num_classes = num_classes

    def _beside(self, values: Tensor, labels: Tensor) -> Tensor:
        classes = F.one_hot(labels, self.num_classes).to(values.dtype)
        return cat([values, classes], 1)

    def forward(self, input: Tensor, labels: Tensor) -> VAEOutput:  # type: ignore[override]
        """Return the reconstruction of inputs (N, ...) of classes (N,)."""
        mean, log_variance = self.encode(self._beside(input.flatten(1), labels))
        codes = self._draw(mean, log_variance) if self.training else mean
        return VAEOutput(
            self._shaped(self._beside(codes, labels), input), mean, log_variance
        )

    def posterior(self, input: Tensor, labels: Tensor) -> Independent:  # type: ignore[override]
        """Return the distribution of the codes, given inputs and their classes."""
        return super().posterior(self._beside(input.flatten(1), labels))

    def interpolate(  # type: ignore[override]
        self, first: Tensor, last: Tensor, labels: Tensor, steps: int = 8
    ) -> Tensor:
        """Return what lies between two inputs on the line of their mean codes.

        Parameters
        ----------
        first, last : Tensor
            One input each, without a batch dimension.
        labels : Tensor, shape (2,)
            Their classes. On the way the classes' one-hot vectors are mixed as well.
        steps : int, default 8

        Returns
        -------
        Tensor, shape ``(steps, ...)``, each of the inputs' shape
        """
        ends = self._beside(stack([first, last]).flatten(1), labels)
        codes = code_line(lambda x: self.encode(x)[0], ends[0], ends[1], steps)
        classes = F.one_hot(labels, self.num_classes).to(codes.dtype)
        mixed = code_line(lambda x: x, classes[0], classes[1], steps)
        made = self.expected(self.decode(cat([codes, mixed], 1)))
        return made.reshape(steps, *first.shape)

    def elbo(self, input: Tensor, labels: Tensor, samples: int = 1) -> Tensor:  # type: ignore[override]
        """Return the lower bound of ``log p(x | class)``, averaged over the batch."""
        _check_samples(samples)
        mean, log_variance = self.encode(self._beside(input.flatten(1), labels))
        cost = kl_to_standard_normal(mean, log_variance).sum()
        for _ in range(samples):
            codes = self._beside(self._draw(mean, log_variance), labels)
            drawn = self._shaped(codes, input)
            cost = cost + self.loss.distortion(drawn, input) / samples
        return -cost / max(1, input.shape[0])

    def sample(self, labels: Tensor, *, generator: Generator | None = None) -> Tensor:  # type: ignore[override]
        """Return one drawn input for each class in `labels`."""
        codes = self.draw_codes(labels.shape[0], generator)
        return self.expected(self.decode(self._beside(codes, labels)))
