"""Group-equivariant convolutions on rotated MNIST: fewer digits teach more.

    python examples/equivariance.py

Digits at any angle, and two networks with about as many parameters. The plain one must
learn each filter in every direction; the p4 one turns its filters by 90 degrees itself
(Cohen and Welling 2016), so what it says cannot change under such turns.
"""

import argparse

import numpy as np

import nnlib
from nnlib import nn
from nnlib.data import MNIST, DataLoader, TensorDataset
from nnlib.nn.equivariant import GroupConv2d, GroupPool, LiftingConv2d, act
from nnlib.optim.lr_scheduler import OneCycleLR
from nnlib.train import evaluate, fit, predict
from nnlib.viz.figures import new_figure, save


def rotate(images, angles):
    """Turn each image (N, 1, H, W) by its own angle, read between four pixels."""
    n, _, height, width = images.shape
    y, x = np.mgrid[:height, :width] - (height - 1) / 2
    sin, cos = np.sin(angles)[:, None, None], np.cos(angles)[:, None, None]
    row = (cos * y - sin * x + (height - 1) / 2).clip(0, height - 1.001)
    column = (sin * y + cos * x + (width - 1) / 2).clip(0, width - 1.001)
    i, j = row.astype(int), column.astype(int)
    down, right = row - i, column - j
    number = np.arange(n)[:, None, None]
    found = sum(
        images[number, 0, i + a, j + b]
        * (down if a else 1 - down)
        * (right if b else 1 - right)
        for a in (0, 1)
        for b in (0, 1)
    )
    return found[:, None].astype(np.float32)


def plain():
    """Return a network of ordinary convolutions."""
    return nn.Sequential(
        nn.Conv2d(1, 12, 5, padding=2), nn.ReLU(),
        nn.Conv2d(12, 24, 4, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(24, 24, 4, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(24, 24, 3, padding=1), nn.ReLU(),
        nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(24, 10),
    )  # fmt: skip


def turning():
    """Return the same of group convolutions, with half the channels in 4 directions."""
    return nn.Sequential(
        LiftingConv2d(1, 6, 5, padding=2), nn.ReLU(),
        GroupConv2d(6, 12, 4, stride=2, padding=1), nn.ReLU(),
        GroupConv2d(12, 12, 4, stride=2, padding=1), nn.ReLU(),
        GroupConv2d(12, 12, 3, padding=1), nn.ReLU(),
        GroupPool(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(12, 10),
    )  # fmt: skip


def initialise(layer):
    """Draw the filters by He's rule: without it four layers lose the signal."""
    if isinstance(layer, nn.Conv2d | LiftingConv2d | GroupConv2d):
        nn.init.kaiming_normal_(layer.weight)


def main():
    """Train both; print accuracy and how often a quarter turn changes the answer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=3000)
    parser.add_argument("--tests", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="outputs", help="folder of the picture")
    options = parser.parse_args()

    random = np.random.default_rng(options.seed)
    parts = []
    for is_train, count in ((True, options.samples), (False, options.tests)):
        images, labels = MNIST(train=is_train).to_arrays()
        turned = rotate(images[:count], random.uniform(0, 2 * np.pi, count))
        parts.append(TensorDataset(turned, labels[:count]))
    train, test = parts
    figure = new_figure(6, 4)
    axes = figure.add_subplot()
    for name, make in (("plain", plain), ("p4", turning)):
        nnlib.manual_seed(options.seed)
        model = make().apply(initialise)
        size = sum(parameter.numel() for parameter in model.parameters())
        optimizer = nnlib.optim.Adam(model.parameters())
        loader = DataLoader(train, 64, shuffle=True, generator=options.seed)
        steps = options.epochs * len(loader)
        history = fit(
            model,
            loader,
            optimizer=optimizer,
            epochs=options.epochs,
            validation=DataLoader(test, 500),
            scheduler=OneCycleLR(optimizer, 5e-3, total_steps=steps),
            scheduler_step="batch",
        )
        accuracy = evaluate(model, DataLoader(test, 500))["accuracy"]
        images = test[:1000][0]
        answers, turned = (
            predict(model, x).argmax(1) for x in (images, act(images, 1))
        )
        same = (answers == turned).float().mean().item()
        print(
            f"{name:5s} {size} parameters: test accuracy {accuracy:.2%}; "
            f"a quarter turn keeps {same:.1%} of the answers"
        )
        errors = [1 - value for value in history["val_accuracy"]]
        axes.plot(range(1, len(errors) + 1), errors, marker=".", label=name)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"error on rotated digits, {options.samples} to learn from")
    axes.legend()
    save(figure, f"{options.output}/equivariance.png")


if __name__ == "__main__":
    main()
