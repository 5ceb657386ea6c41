"""XOR with one hidden layer: what the perceptron could not do.

    python examples/xor.py

Minsky and Papert (1969) showed that no single layer computes XOR. Two hidden units
can; a few more make it easy to find.
"""

import argparse

import nnlib
from nnlib import nn
from nnlib.viz import plot_decision_regions


def main():
    """Train 2-8-1 on the four points; draw the regions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="outputs", help="folder of the picture")
    options = parser.parse_args()
    nnlib.manual_seed(options.seed)

    x = nnlib.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y = nnlib.tensor([[0.0], [1.0], [1.0], [0.0]])
    model = nn.Sequential(
        nn.Linear(2, options.hidden), nn.Tanh(), nn.Linear(options.hidden, 1)
    )
    optimizer = nnlib.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(500):
        optimizer.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(model(x), y)
        loss.backward()
        optimizer.step()
    probability = model(x).sigmoid().detach().flatten()
    for point, p in zip(x.tolist(), probability.tolist(), strict=True):
        print(f"{point[0]:.0f} xor {point[1]:.0f}: {p:.3f}")
    correct = ((probability > 0.5) == (y.flatten() > 0.5)).all()
    print(f"loss {loss.item():.4f}, all four right: {bool(correct)}")
    plot_decision_regions(
        model,
        x,
        y.flatten(),
        f"{options.output}/xor.png",
        title="XOR, one hidden layer",
    )


if __name__ == "__main__":
    main()
