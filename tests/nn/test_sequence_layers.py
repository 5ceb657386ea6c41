"""CTC, adaptive softmax and positions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compare import array, copy_weights, needs_torch, torch

import nnlib
import nnlib.nn.functional as F
from nnlib import nn
from nnlib.backend.errors import ArgumentError, BoundsError, Error, ShapeError


@needs_torch
@pytest.mark.parametrize("seed", range(6))
def test_ctc_equals_pytorchs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(10):
        steps, count, classes = (int(n) for n in rng.integers((2, 1, 2), (9, 5, 6)))
        blank = int(rng.integers(0, classes))
        lengths = rng.integers(1, steps + 1, count)
        labels = np.minimum(rng.integers(0, 4, count), lengths)
        names = np.array([k for k in range(classes) if k != blank])
        most = max(int(labels.max()), 1)
        targets = names[rng.integers(0, names.size, (count, most))]
        if rng.random() < 0.5:
            parts = [row[:n] for row, n in zip(targets, labels, strict=True)]
            targets = np.concatenate(parts)
        options = {
            "blank": blank,
            "zero_infinity": True,
            "reduction": str(rng.choice(["none", "mean", "sum"])),
        }
        x = rng.standard_normal((steps, count, classes))
        mine = nnlib.tensor(x).requires_grad_()
        theirs = torch.tensor(x).requires_grad_()
        y = nn.CTCLoss(**options)(
            mine.log_softmax(-1), nnlib.tensor(targets), nnlib.tensor(lengths),
            tuple(int(n) for n in labels),
        )  # fmt: skip
        z = torch.nn.CTCLoss(**options)(
            theirs.log_softmax(-1), torch.tensor(targets), torch.tensor(lengths),
            torch.tensor(labels),
        )  # fmt: skip
        np.testing.assert_allclose(array(y), array(z), 1e-8, 1e-10)
        y.sum().backward()
        z.sum().backward()
        np.testing.assert_allclose(array(mine.grad), array(theirs.grad), 1e-7, 1e-9)


def test_checked_numbers_cannot_change_before_the_backward_pass() -> None:
    """What was checked before a loss must still hold when its gradient is written."""
    x = nnlib.randn(4, 1, 3).log_softmax(-1).requires_grad_()
    labels = nnlib.tensor([[1, 2]])
    loss = F.ctc_loss(x, labels, (4,), (2,))
    expected = nnlib.autograd.grad(loss, x, retain_graph=True)[0]
    labels.array[:] = 10**12
    loss.backward()
    np.testing.assert_array_equal(array(x.grad), array(expected))
    tables = [nnlib.randn(5, 3).requires_grad_() for _ in range(2)]
    words = nnlib.tensor([1, 4])
    loss = F.skipgram_loss(*tables, words, words, nnlib.tensor([[0], [3]]))
    expected = nnlib.autograd.grad(loss, tables[0], retain_graph=True)[0]
    words.array[:] = 10**12
    loss.backward()
    np.testing.assert_array_equal(array(tables[0].grad), array(expected))


def test_ctc_without_an_alignment() -> None:
    x = nnlib.randn(2, 1, 3, dtype=nnlib.float64).requires_grad_()
    options: Any = (nnlib.tensor([[1, 1]]), (2,), (2,))
    loss = F.ctc_loss(x.log_softmax(-1), *options)
    assert array(loss) == np.inf
    loss.backward()
    assert not array(x.grad).any()
    assert F.ctc_loss(x.log_softmax(-1), *options, zero_infinity=True).item() == 0
    short = F.ctc_loss(x[:, 0].log_softmax(-1), nnlib.tensor([2]), 2, 1)
    assert short.ndim == 0
    gradient = nnlib.autograd.grad(short, x, create_graph=True)[0]
    with pytest.raises(Error, match="no second derivative"):
        gradient.sum().backward()


@needs_torch
@pytest.mark.parametrize("seed", range(4))
def test_adaptive_softmax_equals_pytorchs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(5):
        classes = int(rng.integers(6, 20))
        cuts = sorted(int(n) for n in rng.choice(np.arange(1, classes), 2, False))
        args = (9, classes, cuts)
        options = {"div_value": 2.0, "head_bias": bool(rng.random() < 0.5)}
        mine = nn.AdaptiveLogSoftmaxWithLoss(*args, **options).double()
        theirs = torch.nn.AdaptiveLogSoftmaxWithLoss(*args, **options).double()
        copy_weights(mine, theirs)
        x = rng.standard_normal((7, 9))
        target = rng.integers(0, classes, 7)
        ours = mine(nnlib.tensor(x), nnlib.tensor(target))
        ref = theirs(torch.tensor(x), torch.tensor(target))
        np.testing.assert_allclose(array(ours.output), array(ref.output), 1e-9)
        ours.loss.backward()
        ref.loss.backward()
        for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
            if b.grad is not None and a.grad is not None:
                np.testing.assert_allclose(array(a.grad), array(b.grad), 1e-8, 1e-12)
        full = mine.log_prob(nnlib.tensor(x))
        np.testing.assert_allclose(
            array(full), array(theirs.log_prob(torch.tensor(x))), 1e-9
        )
        np.testing.assert_array_equal(
            array(mine.predict(nnlib.tensor(x))), array(full).argmax(1)
        )
    with pytest.raises(BoundsError, match="target"):
        mine(nnlib.tensor(x), nnlib.tensor(target) + classes)
    for cutoffs in ([5, 3], [2.5]):
        with pytest.raises(ArgumentError, match="cutoffs"):
            nn.AdaptiveLogSoftmaxWithLoss(4, 10, cutoffs)


def test_adaptive_softmax_names_a_bad_target() -> None:
    layer = nn.AdaptiveLogSoftmaxWithLoss(4, 10, [3])
    for bad in (10, -1):
        with pytest.raises(
            BoundsError, match=rf"target\[2\] is {bad}, expected 0 to 9"
        ):
            layer(nnlib.zeros(3, 4), nnlib.tensor([0, 9, bad]))
    with pytest.raises(ShapeError, match="at least one"):
        layer(nnlib.zeros(0, 4), nnlib.zeros(0, dtype=nnlib.int64))


def test_positions() -> None:
    x = nnlib.zeros(2, 6, 4)
    table = array(nn.SinusoidalPositions(4)(x))[0]
    t = np.arange(6)
    np.testing.assert_allclose(table[:, 0], np.sin(t), 1e-5, 1e-6)
    np.testing.assert_allclose(table[:, 3], np.cos(t / 100), 1e-5, 1e-6)
    part = nn.SinusoidalPositions(4)(x[:, :2], start=3)
    np.testing.assert_array_equal(array(part)[0], table[3:5])
    learned = nn.LearnedPositions(4, 6)
    np.testing.assert_array_equal(array(learned(x))[1], array(learned.table.weight))
    turn = nn.RotaryPositions(4)
    q, k = nnlib.randn(4), nnlib.randn(4)
    many = array(turn(q.expand(6, 4)) @ turn(k.expand(6, 4)).transpose(0, 1))
    # Only the distance counts.
    np.testing.assert_allclose(many[0, 2], many[3, 5], 1e-4, 1e-5)
    for layer in (learned, nn.SinusoidalPositions(4, 5), nn.RotaryPositions(4, 5)):
        with pytest.raises(ShapeError, match="max_len"):
            layer(nnlib.zeros(1, 7, 4))
        for bad in ((4,), (1, 2, 3)):
            with pytest.raises(ShapeError, match=r"expected \(..., L, 4\), got"):
                layer(nnlib.zeros(bad))
        with pytest.raises(ShapeError, match="from position -1 to 1"):
            layer(nnlib.zeros(1, 2, 4), start=-1)
    with pytest.raises(ShapeError, match="even"):
        nn.SinusoidalPositions(3)
