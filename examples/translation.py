"""English to French, with and without attention.

    python examples/translation.py

Short sentences of Tatoeba. The same network twice: without attention everything
passes through one state, with it the writer looks back at every word. BLEU
(sacrebleu, where it is installed) on unseen sentences, by their length; a picture of
where the writer looks. 26,000 pairs, 6 epochs, seed 0, beams of 5: BLEU 12.0 without
attention, 18.9 with it.
"""

import argparse
import time

import numpy as np

import nnlib
from nnlib.data import random_split
from nnlib.models import Seq2Seq
from nnlib.nn.functional import cross_entropy
from nnlib.nn.utils import clip_grad_norm_
from nnlib.optim.lr_scheduler import OneCycleLR
from nnlib.text import BucketSampler, Tatoeba, Vocabulary, pad, words
from nnlib.viz import new_figure, save

PAD, START, STOP, UNKNOWN = "<pad>", "<s>", "</s>", "<unk>"


def prepare(options):
    """Return vocabularies and (source ids, target ids, source, target) of each part."""
    pairs = [(words(a), words(b)) for a, b in Tatoeba()]
    pairs = [p for p in pairs if max(map(len, p)) <= options.longest]
    # One sentence may have several translations: keep all of them on one side.
    sources = sorted({" ".join(a) for a, _ in pairs})
    held, _ = random_split(sources, [options.tests, len(sources) - options.tests], 0)
    held = {sources[i] for i in held.indices}
    parts = [
        [p for p in pairs if (" ".join(p[0]) in held) == wanted]
        for wanted in (False, True)
    ]
    parts[0] = parts[0][:: max(1, len(parts[0]) // options.samples)]
    vocabularies = [
        Vocabulary.build(
            (p[side] for p in parts[0]), min_count=2,
            specials=(PAD, START, STOP), unknown=UNKNOWN,
        )
        for side in (0, 1)
    ]  # fmt: skip
    encoded = [
        [
            (vocabularies[0].encode(a), vocabularies[1].encode([START, *b, STOP]), a, b)
            for a, b in part
        ]
        for part in parts
    ]
    return vocabularies, encoded


def batches(data, size, seed=None):
    """Yield padded batches of sentences of about one length."""
    lengths = [100 * len(a) + len(b) for a, b, *_ in data]
    order = BucketSampler(lengths, size, shuffle=seed is not None, generator=seed)
    order = order.epoch()
    for start in range(0, len(order), size):
        chosen = [data[i] for i in order[start : start + size]]
        source, lengths = pad([a for a, *_ in chosen])
        target, _ = pad([b for _, b, *_ in chosen])
        yield chosen, source, lengths, target


def train(model, data, options):
    """Train with teacher forcing."""
    optimizer = nnlib.optim.Adam(model.parameters())
    steps = options.epochs * -(-len(data) // 64)
    scheduler = OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for epoch in range(options.epochs):
        total = count = 0
        for _, source, lengths, target in batches(data, 64, options.seed + epoch):
            logits = model(source, lengths, target[:, :-1])
            loss = cross_entropy(
                logits.flatten(0, 1), target[:, 1:].flatten(), ignore_index=0
            )
            optimizer.zero_grad()
            loss.backward()
            clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            total, count = total + loss.item(), count + 1
        print(f"  epoch {epoch + 1}: loss {total / count:.3f}", flush=True)


def score(written, references):
    """Return BLEU, or the share of exact sentences where sacrebleu is missing."""
    try:
        import sacrebleu
    except ImportError:
        right = sum(a in b for a, b in zip(written, references, strict=True))
        return 100 * right / len(written)
    most = max(map(len, references))
    columns = [[r[min(i, len(r) - 1)] for r in references] for i in range(most)]
    return sacrebleu.corpus_bleu(written, columns, tokenize="none", force=True).score


def translate(model, data, vocabulary, beams):
    """Return (source length, written, references) of each different source."""
    answers = {}
    for _, _, a, b in data:
        answers.setdefault(" ".join(a), []).append(" ".join(b))
    unique = list({" ".join(item[2]): item for item in data}.values())
    found = []
    for chosen, source, lengths, _ in batches(unique, 200):
        if beams > 1:
            tokens = model.beam_search(source, lengths, beams, 30).tokens
        else:
            tokens = model.greedy(source, lengths, 30).tokens
        for item, ids in zip(chosen, tokens, strict=True):
            text = " ".join(vocabulary.decode(ids))
            found.append((len(item[2]), text, answers[" ".join(item[2])]))
    return found


def draw(model, item, vocabulary, path):
    """Draw where the writer looks while it translates one sentence."""
    source, lengths = pad([item[0]])
    decoded = model.greedy(source, lengths, 30)
    text, look = vocabulary.decode(decoded.tokens[0]), decoded.attention[0]
    figure = new_figure(6, 6)
    axes = figure.subplots()
    axes.imshow(look, cmap="gray")
    axes.set_xticks(range(len(item[2])), item[2], rotation=60, parse_math=False)
    axes.set_yticks(range(len(text)), text, parse_math=False)
    save(figure, path)


def main():
    """Train both; print BLEU by sentence length, examples, and draw the attention."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=100000)
    parser.add_argument("--tests", type=int, default=2000)
    parser.add_argument("--longest", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--attention", default="luong", choices=("luong", "bahdanau"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="outputs", help="folder of the picture")
    options = parser.parse_args()

    (english, french), (training, held_out) = prepare(options)
    print(
        f"{len(training)} training pairs, {len(english)} English and {len(french)} "
        f"French words"
    )
    results = {}
    for name, attention in (("without", None), ("with", options.attention)):
        nnlib.manual_seed(options.seed)
        model = Seq2Seq(
            len(english), len(french), options.hidden, options.hidden,
            attention=attention, dropout=0.2,
        )  # fmt: skip
        print(f"{name} attention:")
        start = time.perf_counter()
        train(model, training, options)
        minutes = (time.perf_counter() - start) / 60
        for beams in (1, 5):
            results[name] = translate(model, held_out, french, beams)
            bleu = score(*zip(*(r[1:] for r in results[name]), strict=True))
            label = "greedy" if beams == 1 else f"{beams} beams"
            print(f"{name} attention, {label}: BLEU {bleu:.1f} ({minutes:.1f} minutes)")
    longest = max(length for length, *_ in results["with"])
    for low in range(1, longest + 1, 3):
        parts = {
            name: [r[1:] for r in rows if low <= r[0] < low + 3]
            for name, rows in results.items()
        }
        if len(parts["with"]) > 20:
            bleu = {n: score(*zip(*p, strict=True)) for n, p in parts.items()}
            print(
                f"{low} to {low + 2} words ({len(parts['with'])} sentences): BLEU "
                f"{bleu['without']:.1f} without, {bleu['with']:.1f} with attention"
            )
    longer = [item for item in held_out if 7 <= len(item[2]) <= 10] or held_out
    picks = np.random.default_rng(options.seed).choice(len(longer), 3)
    for item in (longer[i] for i in picks):
        source, lengths = pad([item[0]])
        ids = model.beam_search(source, lengths).tokens[0]
        print(f"{' '.join(item[2])} -> {' '.join(french.decode(ids))}")
    draw(model, longer[picks[0]], french, f"{options.output}/translation.png")


if __name__ == "__main__":
    main()
