"""Linear and logistic regression: one layer, two losses.

    python examples/linear_regression.py

Linear regression by gradient descent ends where the normal equations end. Logistic
regression tells the digits 3 and 8 apart (the 8x8 digits that come with nnlib).
"""

import argparse

import nnlib
from nnlib import nn
from nnlib.data import DataLoader, Digits, TensorDataset, train_val_test_split
from nnlib.train import binary_accuracy, evaluate, fit
from nnlib.viz.figures import new_figure, save


def linear_regression():
    """Fit a line to noisy points; compare with the normal equations."""
    x = nnlib.rand(200, 1) * 4 - 2
    y = 1.5 * x - 0.7 + 0.3 * nnlib.randn(200, 1)
    model = nn.Linear(1, 1)
    optimizer = nnlib.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
    design = nnlib.cat([x, nnlib.ones(200, 1)], 1)
    exact = nnlib.linalg.solve(design.T @ design, design.T @ y).flatten()
    print(
        f"linear: slope {model.weight.item():.4f}, intercept {model.bias.item():.4f} "
        f"(normal equations: {exact[0].item():.4f}, {exact[1].item():.4f})"
    )
    return x, y, model


def logistic_regression():
    """Tell 3 from 8; return the weights as a picture and the test accuracy."""
    x, labels = Digits().to_arrays(flatten=True)
    chosen = (labels == 3) | (labels == 8)
    target = (labels[chosen] == 8).astype("float32")[:, None]
    data = TensorDataset(x[chosen], target)
    train, _, test = train_val_test_split(data, 0.0, 0.25, generator=0)
    model = nn.Linear(64, 1)
    fit(
        model,
        DataLoader(train, 32, shuffle=True, generator=0),
        optimizer=nnlib.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-3),
        loss=nn.functional.binary_cross_entropy_with_logits,
        epochs=60,
        metrics={"accuracy": binary_accuracy},
        progress=False,
    )
    result = evaluate(
        model,
        DataLoader(test, 512),
        loss=nn.functional.binary_cross_entropy_with_logits,
        metrics={"accuracy": binary_accuracy},
    )
    print(f"logistic: 3 against 8, test accuracy {result['accuracy']:.2%}")
    return model.weight.detach().reshape(8, 8)


def main():
    """Run both and draw them side by side."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="outputs", help="folder of the picture")
    options = parser.parse_args()
    nnlib.manual_seed(options.seed)

    x, y, line = linear_regression()
    weights = logistic_regression()
    figure = new_figure(9, 4)
    left, right = figure.subplots(1, 2)
    left.scatter(x.array, y.array, s=8, color="grey")
    ends = nnlib.tensor([[-2.0], [2.0]])
    left.plot(ends.array, line(ends).detach().array, color="crimson")
    left.set_title("linear regression")
    image = right.imshow(weights.array, cmap="coolwarm")
    right.set_title("logistic regression: weights, 8 (red) against 3 (blue)")
    figure.colorbar(image)
    save(figure, f"{options.output}/linear-regression.png")


if __name__ == "__main__":
    main()
