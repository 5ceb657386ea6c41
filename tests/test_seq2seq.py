"""Attention of decoders, and sequence to sequence: values, search, masks, learning."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import nnlib
from nnlib import models, nn
from nnlib.autograd import gradcheck
from nnlib.backend.errors import ArgumentError, DTypeError, ShapeError
from nnlib.nn.functional import cross_entropy

F64 = {"dtype": nnlib.float64}


def data(*shape, seed=0):
    return nnlib.tensor(np.random.default_rng(seed).normal(size=shape), **F64)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def reference(layer, q, k, n, t, s):
    """Return one score by the papers' formulas."""
    p = {name: value.detach().numpy() for name, value in layer.named_parameters()}
    q, k = q[n, t], k[n, s]
    if isinstance(layer, nn.BahdanauAttention):
        inner = p["query_layer.weight"] @ q + p["query_layer.bias"]
        return p["value.weight"][0] @ np.tanh(inner + p["key_layer.weight"] @ k)
    if layer.form == "dot":
        return q @ k
    if layer.form == "general":
        return q @ p["key_layer.weight"] @ k
    both = np.concatenate([q, k])
    return p["value.weight"][0] @ np.tanh(p["both_layer.weight"] @ both)


LAYERS = {
    "bahdanau": lambda: nn.BahdanauAttention(3, 4, 5),
    "general": lambda: nn.LuongAttention(3, 4),
    "concat": lambda: nn.LuongAttention(3, 4, "concat", 6),
    "dot": lambda: nn.LuongAttention(4, 4, "dot"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_attention_equals_the_formulas(name):
    layer = LAYERS[name]().double()
    q, k = data(2, 3, layer.query_size), data(2, 4, 4, seed=1)
    mask = nnlib.tensor([[True, True, False, True], [True, False, False, False]])
    score = np.empty((2, 3, 4))
    for n, t, s in itertools.product(range(2), range(3), range(4)):
        score[n, t, s] = reference(layer, q.numpy(), k.numpy(), n, t, s)
    context, weights = layer(q, k)
    np.testing.assert_allclose(weights.detach().numpy(), softmax(score), rtol=1e-9)
    np.testing.assert_allclose(
        context.detach().numpy(), softmax(score) @ k.numpy(), rtol=1e-9
    )
    score[~np.broadcast_to(mask.numpy()[:, None], score.shape)] = -np.inf
    context, weights = layer(q, k, mask)
    np.testing.assert_allclose(weights.detach().numpy(), softmax(score), atol=1e-12)
    one, look = layer(q[:, 0], k, mask)
    np.testing.assert_allclose(
        one.detach().numpy(), context[:, 0].detach().numpy(), rtol=1e-9
    )
    assert tuple(look.shape) == (2, 4)
    q.requires_grad_(), k.requires_grad_()
    assert gradcheck(lambda q, k: layer(q, k, mask)[0], (q, k))


def test_a_mask_that_hides_everything_gives_zeros():
    layer = nn.LuongAttention(3, 3, "dot")
    q = nnlib.randn(2, 1, 3).requires_grad_()
    context, weights = layer(q, nnlib.randn(2, 4, 3), nnlib.zeros(2, 4) > 0)
    assert (context == 0).all() and (weights == 0).all()
    context.sum().backward()
    assert (q.grad == 0).all()


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: nn.LuongAttention(3, 4, "dot"), ArgumentError, "got 3 and 4"),
        (lambda: nn.LuongAttention(3, 4, "add"), ArgumentError, "'add'"),
        (lambda: nn.LuongAttention(3, 4)(nnlib.zeros(2, 5), nnlib.zeros(2, 2, 4)),
         ShapeError, r"query \(N, T, 3\) or .*got \(2, 5\)"),
        (lambda: nn.LuongAttention(3, 3)(
            nnlib.zeros(2, 3), nnlib.zeros(2, 2, 3), nnlib.zeros(2, 2)),
         DTypeError, "mask: expected bools"),
        (lambda: nn.LuongAttention(3, 3)(
            nnlib.zeros(2, 3), nnlib.zeros(2, 2, 3), nnlib.zeros(2, 3) > 0),
         ShapeError, r"mask: expected shape \(2, 2\), got \(2, 3\)"),
        (lambda: models.Seq2Seq(5, 5, attention="soft"), ArgumentError, "'soft'"),
        (lambda: models.Seq2Seq(5, 5, 4, 4)(
            nnlib.zeros(3, dtype=nnlib.int64), [3], nnlib.zeros(1, 2)),
         ShapeError, "source"),
        (lambda: models.Seq2Seq(5, 5, 4, 4).beam_search(
            nnlib.ones(1, 2, dtype=nnlib.int64), [2], 0), ArgumentError, "beams"),
    ],
)  # fmt: skip
def test_bad_arguments(make, error, text):
    with pytest.raises(error, match=text):
        make()


