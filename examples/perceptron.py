"""Rosenblatt's perceptron: it learns what a line can separate, and nothing else.

    python examples/perceptron.py

The perceptron (F. Rosenblatt, "The perceptron", Psychological Review 65, 1958) needs
no gradient: for each example it gets wrong it adds ``label * x`` to its weights.
Novikoff (1962) proved that it stops making mistakes if, and only if, some line
separates the classes. XOR is the smallest set that no line separates.
"""

import argparse

import nnlib
from nnlib.viz import plot_decision_regions


def train(x, labels, epochs=100):
    """Run the perceptron's rule; return weights, bias and the mistakes per epoch."""
    weight, bias = nnlib.zeros(x.shape[1]), 0.0
    mistakes = []
    for _ in range(epochs):
        wrong = 0
        for point, label in zip(x, labels.tolist(), strict=True):
            score = (weight @ point).item() + bias
            if label * score <= 0:
                weight += label * point
                bias += label
                wrong += 1
        mistakes.append(wrong)
        if wrong == 0:
            break
    return weight, bias, mistakes


def separable(count, margin=0.4):
    """Draw points at least `margin` away from the line ``x + 2 y = 0.5``."""
    x = nnlib.randn(4 * count, 2) * 1.5
    side = (x @ nnlib.tensor([1.0, 2.0]) - 0.5) / 5**0.5
    kept = side.abs() > margin
    return x[kept][:count], side[kept][:count].sign()


def main():
    """Train on separable points and on XOR; draw both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="outputs", help="folder of the pictures")
    options = parser.parse_args()
    nnlib.manual_seed(options.seed)

    xor = nnlib.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    sets = {
        "separable": separable(80),
        "xor": (xor, nnlib.tensor([-1.0, 1.0, 1.0, -1.0])),
    }
    for name, (x, labels) in sets.items():
        weight, bias, mistakes = train(x, labels)
        if mistakes[-1] == 0:
            result = f"converged after {len(mistakes)} epochs"
        else:
            result = f"{mistakes[-1]} mistakes in epoch {len(mistakes)}: no convergence"
        print(f"{name}: {result} ({sum(mistakes)} updates)")
        plot_decision_regions(
            lambda points, w=weight, b=bias: points @ w + b,
            x,
            labels,
            f"{options.output}/perceptron-{name}.png",
            title=f"perceptron, {name}: {result}",
        )


if __name__ == "__main__":
    main()
