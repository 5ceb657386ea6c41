"""Adversarial training: two networks, one that makes samples and one that judges.

I. Goodfellow et al.: Generative adversarial nets, 2014; I. Gulrajani et al.: Improved
training of Wasserstein GANs, 2017.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from nnlib.autograd import grad
from nnlib.autograd.mode import enable_grad, no_grad
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ArgumentError, ShapeError
from nnlib.backend.random import Generator
from nnlib.nn import Module
from nnlib.nn.functional import softplus
from nnlib.ops import ones_like, rand, randn
from nnlib.optim import Optimizer
from nnlib.train.fit import _modes, _restore_modes
from nnlib.train.history import DivergenceError, History
from nnlib.train.metrics import RunningMeans

__all__ = [
    "discriminator_loss",
    "fit_gan",
    "generator_loss",
    "gradient_penalty",
]


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Return the discriminator's loss: the cross-entropy of telling real from fake.

    ``-log sigmoid(real) - log(1 - sigmoid(fake))``, each averaged.

    Parameters
    ----------
    real, fake : Tensor
        Logits for real and generated samples.

    Examples
    --------
    >>> import nnlib
    >>> discriminator_loss(nnlib.zeros(2), nnlib.zeros(2))
    tensor(1.3863)
    """
    return softplus(-real).mean() + softplus(fake).mean()


def generator_loss(fake: Tensor) -> Tensor:
    """Return the non-saturating loss of the generator, ``-log sigmoid(fake)``.

    Its gradient does not vanish where the discriminator is sure, as that of
    ``log(1 - sigmoid(fake))`` does.

    Parameters
    ----------
    fake : Tensor
        The discriminator's logits for generated samples.
    """
    return softplus(-fake).mean()


