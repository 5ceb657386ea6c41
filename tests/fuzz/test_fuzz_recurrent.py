"""Recurrent layers against PyTorch's: values and gradients, from the same weights.

Random sizes, layers, directions, projections, padded, packed (sorted and not) and
unbatched input, with and without initial states, in float64 and float32.
"""

from __future__ import annotations

from typing import Any

import counting
import numpy as np
import pytest

import nnlib
from nnlib import nn

torch = pytest.importorskip("torch")
# PyTorch's own remark about projections.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
COUNT = 60
TOLERANCE = {"float64": 1e-10, "float32": 2e-5}


def leaves(rng: Any, dtype: str, *shape: int) -> tuple[Any, Any]:
    """Return one random array as a leaf of each library."""
    x = rng.standard_normal(shape).astype(dtype)
    return nnlib.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)


def pick(rng: Any, *values: Any) -> Any:
    return values[rng.integers(len(values))]


def twins(rng: Any, kind: str, dtype: str, **options: Any) -> tuple[Any, Any]:
    """Return a layer of both libraries with the same weights."""
    theirs = getattr(torch.nn, kind)(**options, dtype=getattr(torch, dtype))
    mine = getattr(nn, kind)(**options, dtype=getattr(nnlib, dtype))
    mine.load_state_dict(theirs.state_dict())
    assert list(mine.state_dict()) == list(theirs.state_dict())
    return mine, theirs


def check(dtype: str, ours: Any, theirs: Any) -> None:
    """Compare outputs, which may be nested."""
    if isinstance(ours, tuple):
        for a, b in zip(ours, theirs, strict=True):
            check(dtype, a, b)
        return
    close(dtype, ours.detach().numpy(), theirs.detach().numpy())


def close(dtype: str, a: Any, b: Any) -> None:
    assert a.shape == b.shape and a.dtype == b.dtype
    limit = TOLERANCE[dtype]
    np.testing.assert_allclose(a, b, limit, limit * max(1.0, np.abs(b).max(initial=0)))


def flat(value: Any) -> list[Any]:
    if isinstance(value, tuple):
        return [x for part in value for x in flat(part)]
    return [value]


def backward(rng: Any, dtype: str, ours: Any, theirs: Any, leaf_pairs: Any) -> None:
    """Send one gradient through both, and compare what arrives at the leaves."""
    chosen = [
        (a, b)
        for a, b in zip(flat(ours), flat(theirs), strict=True)
        if b.requires_grad and rng.random() < 0.8
    ] or [(flat(ours)[0], flat(theirs)[0])]
    losses = [0.0, 0.0]
    for a, b in chosen:
        seed = rng.standard_normal(tuple(a.shape)).astype(dtype)
        losses[0] = losses[0] + (a * nnlib.tensor(seed)).sum()
        losses[1] = losses[1] + (b * torch.tensor(seed)).sum()
    for loss in losses:
        loss.backward()
    for a, b in leaf_pairs:
        if b.grad is None:
            assert a.grad is None
        else:
            close(dtype, a.grad.numpy(), b.grad.numpy())


def pairs_of(mine: Any, theirs: Any) -> list[Any]:
    return list(zip(mine.parameters(), theirs.parameters(), strict=True))


def draw_layer(rng: Any, kind: str, dtype: str) -> tuple[Any, Any]:
    options = {
        "input_size": int(rng.integers(1, 6)),
        "hidden_size": int(pick(rng, 1, 2, 3, 5, 8, 17, 33)),
        "num_layers": int(pick(rng, 1, 1, 2, 3)),
        "bias": bool(pick(rng, True, True, False)),
        "batch_first": bool(pick(rng, True, False)),
        "bidirectional": bool(pick(rng, True, False)),
    }
    if kind == "RNN":
        options["nonlinearity"] = pick(rng, "tanh", "relu")
    if kind == "LSTM" and options["hidden_size"] > 2 and rng.random() < 0.2:
        options["proj_size"] = int(rng.integers(1, options["hidden_size"]))
    return twins(rng, kind, dtype, **options)


