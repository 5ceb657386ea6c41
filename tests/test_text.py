"""Tokens, vocabularies, n-grams, batches of sequences."""

from __future__ import annotations

import json

import numpy as np
import pytest

import nnlib
from nnlib.backend.errors import ArgumentError, BoundsError, DTypeError, ShapeError
from nnlib.data import DataError, DataLoader, Dataset
from nnlib.text import (
    BucketSampler,
    BytePairEncoding,
    PadCollate,
    SubwordError,
    UnknownWordError,
    Vocabulary,
    character_ngrams,
    characters,
    fnv1a,
    hashed_subwords,
    hashed_word_ngrams,
    one_hot,
    pad,
    sentences,
    words,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("  \n\t", []),
        ("I can't.", ["i", "can't", "."]),
        ("don\u2019t", ["don\u2019t"]),
        ("'quoted'", ["'", "quoted", "'"]),
        ("top-up 3.5% of 1,000", ["top-up", "3.5", "%", "of", "1,000"]),
        ("Où est-il ?", ["où", "est-il", "?"]),
        ("a_b", ["a", "_", "b"]),
        ("v2 2nd", ["v", "2", "2", "nd"]),
        ("戦場のヴァルキュリア3", ["戦場のヴァルキュリア", "3"]),
        ("100,", ["100", ","]),
        ("cafe\u0301 a\u030a", ["café", "å"]),  # accents apart
    ],
)
def test_words(text, expected):
    assert words(text) == expected


def test_characters_and_sentences():
    assert characters("aé ") == ["a", "é", " "]
    assert words("A, b!", lower=False, punctuation=False) == ["A", "b"]
    assert sentences('He left. "Why?" Nobody\nknows') == [
        "He left.",
        '"Why?',
        "Nobody",
        "knows",
    ]
    for function in (characters, words, sentences):
        with pytest.raises(DTypeError, match=f"{function.__name__}: text: .* got list"):
            function(["a"])


def test_vocabulary_counts_and_order():
    corpus = [["b", "a", "b"], ["c", "b", "a", "d"]]
    vocabulary = Vocabulary.build(corpus, specials=["<pad>"])
    assert vocabulary.tokens == ["<pad>", "<unk>", "b", "a", "c", "d"]
    assert vocabulary.counts.tolist() == [0, 0, 3, 2, 1, 1]
    small = Vocabulary.build(corpus, min_count=2)
    assert small.tokens == ["<unk>", "b", "a"] and small.counts.tolist() == [2, 3, 2]
    sized = Vocabulary.build(corpus, max_size=2)
    assert sized.tokens == ["<unk>", "b"] and sized.counts.tolist() == [4, 3]
    flat = Vocabulary.build(["x", "y", "x"], unknown=None)
    assert flat.tokens == ["x", "y"] and len(flat) == 2
    assert list(flat) == flat.tokens and "x" in flat and "z" not in flat


def test_a_special_that_the_text_holds_is_counted_once():
    vocabulary = Vocabulary.build(["a", "<unk>", "<unk>", "b", "b"], min_count=2)
    assert vocabulary.tokens == ["<unk>", "b"]
    assert vocabulary.counts.tolist() == [3, 2]


def test_vocabulary_both_ways(tmp_path):
    vocabulary = Vocabulary({"één": 2, "twee": 1}, specials=["<pad>", "<bos>"])
    ids = vocabulary.encode(["twee", "drie", "<bos>"])
    assert ids.dtype == np.int64 and ids.tolist() == [4, 2, 1]
    assert vocabulary.decode(ids) == ["twee", "<unk>", "<bos>"]
    assert vocabulary["drie"] == 2
    vocabulary.save(tmp_path / "v.json")
    again = Vocabulary.load(tmp_path / "v.json")
    assert again.tokens == vocabulary.tokens and again.unknown == "<unk>"
    assert again.counts.tolist() == vocabulary.counts.tolist()
    assert again.specials == ("<pad>", "<bos>", "<unk>")
    assert again.encode(["één", "?"]).tolist() == [3, 2]
    assert vocabulary.encode([]).dtype == np.int64 and vocabulary.decode([]) == []


def test_unknown_words_without_an_unknown_token():
    vocabulary = Vocabulary({"a": 1}, unknown=None)
    with pytest.raises(UnknownWordError, match=r"'b' at position 1 is none of 1") as e:
        vocabulary.encode(["a", "b"])
    assert isinstance(e.value, KeyError) and str(e.value).startswith("Vocabulary")
    with pytest.raises(UnknownWordError, match="'b' is none of its 1 tokens"):
        vocabulary["b"]


@pytest.mark.parametrize(
    ("counts", "options", "message"),
    [
        ({}, {}, "the corpus is empty"),
        ({"a": 1}, {"min_count": 2}, r"none of 1 tokens is left \(min_count=2"),
        ({"a": 1}, {"min_count": 0}, "min_count: expected at least 1, got 0"),
        ({"a": 1}, {"max_size": 0}, "max_size: expected at least the 1 specials"),
        ({"a": 1}, {"specials": ["x", "x"]}, "specials: one comes twice"),
    ],
)
def test_bad_vocabulary(counts, options, message):
    with pytest.raises(ArgumentError, match=message):
        Vocabulary(counts, **options)


