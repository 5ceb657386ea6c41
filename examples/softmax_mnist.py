"""Softmax regression on MNIST: one layer, 92 % of the test digits.

python examples/softmax_mnist.py
"""

import argparse

import nnlib
from nnlib import nn
from nnlib.data import MNIST, DataLoader
from nnlib.train import evaluate, fit
from nnlib.viz import show_images


def main():
    """Train one linear layer with cross-entropy; draw its ten weight pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="outputs", help="folder of the picture")
    options = parser.parse_args()
    nnlib.manual_seed(options.seed)

    train, test = (MNIST(train=part).to_tensors(flatten=True) for part in (True, False))
    model = nn.Linear(784, 10)
    optimizer = nnlib.optim.SGD(model.parameters(), lr=0.05, weight_decay=1e-4)
    loader = DataLoader(train, 128, shuffle=True, generator=options.seed)
    fit(
        model,
        loader,
        optimizer=optimizer,
        epochs=options.epochs,
        scheduler=nnlib.optim.lr_scheduler.CosineAnnealingLR(
            optimizer, options.epochs * len(loader)
        ),
        scheduler_step="batch",
    )
    result = evaluate(model, DataLoader(test, 1000))
    print(f"softmax regression: test accuracy {result['accuracy']:.2%}")
    show_images(
        model.weight.detach().reshape(10, 28, 28),
        labels=list(range(10)),
        path=f"{options.output}/softmax-mnist.png",
        columns=5,
        title="weights of each class",
    )


if __name__ == "__main__":
    main()
