"""Recurrent layers: derivatives, packing, determinism, empty batches, bad input."""

from __future__ import annotations

import numpy as np
import pytest
from compare import needs_torch, torch

import nnlib
from nnlib import nn
from nnlib.backend.errors import ArgumentError, DTypeError, ShapeError
from nnlib.nn.utils import rnn as tools

KINDS = {
    "tanh": lambda **more: nn.RNN(2, 3, **more),
    "relu": lambda **more: nn.RNN(2, 3, nonlinearity="relu", **more),
    "lstm": lambda **more: nn.LSTM(2, 3, **more),
    "gru": lambda **more: nn.GRU(2, 3, **more),
}
CELLS = {
    "tanh": lambda: nn.RNNCell(2, 3),
    "relu": lambda: nn.RNNCell(2, 3, nonlinearity="relu"),
    "lstm": lambda: nn.LSTMCell(2, 3),
    "gru": lambda: nn.GRUCell(2, 3),
}


def leaf(*shape):
    return nnlib.randn(*shape, dtype=nnlib.float64, requires_grad=True)


def flat(value):
    if isinstance(value, tuple):
        return [x for part in value for x in flat(part)]
    return [value]


@pytest.mark.parametrize("name", CELLS)
def test_cells_have_first_and_second_derivatives(name):
    cell = CELLS[name]().double()
    weights = dict(cell.named_parameters())
    states = [leaf(4, 3) for _ in range(2 if name == "lstm" else 1)]

    def run(x, *values):
        state = values[: len(states)]
        given = dict(zip(weights, values[len(states) :], strict=True))
        hx = state if name == "lstm" else state[0]
        return tuple(flat(nnlib.func.functional_call(cell, given, (x, hx))))

    inputs = (leaf(4, 2), *states, *weights.values())
    assert nnlib.autograd.gradcheck(run, inputs)
    assert nnlib.autograd.gradgradcheck(run, inputs)


@pytest.mark.parametrize("name", KINDS)
def test_packed_sequences_have_first_and_second_derivatives(name):
    layer = KINDS[name](bidirectional=True).double()

    def run(x):
        packed = tools.pack_padded_sequence(x, [2, 3, 1], enforce_sorted=False)
        out, after = layer(packed)
        return (*tools.pad_packed_sequence(out)[:1], *flat(after))

    x = (leaf(3, 3, 2),)
    assert nnlib.autograd.gradcheck(run, x)
    assert nnlib.autograd.gradgradcheck(run, x)


@pytest.mark.parametrize("name", KINDS)
def test_rows_beyond_a_length_do_not_count(name):
    layer = KINDS[name](num_layers=2, bidirectional=True)
    x = nnlib.randn(5, 3, 2)
    packed = tools.pack_padded_sequence(x, [2, 5, 3], enforce_sorted=False)
    padded, lengths = tools.pad_packed_sequence(layer(packed)[0])
    assert lengths.tolist() == [2, 5, 3]
    for i, length in enumerate([2, 5, 3]):
        alone = layer(x[:length, i])[0]
        np.testing.assert_allclose(
            padded[:length, i].detach(), alone.detach(), 1e-5, 1e-6
        )
        assert not padded[length:, i].any()


@pytest.mark.parametrize("name", KINDS)
def test_same_bits_for_any_number_of_threads(name):
    layer = KINDS[name](num_layers=2)
    x = nnlib.randn(20, 16, 2)
    threads = nnlib.get_num_threads()
    found = []
    try:
        for count in (1, 2, 2):
            nnlib.set_num_threads(count)
            layer.zero_grad()
            out = layer(x)[0]
            out.sum().backward()
            found.append([out.detach().numpy().copy()])
            found[-1] += [p.grad.numpy().copy() for p in layer.parameters()]
    finally:
        nnlib.set_num_threads(threads)
    for a, b in zip(found[0], found[2], strict=True):
        np.testing.assert_allclose(a, b, 1e-5, 1e-5)
    assert (found[0][0] == found[1][0]).all()
    for a, b in zip(found[1], found[2], strict=True):
        assert (a == b).all()


