"""Training steps give the same bits from run to run, on one thread and on several."""

from __future__ import annotations

import numpy as np
import pytest

import nnlib
import nnlib.nn.functional as F
from nnlib import nn
from nnlib.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class Reader(nn.Module):
    """A bidirectional LSTM and a GRU over packed sequences of looked-up vectors."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(50, 24)
        self.lstm = nn.LSTM(24, 40, 2, bidirectional=True, dropout=0.2)
        self.gru = nn.GRU(80, 32)
        self.head = nn.Linear(32, 5)

    def forward(self, ids):
        """Return scores for each sequence."""
        lengths = [20 - number % 7 for number in range(ids.shape[1])]
        packed = pack_padded_sequence(self.table(ids), lengths, enforce_sorted=False)
        states = pad_packed_sequence(self.lstm(packed)[0])[0]
        return self.head(self.gru(states)[1][-1])


def images():
    """Winograd, direct and depthwise convolution, normalisation, pooling, dropout."""
    model = nn.Sequential(
        nn.Conv2d(3, 16, 5, padding=2), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.GroupNorm(4, 32), nn.Dropout2d(0.2),
        nn.Conv2d(32, 32, 3, stride=2, padding=1, groups=32), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(), nn.Linear(128, 5),
    )  # fmt: skip
    return model, nnlib.randn(32, 3, 20, 20)


def sequences():
    """Packed recurrent layers."""
    return Reader(), nnlib.randint(0, 50, (20, 32))


def attention():
    """A Transformer's layer, causal, with dropout."""

    class Causal(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
            self.head = nn.Linear(32, 5)

        def forward(self, x):
            mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
            return self.head(self.layer(x, mask, is_causal=True).mean(1))

    return Causal(), nnlib.randn(32, 70, 32)


def steps(make, count=3):
    """Train from one seed; return the losses and all parameters."""
    nnlib.manual_seed(7)
    model, x = make()
    labels = nnlib.arange(32) % 5
    optimizer = nnlib.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(count):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return [np.array(losses), *(value.array for value in model.state_dict().values())]


@pytest.mark.parametrize("make", [images, sequences, attention])
def test_two_runs_give_the_same_bits(make):
    threads = nnlib.get_num_threads()
    runs = {}
    try:
        for count in sorted({1, min(2, threads)}):
            nnlib.set_num_threads(count)
            runs[count] = first = steps(make)
            for a, b in zip(first, steps(make), strict=True):
                np.testing.assert_array_equal(a, b)
    finally:
        nnlib.set_num_threads(threads)
    # The sums' order may depend on the threads, what is drawn may not.
    one, several = runs[1], runs[min(2, threads)]
    np.testing.assert_allclose(one[0], several[0], 1e-3)
