"""A character LSTM writes in the manner of Shakespeare.

    python examples/char_lstm.py
    python examples/char_lstm.py --hidden 512 --layers 2 --epochs 12

It learns to predict the next character of tiny-shakespeare by truncated
back-propagation through time: the text runs in parallel streams, and the state is
carried from chunk to chunk without its history. Then it writes on by itself: at a low
temperature what is most likely, at a high one what is bold.
"""

import argparse
import time

import numpy as np

import nnlib
from nnlib import nn
from nnlib.data import TinyShakespeare, streams
from nnlib.nn import functional as F
from nnlib.viz.figures import new_figure, save


class CharModel(nn.Module):
    """Embedding, LSTM, scores of the next character."""

    def __init__(self, symbols, embedding, hidden, layers, dropout):
        super().__init__()
        self.embedding = nn.Embedding(symbols, embedding)
        inner = dropout if layers > 1 else 0.0
        self.lstm = nn.LSTM(embedding, hidden, layers, batch_first=True, dropout=inner)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, symbols)

    def forward(self, x, state=None):
        """Return scores (N, T, symbols) and the state after the last step."""
        h, state = self.lstm(self.embedding(x), state)
        return self.head(self.dropout(h)), state


def detached(state):
    """Return the state without its history: gradients stop here."""
    return None if state is None else tuple(part.detach() for part in state)


def run(model, chunks, optimizer=None, schedule=None, clip=5.0):
    """Go once through the chunks, learning if given an optimiser; return the loss."""
    model.train(optimizer is not None)
    total, state = 0.0, None
    for x, y in zip(*chunks, strict=True):
        with nnlib.set_grad_enabled(optimizer is not None):
            scores, state = model(nnlib.from_numpy(x), detached(state))
            loss = F.cross_entropy(scores.flatten(0, 1), nnlib.from_numpy(y).flatten())
        if optimizer is not None:
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            schedule.step()
        total += loss.item()
    return total / len(chunks[0])


@nnlib.no_grad()
def write(model, plays, prompt, length, temperature):
    """Continue `prompt` by `length` characters drawn from the model."""
    model.eval()
    scores, state = model(nnlib.from_numpy(plays.encode(prompt)[None]))
    text = []
    for _ in range(length):
        weights = F.softmax(scores[0, -1] / temperature, 0)
        text.append(int(nnlib.multinomial(weights, 1).item()))
        scores, state = model(nnlib.tensor([[text[-1]]]), state)
    return prompt + plays.decode(text)


def main():
    """Train, save the curve, write at three temperatures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--embedding", type=int, default=64)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--characters", type=int, help="of the text, to train on")
    parser.add_argument("--rate", type=float, default=5e-3)
    parser.add_argument("--length", type=int, default=300)
    parser.add_argument("--prompt", default="ROMEO:\n")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="outputs", help="folder of the picture")
    options = parser.parse_args()

    nnlib.manual_seed(options.seed)
    plays = TinyShakespeare("train")
    numbers = plays.numbers()[: options.characters]
    train = streams(numbers, options.batch, options.steps)
    held_out = TinyShakespeare("validation").numbers()[: options.characters]
    validation = streams(held_out, 8, 256)
    model = CharModel(
        len(plays.alphabet),
        options.embedding,
        options.hidden,
        options.layers,
        options.dropout,
    )
    optimizer = nnlib.optim.Adam(model.parameters(), lr=options.rate)
    schedule = nnlib.optim.lr_scheduler.OneCycleLR(
        optimizer, options.rate, total_steps=options.epochs * len(train[0]) + 1
    )
    losses = []
    start = time.perf_counter()
    for epoch in range(1, options.epochs + 1):
        seen = run(model, train, optimizer, schedule)
        unseen = run(model, validation)
        losses.append((seen, unseen))
        print(
            f"epoch {epoch:2d}: training loss {seen:.3f}, validation loss "
            f"{unseen:.3f} nats/character, {time.perf_counter() - start:.0f} s",
            flush=True,
        )
    for temperature in (0.3, 0.7, 1.0):
        text = write(model, plays, options.prompt, options.length, temperature)
        print(f"\n--- temperature {temperature} ---\n{text}")
    figure = new_figure(6, 4)
    axes = figure.add_subplot()
    for label, curve in zip(
        ("training", "validation"), np.array(losses).T, strict=True
    ):
        axes.plot(range(1, options.epochs + 1), curve, label=label)
    axes.set_xlabel("epoch")
    axes.set_ylabel("nats per character")
    axes.legend()
    save(figure, f"{options.output}/char_lstm.png")


if __name__ == "__main__":
    main()
