"""Embedding layers and sparse gradients against PyTorch's."""

from __future__ import annotations

import pickle
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from compare import array, needs_torch, torch

import nnlib
from nnlib import nn, optim
from nnlib.autograd.sparse import RowSparse
from nnlib.backend.errors import ArgumentError, BoundsError, Error


def twins(rng: Any, bag: bool, **options: Any) -> tuple[Any, Any, int]:
    rows, columns = int(rng.integers(1, 9)), int(rng.integers(1, 6))
    name = "EmbeddingBag" if bag else "Embedding"
    mine = getattr(nn, name)(rows, columns, dtype=nnlib.float64, **options)
    theirs = getattr(torch.nn, name)(rows, columns, dtype=torch.float64, **options)
    with torch.no_grad():
        theirs.weight.copy_(torch.tensor(array(mine.weight)))
    return mine, theirs, rows


def agree(mine: Any, theirs: Any, inputs: tuple[Any, ...]) -> None:
    out = mine(*[nnlib.tensor(x) if x is not None else None for x in inputs])
    ref = theirs(*[torch.tensor(x) if x is not None else None for x in inputs])
    np.testing.assert_allclose(array(out), array(ref), 1e-9, 1e-12)
    seed = np.cos(np.arange(out.numel(), dtype=float)).reshape(out.shape)
    out.backward(nnlib.tensor(seed))
    ref.backward(torch.tensor(seed))
    a, b = mine.weight.grad, theirs.weight.grad
    if b is None:
        return
    assert getattr(a, "is_sparse", False) == b.is_sparse
    if b.is_sparse:
        np.testing.assert_array_equal(
            array(a.coalesce().indices())[0][: len(a.values())],
            np.unique(array(a.indices())),
        )
        a, b = a.to_dense(), b.to_dense()
    np.testing.assert_allclose(array(a), array(b), 1e-9, 1e-12)
    np.testing.assert_allclose(array(mine.weight), array(theirs.weight), 1e-9, 1e-12)


@needs_torch
@pytest.mark.parametrize("seed", range(8))
def test_embedding_equals_pytorchs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(8):
        options: dict[str, Any] = {
            "scale_grad_by_freq": bool(rng.random() < 0.3),
            "sparse": bool(rng.random() < 0.4),
        }
        if rng.random() < 0.3:
            options["max_norm"] = float(rng.uniform(0.5, 2))
            options["norm_type"] = float(rng.choice([1.0, 2.0, 3.0]))
        if rng.random() < 0.5:
            options["padding_idx"] = 0
        if options["sparse"]:
            # PyTorch counts padding twice there.
            options["scale_grad_by_freq"] = False
        mine, theirs, rows = twins(rng, False, **options)
        shape = tuple(rng.integers(1, 4, int(rng.integers(1, 3))))
        agree(mine, theirs, (rng.integers(0, rows, shape),))


@needs_torch
@pytest.mark.parametrize("seed", range(8))
def test_embedding_bag_equals_pytorchs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(8):
        mode = str(rng.choice(["sum", "mean", "max"]))
        options: dict[str, Any] = {
            "mode": mode,
            "include_last_offset": bool(rng.random() < 0.3),
        }
        if mode != "max":
            options["sparse"] = bool(rng.random() < 0.3)
        if rng.random() < 0.3:
            options["max_norm"] = float(rng.uniform(0.5, 2))
        if rng.random() < 0.4:
            options["padding_idx"] = 0
        mine, theirs, rows = twins(rng, True, **options)
        count = int(rng.integers(1, 10))
        flat = options["include_last_offset"] or rng.random() < 0.6
        ids = rng.integers(0, rows, count if flat else (count, 3))
        offsets = None
        if flat:
            offsets = np.sort(rng.integers(0, count + 1, 4))
            offsets[0] = 0
            if options["include_last_offset"]:
                offsets[-1] = count
        inputs: list[Any] = [ids, offsets]
        if mode == "sum" and rng.random() < 0.5:
            inputs.append(rng.standard_normal(ids.shape))
        agree(mine, theirs, tuple(inputs))


