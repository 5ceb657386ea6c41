"""Full-batch, mini-batch and single-sample descent on the same budget of epochs.

    python examples/batch_sizes.py

The same softmax regression on the 8x8 digits: small batches make many noisy steps per
epoch, the full batch one exact step.
"""

import argparse
import time

import nnlib
from nnlib import nn
from nnlib.data import DataLoader, Digits, train_val_test_split
from nnlib.train import fit
from nnlib.viz.figures import new_figure, save


def main():
    """Train with batches of 1, 32 and everything; draw loss against epochs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="outputs", help="folder of the picture")
    options = parser.parse_args()

    digits = Digits()
    data = digits.to_tensors(flatten=True)
    train, _, test = train_val_test_split(
        data, 0.0, 0.2, stratify=digits.labels, generator=0
    )
    figure = new_figure(7, 4)
    axes = figure.add_subplot()
    kinds = {"single sample": (1, 0.01), "mini-batch of 32": (32, 0.1)}
    kinds["full batch"] = (len(train), 0.5)
    for name, (size, lr) in kinds.items():
        nnlib.manual_seed(options.seed)
        model = nn.Linear(64, 10)
        start = time.perf_counter()
        history = fit(
            model,
            DataLoader(train, size, shuffle=True, generator=options.seed),
            optimizer=nnlib.optim.SGD(model.parameters(), lr=lr),
            epochs=options.epochs,
            validation=DataLoader(test, len(test)),
            progress=False,
        )
        seconds = time.perf_counter() - start
        steps = options.epochs * -(-len(train) // size)
        print(
            f"{name}: {steps} steps in {seconds:.1f} s, training loss "
            f"{history.last('loss'):.3f}, test accuracy "
            f"{history.last('val_accuracy'):.2%}"
        )
        axes.semilogy(history["val_loss"], label=f"{name} ({steps} steps)")
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss on held-out digits")
    axes.legend()
    save(figure, f"{options.output}/batch-sizes.png")


if __name__ == "__main__":
    main()
