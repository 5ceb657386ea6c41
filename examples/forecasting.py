"""Forecasts of airline passengers and of temperatures: RNN, LSTM, GRU and naive ones.

    python examples/forecasting.py

Each network reads a window of past values and predicts the change to the next one
(many-to-one). The last part of each series is held out. The naive forecasts repeat the
last value, or the value one season ago; a network that does not beat them has learnt
nothing. Root mean squared errors on the passengers: last value 51.8, a season ago 50.0,
RNN 26.5, LSTM 40.9, GRU 35.4; on the temperatures: 2.58, 3.65, 2.22, 2.23, 2.23.
"""

import argparse

import numpy as np

import nnlib
from nnlib import nn
from nnlib.data import (
    airline_passengers,
    melbourne_temperatures,
    sliding_windows,
)
from nnlib.nn import functional as F
from nnlib.viz.figures import new_figure, save

KINDS = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}


class Forecaster(nn.Module):
    """A recurrent layer, and the change after its last step."""

    def __init__(self, kind, hidden):
        super().__init__()
        self.layer = KINDS[kind](1, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 1)

    def forward(self, x):
        """Return the forecast of what follows each window (N, T, 1)."""
        return x[:, -1] + self.head(self.layer(x)[0][:, -1])


def train(kind, windows, options):
    """Fit a network to (inputs, targets); return it."""
    nnlib.manual_seed(options.seed)
    model = Forecaster(kind, options.hidden)
    optimizer = nnlib.optim.Adam(model.parameters(), lr=5e-3)
    x, y = (nnlib.from_numpy(part) for part in windows)
    schedule = nnlib.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.updates)
    for _ in range(options.updates):
        rows = nnlib.randint(0, len(x), (64,))
        loss = F.mse_loss(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval()


def study(name, values, season, window, held_out, back, options, axes):
    """Compare forecasts of one series; `back` undoes the scaling."""
    border = len(values) - held_out
    mean, scale = values[:border].mean(), values[:border].std()
    scaled = ((values - mean) / scale).astype(np.float32)
    inputs, targets = sliding_windows(scaled, window)
    seen = len(inputs) - held_out

    def restore(x):
        return back(x * scale + mean)

    truth = restore(targets[seen:, 0])
    axes.plot(truth, color="black", label="observed")
    forecasts = {
        "last value": restore(inputs[seen:, -1, 0]),
        "one season ago": restore(scaled[border - season : -season]),
    }
    for kind in KINDS:
        model = train(kind, (inputs[:seen], targets[:seen]), options)
        with nnlib.no_grad():
            found = model(nnlib.from_numpy(inputs[seen:]))
        forecasts[kind] = restore(found.numpy()[:, 0])
        axes.plot(forecasts[kind], label=kind, linewidth=1)
    for kind, forecast in forecasts.items():
        error = np.sqrt(np.mean((forecast - truth) ** 2))
        print(f"{name:13s} {kind:15s} root mean squared error {error:.2f}")
    axes.set_title(name)
    axes.legend()


def main():
    """Study both series."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--updates", type=int, default=1500)
    parser.add_argument("--days", type=int, help="of the temperatures, the last ones")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="outputs", help="folder of the picture")
    options = parser.parse_args()

    figure = new_figure(10, 4)
    left, right = figure.subplots(1, 2)
    passengers = np.log(airline_passengers().values)
    study("passengers", passengers, 12, 24, 24, np.exp, options, left)
    days = melbourne_temperatures().values[-options.days if options.days else 0 :]
    study("temperatures", days, 365, 30, 365, lambda x: x, options, right)
    save(figure, f"{options.output}/forecasting.png")


if __name__ == "__main__":
    main()
