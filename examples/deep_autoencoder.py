"""Autoencoders on MNIST: 32 codes against 32 principal components, and a map of two.

    python examples/deep_autoencoder.py

A linear autoencoder can at best do what PCA does; layers with ReLU between describe
the same digits with the same number of codes far better. 20 epochs, seed 0: a test
error of 0.0046, where 32 components leave 0.0168. With only two codes the test digits
can be drawn where they fall.
"""

import argparse

import nnlib
from nnlib import nn
from nnlib.data import MNIST, DataLoader, TensorDataset
from nnlib.models import DeepAutoencoder
from nnlib.nn.functional import mse_loss
from nnlib.optim.lr_scheduler import OneCycleLR
from nnlib.train import fit, predict
from nnlib.viz import new_figure, save, show_images


def principal_components(train, test, count):
    """Return the test images rebuilt from their first principal components."""
    mean = train.mean(0)
    covariance = (train - mean).T @ (train - mean) / len(train)
    _, axes = nnlib.linalg.eigh(covariance.cpu())  # ascending eigenvalues
    axes = axes[:, -count:].to(train.device)
    return (test - mean) @ axes @ axes.T + mean


def learn(train, codes, options):
    """Train an autoencoder with that many codes."""
    model = DeepAutoencoder((784, 512, 256, codes), output=nn.Sigmoid).to(train.device)
    loader = DataLoader(TensorDataset(train), 128, shuffle=True, generator=options.seed)
    optimizer = nnlib.optim.Adam(model.parameters())
    steps = options.epochs * len(loader)
    fit(
        model,
        loader,
        optimizer=optimizer,
        loss=mse_loss,
        epochs=options.epochs,
        scheduler=OneCycleLR(optimizer, 2e-3, total_steps=steps),
        scheduler_step="batch",
    )
    return model


def draw_map(codes, labels, path):
    """Draw two codes of each digit, coloured by its class."""
    figure = new_figure(8, 7)
    axes = figure.subplots()
    dots = axes.scatter(*codes.T, c=labels, cmap="tab10", s=3)
    axes.set(xlabel="code 1", ylabel="code 2", title="test digits by two codes")
    figure.colorbar(dots, ticks=range(10))
    save(figure, path)


def main():
    """Compare errors on the test digits; draw them rebuilt, and the map."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=60000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="outputs", help="folder of the pictures")
    options = parser.parse_args()
    nnlib.manual_seed(options.seed)

    train, test = (
        MNIST(train=part).to_tensors(
            flatten=True, normalize=False, device=options.device
        )
        for part in (True, False)
    )
    (digits, labels), train = test.tensors, train.tensors[0][: options.samples]
    rebuilt = {"PCA": principal_components(train, digits, 32)}
    rebuilt["autoencoder"] = predict(learn(train, 32, options), digits, 1000)
    for name, images in rebuilt.items():
        error = mse_loss(images, digits).item()
        print(f"{name}, 32 numbers a digit: test error {error:.5f}")
    rows = [digits[:10], *(images[:10] for images in rebuilt.values())]
    show_images(
        nnlib.cat(rows).reshape(-1, 28, 28),
        path=f"{options.output}/deep-autoencoder.png",
        columns=10,
        title=f"digits, and rebuilt from 32 numbers: {', '.join(rebuilt)}",
    )

    model = learn(train, 2, options)
    codes = predict(model.encoder, digits, 1000)
    error = mse_loss(predict(model.decoder, codes, 1000), digits).item()
    print(f"autoencoder, 2 numbers a digit: test error {error:.5f}")
    draw_map(
        codes.cpu().numpy(), labels.cpu().numpy(), f"{options.output}/code-map.png"
    )


if __name__ == "__main__":
    main()
