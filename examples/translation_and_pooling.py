"""Pooling and translation: how far a digit may move before the answer changes.

    python examples/translation_and_pooling.py

A convolution moves its feature map along with the image. Pooling forgets where in a
window a feature was; pooling over the whole map forgets it altogether. The digits to
learn from stand in the middle; the test digits are moved to the right.
"""

import argparse

import nnlib
from nnlib import nn
from nnlib.data import MNIST, DataLoader, TensorDataset
from nnlib.models import MLP
from nnlib.train import evaluate, fit, predict
from nnlib.viz.figures import new_figure, save

SHIFTS = range(0, 9, 2)


def convolutions(*end, pool):
    """Return two convolutions that each halve the image, by pooling or by stride."""
    stride, halve = (1, [nn.MaxPool2d(2)]) if pool else (2, [])
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=stride, padding=2), nn.ReLU(), *halve,
        nn.Conv2d(16, 64, 5, stride=stride, padding=2), nn.ReLU(), *halve,
        *end,
    )  # fmt: skip


def networks():
    """Return the networks by name; every one ends in ten scores."""
    last = nn.Linear(64 * 7 * 7, 10)
    return {
        "no convolution": MLP([784, 128, 10]),
        "stride, no pooling": convolutions(
            nn.Flatten(), nn.Linear(64 * 7 * 7, 10), pool=False
        ),
        "2x2 pooling": convolutions(nn.Flatten(), last, pool=True),
        "2x2 and global pooling": convolutions(
            nn.MaxPool2d(7), nn.Flatten(), nn.Linear(64, 10), pool=True
        ),
    }


def main():
    """Train on digits in the middle; test on digits moved to the right."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=20000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="outputs", help="folder of the picture")
    options = parser.parse_args()

    # Mean and deviation aside, the ground is 0: what moves in is more ground.
    train, test = (
        MNIST(train=part).to_tensors(normalize=False) for part in (True, False)
    )
    train = TensorDataset(*train[: options.samples])
    x, labels = test[:2000]
    figure = new_figure(6.5, 4)
    axes = figure.add_subplot()
    nnlib.manual_seed(options.seed)
    for name, model in networks().items():
        fit(
            model,
            DataLoader(train, 64, shuffle=True, generator=options.seed),
            optimizer=nnlib.optim.Adam(model.parameters(), lr=2e-3),
            epochs=options.epochs,
            progress=False,
        )
        accuracies = []
        for shift in SHIFTS:
            moved = nn.functional.pad(x, (shift, 0))[..., :28]
            data = DataLoader(TensorDataset(moved, labels), 500)
            accuracies.append(evaluate(model, data)["accuracy"])
        moved = nn.functional.pad(x, (2, 0))[..., :28]
        scores, others = predict(model[:-1], x), predict(model[:-1], moved)
        change = ((others - scores).norm() / scores.norm()).item()
        print(
            f"{name}: test accuracy "
            + ", ".join(
                f"{accuracy:.1%} at {shift}"
                for shift, accuracy in zip(SHIFTS, accuracies, strict=True)
            )
            + f" pixels; features change by {change:.0%} at 2"
        )
        axes.plot(SHIFTS, accuracies, marker="o", label=name)
    axes.set_xlabel("pixels to the right")
    axes.set_ylabel("test accuracy")
    axes.legend()
    save(figure, f"{options.output}/translation-and-pooling.png")


if __name__ == "__main__":
    main()
