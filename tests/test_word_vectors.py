"""Word vectors: training, queries, files, scores."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import nnlib
from nnlib.backend.errors import ArgumentError, ShapeError
from nnlib.data import DataError
from nnlib.text import (
    Analogy,
    SimilarPair,
    UnknownWordError,
    Vocabulary,
    Word2Vec,
    WordVectors,
    google_analogies,
    score_analogies,
    score_similarity,
    similarity_test,
    spearman,
)

ROOT = Path(__file__).parent.parent
DATA = os.environ.get("NNLIB_DATA") or str(ROOT.parent / "shared" / "data")


def topics(count=600, seed=0):
    """Sentences of animals and sentences of tools; "the" in all of them."""
    rng = np.random.default_rng(seed)
    groups = [[f"{name}{i}" for i in range(6)] for name in ("animal", "tool")]
    return [
        ["the", *rng.choice(groups[k % 2], 6).tolist(), "the"] for k in range(count)
    ]


def random_vectors(count=40, size=7, seed=0):
    rng = np.random.default_rng(seed)
    words = [f"w{i}" for i in range(count)]
    return WordVectors(words, rng.standard_normal((count, size)))


@pytest.mark.parametrize("cbow", [False, True])
def test_words_of_a_topic_come_together(cbow):
    model = Word2Vec(topics(), 12, cbow=cbow, lr=0.1, batch=8, sample=0, generator=0)
    vectors = model.train(15).vectors
    for word in ("animal0", "tool3"):
        near = [name for name, _ in vectors.neighbours(word, 5)]
        assert all(name[:4] == word[:4] for name in near), near
    assert model.epochs == 15 and vectors.words[0] == "the"
    assert vectors.counts[0] == 1200


@pytest.mark.parametrize("cbow", [False, True])
def test_the_seed_decides(cbow):
    def run(seed, sample=1e-2):
        model = Word2Vec(topics(50), 20, cbow=cbow, sample=sample, generator=seed)
        return model.train(2).vectors.vectors

    assert run(1).tobytes() == run(1).tobytes()
    assert run(1).tobytes() != run(2).tobytes()
    assert np.isfinite(run(1, sample=1e-6)).all()


def test_frequent_words_are_dropped_and_windows_stay_in_sentences():
    model = Word2Vec(topics(300), 4, window=3, sample=1e-2, generator=0)
    words, low, high = model._epoch()
    whole = len(model._words)
    rate = (np.asarray(words) == 0).sum() / (np.asarray(model._words) == 0).sum()
    frequency = 600 / whole
    expected = np.sqrt(1e-2 / frequency) + 1e-2 / frequency
    assert abs(rate - expected) < 0.08 and len(words) < whole
    at = np.arange(len(words))
    assert (low <= at).all() and (high > at).all()
    assert (at - low).max() == 3 and (high - at).max() == 4
    model.sample = 0.0
    words, low, high = model._epoch()
    assert len(words) == whole
    at = np.arange(whole)
    assert (low // 8 == at // 8).all() and ((high - 1) // 8 == at // 8).all()


def test_report_and_falling_rate():
    seen = []
    model = Word2Vec(topics(20), 4, lr=0.5, generator=0)
    model.train(3, report=lambda done, rate: seen.append((done, rate)))
    assert [round(done, 2) for done, _ in seen] == [0.33, 0.67, 1.0]
    assert [rate for _, rate in seen] == sorted((r for _, r in seen), reverse=True)
    assert (
        len(Word2Vec([["a", "b"]], 4, min_count=1, generator=0).train(1).vectors) == 2
    )


@pytest.mark.parametrize(
    ("sentences", "options", "message"),
    [
        ([], {}, "the corpus is empty"),
        ([[], []], {}, "the corpus is empty"),
        ([["a"]], {}, "none of 1 tokens is left"),
        ([["a"]], {"vocabulary": Vocabulary({"b": 1})}, "none of their words is in"),
        ([["a"]], {"size": 0}, "size: expected at least 1, got 0"),
        ([["a"]], {"negatives": 0}, "negatives: expected at least 1, got 0"),
        ([["a"]], {"lr": -1.0}, "lr: expected at least 0"),
    ],
)
def test_bad_training(sentences, options, message):
    with pytest.raises(ArgumentError, match=message):
        Word2Vec(sentences, **options)


def test_bad_sentences_and_epochs():
    with pytest.raises(ShapeError, match="number 0 is a str, expected a list"):
        Word2Vec(["a b c"])
    with pytest.raises(ArgumentError, match="epochs: expected at least 1"):
        Word2Vec([["a"]], min_count=1).train(0)


def test_queries():
    vectors = random_vectors()
    unit = vectors.vectors / np.linalg.norm(vectors.vectors, axis=1, keepdims=True)
    scores = unit @ unit[3]
    order = [i for i in np.argsort(-scores) if i != 3]
    found = vectors.neighbours("w3", 5)
    assert [word for word, _ in found] == [f"w{i}" for i in order[:5]]
    np.testing.assert_allclose([s for _, s in found], scores[order[:5]], rtol=1e-5)
    assert vectors.neighbours(vectors["w3"], 1)[0][0] == "w3"
    assert len(vectors.neighbours("w3", 1000)) == 39
    query = unit[2] - unit[1] + unit[5]
    best = max(
        (i for i in range(40) if i not in (1, 2, 5)), key=lambda i: unit[i] @ query
    )
    assert vectors.analogy("w1", "w2", "w5", 1)[0][0] == f"w{best}"
    assert abs(vectors.similarity("w1", "w2") - unit[1] @ unit[2]) < 1e-6
    assert "w1" in vectors and "x" not in vectors and list(vectors)[:2] == ["w0", "w1"]


def test_bad_queries():
    vectors = random_vectors()
    with pytest.raises(UnknownWordError, match="'W1' is none of its 40 words; 'w1' is"):
        vectors.neighbours("W1")
    with pytest.raises(KeyError):
        vectors.analogy("w1", "w2", "what")
    with pytest.raises(ShapeError, match=r"vector of shape \(7,\), got shape \(3,\)"):
        vectors.neighbours(np.ones(3))
    with pytest.raises(ArgumentError, match="k: expected at least 1"):
        vectors.neighbours("w1", 0)
    with pytest.raises(ArgumentError, match="'a' comes twice"):
        WordVectors(["a", "a"], np.ones((2, 2)))
    with pytest.raises(ShapeError, match=r"for 1 words, got \(2, 2\)"):
        WordVectors(["a"], np.ones((2, 2)))
    with pytest.raises(ShapeError, match=r"counts: expected shape \(1,\)"):
        WordVectors(["a"], np.ones((1, 2)), [1, 2])


@pytest.mark.parametrize("name", ["v.bin", "v.txt"])
def test_files_both_ways(tmp_path, name):
    vectors = WordVectors(
        ["été", "b-c", "戦場"], np.random.default_rng(0).normal(size=(3, 5))
    )
    vectors.save(tmp_path / name)
    again = WordVectors.load(tmp_path / name)
    assert again.words == vectors.words
    assert again.vectors.tobytes() == vectors.vectors.tobytes()
    for limit in (1, 2, 3, 4):
        first = WordVectors.load(tmp_path / name, limit=limit)
        assert first.words == vectors.words[:limit]
        assert first.vectors.tobytes() == vectors.vectors[:limit].tobytes()
    with pytest.raises(ArgumentError, match="'a b': word2vec's formats cannot hold"):
        WordVectors(["a b"], np.ones((1, 2))).save(tmp_path / "x.bin")


@pytest.mark.parametrize("binary", [False, True])
def test_files_both_ways_with_gensim(tmp_path, binary):
    models = pytest.importorskip("gensim.models")
    vectors = random_vectors(9)
    path = str(tmp_path / "v")
    vectors.save(path, binary=binary)
    theirs = models.KeyedVectors.load_word2vec_format(path, binary=binary)
    assert theirs.index_to_key == vectors.words
    assert theirs.vectors.tobytes() == vectors.vectors.tobytes()
    theirs.save_word2vec_format(path, binary=binary)
    again = WordVectors.load(path, binary=binary)
    assert again.words == vectors.words
    np.testing.assert_allclose(again.vectors, vectors.vectors, rtol=1e-6)
    ours = [word for word, _ in vectors.neighbours("w0", 8)]
    assert ours == [word for word, _ in theirs.most_similar("w0", topn=8)]


def test_glove_files_have_no_header(tmp_path):
    (tmp_path / "g.txt").write_text("the 0.5 1\nof -1e-3 2\n")
    vectors = WordVectors.load(tmp_path / "g.txt")
    assert vectors.words == ["the", "of"] and vectors["of"].tolist()[1] == 2


@pytest.mark.parametrize(
    ("content", "binary", "message"),
    [
        (b"", False, "the file is empty"),
        (b"2 2\na 1 2\n", False, "the header says 2 words, the file has 1"),
        (b"1 2\na 1 2\nb 1 2\n", False, "the header says 1 words, the file has 2"),
        (b"1 2\na 1\n", False, "line 2: expected a word and 2 numbers, got 1 numbers"),
        (b"1 2\na 1 x\n", False, "line 2: expected a word and 2 numbers, got could"),
        (b"a 1 2\nb 1\n", False, "line 2: expected a word and 2 numbers"),
        (b"2 1\na 1\na 2\n", False, "the word 'a' comes twice"),
        (b"1 1\n\xff 1\n", False, "word 0: not UTF-8"),
        (b"0 3\n", False, "there is no vector"),
        (b"", True, "not word2vec's binary format"),
        (
            b"a 1 2\n",
            True,
            "not word2vec's binary format: expected a first line of two",
        ),
        (b"2 1\na \0\0\0\0\n", True, "truncated, or a wrong header: 2 words of 1"),
        (b"9999999999 9999999999\n", True, "truncated, or a wrong header"),
        (b"2 1\na \0\0\0\0\nbcdefghi", True, "truncated: it ends within word 1 of 2"),
        (b"a 1 2\nb nan 1\n", False, r"word 1 \('b'\) has a number that is not finite"),
        (b"a 1 1e99\n", False, r"word 0 \('a'\) has a number that is not finite"),
        (b"1 1\na \0\0\x80\x7f", True, r"word 0 \('a'\) has a number that is not"),
    ],
)
def test_malformed_files(tmp_path, content, binary, message):
    (tmp_path / "v").write_bytes(content)
    with pytest.raises(DataError, match=f"v: {message}"):
        WordVectors.load(tmp_path / "v", binary=binary)
    with pytest.raises(ArgumentError, match="limit: expected 1 or more"):
        WordVectors.load(tmp_path / "v", limit=0)


def test_more_words_than_promised_within_the_limit(tmp_path):
    (tmp_path / "v").write_bytes(b"1 2\na 1 2\nb 1 2\nc 1 2\n")
    assert WordVectors.load(tmp_path / "v", limit=1).words == ["a"]
    with pytest.raises(DataError, match="the header says 1 words, the file has 2"):
        WordVectors.load(tmp_path / "v", limit=2)


def test_spearman():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    for ties in (3, 1000):
        a, b = rng.integers(0, ties, (2, 50))
        np.testing.assert_allclose(spearman(a, b), stats.spearmanr(a, b)[0], atol=1e-12)
    with pytest.raises(ShapeError, match="one length from 2, got 1 and 1"):
        spearman([1], [1])
    with pytest.raises(ArgumentError, match=r"second\[1\] is NaN"):
        spearman([1, 2], [2, float("nan")])
    assert spearman([1, 1], [1, 2]) == 0


def test_scores():
    words = ["Paris", "France", "Rome", "Italy", "x"]
    vectors = WordVectors(
        words, [[1, 1, 0], [1, 0, 0], [0, 1, 1], [0, 0, 1], [-1, 0, 0]]
    )
    questions = [
        Analogy("paris", "france", "rome", "italy", "capitals"),
        Analogy("paris", "france", "rome", "x", "capitals"),
        Analogy("paris", "france", "rome", "mars", "other"),
    ]
    score = score_analogies(vectors, questions)
    assert score.accuracy == 0.5 and score.missing == 1 and score.questions == 2
    assert score.sections == {"capitals": (1, 2)}
    with pytest.raises(ArgumentError, match="none of 3 questions has vectors"):
        score_analogies(vectors, questions, lower=False)
    with pytest.raises(ArgumentError, match="0 of 1 pairs have vectors"):
        score_similarity(vectors, [SimilarPair("a", "b", 1.0)])


@pytest.mark.skipif(not (Path(DATA) / "text").is_dir(), reason=f"no text/ in {DATA}")
def test_scores_are_gensims(tmp_path):
    models = pytest.importorskip("gensim.models")
    pairs = similarity_test("SimLex-999", DATA)
    words = sorted({w for p in pairs for w in p[:2]})
    family = [q for q in google_analogies(DATA) if q.section in ("family", "currency")]
    words = sorted({*words, *(w.lower() for q in family for w in q[:4])})
    vectors = WordVectors(words, np.random.default_rng(0).normal(size=(len(words), 6)))
    theirs = models.KeyedVectors(6)
    theirs.add_vectors(words, vectors.vectors)
    folder = Path(DATA) / "text" / "embedding-eval"
    expected = theirs.evaluate_word_pairs(str(folder / "EN-SIMLEX-999.txt"))[1][0]
    assert abs(score_similarity(vectors, pairs).correlation - expected) < 1e-6
    lines = [f": {family[0].section}", *(" ".join(q[:4]) for q in family)]
    (tmp_path / "q.txt").write_text("\n".join(lines))
    accuracy = theirs.evaluate_word_analogies(str(tmp_path / "q.txt"))[0]
    assert abs(score_analogies(vectors, family).accuracy - accuracy) < 1e-9


def test_rows_for_a_vocabulary():
    vectors = random_vectors()
    vocabulary = Vocabulary({"w3": 2, "new": 1}, specials=["<pad>"])
    rows = vectors.matrix(vocabulary, generator=0)
    assert rows.shape == (4, 7) and not rows[0].any()
    assert rows[2].tolist() == vectors["w3"].tolist()
    assert rows[1].any() and rows[3].any()
    assert vectors.matrix(vocabulary, generator=0).tobytes() == rows.tobytes()


@pytest.mark.skipif(not hasattr(nnlib.nn, "Embedding"), reason="no Embedding")
@pytest.mark.parametrize("freeze", [True, False])
def test_embedding(freeze):
    vectors = random_vectors()
    layer = vectors.embedding(freeze=freeze)
    assert layer.weight.requires_grad is not freeze
    assert layer(nnlib.tensor([3])).tolist() == [vectors["w3"].tolist()]
    layer = vectors.embedding(Vocabulary({"w3": 1}), generator=0, freeze=freeze)
    assert tuple(layer.weight.shape) == (2, 7)
