"""A variational autoencoder on MNIST: a bound of at most 104 nats per digit.

    python examples/vae_mnist.py

20 latent numbers, one hidden layer of 400 units each way. Every time a digit is seen
its pixels are drawn anew, black or white, with their grey as the probability; the
test digits are drawn once. 50 epochs, seed 0: 96.5 nats. Kingma and Welling, Auto-
Encoding Variational Bayes, 2014.
"""

import argparse
import time

import nnlib
from nnlib.data import MNIST, DataLoader
from nnlib.models import VAE
from nnlib.optim.lr_scheduler import OneCycleLR
from nnlib.viz import show_images


def bound(model, images):
    """Return the bound in nats per digit, as a positive number."""
    with nnlib.no_grad():
        parts = [model.elbo(images[i : i + 1000]) for i in range(0, len(images), 1000)]
    return -sum(part.item() for part in parts) / len(parts)


def main():
    """Train with Adam; draw digits from the prior, and a walk from digit to digit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=60000)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="outputs", help="folder of the pictures")
    options = parser.parse_args()
    nnlib.manual_seed(options.seed)

    train, test = (
        MNIST(train=part)
        .to_tensors(flatten=True, normalize=False, device=options.device)
        .tensors[0]
        for part in (True, False)
    )
    test = nnlib.bernoulli(test)
    model = VAE.fully_connected((784, 400), latents=20).to(train.device)
    loader = DataLoader(
        train[: options.samples], 128, shuffle=True, generator=options.seed
    )
    optimizer = nnlib.optim.Adam(model.parameters())
    scheduler = OneCycleLR(
        optimizer, 2e-3, total_steps=options.epochs * len(loader), pct_start=0.1
    )
    start = time.perf_counter()
    for epoch in range(1, options.epochs + 1):
        for grey in loader:
            images = nnlib.bernoulli(grey)
            loss = model.loss(model(images), images)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
        if epoch % 5 == 0 or epoch == options.epochs:
            print(
                f"epoch {epoch}: test bound {bound(model, test):.2f} nats", flush=True
            )
    seconds = time.perf_counter() - start
    print(
        f"VAE 784-400-20, {options.epochs} epochs in {seconds:.0f} s: "
        f"test bound {bound(model, test):.2f} nats"
    )

    model.eval()
    with nnlib.no_grad():
        drawn = model.sample(64)
        walks = [model.interpolate(test[i], test[i + 1], 8) for i in range(0, 16, 2)]
    show_images(
        drawn.reshape(-1, 28, 28),
        path=f"{options.output}/vae-samples.png",
        title="digits that nobody wrote",
    )
    show_images(
        nnlib.cat(walks).reshape(-1, 28, 28),
        path=f"{options.output}/vae-walk.png",
        title="from one digit to another",
    )


if __name__ == "__main__":
    main()
