"""Attention and what is built of it, against PyTorch."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from compare import array, needs_torch, torch

import nnlib
import nnlib.nn.functional as F
from nnlib.ops.attention import composed_attention


def leaves(library: Any, values: list[Any]) -> list[Any]:
    return [library.tensor(x).requires_grad_() for x in values]


def random_attention(rng: Any) -> tuple[list[Any], dict[str, Any]]:
    batch, groups = (int(n) for n in rng.integers(1, 4, 2))
    shared = int(rng.integers(1, 3)) if rng.random() < 0.3 else 1
    length, keys = (int(n) for n in rng.integers(1, 9, 2))
    if rng.random() < 0.15:
        length, keys = int(rng.integers(60, 140)), int(rng.integers(250, 530))
    width, features = (int(n) for n in rng.integers(1, 7, 2))
    values = [
        rng.standard_normal((batch, groups * shared, length, width)),
        rng.standard_normal((batch, groups, keys, width)),
        rng.standard_normal((batch, groups, keys, features)),
    ]
    if shared > 1 and rng.random() < 0.4:
        # Keys and values may have other numbers of heads.
        values[2] = rng.standard_normal((batch, groups * shared, keys, features))
    options: dict[str, Any] = {"enable_gqa": shared > 1}
    kind = rng.integers(0, 4)
    if kind == 1:
        options["is_causal"] = True
    elif kind:
        shape = [n if rng.random() < 0.6 else 1 for n in (batch, groups * shared)]
        mask = rng.standard_normal((*shape, length, keys))
        options["attn_mask"] = mask if kind == 2 else mask > -0.5
        if kind == 3:
            options["attn_mask"][..., 0] = True
    if rng.random() < 0.3:
        options["scale"] = float(rng.uniform(0.1, 2))
    if not options["enable_gqa"] and rng.random() < 0.3 and "attn_mask" not in options:
        values = [x[0] for x in values]
    return values, options


def call(library: Any, function: Any, values: list[Any], options: Any) -> Any:
    options = {
        name: library.tensor(x) if isinstance(x, np.ndarray) else x
        for name, x in options.items()
    }
    return function(*values, **options)


@needs_torch
@pytest.mark.parametrize("seed", range(6))
def test_attention_equals_pytorchs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(25):
        values, options = random_attention(rng)
        mine, theirs = leaves(nnlib, values), leaves(torch, values)
        out = call(nnlib, F.scaled_dot_product_attention, mine, options)
        peer = torch.nn.functional.scaled_dot_product_attention
        ref = call(torch, peer, theirs, options)
        np.testing.assert_allclose(array(out), array(ref), 1e-8, 1e-10)
        seed_grad = rng.standard_normal(out.shape)
        out.backward(nnlib.tensor(seed_grad))
        ref.backward(torch.tensor(seed_grad))
        for a, b in zip(mine, theirs, strict=True):
            np.testing.assert_allclose(array(a.grad), array(b.grad), 1e-7, 1e-9)


def test_a_query_that_may_read_nothing_gets_zeros() -> None:
    q, k, v = (nnlib.randn(1, 2, 3, 4).requires_grad_() for _ in range(3))
    mask = nnlib.ones(3, 3, dtype=bool)
    mask[1] = False
    for given in (mask, nnlib.zeros(3, 3).masked_fill(~mask, -float("inf"))):
        out = F.scaled_dot_product_attention(q, k, v, given)
        assert not array(out)[:, :, 1].any()
        out.sum().backward()
        assert np.isfinite(array(q.grad)).all() and not array(q.grad)[:, :, 1].any()
        assert np.isfinite(array(k.grad)).all()


def test_no_keys_and_no_queries() -> None:
    q, k = nnlib.randn(2, 3, 4).requires_grad_(), nnlib.randn(2, 0, 4).requires_grad_()
    out = F.scaled_dot_product_attention(q, k, k)
    out.sum().backward()
    assert not array(out).any() and not array(q.grad).any()
    none = F.scaled_dot_product_attention(k, q, q)
    assert tuple(none.shape) == (2, 0, 4)


def test_gradients_of_masks_dropout_and_second_order() -> None:
    rng = np.random.default_rng(1)
    shapes = ((1, 2, 3, 2), (1, 1, 4, 2), (1, 1, 4, 2))
    values = [rng.standard_normal(shape) for shape in shapes]
    q, k, v = leaves(nnlib, values)
    (learned,) = leaves(nnlib, [rng.standard_normal((3, 4))])
    tolerant = {"nondet_tol": 1e-12}

    def plain(q: Any, k: Any, v: Any, mask: Any = None) -> Any:
        return F.scaled_dot_product_attention(q, k, v, mask, enable_gqa=True)

    nnlib.autograd.gradcheck(plain, (q, k, v, learned), **tolerant)
    nnlib.autograd.gradgradcheck(plain, (q, k, v))

    def dropped(q: Any, k: Any, v: Any) -> Any:
        nnlib.manual_seed(3)
        return F.scaled_dot_product_attention(
            q, k, v, dropout_p=0.4, is_causal=True, enable_gqa=True
        )

    nnlib.autograd.gradcheck(dropped, (q, k, v), **tolerant)
    nnlib.autograd.gradgradcheck(dropped, (q, k, v))


@pytest.mark.parametrize("sizes", [(5, 7), (70, 300)])
def test_dropout_is_that_of_the_composed_form(sizes: Any) -> None:
    length, keys = sizes
    rng = np.random.default_rng(2)
    setting = nnlib.kernels.attention.Setting(0.5, False, 0.3, 11, 77)
    q = nnlib.tensor(rng.standard_normal((1, 2, length, 4)))
    k, v = (nnlib.tensor(rng.standard_normal((1, 2, keys, 4))) for _ in range(2))
    fused = nnlib.ops.attention.Attention.apply(q, k, v, None, setting=setting)
    whole = composed_attention(q, k, v, None, setting)
    np.testing.assert_allclose(array(fused), array(whole), 1e-10, 1e-12)


def test_memory_grows_linearly() -> None:
    def peak(length: int) -> int:
        q = nnlib.randn(1, 1, length, 8).requires_grad_()
        F.scaled_dot_product_attention(q, q, q).sum().backward()
        tracemalloc.start()
        F.scaled_dot_product_attention(q, q, q).sum().backward()
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    # The scores of 2,048 by 2,048 alone would be 16 MB.
    small, large = peak(512), peak(2048)
    assert large < 5 * small and large < 2_000_000


@pytest.mark.parametrize(("length", "keys"), [(1, 5), (5, 1), (1, 1)])
@pytest.mark.parametrize("width", [1, 4])
def test_a_single_row_may_have_any_stride(length: int, keys: int, width: int) -> None:
    """BLAS must not be given the stride of a dimension of length 1."""
    rng = np.random.default_rng(length)
    values = [rng.standard_normal((2, 3, n, width)) for n in (length, keys, keys)]
    expected = leaves(nnlib, values)
    # (B, L, E, H) in memory: a head's elements are apart, and its only row anywhere
    turned = [
        nnlib.tensor(np.ascontiguousarray(x.transpose(2, 3, 0, 1)))
        .permute(2, 3, 0, 1)
        .detach()
        .requires_grad_()
        for x in values
    ]
    mixed = [
        nnlib.tensor(np.ascontiguousarray(x.swapaxes(2, 3)))
        .transpose(2, 3)
        .detach()
        .requires_grad_()
        for x in values
    ]
    results = [
        F.scaled_dot_product_attention(*given) for given in (expected, turned, mixed)
    ]
    for result in results:
        (result * result).sum().backward()
    for given, result in zip((turned, mixed), results[1:], strict=True):
        np.testing.assert_allclose(array(result), array(results[0]), 1e-12)
        for x, y in zip(given, expected, strict=True):
            np.testing.assert_allclose(array(x.grad), array(y.grad), 1e-9, 1e-12)


@pytest.mark.parametrize(
    "shape",
    [(2, 2, 4, 3, 5), (2, 1, 4, 1, 5), (1, 1, 1, 3, 5), (2, 4, 3, 5), (4, 3, 5)],
)
@pytest.mark.parametrize("shared", [True, False])
def test_masks_of_five_dimensions(shape: tuple[int, ...], shared: bool) -> None:
    rng = np.random.default_rng(len(shape))
    groups = 2 if shared else 4
    q = rng.standard_normal((2, 2, 4, 3, 6))
    k, v = (rng.standard_normal((2, 2, groups, 5, 6)) for _ in range(2))
    mask = rng.random(shape) < 0.6
    mask[..., 0] = True
    out = F.scaled_dot_product_attention(
        *map(nnlib.tensor, (q, k, v)), nnlib.tensor(mask), enable_gqa=shared
    )
    k, v = (np.repeat(x, 4 // groups, 2) for x in (k, v))
    scores = np.where(mask, q @ k.swapaxes(-1, -2) / 6**0.5, -np.inf)
    p = np.exp(scores - scores.max(-1, keepdims=True))
    expected = p / p.sum(-1, keepdims=True) @ v
    np.testing.assert_allclose(array(out), expected, 1e-10, 1e-12)


def test_an_attention_without_a_score_says_so() -> None:
    from nnlib.nn.attention import _Attention

    class Silent(_Attention):
        pass

    with pytest.raises(NotImplementedError, match="Silent defines no score"):
        Silent(3, 3).score(nnlib.ones(1, 1, 3), nnlib.ones(1, 2, 3))
