"""Published texts and word tests: what they hold, and what a bad file says."""

from __future__ import annotations

import lzma
import os
from pathlib import Path

import pytest

from nnlib.backend.errors import ArgumentError
from nnlib.data import DataError, DownloadError
from nnlib.data.fetch import DataFile, locate
from nnlib.text import (
    Banking77,
    Tatoeba,
    Vocabulary,
    WikiText2,
    google_analogies,
    parse_analogies,
    parse_pairs,
    parse_queries,
    parse_similarities,
    similarity_test,
)

ROOT = Path(__file__).parent.parent
DATA = os.environ.get("NNLIB_DATA") or str(ROOT.parent / "shared" / "data")
published = pytest.mark.skipif(
    not (Path(DATA) / "text").is_dir(), reason=f"no text/ in {DATA}"
)


@published
def test_wikitext():
    parts = {split: WikiText2(split, DATA) for split in ("train", "valid", "test")}
    counts = [len(part.tokens()) for part in parts.values()]
    assert counts == [2_088_628, 217_646, 245_569]
    vocabulary = Vocabulary.build(parts["train"].tokens())
    assert len(vocabulary) == 33_278
    lines = list(parts["valid"].sentences())
    assert lines[0] == ["=", "Homarus", "gammarus", "="]
    assert sum(map(len, lines)) == parts["valid"].tokens().count("<eos>") * -1 + 217_646
    with pytest.raises(ArgumentError, match="split: expected one of .* got 'dev'"):
        WikiText2("dev", DATA)


@published
def test_banking77():
    train, test = Banking77(True, DATA), Banking77(False, DATA)
    assert (len(train), len(test)) == (10_003, 3_080)
    assert train.classes == test.classes and len(train.classes) == 77
    assert train[0] == ("I am still waiting on my card?", 12)
    assert train.classes[12] == "card_arrival"
    assert test.classes[test[0][1]] == "card_arrival"


@published
def test_tatoeba():
    pairs = Tatoeba(DATA)
    assert len(pairs) == 142_787 and pairs[0] == ("Go.", "Va !")


@published
def test_word_tests():
    names = ("WordSim-353", "SimLex-999", "MEN")
    assert [len(similarity_test(name, DATA)) for name in names] == [353, 999, 3000]
    halves = [similarity_test(f"WordSim-353-{h}", DATA) for h in ("similarity",)]
    assert len(halves[0]) == 203
    questions = google_analogies(DATA)
    assert len(questions) == 19_544 and len({q.section for q in questions}) == 14
    with pytest.raises(ArgumentError, match="name: expected one of"):
        similarity_test("WS", DATA)


@pytest.mark.parametrize(
    ("parse", "content", "message"),
    [
        (parse_queries, "", "expected the header text,category, got nothing"),
        (parse_queries, "a,b\n", r"header text,category, got \['a', 'b'\]"),
        (parse_queries, "text,category\n", "no line below the header"),
        (parse_queries, "text,category\nx\n", r"line 2: expected a text and a"),
        (parse_queries, "text,category\n ,y\n", "line 2: expected a text and a"),
        (parse_queries, 'text,category\n"x,y\n', "line 2: unexpected end of data"),
        (parse_pairs, "", "there is no pair"),
        (parse_pairs, "a\tb\nalone\n", "line 2: expected a sentence, a tab"),
        (parse_similarities, "\n", "there is no pair"),
        (parse_similarities, "a b 1\na b c\n", "line 2: expected two words and a"),
        (parse_similarities, "a b\n", "line 1: expected two words and a number"),
        (parse_analogies, ": x\n", "there is no question"),
        (parse_analogies, ": x\na b c\n", "line 2: expected four words, got 'a b c'"),
    ],
)
def test_malformed(parse, content, message):
    with pytest.raises(DataError, match=f"a-file: .*{message}"):
        parse(content, "a-file")


def test_lines_of_other_systems():
    assert parse_queries("text,category\r\nx,y\r\n") == [("x", "y")]
    assert parse_pairs("a\tb\tCC-BY\n\n") == [("a", "b")]


def test_files_that_are_not_what_they_should_be(tmp_path, monkeypatch):
    monkeypatch.delenv("NNLIB_DATA", raising=False)
    monkeypatch.setenv("NNLIB_CACHE_DIR", str(tmp_path / "cache"))
    folder = tmp_path / "text" / "wikitext-2"
    folder.mkdir(parents=True)
    (folder / "train.txt.xz").write_bytes(lzma.compress(b"short"))
    with pytest.raises(DataError, match=r"train.txt.xz: hash mismatch"):
        WikiText2("train", tmp_path)


def test_decompressed_form_is_taken_and_downloaded(tmp_path, monkeypatch):
    import hashlib

    import pooch

    monkeypatch.delenv("NNLIB_DATA", raising=False)
    monkeypatch.setenv("NNLIB_CACHE_DIR", str(tmp_path / "cache"))
    packed = lzma.compress(b"words")
    hashes = [hashlib.sha256(x).hexdigest() for x in (packed, b"words")]
    file = DataFile("s", "f.txt.xz", hashes[0], (), hashes[1], ("http://h/",))
    asked = []

    def retrieve(url, known_hash, fname, path, progressbar):
        asked.append((url, known_hash, fname))
        raise OSError("offline")

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    with pytest.raises(DownloadError, match=r"s/f.txt.xz: not found.*http://h/"):
        locate(file)
    assert asked == [("http://h/f.txt", f"sha256:{hashes[1]}", "f.txt")]
    (tmp_path / "f.txt").write_bytes(b"words")
    assert locate(file, tmp_path).name == "f.txt"
    cached = tmp_path / "cache" / "data" / "s"
    cached.mkdir(parents=True)
    (cached / "f.txt").write_bytes(b"words")
    assert locate(file) == cached / "f.txt"