def test_per_sample_weights_have_gradients() -> None:
    w = nnlib.randn(5, 3, dtype=nnlib.float64).requires_grad_()
    f = nnlib.randn(6, dtype=nnlib.float64).requires_grad_()
    ids, offsets = nnlib.tensor([0, 1, 1, 4, 0, 2]), nnlib.tensor([0, 2, 2])

    def bag(w: Any, f: Any) -> Any:
        return nn.functional.embedding_bag(
            ids, w, offsets, mode="sum", per_sample_weights=f, padding_idx=4
        )

    nnlib.autograd.gradcheck(bag, (w, f))
    nnlib.autograd.gradgradcheck(bag, (w, f))


@needs_torch
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("SGD", {"lr": 0.1}),
        ("SGD", {"lr": 0.1, "maximize": True}),
        ("SGD", {"lr": 0.1, "momentum": 0.9}),
        ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.3}),
        ("SparseAdam", {"lr": 0.1}),
        ("SparseAdam", {"lr": 0.1, "betas": (0.8, 0.9), "maximize": True}),
    ],
)
@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_sparse_optimisers_equal_pytorchs(name: str, options: Any) -> None:
    rng = np.random.default_rng(3)
    mine, theirs, rows = twins(rng, False, sparse=True)
    optimiser = getattr(optim, name)(mine.parameters(), **options)
    peer = getattr(torch.optim, name)(theirs.parameters(), **options)
    for step in range(12):
        ids = rng.integers(0, rows, (2, 3))
        optimiser.zero_grad()
        peer.zero_grad()
        for _ in range(1 + step % 2):
            mine(nnlib.tensor(ids)).square().sum().backward()
            if step % 4:
                # Looking into a gradient changes nothing.
                assert float(mine.weight.grad.norm()) > 0
            theirs(torch.tensor(ids)).square().sum().backward()
        if step % 3 == 0:
            nn.utils.clip_grad_norm_(mine.parameters(), 1.5)
            total = theirs.weight.grad.coalesce()
            factor = min(1.0, 1.5 / (float(total.values().norm()) + 1e-6))
            theirs.weight.grad = total * factor
        optimiser.step()
        peer.step()
        np.testing.assert_allclose(
            array(mine.weight), array(theirs.weight), 1e-7, 1e-10
        )


def test_sparse_gradient_is_a_tensor_like_others() -> None:
    layer = nn.Embedding(6, 2, sparse=True, dtype=nnlib.float64)
    layer(nnlib.tensor([1, 1, 4])).sum().backward()
    grad = layer.weight.grad
    assert isinstance(grad, RowSparse) and grad.is_sparse
    assert tuple(grad.shape) == (6, 2) and "RowSparse" in repr(grad)
    dense = np.zeros((6, 2))
    dense[1], dense[4] = 2, 1
    np.testing.assert_array_equal(array(grad.to_dense()), dense)
    assert grad.is_sparse
    # A dense part (a tied output layer) joins it.
    (layer(nnlib.tensor([1])).sum() + layer.weight.sum()).backward()
    dense[1] += 1
    np.testing.assert_array_equal(array(layer.weight.grad), dense + 1)
    layer.zero_grad(set_to_none=False)
    layer(nnlib.tensor([5])).sum().backward()
    np.testing.assert_array_equal(array(layer.weight.grad)[5], [1, 1])
    # What computes with it sees a dense tensor.
    layer.zero_grad()
    layer(nnlib.tensor([2])).sum().backward()
    np.testing.assert_array_equal(array(layer.weight.grad * 2)[2], [2, 2])


