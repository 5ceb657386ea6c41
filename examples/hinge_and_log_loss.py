"""Hinge loss against log loss: the same linear classifier, two ideas of "right".

    python examples/hinge_and_log_loss.py

The hinge loss is content once the margin is 1 and forgets such points; the log loss
never stops pushing. Seen here: the share of training points with a gradient of zero.
"""

import argparse

import nnlib
from nnlib import nn
from nnlib.data import Digits, TensorDataset, train_val_test_split
from nnlib.viz.figures import new_figure, save

F = nn.functional


def train(loss_function, x, y, epochs=300):
    """Fit a linear classifier of labels -1/1 by full-batch descent."""
    model = nn.Linear(x.shape[1], 1)
    nn.init.zeros_(model.weight)
    optimizer = nnlib.optim.SGD(model.parameters(), lr=0.05, weight_decay=1e-3)
    for _ in range(epochs):
        optimizer.zero_grad()
        loss_function(model(x).flatten(), y).backward()
        optimizer.step()
    return model


def main():
    """Train both on odd against even digits; print and draw what differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="outputs", help="folder of the picture")
    options = parser.parse_args()
    nnlib.manual_seed(options.seed)

    x, digits = Digits().to_arrays(flatten=True)
    data = TensorDataset(x, (digits % 2 * 2.0 - 1).astype("float32"))
    train_part, _, test_part = train_val_test_split(data, 0.0, 0.25, generator=0)
    x_train, y_train = train_part.dataset.get_batch(train_part.indices)
    x_test, y_test = test_part.dataset.get_batch(test_part.indices)

    losses = {"hinge": F.hinge_loss, "log": F.soft_margin_loss}
    figure = new_figure(10, 4)
    left, right = figure.subplots(1, 2)
    margins = nnlib.linspace(-3, 3, 301)
    for name, function in losses.items():
        curve = function(margins, nnlib.ones(301), reduction="none")
        left.plot(margins.array, curve.array, label=f"{name} loss")
        model = train(function, x_train, y_train)
        with nnlib.no_grad():
            margin = model(x_train).flatten() * y_train
            correct = (model(x_test).flatten() * y_test > 0).float().mean().item()
        scores = margin.clone().requires_grad_()
        function(scores, nnlib.ones_like(scores)).backward()
        idle = (scores.grad == 0).float().mean().item()
        print(
            f"{name} loss: test accuracy {correct:.2%}, {idle:.0%} of the training "
            "points have no gradient any more"
        )
        right.hist(margin.array, bins=60, alpha=0.6, label=name)
    left.set_xlabel("margin: label times score")
    left.legend()
    right.set_xlabel("margins of the training points after training")
    right.legend()
    save(figure, f"{options.output}/hinge-and-log-loss.png")


if __name__ == "__main__":
    main()
