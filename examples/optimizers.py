"""Plain descent, momentum, AdaGrad, RMSProp and Adam: on a ravine and on MNIST.

    python examples/optimizers.py

The ravine is ``f(x, y) = (x^2 + 50 y^2) / 2``: steep across, flat along. The step
that is safe across is slow along; momentum and the adaptive methods cure it in their
own ways.
"""

import argparse

import nnlib
from nnlib import optim
from nnlib.data import MNIST, DataLoader
from nnlib.models import MLP
from nnlib.train import fit
from nnlib.viz.figures import new_figure, save

# name: (on the ravine, on MNIST)
METHODS = {
    "plain": (lambda p: optim.SGD(p, lr=0.03), lambda p: optim.SGD(p, lr=0.1)),
    "momentum": (
        lambda p: optim.SGD(p, lr=0.03, momentum=0.8),
        lambda p: optim.SGD(p, lr=0.05, momentum=0.9),
    ),
    "AdaGrad": (
        lambda p: optim.Adagrad(p, lr=1.0),
        lambda p: optim.Adagrad(p, lr=0.01),
    ),
    "RMSProp": (
        lambda p: optim.RMSprop(p, lr=0.1),
        lambda p: optim.RMSprop(p, lr=1e-3),
    ),
    "Adam": (
        lambda p: optim.Adam(p, lr=0.3),
        lambda p: optim.Adam(p, lr=1e-3),
    ),
}


def ravine(point):
    """Return the height of the ravine at `point`, shape (2,)."""
    return (point[0] ** 2 + 50 * point[1] ** 2) / 2


def descend(make_optimizer, steps=60):
    """Return the path from (-9, 1.5) as a list of points."""
    point = nnlib.tensor([-9.0, 1.5], requires_grad=True)
    optimizer = make_optimizer([point])
    path = [point.tolist()]
    for _ in range(steps):
        optimizer.zero_grad()
        ravine(point).backward()
        optimizer.step()
        path.append(point.tolist())
    return path


def main():
    """Run every method on both problems; draw paths and losses."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="outputs", help="folder of the picture")
    options = parser.parse_args()

    train, test = (MNIST(train=part).to_tensors(flatten=True) for part in (True, False))
    figure = new_figure(12, 4.5)
    left, right = figure.subplots(1, 2)
    xs, ys = nnlib.linspace(-10, 4, 100), nnlib.linspace(-2.2, 2.2, 100)
    heights = (xs**2 + 50 * ys[:, None] ** 2) / 2
    left.contour(xs.array, ys.array, heights.array, levels=20, alpha=0.3)
    for name, (on_ravine, on_mnist) in METHODS.items():
        path = descend(on_ravine)
        left.plot(*zip(*path, strict=True), marker=".", label=name)
        nnlib.manual_seed(options.seed)
        model = MLP([784, 100, 10])
        history = fit(
            model,
            DataLoader(train, 128, shuffle=True, generator=options.seed),
            optimizer=on_mnist(model.parameters()),
            epochs=options.epochs,
            validation=DataLoader(test, 1000),
            progress=False,
        )
        right.plot(range(1, options.epochs + 1), history["loss"], label=name)
        height = ravine(nnlib.tensor(path[-1])).item()
        print(
            f"{name:9s} ravine: height {height:.2e} after {len(path) - 1} steps; "
            f"MNIST: loss {history.last('loss'):.4f}, test accuracy "
            f"{history.last('val_accuracy'):.2%} after {options.epochs} epochs"
        )
    left.legend()
    right.set_xlabel("epoch")
    right.set_ylabel("training loss on MNIST")
    right.legend()
    save(figure, f"{options.output}/optimizers.png")


if __name__ == "__main__":
    main()
