"""The skip-gram layer: sparse and dense gradients, and PyTorch's steps."""

from __future__ import annotations

import numpy as np
import pytest

import nnlib
import nnlib.nn.functional as F
from nnlib import nn
from nnlib.autograd.sparse import RowSparse
from nnlib.backend.errors import Error


def batch(rows, count, negatives=4, seed=0):
    rng = np.random.default_rng(seed)
    shapes = ((count,), (count,), (count, negatives))
    return [nnlib.tensor(rng.integers(0, rows, shape)) for shape in shapes]


def model(rows, size, sparse):
    nnlib.manual_seed(0)
    layer = nn.SkipGram(rows, size, sparse=sparse)
    nn.init.normal_(layer.outputs.weight)
    return layer


# few rows: numbered by marks; many rows: by a sort
@pytest.mark.parametrize("rows", [11, 40_000])
def test_sparse_gradients_are_the_dense_ones(rows):
    ids = batch(rows, 20)
    layers = [model(rows, 19, sparse) for sparse in (True, False)]
    for layer in layers:
        layer(*ids).backward()
    for name in ("inputs", "outputs"):
        sparse, dense = (getattr(layer, name).weight.grad for layer in layers)
        assert isinstance(sparse, RowSparse) and sparse.is_sparse
        rows_held = sparse.coalesce().indices().array[0]
        assert (np.diff(rows_held) > 0).all()
        np.testing.assert_array_equal(sparse.to_dense().array, dense.array)


@pytest.mark.parametrize("sparse", [True, False])
def test_steps_are_pytorchs(sparse):
    torch = pytest.importorskip("torch")
    layer = model(30, 16, sparse)
    tables = [
        torch.tensor(part.weight.detach().numpy().copy(), requires_grad=True)
        for part in (layer.inputs, layer.outputs)
    ]
    optimizer = nnlib.optim.SGD(layer.parameters(), lr=0.5)
    theirs = torch.optim.SGD(tables, lr=0.5)
    for step in range(5):
        ids = batch(30, 12, seed=step)
        words, targets, negatives = (torch.from_numpy(x.numpy()) for x in ids)
        optimizer.zero_grad()
        loss = layer(*ids)
        loss.backward()
        optimizer.step()
        theirs.zero_grad()
        h = tables[0][words]
        log = torch.nn.functional.logsigmoid
        own = log((h * tables[1][targets]).sum(1))
        others = log(-torch.einsum("nd,nkd->nk", h, tables[1][negatives])).sum(1)
        expected = -(own + others).mean()
        expected.backward()
        theirs.step()
        assert abs(loss.item() - expected.item()) < 1e-4
    for part, table in zip((layer.inputs, layer.outputs), tables, strict=True):
        np.testing.assert_allclose(
            part.weight.detach().numpy(), table.detach().numpy(), rtol=1e-4, atol=1e-5
        )


def test_no_second_derivative():
    layer = model(5, 3, False)
    loss = layer(*batch(5, 4))
    (grad,) = nnlib.autograd.grad(loss, layer.inputs.weight, create_graph=True)
    with pytest.raises(Error, match="embedding and nn.functional.logsigmoid"):
        grad.sum().backward()


def test_initial_values_and_large_scores():
    layer = nn.SkipGram(6, 4)
    assert not layer.outputs.weight.array.any()
    assert abs(layer.inputs.weight.array).max() <= 0.125
    table = nnlib.tensor([[200.0], [-200.0]])
    ids = [nnlib.tensor([0, 0]), nnlib.tensor([0, 1]), nnlib.tensor([[1], [0]])]
    losses = F.skipgram_loss(table, table, *ids, reduction="none")
    assert losses.tolist() == [0.0, 80_000.0]