# -- the model ---------------------------------------------------------------------


def sample(count=5, longest=6, size=9, seed=0):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest + 1, count)
    lengths[0] = longest
    source = np.zeros((count, longest), np.int64)
    for row, length in zip(source, lengths, strict=True):
        row[:length] = rng.integers(3, size, length)
    return nnlib.tensor(source), nnlib.tensor(lengths)


@pytest.mark.parametrize("attention", ["luong", "bahdanau", None])
def test_padding_changes_nothing(attention):
    model = models.Seq2Seq(9, 8, 6, 7, attention=attention).double()
    source, lengths = sample()
    target = nnlib.randint(3, 8, (5, 4))
    whole = model(source, lengths, target).detach().numpy()
    for n in range(5):
        alone = source[n : n + 1, : int(lengths[n])]
        one = model(alone, lengths[n : n + 1], target[n : n + 1])
        np.testing.assert_allclose(one.detach().numpy()[0], whole[n], atol=1e-10)


@pytest.mark.parametrize("attention", ["luong", "bahdanau", None])
def test_gradients(attention):
    model = models.Seq2Seq(6, 6, 3, 3, attention=attention).double()
    source, lengths = sample(2, 3, 6)
    target = nnlib.tensor([[1, 3, 4], [1, 5, 3]])
    names = dict(model.named_parameters())

    def loss(*values):
        given = dict(zip(names, values, strict=True))
        logits = nnlib.func.functional_call(model, given, (source, lengths, target))
        return logits.square().mean()

    assert gradcheck(loss, list(names.values()), atol=1e-6)


def log_probability(model, source, lengths, tokens):
    """Return the log probability of a written sequence, stop mark included."""
    target = nnlib.tensor([[model.start, *tokens]])
    chances = model(source, lengths, target).log_softmax(2)[0].detach().numpy()
    return sum(chances[i, token] for i, token in enumerate([*tokens, model.stop]))


def test_beam_search_with_all_beams_finds_the_best_sequence():
    nnlib.manual_seed(3)
    model = models.Seq2Seq(6, 5, 4, 6).double().eval()
    source, lengths = sample(3, 4, 6)
    # All sequences of up to two tokens (any but the stop mark), each with its stop.
    every = [s for n in range(3) for s in itertools.product([0, 1, 3, 4], repeat=n)]
    found = model.beam_search(source, lengths, 100, 3, length_penalty=0.0).tokens
    for n in range(3):
        part = source[n : n + 1], lengths[n : n + 1]
        best = max(every, key=lambda s, part=part: log_probability(model, *part, s))
        assert tuple(found[n]) == best


def test_one_beam_is_greedy():
    nnlib.manual_seed(1)
    model = models.Seq2Seq(9, 8, 6, 7)
    source, lengths = sample()
    greedy = model.greedy(source, lengths, 9)
    assert model.beam_search(source, lengths, 1, 9).tokens == greedy.tokens
    for n, look in enumerate(greedy.attention):
        assert look.shape == (len(greedy.tokens[n]), int(lengths[n]))
        np.testing.assert_allclose(look.sum(1), 1, rtol=1e-5)
    assert model.training


@pytest.mark.parametrize("attention", ["luong", "bahdanau"])
def test_it_learns_to_turn_a_sequence_round(attention):
    nnlib.manual_seed(0)
    model = models.Seq2Seq(9, 9, 16, 32, attention=attention)
    optimizer = nnlib.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(250):
        source, lengths = sample(32, 5, 9, seed=step)
        target = np.zeros((32, 7), np.int64)
        for row, length, whole in zip(
            target, lengths.numpy(), source.numpy(), strict=True
        ):
            row[: length + 2] = [1, *whole[:length][::-1], 2]
        target = nnlib.tensor(target)
        logits = model(source, lengths, target[:, :-1])
        loss = cross_entropy(
            logits.flatten(0, 1), target[:, 1:].flatten(), ignore_index=0
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    source, lengths = sample(50, 5, 9, seed=999)
    want = [
        list(row[:length][::-1])
        for row, length in zip(source.numpy(), lengths.numpy(), strict=True)
    ]
    for tokens in (
        model.greedy(source, lengths, 8).tokens,
        model.beam_search(source, lengths, 3, 8).tokens,
    ):
        assert sum(a == b for a, b in zip(tokens, want, strict=True)) > 40
