"""Against overfitting: L2, L1, dropout, input noise and early stopping.

    python examples/regularization.py

A network far too large for 1,000 MNIST digits learns them by heart. Each remedy narrows
the gap between the loss on them and the loss on digits it has not seen.
"""

import argparse

import nnlib
from nnlib import nn
from nnlib.data import MNIST, DataLoader, TensorDataset
from nnlib.models import MLP
from nnlib.train import EarlyStopping, evaluate, fit
from nnlib.viz.figures import new_figure, save


class InputNoise(nn.Module):
    """Add normal noise to the input, in training only."""

    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def forward(self, x):
        """Return `x`, noisy in training."""
        return x + self.scale * nnlib.randn_like(x) if self.training else x


# name: (MLP's dropout, input noise, the optimiser's penalties, stop early)
REMEDIES = {
    "none": (0.0, 0.0, {}, False),
    "L2": (0.0, 0.0, {"weight_decay": 0.01}, False),
    "L1": (0.0, 0.0, {"l1": 1e-4}, False),
    "dropout": (0.5, 0.0, {}, False),
    "input noise": (0.0, 1.5, {}, False),
    "early stopping": (0.0, 0.0, {}, True),
}


def main():
    """Train with each remedy; print the gap and draw the validation losses."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="outputs", help="folder of the picture")
    options = parser.parse_args()

    full = MNIST(train=True).to_tensors(flatten=True)
    train = TensorDataset(*full[: options.samples])
    validation = DataLoader(TensorDataset(*full[50000:52000]), 1000)
    test = DataLoader(MNIST(train=False).to_tensors(flatten=True), 1000)
    figure = new_figure(7, 4.5)
    axes = figure.add_subplot()
    for name, (dropout, noise, penalties, stop) in REMEDIES.items():
        nnlib.manual_seed(options.seed)
        network = MLP([784, 256, 256, 10], dropout=dropout)
        model = nn.Sequential(InputNoise(noise), network) if noise else network
        history = fit(
            model,
            DataLoader(train, 32, shuffle=True, generator=options.seed),
            optimizer=nnlib.optim.SGD(
                model.parameters(), lr=0.01, momentum=0.9, **penalties
            ),
            epochs=options.epochs,
            validation=validation,
            callbacks=[EarlyStopping(patience=3)] if stop else [],
            progress=False,
        )
        seen = evaluate(model, DataLoader(train, 1000))
        unseen = evaluate(model, test)
        print(
            f"{name:15s} loss on seen digits {seen['loss']:.3f}, on unseen "
            f"{unseen['loss']:.3f}; test accuracy {unseen['accuracy']:.2%}"
            f" ({history.epochs} epochs)"
        )
        axes.plot(range(1, history.epochs + 1), history["val_loss"], label=name)
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss on validation digits")
    axes.set_ylim(0.25, 0.7)
    axes.legend()
    save(figure, f"{options.output}/regularization.png")


if __name__ == "__main__":
    main()
