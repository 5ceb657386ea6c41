"""Multi-head attention and the Transformer against PyTorch, from the same weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compare import array, copy_weights, needs_torch, torch

import nnlib
from nnlib import nn
from nnlib.backend.errors import ShapeError


def both(name: str, *args: Any, **options: Any) -> tuple[Any, Any]:
    mine = getattr(nn, name)(*args, **options).double()
    theirs = getattr(torch.nn, name)(*args, **options).double()
    with nnlib.no_grad():
        for parameter in mine.parameters():
            parameter += nnlib.randn(*parameter.shape, dtype=nnlib.float64) * 0.1
    copy_weights(mine, theirs)
    return mine, theirs


def agree(mine: Any, theirs: Any, inputs: Any, options: Any, picks: int = 1) -> None:
    def given(library: Any, value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        made = library.tensor(value)
        return made.requires_grad_() if value.dtype.kind == "f" else made

    ours, peers = ([given(x, v) for v in inputs] for x in (nnlib, torch))
    out, ref = (
        model(*args, **{n: given(lib, v) for n, v in options.items()})
        for model, lib, args in ((mine, nnlib, ours), (theirs, torch, peers))
    )
    out, ref = ((x if isinstance(x, tuple) else (x,)) for x in (out, ref))
    total, other = 0, 0
    for a, b in zip(out[:picks], ref[:picks], strict=True):
        if b is None:
            assert a is None
            continue
        np.testing.assert_allclose(array(a), array(b), 1e-7, 1e-9)
        seed = np.cos(np.arange(a.numel(), dtype=float)).reshape(a.shape)
        total = total + (a * nnlib.tensor(seed)).sum()
        other = other + (b * torch.tensor(seed)).sum()
    total.backward()
    other.backward()
    pairs = [*zip(ours, peers, strict=True)]
    pairs += zip(mine.parameters(), theirs.parameters(), strict=True)
    for a, b in pairs:
        if isinstance(b, torch.Tensor) and b.requires_grad and b.grad is not None:
            np.testing.assert_allclose(array(a.grad), array(b.grad), 1e-6, 1e-8)


def padding(rng: Any, batch: int, keys: int) -> np.ndarray:
    mask = rng.random((batch, keys)) < 0.3
    mask[:, 0] = False
    return mask


@needs_torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(10))
def test_multihead_attention_equals_pytorchs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(8):
        heads = int(rng.integers(1, 4))
        width = heads * int(rng.integers(1, 4))
        batch, length, keys = (int(n) for n in rng.integers(1, 6, 3))
        options: dict[str, Any] = {
            "bias": bool(rng.random() < 0.8),
            "batch_first": bool(rng.random() < 0.5),
            "add_bias_kv": bool(rng.random() < 0.2),
            "add_zero_attn": bool(rng.random() < 0.2),
        }
        own = rng.random() < 0.5
        if not own and rng.random() < 0.5:
            options["kdim"], options["vdim"] = (int(n) for n in rng.integers(1, 6, 2))
        mine, theirs = both("MultiheadAttention", width, heads, **options)
        keys = length if own else keys
        sizes = (width, options.get("kdim", width), options.get("vdim", width))
        single = rng.random() < 0.2
        inputs = []
        for count, size in zip((length, keys, keys), sizes, strict=True):
            shape = (batch, count) if options["batch_first"] else (count, batch)
            shape = (count,) if single else shape
            inputs.append(rng.standard_normal((*shape, size)))
        batch = 1 if single else batch
        call: dict[str, Any] = {"need_weights": bool(rng.random() < 0.5)}
        call["average_attn_weights"] = bool(rng.random() < 0.5)
        if rng.random() < 0.4:
            mask = padding(rng, batch, keys)
            call["key_padding_mask"] = mask[0] if single else mask
        if rng.random() < 0.4:
            shape = (length, keys)
            if rng.random() < 0.5:
                shape = (batch * heads, length, keys)
            mask = rng.random(shape) < 0.3
            mask[..., 0] = False
            call["attn_mask"] = mask
        if own:
            inputs = inputs[:1]
            agree(Same(mine), TorchSame(theirs), inputs, call, 2)
        else:
            agree(mine, theirs, inputs, call, 2)


class Same:
    """Self-attention: one tensor in three roles."""

    def __init__(self, model: Any) -> None:
        self.model, self.parameters = model, model.parameters

    def __call__(self, x: Any, **options: Any) -> Any:
        return self.model(x, x, x, **options)


TorchSame = Same


@needs_torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(8))
def test_layers_equal_pytorchs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(6):
        heads = int(rng.integers(1, 4))
        width = heads * int(rng.integers(1, 4))
        options = {
            "dropout": 0.0,
            "activation": str(rng.choice(["relu", "gelu"])),
            "batch_first": bool(rng.random() < 0.5),
            "norm_first": bool(rng.random() < 0.5),
            "bias": bool(rng.random() < 0.8),
        }
        batch, length, keys = (int(n) for n in rng.integers(1, 6, 3))

        first = options["batch_first"]
        own, far = (
            rng.standard_normal((*((batch, n) if first else (n, batch)), width))
            for n in (length, keys)
        )
        causal = nn.Transformer.generate_square_subsequent_mask(
            length, dtype=nnlib.float64
        )
        if rng.random() < 0.5:
            mine, theirs = both("TransformerEncoderLayer", width, heads, 8, **options)
            call: dict[str, Any] = {}
            if rng.random() < 0.5:
                call["src_key_padding_mask"] = padding(rng, batch, length)
            elif rng.random() < 0.5:
                call |= {"src_mask": array(causal).copy(), "is_causal": True}
            agree(mine, theirs, [own], call)
        else:
            mine, theirs = both("TransformerDecoderLayer", width, heads, 8, **options)
            call = {"tgt_mask": array(causal).copy()}
            if rng.random() < 0.5:
                call["memory_key_padding_mask"] = padding(rng, batch, keys)
            agree(mine, theirs, [own, far], call)


@needs_torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("first", [False, True])
def test_the_whole_transformer_equals_pytorchs(first: bool) -> None:
    rng = np.random.default_rng(4)
    options = {"dropout": 0.0, "batch_first": first, "norm_first": first}
    mine, theirs = both("Transformer", 6, 2, 2, 2, 8, **options)
    src = rng.standard_normal((3, 5, 6) if first else (5, 3, 6))
    tgt = rng.standard_normal((3, 4, 6) if first else (4, 3, 6))
    mask = torch.nn.Transformer.generate_square_subsequent_mask(4).double().numpy()
    np.testing.assert_array_equal(
        array(nn.Transformer.generate_square_subsequent_mask(4)), mask
    )
    call = {
        "tgt_mask": mask,
        "src_key_padding_mask": padding(rng, 3, 5),
        "memory_key_padding_mask": padding(rng, 3, 5),
    }
    agree(mine, theirs, [src, tgt], call)


def test_tiles_and_the_whole_matrix_agree_under_dropout_rates_of_0() -> None:
    layer = nn.MultiheadAttention(8, 2, batch_first=True)
    x = nnlib.randn(2, 5, 8)
    mask = nnlib.zeros(2, 5, dtype=bool)
    mask[1] = True
    whole, weights = layer(x, x, x, mask)
    tiles, none = layer(x, x, x, mask, need_weights=False)
    assert none is None and not array(weights)[1].any()
    np.testing.assert_allclose(array(tiles), array(whole), 1e-5, 1e-6)
    # All keys hidden: zeros are read, and the bias of the projection is left.
    assert np.isfinite(array(tiles)).all()
    plain, _ = layer(x, x, x, need_weights=False, is_causal=True)
    shown, weights = layer(x, x, x, is_causal=True)
    np.testing.assert_allclose(array(plain), array(shown), 1e-5, 1e-6)
    assert not np.triu(array(weights)[0], 1).any()


@pytest.mark.parametrize("shape", [(0, 2, 8), (3, 0, 8)])
def test_no_steps_and_no_sequences(shape: tuple[int, ...]) -> None:
    attention = nn.MultiheadAttention(8, 2)
    for need_weights in (True, False):
        x = nnlib.zeros(shape, requires_grad=True)
        out, _ = attention(x, x, x, need_weights=need_weights)
        (grad,) = nnlib.autograd.grad(out.sum(), x, create_graph=True)
        assert tuple(out.shape) == tuple(grad.shape) == shape
        grad.sum().backward()
    layer = nn.TransformerDecoderLayer(8, 2, 16)
    out = layer(nnlib.zeros(shape), nnlib.zeros(shape))
    out.sum().backward()
    assert tuple(out.shape) == shape


def test_dropout_in_training_alone() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.5, batch_first=True)
    x = nnlib.randn(2, 5, 8)
    assert (array(layer(x)) != array(layer(x))).any()
    layer.eval()
    np.testing.assert_array_equal(array(layer(x)), array(layer(x)))


def test_bad_arguments() -> None:
    with pytest.raises(ShapeError, match="embed_dim"):
        nn.MultiheadAttention(7, 2)
    layer = nn.MultiheadAttention(8, 2)
    x = nnlib.ones(5, 3, 8)
    with pytest.raises(ShapeError, match="key: expected"):
        layer(x, nnlib.ones(5, 3, 7), x)
    with pytest.raises(ShapeError, match="expected one batch"):
        layer(x, nnlib.ones(5, 2, 8), nnlib.ones(5, 2, 8))
    with pytest.raises(ShapeError, match="key_padding_mask"):
        layer(x, x, x, nnlib.zeros(5, 3, dtype=bool))
    with pytest.raises(ShapeError, match="attn_mask"):
        layer(x, x, x, attn_mask=nnlib.zeros(5, 3, dtype=bool))
