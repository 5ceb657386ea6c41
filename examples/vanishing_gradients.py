"""How far back gradients reach: simple RNN against LSTM and GRU; clipping.

    python examples/vanishing_gradients.py

First, the gradient of the last output by each earlier input is measured over the steps
between them. In the simple network it shrinks by a factor at each step; the cell state
of an LSTM whose forget gate is open lets it through. Second, each network learns to
repeat a bit that it saw many steps ago, which shows what that is worth. Third, with
large weights the gradient explodes, and clipping its norm keeps the steps of training
finite.
"""

import argparse

import numpy as np

import nnlib
from nnlib import nn
from nnlib.nn import functional as F
from nnlib.viz.figures import new_figure, save

KINDS = {"RNN": nn.RNN, "GRU": nn.GRU, "LSTM": nn.LSTM}


def open_gates(layer):
    """Let an LSTM remember at first: forget gates near 1 (Jozefowicz et al. 2015)."""
    if isinstance(layer, nn.LSTM):
        size = layer.hidden_size
        with nnlib.no_grad():
            layer.bias_ih_l0[size : 2 * size] = 3.0


def reach(layer, steps, width):
    """Return the norm of d(last output)/d(input) for each step between them."""
    x = nnlib.randn(steps, 32, width, requires_grad=True)
    layer(x)[0][-1].sum().backward()
    norms = x.grad.norm(dim=2).mean(dim=1).numpy()
    return norms[::-1] / norms[-1]


def remember(kind, lag, hidden, updates, seed):
    """Train to repeat the first bit after `lag` steps of noise; return the accuracy."""
    nnlib.manual_seed(seed)
    layer, head = KINDS[kind](2, hidden), nn.Linear(hidden, 2)
    open_gates(layer)
    parameters = [*layer.parameters(), *head.parameters()]
    optimizer = nnlib.optim.Adam(parameters, lr=3e-3)
    hits = []
    for _ in range(updates):
        bits = nnlib.randint(0, 2, (64,))
        x = nnlib.zeros(lag + 1, 64, 2)
        x[:, :, 1] = nnlib.randn(lag + 1, 64) * 0.3
        x[0, :, 0] = bits.float() * 2 - 1
        scores = head(layer(x)[0][-1])
        loss = F.cross_entropy(scores, bits)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        hits.append((scores.argmax(1) == bits).float().mean().item())
    return float(np.mean(hits[-20:]))


def explode(clip, updates, seed):
    """Train a simple network with large weights; return largest norm and last loss."""
    nnlib.manual_seed(seed)
    layer, head = nn.RNN(1, 32, nonlinearity="relu"), nn.Linear(32, 1)
    with nnlib.no_grad():
        layer.weight_hh_l0.mul_(3.0)
    parameters = [*layer.parameters(), *head.parameters()]
    optimizer = nnlib.optim.SGD(parameters, lr=0.01)
    largest = 0.0
    for _ in range(updates):
        x = nnlib.rand(30, 32, 1)
        loss = F.mse_loss(head(layer(x)[0][-1]), x.mean(0))
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(parameters, clip or float("inf")).item()
        largest = max(largest, norm) if np.isfinite(norm) else float("inf")
        optimizer.step()
    return largest, loss.item()


def main():
    """Measure, train, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--lags", type=int, nargs="*", default=[5, 20, 60])
    parser.add_argument("--updates", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="outputs", help="folder of the picture")
    options = parser.parse_args()

    figure = new_figure(6, 4)
    axes = figure.add_subplot()
    for kind, layer_of in KINDS.items():
        nnlib.manual_seed(options.seed)
        layer = layer_of(8, options.hidden)
        open_gates(layer)
        norms = reach(layer, options.steps, 8)
        middle = options.steps // 2
        print(
            f"{kind:5s} gradient, relative to that of the last input: {norms[10]:.1e} "
            f"after 10 steps, {norms[middle]:.1e} after {middle}, {norms[-1]:.1e} "
            f"after {len(norms) - 1}"
        )
        axes.semilogy(np.maximum(norms, 1e-30), label=kind)
    axes.set_xlabel("steps between input and output")
    axes.set_ylabel("norm of the gradient, relative")
    axes.legend()
    save(figure, f"{options.output}/vanishing_gradients.png")
    for kind in KINDS:
        found = [
            f"{remember(kind, lag, options.hidden, options.updates, options.seed):.0%} "
            f"at lag {lag}"
            for lag in options.lags
        ]
        print(f"{kind:5s} repeats a bit: {', '.join(found)}")
    for clip in (None, 1.0):
        largest, loss = explode(clip, 50, options.seed)
        name = "no clipping" if clip is None else f"clipped at {clip}"
        print(f"exploding: {name}: largest norm {largest:.1e}, last loss {loss:.3g}")


if __name__ == "__main__":
    main()