def test_bad_use_of_a_vocabulary(tmp_path):
    with pytest.raises(DTypeError, match="expected a mapping of tokens to counts, got"):
        Vocabulary(["a", "b"])
    with pytest.raises(DTypeError, match="expected tokens that are str, got 3"):
        Vocabulary.build([["a", 3]])
    vocabulary = Vocabulary({"a": 1})
    with pytest.raises(BoundsError, match="2 at position 1 is out of range for 2"):
        vocabulary.decode([0, 2])
    with pytest.raises(DTypeError, match="expected integers, got float64"):
        vocabulary.decode([0.5])
    with pytest.raises(DTypeError, match="got a str; tokenise it"):
        vocabulary.encode("a a")
    path = tmp_path / "v.json"
    good = {"format": "nnlib-vocabulary-1", "unknown": None, "specials": []}
    for content in (
        "",
        "[]",
        "{}",
        json.dumps({**good, "tokens": ["a", "a"], "counts": [1, 2]}),
        json.dumps({**good, "tokens": ["a"], "counts": [1, 2]}),
        json.dumps({**good, "unknown": "x", "tokens": ["a"], "counts": [1]}),
        json.dumps({**good, "tokens": ["a"], "counts": ["many"]}),
    ):
        path.write_text(content)
        with pytest.raises(DataError, match=r"v.json: not a vocabulary"):
            Vocabulary.load(path)


def test_hashes_are_fasttexts():
    # FNV-1a's published test values
    assert fnv1a("") == 0x811C9DC5 and fnv1a("a") == 0xE40C292C
    assert fnv1a("foobar") == 0xBF9CF968
    value = 2166136261
    for byte in np.frombuffer("é".encode(), np.int8):
        value = ((value ^ (int(byte) & 0xFFFFFFFF)) * 16777619) % 2**32
    assert fnv1a("é") == value


def test_word_ngrams():
    tokens = ["a", "b", "c"]
    found = hashed_word_ngrams(tokens, 1000, 3)
    signed = [int(np.uint32(fnv1a(t)).astype(np.int32)) for t in tokens]
    ab = (signed[0] * 116049371 + signed[1]) % 2**64
    abc = (ab * 116049371 + signed[2]) % 2**64
    assert found[:2].tolist() == [ab % 1000, abc % 1000] and len(found) == 3
    shifted = hashed_word_ngrams(tokens, 1000, 3, shift=7)
    assert (shifted - found == 7).all()
    assert hashed_word_ngrams(["a"], 10).tolist() == []
    assert hashed_word_ngrams(["a", "b"], 10, 1).tolist() == []
    there, back = (hashed_word_ngrams(x, 9999).item() for x in (["a", "b"], ["b", "a"]))
    assert there != back
    with pytest.raises(ArgumentError, match="buckets: expected at least 1"):
        hashed_word_ngrams(tokens, 0)
    with pytest.raises(ArgumentError, match="n: expected at least 1, got 0"):
        hashed_word_ngrams(tokens, 5, 0)


def test_subwords():
    assert character_ngrams("a", 1, 2) == ["<a", "a", "a>"]
    assert character_ngrams("where", 3, 3) == ["<wh", "whe", "her", "ere", "re>"]
    found = hashed_subwords("where", 50, 3, 3, shift=1)
    assert found.tolist() == [
        fnv1a(g) % 50 + 1 for g in character_ngrams("where", 3, 3)
    ]
    with pytest.raises(ArgumentError, match="1 <= shortest <= longest, got 3 and 2"):
        character_ngrams("a", 3, 2)


def test_pad():
    padded, lengths = pad([np.ones((2, 3)), np.ones((1, 3))], -1, batch_first=False)
    assert tuple(padded.shape) == (2, 2, 3) and lengths.tolist() == [2, 1]
    assert padded[1, 1].tolist() == [-1, -1, -1]
    ids, lengths = pad([nnlib.tensor([1, 2]), []], 9)
    assert ids.tolist() == [[1, 2], [9, 9]] and lengths.tolist() == [2, 0]
    assert ids.dtype == np.int64
    with pytest.raises(ShapeError, match="the batch is empty"):
        pad([])
    with pytest.raises(
        ShapeError, match=r"length alone, got shapes \(1, 2\), \(1, 3\)"
    ):
        pad([np.ones((1, 2)), np.ones((1, 3))])
    with pytest.raises(ShapeError, match="length alone"):
        pad([1, 2])
    with pytest.raises(ShapeError, match="fields of a sample are a tuple"):
        pad([[[1, 2], 0], [[3], 1]])
    for value in (0.5, float("nan")):
        with pytest.raises(ArgumentError, match="value: expected an integer for int64"):
            pad([[1, 2], [3]], value)
    with pytest.raises(DTypeError, match="pad: value: 300 is out of the range of int8"):
        pad([np.ones(2, np.int8)], 300)


