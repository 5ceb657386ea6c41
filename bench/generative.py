"""Training steps of generative models, in nnlib and in PyTorch.

Each is written once, with names that both libraries have; both draw noise of their own,
so that losses agree only nearly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["CASES", "build"]

VAE = "VAE 784-400-20, batch 128, Adam"
DCGAN = "DCGAN generator and discriminator, batch 64, Adam"

# PyTorch's time over nnlib's that is aimed at.
CASES = {VAE: 1.2, DCGAN: 1.1}


def _vae(lib: Any, rng: np.random.Generator, device: str) -> Callable[[], float]:
    nn, functional = lib.nn, lib.nn.functional
    encoder = nn.Sequential(nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 40))
    decoder = nn.Sequential(nn.Linear(20, 400), nn.ReLU(), nn.Linear(400, 784))
    _draw(lib, (encoder, decoder), rng, device)
    x = lib.from_numpy((rng.random((128, 784)) < 0.2).astype(np.float32))
    x = x.to(device)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = lib.optim.Adam(parameters, lr=1e-3)

    def step() -> float:
        optimizer.zero_grad()
        both = encoder(x)
        mean, log_variance = both[:, :20], both[:, 20:]
        codes = mean + (0.5 * log_variance).exp() * lib.randn(128, 20, device=device)
        cost = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
        loss = cost + functional.binary_cross_entropy_with_logits(
            decoder(codes), x, reduction="sum"
        )
        loss = loss / 128
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step


def _dcgan(lib: Any, rng: np.random.Generator, device: str) -> Callable[[], float]:
    nn, functional = lib.nn, lib.nn.functional
    generator = nn.Sequential(
        nn.Linear(64, 64 * 49, bias=False), nn.Unflatten(1, (64, 7, 7)),
        nn.BatchNorm2d(64), nn.ReLU(),
        nn.ConvTranspose2d(64, 32, 4, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        nn.ConvTranspose2d(32, 1, 4, 2, 1), nn.Tanh(),
    )  # fmt: skip
    judge = nn.Sequential(
        nn.Conv2d(1, 32, 4, 2, 1), nn.LeakyReLU(0.2),
        nn.Conv2d(32, 64, 4, 2, 1, bias=False), nn.BatchNorm2d(64), nn.LeakyReLU(0.2),
        nn.Flatten(), nn.Linear(64 * 49, 1),
    )  # fmt: skip
    _draw(lib, (generator, judge), rng, device)
    real = lib.from_numpy(rng.random((64, 1, 28, 28)).astype(np.float32) * 2 - 1)
    real = real.to(device)
    makes = lib.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    judges = lib.optim.Adam(judge.parameters(), lr=2e-4, betas=(0.5, 0.999))
    parameters = list(judge.parameters())

    def step() -> float:
        with lib.no_grad():
            fake = generator(lib.randn(64, 64, device=device))
        judges.zero_grad()
        loss = functional.softplus(-judge(real)).mean()
        loss = loss + functional.softplus(judge(fake)).mean()
        loss.backward()
        judges.step()
        makes.zero_grad()
        for parameter in parameters:
            parameter.requires_grad_(False)
        functional.softplus(
            -judge(generator(lib.randn(64, 64, device=device)))
        ).mean().backward()
        for parameter in parameters:
            parameter.requires_grad_(True)
        makes.step()
        return float(loss.item())

    return step


def _draw(
    lib: Any, models: tuple[Any, ...], rng: np.random.Generator, device: str
) -> None:
    """Set all parameters, the same in both libraries, and move them to `device`."""
    for model in models:
        drawn = {}
        for name, parameter in model.named_parameters():
            shape = tuple(parameter.shape)
            values = rng.normal(0, 0.03, shape)
            if len(shape) == 1:
                values = np.full(shape, float(name.endswith("weight")))
            drawn[name] = lib.tensor(values.astype(np.float32))
        model.load_state_dict(drawn, strict=False)
        model.to(device)


def build(lib: Any, case: str, device: str = "cpu") -> Callable[[], float]:
    """Return one training step of `case` in `lib` (nnlib or torch) on `device`."""
    rng = np.random.default_rng(0)
    make = _vae if case == VAE else _dcgan
    return make(lib, rng, device)