def test_a_sparse_gradient_stays_one_when_it_is_looked_into_and_changed() -> None:
    layer = nn.Embedding(6, 2, sparse=True)
    layer(nnlib.tensor([1, 1, 4])).sum().backward()
    grad = layer.weight.grad
    before = array(grad).copy()
    assert grad.is_sparse and grad.indices().tolist() == [[1, 4]]
    grad.mul_(0.5)
    grad[2] = 3
    assert grad.indices().tolist() == [[1, 2, 4]]
    assert grad.values().tolist() == [[1, 1], [3, 3], [0.5, 0.5]]
    for copied in (grad.clone(), deepcopy(grad), pickle.loads(pickle.dumps(grad))):
        assert copied is not grad and copied.indices().tolist() == [[1, 2, 4]]
        np.testing.assert_array_equal(array(copied), array(grad))
    np.testing.assert_array_equal(array(grad.to_dense())[[1, 4]], before[[1, 4]] / 2)
    layer(nnlib.tensor([0])).sum().backward()  # another joins it
    assert layer.weight.grad.indices().tolist() == [[0, 1, 2, 4]]
    optim.SparseAdam(layer.parameters()).step()
    assert grad.zero_().indices().tolist() == [[]] and not array(grad).any()
    with pytest.raises(Error, match="row-sparse"):
        optim.Adam(layer.parameters()).step()
    layer.weight.sum().backward()  # a dense one makes it dense
    assert not isinstance(layer.weight.grad, RowSparse)


def test_a_tied_table_below_other_operations() -> None:
    w = nnlib.randn(4, 2, dtype=nnlib.float64).requires_grad_()
    ids = nnlib.tensor([1, 3, 1])
    nn.functional.embedding(ids, w * 2, sparse=True).sum().backward()
    assert w.grad is not None
    np.testing.assert_array_equal(array(w.grad)[:, 0], [0, 4, 0, 2])


def test_from_pretrained_and_padding() -> None:
    vectors = nnlib.randn(5, 3)
    frozen = nn.Embedding.from_pretrained(vectors)
    assert not frozen.weight.requires_grad
    tuned = nn.EmbeddingBag.from_pretrained(vectors, freeze=False, mode="sum")
    assert tuned.weight.requires_grad
    np.testing.assert_array_equal(array(frozen(nnlib.tensor(2))), array(vectors[2]))
    numbers = nn.Embedding.from_pretrained(nnlib.tensor([[1, 2], [3, 4]]))
    assert numbers(nnlib.tensor([1])).tolist() == [[3, 4]]
    with pytest.raises(ArgumentError, match="norm_type: expected above 0, got 0"):
        nn.Embedding(5, 3, max_norm=1.0, norm_type=0)(nnlib.tensor([1]))
    layer = nn.Embedding(5, 3, padding_idx=-1)
    assert layer.padding_idx == 4 and not array(layer.weight)[4].any()
    assert repr(layer) == "Embedding(5, 3, padding_idx=4)"
    with pytest.raises(ArgumentError, match="padding_idx"):
        nn.Embedding(5, 3, padding_idx=5)
    with pytest.raises(ArgumentError, match="EmbeddingBag: mode: expected .* 'median'"):
        nn.EmbeddingBag(5, 3, mode="median")


def test_no_ids_and_no_rows() -> None:
    layer = nn.Embedding(5, 3)
    out = layer(nnlib.zeros(0, 2, dtype=nnlib.int64))
    assert tuple(out.shape) == (0, 2, 3)
    out.sum().backward()
    assert not array(layer.weight.grad).any()
    with pytest.raises(BoundsError, match=r"input\[0\] is 0"):
        nn.Embedding(0, 3)(nnlib.tensor([0]))
    bag = nn.EmbeddingBag(5, 3)
    none = bag(nnlib.zeros(0, dtype=nnlib.int64), nnlib.tensor([0, 0]))
    assert tuple(none.shape) == (2, 3) and not array(none).any()


def test_optimisers_that_need_dense_gradients_say_so() -> None:
    layer = nn.Embedding(5, 3, sparse=True)
    for make, match in (
        (optim.Adam, "row-sparse"),
        (lambda p: optim.SGD(p, weight_decay=0.1), "weight_decay"),
    ):
        layer.zero_grad()
        layer(nnlib.tensor([1])).sum().backward()
        with pytest.raises(Error, match=match):
            make(layer.parameters()).step()
    dense = nn.Linear(2, 2)
    dense(nnlib.ones(1, 2)).sum().backward()
    with pytest.raises(Error, match="dense"):
        optim.SparseAdam(dense.parameters()).step()
