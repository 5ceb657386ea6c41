"""Word vectors from WikiText-2: skip-gram and CBoW, against gensim's.

    python examples/word2vec.py

Two million words are few: the vectors know what goes together, and little of analogies.
The scores are Spearman's correlation with judged similarities, and the part of Google's
analogies that are answered right. Where gensim is installed it trains on the same
sentences with the same settings, as a check. One thread, 100 columns, window 5, 5
negatives, words seen 5 times at least, 5 epochs, on a 2-core AVX-512 machine:

    nnlib skip-gram   WordSim-353 0.387, SimLex-999 0.203, MEN 0.317, analogies 4.6%
    gensim skip-gram  WordSim-353 0.379, SimLex-999 0.196, MEN 0.296, analogies 5.1%
    nnlib CBoW        WordSim-353 0.389, SimLex-999 0.189, MEN 0.374, analogies 6.2%
    gensim CBoW       WordSim-353 0.403, SimLex-999 0.176, MEN 0.379, analogies 5.8%
"""

import argparse
import time

import nnlib
from nnlib.text import (
    WikiText2,
    Word2Vec,
    WordVectors,
    google_analogies,
    score_analogies,
    score_similarity,
    similarity_test,
)
from nnlib.viz import plot_words

TESTS = ("WordSim-353", "SimLex-999", "MEN")
GROUPS = {
    "countries": "germany france italy spain england japan china russia".split(),
    "months": "january march april june july september november december".split(),
    "family": "father mother son daughter brother sister wife husband".split(),
    "numbers": "two three four five six seven eight nine".split(),
    "sea": "ship ships fleet cruiser battleship naval navy admiral".split(),
}


def scores(vectors):
    """Return the line of a set of vectors' scores."""
    parts = [
        f"{name} {score_similarity(vectors, similarity_test(name)).correlation:.3f}"
        for name in TESTS
    ]
    accuracy = score_analogies(vectors, google_analogies()).accuracy
    return f"{', '.join(parts)}, analogies {accuracy:.1%}"


def train_gensim(sentences, cbow, options):
    """Return gensim's vectors by the same settings, and its words per second."""
    from gensim.models import Word2Vec as Peer

    peer = Peer(
        vector_size=options.size, window=5, min_count=5, negative=5, sample=1e-3,
        sg=not cbow, alpha=0.05 if cbow else 0.025, workers=1, seed=options.seed,
    )  # fmt: skip
    peer.build_vocab(sentences)
    start = time.perf_counter()
    peer.train(sentences, total_examples=len(sentences), epochs=options.epochs)
    seconds = time.perf_counter() - start
    return WordVectors(peer.wv.index_to_key, peer.wv.vectors), seconds


def main():
    """Train both ways; print scores, neighbours and analogies; draw a map of words."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peer", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--output", default="outputs", help="folder of the picture")
    options = parser.parse_args()
    nnlib.set_num_threads(options.threads)

    sentences = [
        [word.lower() for word in sentence] for sentence in WikiText2().sentences()
    ]
    words = options.epochs * sum(map(len, sentences))
    for cbow in (True, False):
        name = "CBoW" if cbow else "skip-gram"
        model = Word2Vec(
            sentences,
            options.size,
            cbow=cbow,
            generator=options.seed,
            device=options.device,
        )
        start = time.perf_counter()
        vectors = model.train(options.epochs).vectors
        speed = words / (time.perf_counter() - start)
        print(f"nnlib {name}: {scores(vectors)} ({speed:,.0f} words/s)", flush=True)
        if options.peer:
            try:
                peer, seconds = train_gensim(sentences, cbow, options)
            except ImportError:
                continue
            speed = words / seconds
            print(f"gensim {name}: {scores(peer)} ({speed:,.0f} words/s)", flush=True)
    for word in ("king", "ship", "red", "october"):
        near = ", ".join(name for name, _ in vectors.neighbours(word, 5))
        print(f"near {word}: {near}")
    for a, b, c in (("man", "woman", "king"), ("france", "paris", "germany")):
        best = ", ".join(name for name, _ in vectors.analogy(a, b, c, 3))
        print(f"{a} is to {b} as {c} is to: {best}")
    plot_words(
        vectors,
        GROUPS,
        f"{options.output}/word2vec.png",
        title="Word vectors of WikiText-2, in the plane of largest variance",
    )


if __name__ == "__main__":
    main()