class Sequences(Dataset):
    def __init__(self, lengths):
        self.lengths = lengths

    def __getitem__(self, index):
        return np.arange(self.lengths[index]), index

    def __len__(self):
        return len(self.lengths)


def test_buckets():
    lengths = np.random.default_rng(0).integers(1, 60, 203)
    loader = DataLoader(
        Sequences(lengths),
        10,
        sampler=BucketSampler(lengths, 10, pool=10, generator=3),
        collate_fn=PadCollate(),
    )
    epochs = [list(loader), list(loader)]
    for batches in epochs:
        seen = np.concatenate([numbers.array for _, numbers in batches])
        assert sorted(seen.tolist()) == list(range(203))
        held = sum(int(size.array.sum()) for (_, size), _ in batches)
        room = sum(ids.array.size for (ids, _), _ in batches)
        assert held == lengths.sum() and room < 1.25 * held
    assert epochs[0][0][1].tolist() != epochs[1][0][1].tolist()
    again = BucketSampler(lengths, 10, pool=10, generator=3)
    seen = np.concatenate([numbers.array for _, numbers in epochs[0]])
    assert again.epoch().tolist() == seen.tolist() and len(again) == 203
    in_order = BucketSampler([3, 1, 2, 1], 2, shuffle=False)
    assert list(in_order) == [1, 3, 2, 0]


def test_bad_buckets():
    with pytest.raises(ShapeError, match=r"at least one, got shape \(0,\)"):
        BucketSampler([], 2)
    for bad in (0, 1.5):
        with pytest.raises(
            ArgumentError, match="batch_size: expected an integer of at"
        ):
            BucketSampler([1], bad)
    with pytest.raises(DTypeError, match="lengths: expected integers, got <U1"):
        BucketSampler(["a"], 2)
    assert type(BucketSampler([1, 2, 3], np.int64(2)).batch_size) is int


def test_pad_collate_of_bare_sequences():
    padded, lengths = PadCollate(7)([[1], [2, 3]])
    assert padded.tolist() == [[1, 7], [2, 3]] and lengths.tolist() == [1, 2]
    with pytest.raises(ShapeError, match="the batch is empty"):
        PadCollate()([])
    with pytest.raises(ShapeError, match=r"different numbers of fields: \[1, 2\]"):
        PadCollate()([([1], 0), ([2],)])
    with pytest.raises(ArgumentError, match=r"fields: expected numbers from 0 to 1"):
        PadCollate(fields=(2,))([([1], 0)])


def test_one_hot():
    got = one_hot(nnlib.tensor([[2, 0]]), 3)
    assert got.tolist() == [[[0, 0, 1], [1, 0, 0]]] and got.dtype == np.float32
    with pytest.raises(BoundsError, match=r"3 at \(0, 1\) is out of range for .* 3"):
        one_hot([[0, 3]], 3)
    with pytest.raises(DTypeError, match="expected integers"):
        one_hot([0.5], 3)


def test_byte_pairs(tmp_path):
    pytest.importorskip("tokenizers")
    texts = ["low lower lowest newest widest"] * 10
    bpe = BytePairEncoding.train(texts, 270)
    assert len(bpe) == 270 and bpe.encode("low").size < 3
    for text in ("slowest", "Où? \u6226", ""):
        assert bpe.decode(bpe.encode(text)) == text
    assert "".join(bpe("low low")) == "low\u0120low"
    bpe.save(tmp_path / "units.json")
    again = BytePairEncoding.load(tmp_path / "units.json")
    assert again.encode("lowest").tolist() == bpe.encode("lowest").tolist()
    with pytest.raises(ArgumentError, match="size: expected at least 257"):
        BytePairEncoding.train(texts, 100)
    with pytest.raises(ArgumentError, match="the corpus is empty"):
        BytePairEncoding.train([])
    with pytest.raises(DTypeError, match="expected a list of texts, got a str"):
        BytePairEncoding.train("low lower", 300)
    with pytest.raises(DTypeError, match="text: expected a str, got int"):
        BytePairEncoding.train(["low", 3], 300)
    with pytest.raises(DTypeError, match="encode: text: expected a str, got list"):
        bpe.encode(["low"])
    with pytest.raises(BoundsError, match="270 at position 1 is out of range for 270"):
        bpe.decode([5, 270])
    assert bpe.encode("<pad>").tolist() == [0] and bpe.decode([0]) == ""
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(ArgumentError, match=r"bad.json: not a file of units"):
        BytePairEncoding.load(tmp_path / "bad.json")
    with pytest.raises(FileNotFoundError):
        BytePairEncoding.load(tmp_path / "absent.json")


def test_byte_pairs_without_the_package(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(SubwordError, match=r"pip install \"nnlib-dl\[text\]\""):
        BytePairEncoding.train(["a"])
