"""One wide hidden layer fits a continuous function.

    python examples/function_fit.py

The universal approximation theorem (Cybenko 1989; Hornik 1991), seen: the error falls
as the single hidden layer grows.
"""

import argparse

import nnlib
from nnlib import nn
from nnlib.viz.figures import new_figure, save


def target(x):
    """Return the function to fit: waves of two frequencies and a kink."""
    return (3 * x).sin() + 0.3 * (9 * x).cos() - (x - 0.5).abs()


def train(width, x, y, steps):
    """Fit a network with one hidden layer of `width` units."""
    model = nn.Sequential(nn.Linear(1, width), nn.Tanh(), nn.Linear(width, 1))
    with nnlib.no_grad():
        # Spread the units' steps over the interval.
        model[0].weight.uniform_(-8, 8)
        model[0].bias.copy_(-model[0].weight.flatten() * (nnlib.rand(width) * 4 - 2))
    optimizer = nnlib.optim.Adam(model.parameters(), lr=0.01)
    schedule = nnlib.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        schedule.step()
    return model, loss.item()


def main():
    """Fit with 2, 10 and 100 hidden units; draw the three fits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="outputs", help="folder of the picture")
    options = parser.parse_args()
    nnlib.manual_seed(options.seed)

    x = nnlib.linspace(-2, 2, 400)[:, None]
    y = target(x)
    figure = new_figure(8, 4.5)
    axes = figure.add_subplot()
    axes.plot(x.array, y.array, color="black", linewidth=3, alpha=0.3, label="target")
    for width in (2, 10, 100):
        model, error = train(width, x, y, options.steps)
        print(f"{width:4d} hidden units: mean squared error {error:.2e}")
        fitted = model(x).detach()
        axes.plot(x.array, fitted.array, label=f"{width} units, error {error:.1e}")
    axes.legend()
    save(figure, f"{options.output}/function-fit.png")


if __name__ == "__main__":
    main()
