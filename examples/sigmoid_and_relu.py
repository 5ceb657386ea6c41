"""Vanishing gradients: sigmoid against ReLU in a deep MLP.

    python examples/sigmoid_and_relu.py

Each sigmoid multiplies the gradient by at most 1/4 on its way down; ReLU passes it
where the unit is active. Seen as the norm of each layer's weight gradient at the
start, and as the accuracy after a few epochs.
"""

import argparse

import nnlib
from nnlib import nn
from nnlib.data import MNIST, DataLoader
from nnlib.models import MLP
from nnlib.train import evaluate, fit
from nnlib.viz.figures import new_figure, save


def gradient_norms(model, x, labels):
    """Return the norm of the gradient of each layer's weights for one batch."""
    model.zero_grad()
    nn.functional.cross_entropy(model(x), labels).backward()
    layers = [layer for layer in model if isinstance(layer, nn.Linear)]
    return [layer.weight.grad.norm().item() for layer in layers]


def main():
    """Compare both activations in the same deep network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depth", type=int, default=8, help="hidden layers")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="outputs", help="folder of the picture")
    options = parser.parse_args()

    train, test = (MNIST(train=part).to_tensors(flatten=True) for part in (True, False))
    sizes = [784, *[64] * options.depth, 10]
    figure = new_figure(7, 4)
    axes = figure.add_subplot()
    for name, activation in (("sigmoid", nn.Sigmoid), ("ReLU", nn.ReLU)):
        nnlib.manual_seed(options.seed)
        model = MLP(sizes, activation=activation)
        for layer in model:
            if isinstance(layer, nn.Linear):
                initialise = (
                    nn.init.kaiming_normal_
                    if name == "ReLU"
                    else nn.init.xavier_normal_
                )
                initialise(layer.weight)
        x, labels = train[:256]
        norms = gradient_norms(model, x, labels)
        optimizer = nnlib.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        loader = DataLoader(train, 64, shuffle=True, generator=options.seed)
        fit(model, loader, optimizer=optimizer, epochs=options.epochs, progress=False)
        accuracy = evaluate(model, DataLoader(test, 1000))["accuracy"]
        print(
            f"{name}: gradient norm {norms[0]:.2e} in the first layer, "
            f"{norms[-1]:.2e} in the last (ratio {norms[0] / norms[-1]:.1e}); test "
            f"accuracy after {options.epochs} epochs {accuracy:.2%}"
        )
        axes.semilogy(range(1, len(norms) + 1), norms, marker="o", label=name)
    axes.set_xlabel("layer")
    axes.set_ylabel("norm of the weight gradient before training")
    axes.legend()
    save(figure, f"{options.output}/sigmoid-and-relu.png")


if __name__ == "__main__":
    main()
