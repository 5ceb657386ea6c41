"""Gradients that meet are added in place only where nobody else sees the memory."""

from __future__ import annotations

import numpy as np
import pytest

import nnlib
from nnlib.autograd.function import Function
from nnlib.autograd.passes import _memory_is_its_own
from nnlib.kernels import arithmetic


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.mark.parametrize("size", [4, 40])
def test_both_sides_of_a_sum_of_images(rng, size):
    x = nnlib.tensor(rng.standard_normal((4, 16, size, size)), requires_grad=True)
    w = nnlib.tensor(rng.standard_normal((16, 16, 3, 3)), requires_grad=True)
    y = nnlib.conv2d(x, w, padding=1) + x
    y.retain_grad()
    (y * y).sum().backward()
    g = 2 * y.detach()
    np.testing.assert_array_equal(y.grad.numpy(), g.numpy())
    want = nnlib.conv_transpose2d(g, w.detach(), padding=1) + g
    np.testing.assert_allclose(x.grad.numpy(), want.numpy(), rtol=1e-12)


def test_whose_memory_it_is():
    whole = np.empty((3, 4))
    assert _memory_is_its_own(whole)
    alone = np.empty((3, 4)).transpose()
    assert _memory_is_its_own(alone)
    shared = whole.transpose()
    assert not _memory_is_its_own(shared)
    part = np.empty((3, 4))[:2]
    assert not _memory_is_its_own(part)
    repeated = np.broadcast_to(np.empty(3), (3, 3))
    assert not _memory_is_its_own(repeated)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_add_writes_into_an_operand(rng, dtype):
    x = rng.integers(0, 9, (2, 3, 4)).astype(dtype).transpose(2, 0, 1)
    y = rng.integers(0, 9, (4, 2, 3)).astype(dtype)
    want = x + y
    assert arithmetic.add(x, y, out=x) is x
    np.testing.assert_array_equal(x, want)


class Kept(Function):
    """Twice and three times the gradient, in a tuple that the node keeps."""

    def forward(self, x, y):
        self.save_for_backward()
        self.kept = None
        return x + y

    def backward(self, grad):
        if self.kept is None:
            self.kept = grad * 2, grad * 3
        return self.kept


@pytest.mark.parametrize("size", [3, 400])
def test_results_that_a_node_keeps_stay_as_they_are(size):
    x = nnlib.ones(size, size, dtype=nnlib.float64, requires_grad=True)
    early = (x * 7).sum()
    z = early + Kept.apply(x, x).sum()
    for _ in range(2):
        x.grad = None
        z.backward(retain_graph=True)
        np.testing.assert_array_equal(x.grad.numpy(), 12)


class ReadOnly(Function):
    """Twice the gradient, in an array that must not be written to."""

    def forward(self, x):
        self.save_for_backward()
        return x * 2

    def backward(self, grad):
        result = grad * 2
        result.flags.writeable = False
        return result


@pytest.mark.parametrize("size", [3, 400])
def test_a_gradient_that_is_read_only(size):
    x = nnlib.ones(size, size, dtype=nnlib.float64, requires_grad=True)
    for _ in range(2):
        (ReadOnly.apply(x) + ReadOnly.apply(x)).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), 8)
    x.grad.zero_()
