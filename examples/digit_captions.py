"""One to many: an image in, a word out, letter by letter.

    python examples/digit_captions.py

A small convolutional network reads a digit of MNIST and gives a GRU its first state;
the GRU spells the digit's name: "s", "e", "v", "e", "n", stop. In training it is told
the right letter before (teacher forcing), in the test its own. The model never hears of
ten classes: an answer counts only if every letter is right. After two epochs 97.84 % of
the test set is spelled right, and no answer is a word that is no digit's name.
"""

import argparse

import numpy as np

import nnlib
import nnlib.nn.functional as F
from nnlib import nn
from nnlib.data import MNIST, DataLoader, Subset
from nnlib.viz import show_images

NAMES = "zero one two three four five six seven eight nine".split()
LETTERS = sorted(set("".join(NAMES)))
# After the letters: the mark that a word begins and the one that it is over.
START, STOP = len(LETTERS), len(LETTERS) + 1
LONGEST = max(map(len, NAMES)) + 1


def spelled():
    """Return the letters of every name as numbers, (10, LONGEST), padded by stops."""
    rows = np.full((10, LONGEST), STOP)
    for digit, name in enumerate(NAMES):
        rows[digit, : len(name)] = [LETTERS.index(letter) for letter in name]
    return nnlib.tensor(rows)


class Speller(nn.Module):
    """An image's features, and the GRU that makes a word of them."""

    def __init__(self, hidden=64):
        super().__init__()
        self.look = nn.Sequential(
            nn.Conv2d(1, 8, 5, stride=2, padding=2), nn.ReLU(),
            nn.Conv2d(8, 16, 5, stride=2, padding=2), nn.ReLU(),
            nn.Flatten(), nn.Linear(16 * 7 * 7, hidden), nn.Tanh(),
        )  # fmt: skip
        self.letters = nn.Embedding(len(LETTERS) + 2, 16)
        self.gru = nn.GRU(16, hidden, batch_first=True)
        self.output = nn.Linear(hidden, len(LETTERS) + 2)

    def forward(self, images, before):
        """Return the logits of each letter, given the letters before it."""
        state = self.look(images).unsqueeze(0)
        hidden, _ = self.gru(self.letters(before), state)
        return self.output(hidden)

    def spell(self, images):
        """Return the likeliest letters, one after the other, (N, LONGEST)."""
        state = self.look(images).unsqueeze(0)
        letter = nnlib.full((len(images), 1), START)
        word = []
        for _ in range(LONGEST):
            hidden, state = self.gru(self.letters(letter), state)
            letter = self.output(hidden).argmax(-1)
            word.append(letter)
        return nnlib.cat(word, 1)


def read(row):
    """Return a row of letters as text, up to the stop."""
    letters = row.tolist()
    end = letters.index(STOP) if STOP in letters else len(letters)
    return "".join(LETTERS[i] if i < START else "?" for i in letters[:end])


def main():
    """Train, spell the test set, show a few answers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=60000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--output", default="outputs", help="folder of the picture")
    options = parser.parse_args()
    nnlib.manual_seed(0)
    train, test = (MNIST(train=part).to_tensors() for part in (True, False))
    words = spelled()
    first = nnlib.full((10, 1), START)
    before = nnlib.cat([first, words[:, :-1]], 1)
    model = Speller()
    optimizer = nnlib.optim.Adam(model.parameters(), lr=2e-3)
    part = Subset(train, range(min(options.samples, len(train))))
    loader = DataLoader(part, 64, shuffle=True, generator=0)
    for epoch in range(1, options.epochs + 1):
        model.train()
        for images, digits in loader:
            optimizer.zero_grad()
            logits = model(images, before[digits])
            loss = F.cross_entropy(logits.flatten(0, 1), words[digits].flatten())
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: last loss {loss.item():.4f}", flush=True)

    model.eval()
    right, words_read, invented = 0, [], set()
    with nnlib.no_grad():
        for images, digits in DataLoader(test, 500):
            answers = model.spell(images)
            for answer, digit in zip(answers, digits.tolist(), strict=True):
                word = read(answer)
                right += word == NAMES[digit]
                if word not in NAMES:
                    invented.add(word)
                words_read.append(word)
    print(f"words that are no digit's name: {sorted(invented) or 'none'}")
    print(f"test set: {100 * right / len(test):.2f}% spelled right, letter by letter")
    show_images(
        test.tensors[0][:40],
        words_read[:40],
        f"{options.output}/digit-captions.png",
        title="digits, and how they were spelled",
    )


if __name__ == "__main__":
    main()
