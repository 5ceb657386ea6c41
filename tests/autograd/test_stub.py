"""The stub of Tensor's methods: up to date, and enough for a strict type checker."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nnlib.ops.stub import render

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import nnlib
from nnlib import Tensor


def layer(x: Tensor, weight: Tensor) -> Tensor:
    hidden = (x @ weight.t() + 1).relu().sum(dim=1, keepdim=True)
    hidden += 2
    hidden.mul_(3).clamp_(min=0)
    part: Tensor = hidden[0, :, None]
    hidden[0] = 3
    return (1 - part / 2).exp().to("float64").reshape(-1).softmax(0) + -x + (x > 0)


def figure(x: Tensor) -> float:
    return float(x.abs().mean()) + float(layer(x, x).sum())


reveal_type(layer(nnlib.tensor([1.0]), nnlib.ones(2)).log())
nnlib.ones(2).no_such_method()
"""


def test_the_stub_is_up_to_date() -> None:
    path = ROOT / "nnlib" / "autograd" / "methods.pyi"
    assert path.read_text(encoding="utf-8") == render(), "run python -m nnlib.ops.stub"


def test_a_strict_type_checker_knows_the_methods(tmp_path: Path) -> None:
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--follow-imports=silent",
            f"--cache-dir={tmp_path}",
            str(program),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        check=False,
    )
    notes = [line.partition(": ")[2] for line in done.stdout.splitlines()]
    assert notes == [
        'note: Revealed type is "nnlib.autograd.tensor.Tensor"',
        'error: "Tensor" has no attribute "no_such_method"  [attr-defined]',
        "",
    ], done.stdout + done.stderr