def draw_states(rng: Any, layer: Any, batch: tuple[int, ...], dtype: str) -> Any:
    layers = layer.num_layers * (1 + layer.bidirectional)
    widths = [layer.proj_size or layer.hidden_size, layer.hidden_size]
    made = [leaves(rng, dtype, layers, *batch, width) for width in widths]
    if layer.mode != "LSTM":
        return *made[0], made[:1]
    return *[tuple(pair[k] for pair in made) for k in range(2)], made


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("seed", range(3))
def test_layers(kind: str, seed: int) -> None:
    rng = np.random.default_rng([seed, len(kind)])
    torch.manual_seed(seed)
    for _ in range(COUNT // 3):
        counting.count()
        dtype = pick(rng, "float64", "float64", "float32")
        mine, theirs = draw_layer(rng, kind, dtype)
        steps, batch = int(rng.integers(1, 7)), int(rng.integers(1, 12))
        single = rng.random() < 0.2
        lead = (batch, steps) if mine.batch_first else (steps, batch)
        x = leaves(rng, dtype, *((steps,) if single else lead), mine.input_size)
        found = pairs_of(mine, theirs) + [x]
        states: Any = (None, None)
        if rng.random() < 0.5:
            *states, made = draw_states(rng, mine, () if single else (batch,), dtype)
            found += made
        ours, peers = mine(x[0], states[0]), theirs(x[1], states[1])
        check(dtype, ours, peers)
        backward(rng, dtype, ours, peers, found)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("seed", range(3))
def test_packed(kind: str, seed: int) -> None:
    rng = np.random.default_rng([seed, 1, len(kind)])
    torch.manual_seed(seed)
    for _ in range(COUNT // 3):
        counting.count()
        dtype = pick(rng, "float64", "float64", "float32")
        mine, theirs = draw_layer(rng, kind, dtype)
        steps, batch = int(rng.integers(1, 7)), int(rng.integers(1, 12))
        lengths = rng.integers(1, steps + 1, batch)
        sort = bool(rng.random() < 0.3)
        if sort:
            lengths = -np.sort(-lengths)
        lead = (batch, steps) if mine.batch_first else (steps, batch)
        x = leaves(rng, dtype, *lead, mine.input_size)
        found = pairs_of(mine, theirs) + [x]
        states: Any = (None, None)
        if rng.random() < 0.5:
            *states, made = draw_states(rng, mine, (batch,), dtype)
            found += made
        results = []
        total = steps + int(rng.integers(0, 3))
        for library, layer, y, state in (
            (nn, mine, x[0], states[0]),
            (torch.nn, theirs, x[1], states[1]),
        ):
            tools = library.utils.rnn
            packed = tools.pack_padded_sequence(
                y, lengths.tolist(), mine.batch_first, enforce_sorted=sort
            )
            out, after = layer(packed, state)
            padded = tools.pad_packed_sequence(out, mine.batch_first, 0.5, total)
            results.append((*padded, after))
        check(dtype, *results)
        backward(rng, dtype, *results, found)


@pytest.mark.parametrize("kind", ["RNNCell", "LSTMCell", "GRUCell"])
def test_cells(kind: str) -> None:
    rng = np.random.default_rng(len(kind))
    for _ in range(COUNT):
        counting.count()
        dtype = pick(rng, "float64", "float32")
        options: dict[str, Any] = {
            "input_size": int(rng.integers(1, 6)),
            "hidden_size": int(rng.integers(1, 20)),
            "bias": bool(pick(rng, True, True, False)),
        }
        if kind == "RNNCell":
            options["nonlinearity"] = pick(rng, "tanh", "relu")
        mine, theirs = twins(rng, kind, dtype, **options)
        lead = pick(rng, (), (1,), (5,), (9,))
        x = leaves(rng, dtype, *lead, mine.input_size)
        found = pairs_of(mine, theirs) + [x]
        states: Any = (None, None)
        if rng.random() < 0.6:
            made = [leaves(rng, dtype, *lead, mine.hidden_size) for _ in range(2)]
            states = made[0]
            if kind == "LSTMCell":
                states = [tuple(pair[k] for pair in made) for k in range(2)]
            found += made if kind == "LSTMCell" else made[:1]
        ours, peers = mine(x[0], states[0]), theirs(x[1], states[1])
        check(dtype, ours, peers)
        backward(rng, dtype, ours, peers, found)
