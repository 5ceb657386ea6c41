"""``nnlib kernels``: the list, the cache's state, the warm-up."""

from __future__ import annotations

import json

import pytest

from nnlib.backend.errors import Error
from nnlib.cli import kernels as module
from nnlib.cli import main
from nnlib.kernels.machinery import cache


def test_every_kernel_is_listed_with_its_target():
    rows = module.rows()
    names = {(row.family, row.name, row.target) for row in rows}
    assert len(names) == len(rows)
    assert ("activation", "relu_at_map_cuda", "cuda") in names
    assert any(row.family == "gemm_cpu" and row.fixed for row in rows)
    assert {row.target for row in rows} == {"cpu", "cuda"}


def test_list_and_signatures(capsys):
    assert main(["kernels", "--warm", "softmax"]) == 0
    assert capsys.readouterr().out.startswith("warm: softmax (cpu)")
    assert main(["kernels", "softmax.forward", "--signatures"]) == 0
    text = capsys.readouterr().out
    assert "softmax.forward_cpu" in text and "activation" not in text
    if cache.folder() is not None:
        assert "array(float32, 2d, C)" in text and "cached in" in text
    assert main(["kernels", "no such"]) == 1
    assert "no kernel's name contains no such" in capsys.readouterr().err


def test_sequences_are_warmed_too():
    warmed = module.warm(["recurrent", "attention", "embedding", "resize"], "cpu")
    assert not warmed.failed and len(warmed.done) == 4
    if cache.folder() is None:
        return
    cached = {f"{row.family}.{row.name}" for row in module.rows() if row.signatures}
    wanted = (
        "rnn.forward_cpu lstm.forward_cpu lstm.backward_cpu gru.forward_cpu "
        "attention_tiles.forward_cpu attention_tiles.backward_cpu "
        "embedding.gather_cpu embedding.bag_cpu"
    )
    assert set(wanted.split()) <= cached


def test_cubins_are_counted(tmp_path):
    head = json.dumps({"entry": "f", "registers": 20, "size": 3}).encode()
    (tmp_path / "relu-0123.sm_90.cubin").write_bytes(head + b"\nabc")
    (tmp_path / "relu-4567.sm_80.cubin").write_bytes(b"torn")
    (tmp_path / "relu6-4567.sm_80.cubin").write_bytes(head + b"\nabc")
    assert module._cubins(tmp_path, "relu") == ["sm_90, 20 registers"]
    assert module._cubins(None, "relu") == []


def test_warm_names(monkeypatch, capsys):
    with pytest.raises(Error, match="--warm: no recipe is called 'dance'; there are"):
        module.warm(["dance"])

    def broken(device):
        raise ValueError(f"no {device}")

    monkeypatch.setitem(module.RECIPES, "loss", broken)
    ran = []
    monkeypatch.setitem(module.RECIPES, "gemm", ran.append)
    warmed = module.warm(["loss", "gemm"], "cpu")
    assert ran == ["cpu"] and warmed.done == ["gemm (cpu)"]
    assert warmed.failed == {"loss": "ValueError: no cpu"}
    assert main(["kernels", "--warm", "loss"]) == 1
    assert "nnlib kernels: loss: ValueError" in capsys.readouterr().err
