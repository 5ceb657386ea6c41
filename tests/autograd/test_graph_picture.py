"""The picture of a graph: its source, and what it says where it cannot be drawn."""

from __future__ import annotations

import sys
from typing import Any

import pytest

import nnlib
from nnlib.backend.errors import DTypeError, Error


def test_the_source_names_leaves_and_operations() -> None:
    pytest.importorskip("graphviz", reason="pictures of graphs need graphviz")
    from nnlib.viz import make_dot

    w = nnlib.ones(2, 3, requires_grad=True)
    x = nnlib.ones(3, requires_grad=True)
    hidden = (w * x).tanh()
    source = make_dot([(hidden * hidden).sum(), hidden], {"weight": w}).source
    for text in ("weight\n(2, 3)", "leaf\n(3,)", "Mul", "Tanh", "result\n()"):
        assert text in source.replace("\\n", "\n")
    # A shared operation is drawn once, with an edge for each use.
    assert source.count("label=Tanh") == 1
    assert source.count("label=Mul") == 2
    kept = make_dot(hidden.sum(), show_saved=True).source
    assert "keeps (2, 3)" in kept.replace("\\n", "\n")
    with pytest.raises(Error, match="make_dot: tensor 0 has no history"):
        make_dot(w)
    with pytest.raises(DTypeError, match="make_dot: expected a Tensor, got int"):
        make_dot([3])  # type: ignore[list-item]


def test_a_deep_graph_is_drawn_without_recursion() -> None:
    pytest.importorskip("graphviz", reason="pictures of graphs need graphviz")
    from nnlib.viz import make_dot

    y = nnlib.ones(1, requires_grad=True)
    for _ in range(3000):
        y = -y
    assert make_dot(y).source.count("Neg") == 3000


def test_without_graphviz_the_extra_is_named(monkeypatch: Any) -> None:
    from nnlib.viz.figures import VizError
    from nnlib.viz.graph import make_dot

    monkeypatch.setitem(sys.modules, "graphviz", None)
    with pytest.raises(VizError, match=r'pip install "nnlib-dl\[viz\]"'):
        make_dot(nnlib.ones(1, requires_grad=True) * 2)
