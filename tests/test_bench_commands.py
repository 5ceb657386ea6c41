"""The command lines of the benchmarks: what they are called and what they refuse."""

from __future__ import annotations

import re
import sys

import pytest

from nnlib.bench import gemm, ops, recurrent, startup, word_vectors


@pytest.mark.parametrize(
    ("main", "arguments", "message"),
    [
        (recurrent.main, ["--rounds", "1"], "--rounds: expected at least 2, got 1"),
        (recurrent.main, ["--threads", "999"], "--threads: there are .* got 999"),
        (gemm.main, ["--rounds", "0"], "python -m nnlib.bench.gemm: error: .* got 0"),
        (ops.main, ["--rounds", "many"], "--rounds: invalid whole value: 'many'"),
        (word_vectors.main, ["--words", "-1"], "--words: expected at least 1, got -1"),
    ],
)
def test_numbers_that_measure_nothing(main, arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    with pytest.raises(SystemExit):
        main()
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize("main", [recurrent.main, startup.main])
def test_cases_that_are_not_there(main, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["bench", "--only", "nothing", "like", "it"])
    with pytest.raises(SystemExit, match="no case's name contains nothing or like or"):
        main()