@pytest.mark.parametrize("name", KINDS)
def test_large_batch_and_many_units(name):
    """Several tiles of rows and panels of columns, the last ones partly filled."""
    kind = type(KINDS[name]())
    options = {"nonlinearity": name} if name in ("tanh", "relu") else {}
    mine = kind(7, 70, bidirectional=True, **options).double()
    x = nnlib.randn(4, 29, 7, dtype=nnlib.float64, requires_grad=True)
    out, _ = mine(x)
    single = mine(x[:, 3])[0]
    np.testing.assert_allclose(out[:, 3].detach(), single.detach(), 1e-12, 1e-14)
    if torch is not None:
        peer = getattr(torch.nn, kind.__name__)(
            7, 70, bidirectional=True, dtype=torch.float64, **options
        )
        state = {k: torch.tensor(v.numpy()) for k, v in mine.state_dict().items()}
        peer.load_state_dict(state)
        y = torch.tensor(x.detach().numpy(), requires_grad=True)
        peer(y)[0].cos().sum().backward()
        out.cos().sum().backward()
        np.testing.assert_allclose(x.grad, y.grad, 1e-9, 1e-12)


@pytest.mark.parametrize("name", KINDS)
def test_empty_batch(name):
    layer = KINDS[name](bidirectional=True)
    x = nnlib.zeros(4, 0, 2, requires_grad=True)
    out, after = layer(x)
    assert tuple(out.shape) == (4, 0, 6)
    assert all(tuple(state.shape) == (2, 0, 3) for state in flat(after))
    out.sum().backward()
    assert tuple(x.grad.shape) == (4, 0, 2)
    assert not layer.weight_hh_l0.grad.any()


def test_half_floats_are_computed_in_float32():
    layer = nn.LSTM(3, 4).half()
    x = nnlib.randn(5, 2, 3, dtype=nnlib.float16, requires_grad=True)
    out = layer(x)[0]
    assert out.dtype == nnlib.float16
    wide = nn.LSTM(3, 4)
    wide.load_state_dict({k: v.float() for k, v in layer.state_dict().items()})
    np.testing.assert_allclose(
        out.float().detach(), wide(x.float())[0].detach(), 1e-2, 2e-3
    )
    out.sum().backward()
    assert x.grad.dtype == nnlib.float16


def test_nan_stays_in_its_sequence():
    layer = nn.LSTM(2, 3)
    x = nnlib.randn(4, 2, 2)
    x[1, 0, 0] = float("nan")
    out = layer(x)[0]
    assert out[1:, 0].isnan().all() and not out[0].isnan().any()
    assert not out[:, 1].isnan().any()


def test_dropout_between_layers():
    with pytest.warns(UserWarning, match="dropout=0.5 acts between layers"):
        nn.LSTM(2, 3, dropout=0.5)
    layer = nn.GRU(2, 3, num_layers=2, dropout=0.5)
    x = nnlib.randn(6, 4, 2)
    assert (layer(x)[0] != layer(x)[0]).any()
    layer.eval()
    assert (layer(x)[0] == layer(x)[0]).all()


def test_a_changed_output_is_noticed():
    layer = nn.RNN(2, 3)
    out = layer(nnlib.randn(4, 2, 2))[0]
    with nnlib.no_grad():
        out.zero_()
    with pytest.raises(nnlib.Error, match="in place"):
        out.sum().backward()


def test_truncated_backpropagation():
    """Detached states carry values over and no gradients."""
    layer = nn.GRU(2, 3)
    x = nnlib.randn(8, 1, 2)
    whole = layer(x)[0]
    first, h = layer(x[:4])
    second, _ = layer(x[4:], h.detach())
    np.testing.assert_allclose(
        whole.detach(), nnlib.cat((first, second)).detach(), 1e-5, 1e-6
    )
    second.sum().backward()
    assert first.requires_grad and layer.weight_ih_l0.grad is not None


@needs_torch
def test_names_of_parameters_are_pytorchs():
    for options in (
        {"num_layers": 2, "bidirectional": True},
        {"proj_size": 2},
        {"bias": False},
    ):
        mine, theirs = nn.LSTM(3, 4, **options), torch.nn.LSTM(3, 4, **options)
        assert list(mine.state_dict()) == list(theirs.state_dict())
        assert str(mine) == str(theirs)
        shapes = [tuple(x.shape) for part in mine.all_weights for x in part]
        assert shapes == [tuple(x.shape) for part in theirs.all_weights for x in part]
        theirs.load_state_dict(
            {k: torch.tensor(v.numpy()) for k, v in mine.state_dict().items()}
        )
        mine.load_state_dict(theirs.state_dict())


