"""The lecture's MLP 784-200-100-60-30-10 with ReLU on MNIST: over 98 %.

python examples/mlp_mnist.py
"""

import argparse

import nnlib
from nnlib.data import MNIST, DataLoader
from nnlib.models import MLP
from nnlib.optim.lr_scheduler import OneCycleLR
from nnlib.train import evaluate, fit
from nnlib.viz import plot_history


def main():
    """Train with Adam on one cycle of the learning rate; draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="outputs", help="folder of the picture")
    options = parser.parse_args()
    nnlib.manual_seed(options.seed)

    train, test = (
        MNIST(train=part).to_tensors(flatten=True, device=options.device)
        for part in (True, False)
    )
    model = MLP([784, 200, 100, 60, 30, 10], dropout=0.1).to(options.device)
    loader = DataLoader(train, 128, shuffle=True, generator=options.seed)
    held_out = DataLoader(test, 1000)
    optimizer = nnlib.optim.AdamW(model.parameters(), weight_decay=0.01)
    history = fit(
        model,
        loader,
        optimizer=optimizer,
        epochs=options.epochs,
        validation=held_out,
        scheduler=OneCycleLR(optimizer, 4e-3, total_steps=options.epochs * len(loader)),
        scheduler_step="batch",
    )
    accuracy = evaluate(model, held_out)["accuracy"]
    print(f"784-200-100-60-30-10, ReLU: test accuracy {accuracy:.2%}")
    plot_history(history, f"{options.output}/mlp-mnist.png", title="MLP on MNIST")


if __name__ == "__main__":
    main()