def gradient_penalty(
    critic: Callable[[Tensor], Tensor],
    real: Tensor,
    fake: Tensor,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Return the mean of ``(|gradient| - 1)^2`` between real and generated samples.

    The gradient is of the critic by its input, at a random point of the line from a
    real to a generated sample; the penalty can be differentiated itself.

    Parameters
    ----------
    critic : callable
        From samples (N, ...) to one number each; no sample may see another (no batch
        normalisation).
    real, fake : Tensor, shape (N, ...)
    generator : Generator, optional

    Raises
    ------
    ShapeError
        If the shapes differ.

    Examples
    --------
    >>> import nnlib
    >>> critic = nnlib.nn.Linear(4, 1, bias=False)
    >>> _ = critic.weight.data.fill_(0.5)
    >>> gradient_penalty(critic, nnlib.zeros(2, 4), nnlib.ones(2, 4)).item()
    0.0
    """
    if real.shape != fake.shape:
        raise ShapeError(
            f"gradient_penalty: fake: expected the shape of real, {tuple(real.shape)}, "
            f"got {tuple(fake.shape)}"
        )
    real, fake = real.detach(), fake.detach()
    shape = (real.shape[0], *(1,) * (real.ndim - 1))
    share = rand(shape, dtype=real.dtype, device=real.device, generator=generator)
    between = (real + share * (fake - real)).requires_grad_()
    with enable_grad():
        scores = critic(between)
        (slope,) = grad(scores, between, ones_like(scores), create_graph=True)
        result: Tensor = (slope.flatten(1).norm(dim=1) - 1).square().mean()
        return result


def fit_gan(
    generator: Module,
    discriminator: Module,
    loader: Iterable[Any],
    *,
    generator_optimizer: Optimizer,
    discriminator_optimizer: Optimizer,
    latents: int,
    epochs: int = 10,
    loss: str = "non_saturating",
    critic_steps: int = 1,
    penalty: float = 10.0,
    on_epoch_end: Callable[[int, History], Any] | None = None,
    progress: bool = True,
) -> History:
    """Train a generator against a discriminator, in turns.

    For each batch the discriminator learns to tell it from as many generated samples;
    after every `critic_steps` batches the generator learns to be taken for real.

    Parameters
    ----------
    generator : Module
        From normal noise (N, latents) to samples.
    discriminator : Module
        From samples to one logit (or score) each.
    loader : iterable of batches
        Of samples, or of tuples whose first entry they are.
    generator_optimizer, discriminator_optimizer : Optimizer
    latents : int
        Size of the noise.
    epochs : int, default 10
    loss : {"non_saturating", "wasserstein"}
        Wasserstein: the discriminator is a critic without sigmoid and with a gradient
        penalty.
    critic_steps : int, default 1
        Discriminator steps for each generator step; 5 is usual with Wasserstein.
    penalty : float, default 10.0
        Weight of the gradient penalty (Wasserstein only).
    on_epoch_end : callable, optional
        Called with the epoch (from 1) and the history.
    progress : bool, default True
        Show a bar on the standard error stream.

    Returns
    -------
    History
        ``generator_loss`` and ``discriminator_loss``, means over each epoch's steps
        (NaN for an epoch without a step of the generator). The modules' train/eval
        modes are put back.

    Raises
    ------
    ArgumentError
        For an unknown loss or a number of steps below one.
    DivergenceError
        If a loss becomes infinite or NaN.
    ShapeError
        If the loader gives no batch.
    """
    if loss not in ("non_saturating", "wasserstein"):
        raise ArgumentError(
            f"fit_gan: loss: expected 'non_saturating' or 'wasserstein', got {loss!r}"
        )
    if critic_steps < 1 or epochs < 0:
        raise ArgumentError(
            "fit_gan: expected critic_steps of at least 1 and epochs of at least 0, "
            f"got {critic_steps} and {epochs}"
        )
    from tqdm import tqdm

    turns = _Turns(generator, discriminator, latents, loss == "wasserstein", penalty)
    history = History()
    modes = _modes(generator) + _modes(discriminator)
    generator.train()
    discriminator.train()
    step = 0
    try:
        for epoch in range(1, epochs + 1):
            means, costs = RunningMeans(), RunningMeans()
            title = f"epoch {epoch}/{epochs}"
            for batch in tqdm(loader, desc=title, disable=not progress, leave=False):
                real = batch[0] if isinstance(batch, (tuple, list)) else batch
                cost = turns.discriminator_step(real, discriminator_optimizer)
                means.add({"discriminator_loss": cost}, len(real))
                step += 1
                if step % critic_steps == 0:
                    value = turns.generator_step(len(real), generator_optimizer)
                    costs.add({"generator_loss": value}, len(real))
            history.append(**_checked(means, costs, title))
            if on_epoch_end is not None:
                on_epoch_end(epoch, history)
    finally:
        _restore_modes(modes)
    return history


def _checked(means: RunningMeans, costs: RunningMeans, title: str) -> dict[str, float]:
    """Return an epoch's figures, all finite."""
    if not means.samples:
        raise ShapeError("fit_gan: the loader gave no batch")
    figures = means.read() | (costs.read() if costs.samples else {})
    for name, value in figures.items():
        if not math.isfinite(value):
            raise DivergenceError(f"fit_gan: {name} became {value} in {title}")
    # An epoch can be shorter than the critic's turn.
    return {"generator_loss": math.nan, **figures}


class _Turns:
    """One step of either side."""

    def __init__(
        self,
        generator: Module,
        discriminator: Module,
        latents: int,
        wasserstein: bool,
        penalty: float,
    ) -> None:
        self.generator = generator
        self.discriminator = discriminator
        self.latents = latents
        self.wasserstein = wasserstein
        self.penalty = penalty
        like = next(generator.parameters())
        self.dtype, self.device = like.dtype, like.device

    def make(self, count: int) -> Tensor:
        output: Tensor = self.generator(
            randn(count, self.latents, dtype=self.dtype, device=self.device)
        )
        return output

    def discriminator_step(self, real: Tensor, optimizer: Optimizer) -> Tensor:
        real = real.to(self.device)
        with no_grad():
            fake = self.make(len(real))
        optimizer.zero_grad()
        on_real, on_fake = self.discriminator(real), self.discriminator(fake)
        if self.wasserstein:
            value = on_fake.mean() - on_real.mean()
            cost = gradient_penalty(self.discriminator, real, fake)
            total = value + self.penalty * cost
        else:
            value = total = discriminator_loss(on_real, on_fake)
        total.backward()
        optimizer.step()
        result: Tensor = value.detach()
        return result

    def generator_step(self, count: int, optimizer: Optimizer) -> Tensor:
        parameters = list(self.discriminator.parameters())
        wanted = [parameter.requires_grad for parameter in parameters]
        # The judge's own gradients are not needed here: do not compute them.
        for parameter in parameters:
            parameter.requires_grad_(False)
        try:
            optimizer.zero_grad()
            score = self.discriminator(self.make(count))
            value = -score.mean() if self.wasserstein else generator_loss(score)
            value.backward()
            optimizer.step()
        finally:
            for parameter, flag in zip(parameters, wanted, strict=True):
                parameter.requires_grad_(flag)
        result: Tensor = value.detach()
        return result