def packed_by_hand(batch_sizes, order=None):
    """Return a packed batch of five rows, with `batch_sizes` right or wrong."""
    order = None if order is None else nnlib.tensor(order)
    return tools.PackedSequence(nnlib.zeros(5, 2), nnlib.tensor(batch_sizes), order)


def with_weight(layer, name, *shape):
    """Return `layer` with one parameter replaced."""
    setattr(layer, name, nn.Parameter(nnlib.zeros(*shape)))
    return layer


BAD = [
    (lambda: nn.LSTM(2, 3)(nnlib.zeros(4, 2, 5)), ShapeError, "LSTM: input has 5 feat"),
    (lambda: nn.GRU(2, 3)(nnlib.zeros(4)), ShapeError, r"GRU: input: expected shape"),
    (lambda: nn.GRU(2, 3)(nnlib.zeros(0, 2, 2)), ShapeError, "at least one step"),
    (
        lambda: nn.GRU(2, 3, batch_first=True)(nnlib.zeros(2, 0, 2)),
        ShapeError,
        r"at least one step, got \(2, 0, 2\)",
    ),
    (
        lambda: nn.GRU(2, 3)(nnlib.zeros(4, 2, 2), nnlib.zeros(1, 1, 3)),
        ShapeError,
        r"GRU: h_0 has shape \(1, 1, 3\), expected \(1, 2, 3\)",
    ),
    (
        lambda: nn.LSTM(2, 3)(nnlib.zeros(4, 2, 2), (nnlib.zeros(1, 2, 3),) * 1),
        ArgumentError,
        r"LSTM: hx: expected a pair \(h_0, c_0\)",
    ),
    (
        lambda: nn.LSTM(2, 3)(
            nnlib.zeros(4, 2, 2), (nnlib.zeros(1, 2, 3), nnlib.zeros(1, 2, 4))
        ),
        ShapeError,
        r"LSTM: c_0 has shape \(1, 2, 4\), expected \(1, 2, 3\)",
    ),
    (
        lambda: nn.RNN(2, 3)(nnlib.zeros(4, 2, 2, dtype=nnlib.float64)),
        DTypeError,
        "RNN: input is float64, the parameters are float32",
    ),
    (
        lambda: nn.RNN(2, 3)(
            nnlib.zeros(4, 2, 2), nnlib.zeros(1, 2, 3, dtype=nnlib.float64)
        ),
        DTypeError,
        "RNN: h_0 is float64, the input is float32",
    ),
    (lambda: nn.RNN(2, 3, nonlinearity="x"), ArgumentError, "nonlinearity"),
    (lambda: nn.GRU(2, 0), ShapeError, "hidden_size: expected at least 1"),
    (lambda: nn.LSTM(2, 3, proj_size=3), ArgumentError, "less than hidden_size"),
    (lambda: nn.GRU(2, 3, dropout=2), ArgumentError, "from 0 to 1"),
    (
        lambda: nn.GRUCell(2, 3)(nnlib.zeros(4, 2), nnlib.zeros(3, 3)),
        ShapeError,
        r"GRUCell: h_0 has shape \(3, 3\), expected \(4, 3\)",
    ),
    (
        lambda: nn.LSTMCell(2, 3)(nnlib.zeros(4, 2), nnlib.zeros(4, 3)),
        ArgumentError,
        "LSTMCell: hx: expected a pair",
    ),
    (
        lambda: nn.LSTMCell(2, 3)(nnlib.zeros(4, 5)),
        ShapeError,
        r"LSTMCell: input has shape \(4, 5\), expected \(4, 2\)",
    ),
    (
        lambda: tools.pack_padded_sequence(nnlib.zeros(4, 2, 2), [4, 0]),
        ArgumentError,
        "sequence 1 has length 0, expected 1 to 4",
    ),
    (
        lambda: tools.pack_padded_sequence(nnlib.zeros(4, 2, 2), [5, 4]),
        ArgumentError,
        "sequence 0 has length 5, expected 1 to 4",
    ),
    (
        lambda: tools.pack_padded_sequence(nnlib.zeros(4, 2, 2), [3, 4]),
        ArgumentError,
        "enforce_sorted=False sorts them",
    ),
    (
        lambda: tools.pack_padded_sequence(nnlib.zeros(4, 2, 2), [4]),
        ShapeError,
        r"expected one for each of 2 sequences, got shape \(1,\)",
    ),
    (
        lambda: tools.pack_padded_sequence(nnlib.zeros(4, 1, 2), [1.5]),
        DTypeError,
        "expected integers",
    ),
    (
        lambda: tools.pad_packed_sequence(
            tools.pack_sequence([nnlib.zeros(3)]), total_length=2
        ),
        ArgumentError,
        "total_length: expected at least 3",
    ),
    (
        lambda: tools.pad_packed_sequence(nnlib.zeros(3)),
        DTypeError,
        "sequence: expected a PackedSequence, got Tensor",
    ),
    (lambda: tools.pad_sequence([]), ArgumentError, "at least one"),
    (
        lambda: tools.pad_sequence([nnlib.zeros(2, 3), nnlib.zeros(2, 4)]),
        ShapeError,
        r"sequence 1 has shape \(2, 4\)",
    ),
    (
        lambda: tools.pack_sequence([nnlib.zeros(2), nnlib.zeros(0)]),
        ArgumentError,
        "sequence 1 has length 0",
    ),
    (
        lambda: tools.pack_padded_sequence(nnlib.zeros(4, 2, 2), [[4], [1, 2]]),
        ShapeError,
        r"expected one number for each of 2 sequences, got \[\[4\], \[1, 2\]\]",
    ),
    (
        lambda: nn.GRU(2, 3)(packed_by_hand([2, 3])),
        ShapeError,
        r"batch_sizes: expected positive .* that do not rise, 5 .* got \[2, 3\]",
    ),
    (lambda: nn.GRU(2, 3)(packed_by_hand([40, 3])), ShapeError, "batch_sizes"),
    (lambda: nn.GRU(2, 3)(packed_by_hand([5, 0])), ShapeError, "batch_sizes"),
    (
        lambda: tools.pad_packed_sequence(packed_by_hand([3, 1])),
        ShapeError,
        "batch_sizes",
    ),
    (
        lambda: nn.LSTM(2, 3)(packed_by_hand([3, 2], [1, 0])),
        ShapeError,
        r"sorted_indices has shape \(2,\), expected \(3,\)",
    ),
    (
        lambda: with_weight(nn.LSTM(2, 3), "weight_hh_l0", 12, 9)(nnlib.zeros(4, 1, 2)),
        ShapeError,
        r"LSTM: weight_hh has shape \(12, 9\), expected \(12, 3\)",
    ),
    (
        lambda: with_weight(nn.GRUCell(2, 3), "bias_hh", 2)(nnlib.zeros(1, 2)),
        ShapeError,
        r"GRU: bias_hh has shape \(2,\), expected \(9,\)",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


@needs_torch
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("first", [True, False])
def test_padding_is_pytorchs(side, first):
    rows = [np.random.default_rng(k).standard_normal((k, 2)) for k in (3, 1, 4)]
    options = {"batch_first": first, "padding_value": 7.0, "padding_side": side}
    mine = tools.pad_sequence([nnlib.tensor(x) for x in rows], **options)
    theirs = torch.nn.utils.rnn.pad_sequence([torch.tensor(x) for x in rows], **options)
    np.testing.assert_array_equal(mine, theirs)
    if side == "right":
        assert len(tools.unpad_sequence(mine, [3, 0, 4], first)[1]) == 0
        back = tools.unpad_sequence(mine, [3, 1, 4], first)
        for a, b in zip(back, rows, strict=True):
            np.testing.assert_array_equal(a, b)
    packed = tools.pack_sequence([nnlib.tensor(x) for x in rows], enforce_sorted=False)
    peer = torch.nn.utils.rnn.pack_sequence(
        [torch.tensor(x) for x in rows], enforce_sorted=False
    )
    for a, b in zip(packed, peer, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(tools.unpack_sequence(packed), rows, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_packed_batch_changes_its_dtype():
    packed = tools.pack_sequence([nnlib.ones(2, 3), nnlib.ones(1, 3)])
    names = {"char": "int8", "byte": "uint8"}
    for name in ("half", "float", "double", "long", "int", "short", *names):
        made = getattr(packed, name)()
        assert made.data.dtype == getattr(nnlib, names.get(name, name))
        assert made.batch_sizes is packed.batch_sizes
