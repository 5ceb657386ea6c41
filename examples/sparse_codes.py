"""Sparse codes: each digit described by few of many units.

    python examples/sparse_codes.py

The same autoencoder with one hidden layer, three times: free, with the units' mean
activity held near 3 % (a Kullback-Leibler penalty), and with the sum of activities
held small (an L1 penalty). Sparse units come to stand for strokes. A free layer has
99.9 % of its units above 0.1 on average (test error 0.0029), the first penalty leaves
11.9 % (0.0075), the second 21.0 % (0.0127).
"""

import argparse

import nnlib
from nnlib import nn
from nnlib.data import MNIST, DataLoader
from nnlib.models import Autoencoder, kl_activity, l1_activity
from nnlib.nn.functional import mse_loss
from nnlib.viz import show_images


def train_one(images, penalty, options):
    """Train an autoencoder of 196 sigmoid units; return it."""
    nnlib.manual_seed(options.seed)
    model = Autoencoder(
        nn.Sequential(nn.Linear(784, 196), nn.Sigmoid()), nn.Linear(196, 784)
    ).to(images.device)
    optimizer = nnlib.optim.Adam(model.parameters(), lr=2e-3)
    loader = DataLoader(images, 128, shuffle=True, generator=options.seed)
    for _ in range(options.epochs):
        for batch in loader:
            codes = model.encode(batch)
            loss = mse_loss(model.decode(codes), batch) + penalty(codes)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def main():
    """Print error and activity with each penalty; draw the units' weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=60000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="outputs", help="folder of the pictures")
    options = parser.parse_args()

    train, test = (
        MNIST(train=part)
        .to_tensors(flatten=True, normalize=False, device=options.device)
        .tensors[0]
        for part in (True, False)
    )
    penalties = {
        "none": lambda codes: 0.0,
        "KL": lambda codes: 1e-3 * kl_activity(codes, 0.03),
        "L1": lambda codes: 4e-4 * l1_activity(codes),
    }
    for name, penalty in penalties.items():
        model = train_one(train[: options.samples], penalty, options)
        with nnlib.no_grad():
            codes = model.encode(test)
            error = mse_loss(model.decode(codes), test).item()
        active = (codes > 0.1).float().mean().item()
        print(
            f"{name} penalty: test error {error:.5f}, mean activity "
            f"{codes.mean().item():.4f}, {active:.1%} of the units above 0.1"
        )
        show_images(
            model.encoder[0].weight.detach()[:64].reshape(-1, 28, 28),
            path=f"{options.output}/sparse-codes-{name.lower()}.png",
            columns=8,
            title=f"what the first 64 units look for; penalty: {name}",
        )


if __name__ == "__main__":
    main()
