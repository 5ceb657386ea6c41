"""A network can learn random labels by heart.

    python examples/random_labels.py

After C. Zhang et al., "Understanding deep learning requires rethinking
generalization", ICLR 2017: with labels drawn at random the training accuracy still
reaches 100 %, while on new digits the network can only guess.
"""

import argparse

import nnlib
from nnlib import nn
from nnlib.data import MNIST, DataLoader, TensorDataset
from nnlib.models import MLP
from nnlib.train import Callback, evaluate, fit
from nnlib.viz.figures import new_figure, save


class StopWhenPerfect(Callback):
    """End the training once every training label is right."""

    def __init__(self, data):
        self.data = data

    def on_epoch_end(self, run):
        """Look at the accuracy of the epoch; if it is full, at that after it."""
        full = run.history.last("accuracy") == 1.0
        run.stop = full and evaluate(run.model, self.data)["accuracy"] == 1.0


def main():
    """Train on true and on random labels; draw both accuracies."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="outputs", help="folder of the picture")
    options = parser.parse_args()
    nnlib.manual_seed(options.seed)

    images, labels = MNIST(train=True).to_tensors(flatten=True)[: options.samples]
    test = DataLoader(MNIST(train=False).to_tensors(flatten=True), 1000)
    kinds = {
        "true labels": labels,
        "random labels": nnlib.randint(0, 10, (options.samples,)),
    }
    figure = new_figure(7, 4)
    axes = figure.add_subplot()
    for name, target in kinds.items():
        model = MLP([784, 512, 512, 10])
        data = TensorDataset(images, target)
        history = fit(
            model,
            DataLoader(data, 64, shuffle=True, generator=options.seed),
            optimizer=nnlib.optim.Adam(model.parameters(), lr=1e-3),
            loss=nn.functional.cross_entropy,
            epochs=options.epochs,
            callbacks=[StopWhenPerfect(DataLoader(data, 1000))],
            progress=False,
        )
        seen = evaluate(model, DataLoader(data, 1000))["accuracy"]
        unseen = evaluate(model, test)["accuracy"]
        print(
            f"{name}: training accuracy {seen:.2%} after {history.epochs} epochs, "
            f"test accuracy {unseen:.2%}"
        )
        axes.plot(range(1, history.epochs + 1), history["accuracy"], label=name)
    axes.set_xlabel("epoch")
    axes.set_ylabel("training accuracy")
    axes.legend()
    save(figure, f"{options.output}/random-labels.png")


if __name__ == "__main__":
    main()
