"""Attention, embeddings and losses of sequences against PyTorch's layers.

Random sizes, options, masks and layouts; the same weights; values and the gradients of
inputs and parameters, in float64 and float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import counting
import numpy as np
import pytest

import nnlib

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

# A tail of the adaptive softmax may be left without columns.
pytestmark = pytest.mark.filterwarnings("ignore:Initializing zero-element:UserWarning")
ROUNDS = 64
TOLERANCE = {"float64": 1e-9, "float32": 5e-5}
Rng = np.random.Generator
# Name, arguments and keywords of a layer; its floating inputs; a call of both
# libraries' (layer, library, how to make a tensor of an array, *inputs).
Draw = tuple[str, tuple[Any, ...], dict[str, Any], list[np.ndarray], Callable[..., Any]]


def one_of(rng: Rng, *values: Any) -> Any:
    return values[rng.integers(len(values))]


def flag(rng: Rng) -> bool:
    return bool(rng.random() < 0.5)


def hidden(rng: Rng, *shape: int) -> np.ndarray:
    """Draw a mask that is true for some, but in no row for all."""
    mask = rng.random(shape) < 0.3
    mask[..., 0] = False
    return mask


def embedding(rng: Rng) -> Draw:
    rows = int(rng.integers(2, 40))
    kwargs = {
        "padding_idx": one_of(rng, None, 0, -1),
        "max_norm": one_of(rng, None, None, 0.8),
        "norm_type": one_of(rng, 2.0, 1.0),
    }
    kwargs[one_of(rng, "sparse", "scale_grad_by_freq")] = flag(rng)
    ids = rng.integers(0, rows, (int(rng.integers(0, 6)), int(rng.integers(1, 9))))
    return (
        "Embedding", (rows, int(rng.integers(1, 20))), kwargs, [],
        lambda layer, lib, put: layer(put(ids)),
    )  # fmt: skip


def bag(rng: Rng) -> Draw:
    rows, count = int(rng.integers(2, 40)), int(rng.integers(1, 30))
    mode = one_of(rng, "sum", "mean", "max")
    kwargs = {
        "mode": mode,
        "padding_idx": one_of(rng, None, 0, -1),
        "include_last_offset": flag(rng),
        "sparse": mode != "max" and flag(rng),
    }
    ids = rng.integers(0, rows, count)
    starts = np.sort(np.append(0, rng.integers(0, count + 1, rng.integers(0, 5))))
    if kwargs["include_last_offset"]:
        starts = np.append(starts, count)
    weights = [rng.standard_normal(count)] if mode == "sum" and flag(rng) else []
    return (
        "EmbeddingBag", (rows, int(rng.integers(1, 20))), kwargs, weights,
        lambda layer, lib, put, *w: layer(put(ids), put(starts), *w),
    )  # fmt: skip


def heads(rng: Rng) -> Draw:
    count, batch = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    width, length, keys = count * one_of(rng, 1, 3, 8), *map(int, rng.integers(1, 9, 2))
    kwargs = {
        "bias": flag(rng),
        "add_bias_kv": rng.random() < 0.3,
        "add_zero_attn": rng.random() < 0.3,
        "kdim": one_of(rng, None, 3),
        "vdim": one_of(rng, None, 5),
        "batch_first": flag(rng),
    }
    single = rng.random() < 0.2

    def lay(steps: int, features: int) -> np.ndarray:
        both = (batch, steps) if kwargs["batch_first"] else (steps, batch)
        return rng.standard_normal((*((steps,) if single else both), features))

    mask = one_of(
        rng, None, hidden(rng, length, keys), np.tri(length, keys) == 0,
        hidden(rng, count * (1 if single else batch), length, keys),
    )  # fmt: skip
    padding = hidden(rng, *(() if single else (batch,)), keys) if flag(rng) else None
    weights, mean = flag(rng), flag(rng)

    def call(layer: Any, lib: Any, put: Any, *x: Any) -> Any:
        found = layer(
            *x,
            key_padding_mask=put(padding),
            need_weights=weights,
            attn_mask=put(mask),
            average_attn_weights=mean,
        )
        return found if weights else found[0]

    x = [lay(length, width), lay(keys, kwargs["kdim"] or width)]
    x.append(lay(keys, kwargs["vdim"] or width))
    return "MultiheadAttention", (width, count), kwargs, x, call


def product(rng: Rng) -> Draw:
    lead = tuple(rng.integers(1, 4, one_of(rng, 0, 1, 2)).tolist())
    length, keys = (int(rng.integers(1, one_of(rng, 9, 90))) for _ in range(2))
    width, features = map(int, rng.integers(1, 20, 2))
    kind = one_of(rng, "none", "causal", "bool", "float")
    mask = hidden(rng, length, keys)
    given = {"bool": ~mask, "float": np.where(mask, -math.inf, 0.5)}.get(kind)
    kwargs = {"is_causal": kind == "causal", "scale": one_of(rng, None, 0.7)}
    x = [rng.standard_normal((*lead, length, width))]
    x += [rng.standard_normal((*lead, keys, n)) for n in (width, features)]
    return (
        "Identity", (), {}, x,
        lambda layer, lib, put, *x: lib.nn.functional.scaled_dot_product_attention(
            *x, attn_mask=put(given, x[0]), **kwargs
        ),
    )  # fmt: skip


def block(decoder: bool) -> Callable[[Rng], Draw]:
    def draw(rng: Rng) -> Draw:
        count, batch = int(rng.integers(1, 3)), int(rng.integers(1, 4))
        length, keys = map(int, rng.integers(1, 8, 2))
        width = count * one_of(rng, 2, 4)
        kwargs = {
            "dim_feedforward": int(rng.integers(1, 12)),
            "dropout": 0.0,
            "activation": one_of(rng, "relu", "gelu"),
            "layer_norm_eps": one_of(rng, 1e-5, 1e-3),
            "batch_first": flag(rng),
            "norm_first": flag(rng),
            "bias": rng.random() < 0.8,
        }
        x = [
            rng.standard_normal(
                (batch, steps, width)
                if kwargs["batch_first"]
                else (steps, batch, width)
            )
            for steps in ((length, keys) if decoder else (length,))
        ]
        ahead = np.tri(length) == 0 if flag(rng) else None
        rows, of = (keys, "memory") if decoder else (length, "src")
        padding = hidden(rng, batch, rows) if flag(rng) else None
        own = "tgt" if decoder else "src"
        name = "TransformerDecoderLayer" if decoder else "TransformerEncoderLayer"
        return (
            name, (width, count), kwargs, x,
            lambda layer, lib, put, *x: layer(
                *x,
                **{f"{own}_mask": put(ahead), f"{of}_key_padding_mask": put(padding)},
            ),
        )  # fmt: skip

    return draw


def alignments(rng: Rng) -> Draw:
    classes, batch = int(rng.integers(2, 9)), int(rng.integers(1, 6))
    steps, most = int(rng.integers(2, 16)), int(rng.integers(1, 6))
    blank = int(rng.integers(classes))
    labels = (blank + rng.integers(1, classes, (batch, most))) % classes
    counts, lengths = (
        rng.integers(0, most + 1, batch),
        rng.integers(1, steps + 1, batch),
    )
    if flag(rng):
        rows = zip(labels, counts, strict=True)
        labels = np.concatenate([row[:count] for row, count in rows])
    kwargs = {
        "blank": blank,
        "reduction": one_of(rng, "mean", "sum", "none"),
        "zero_infinity": True,
    }
    return (
        "CTCLoss", (), kwargs, [rng.standard_normal((steps, batch, classes))],
        lambda layer, lib, put, x: layer(
            x.log_softmax(-1), put(labels), put(lengths), put(counts)
        ),
    )  # fmt: skip


def clusters(rng: Rng) -> Draw:
    classes, width = int(rng.integers(4, 30)), int(rng.integers(2, 12))
    cut = np.unique(rng.integers(1, classes, rng.integers(1, 4))).tolist()
    kwargs = {"div_value": one_of(rng, 1.0, 2.0, 4.0), "head_bias": flag(rng)}
    target = rng.integers(0, classes, int(rng.integers(1, 12)))
    return (
        "AdaptiveLogSoftmaxWithLoss", (width, classes, cut), kwargs,
        [rng.standard_normal((len(target), width))],
        lambda layer, lib, put, x: tuple(layer(x, put(target))),
    )  # fmt: skip


DRAWS: dict[str, Callable[[Rng], Draw]] = {
    "Embedding": embedding,
    "EmbeddingBag": bag,
    "MultiheadAttention": heads,
    "scaled_dot_product_attention": product,
    "TransformerEncoderLayer": block(False),
    "TransformerDecoderLayer": block(True),
    "CTCLoss": alignments,
    "AdaptiveLogSoftmaxWithLoss": clusters,
}


def flat(value: Any) -> list[Any]:
    return (
        [x for part in value for x in flat(part)]
        if isinstance(value, tuple)
        else [value]
    )


def close(dtype: str, a: Any, b: Any) -> None:
    assert (a is None) == (b is None)
    if b is None:
        return
    b = b.to_dense() if b.is_sparse else b
    a, b = a.detach().numpy(), b.detach().numpy()
    limit = TOLERANCE[dtype]
    assert a.shape == b.shape
    np.testing.assert_allclose(a, b, limit, limit * max(1.0, np.abs(b).max(initial=0)))


def compare(name: str, seed: int) -> None:
    rng = np.random.default_rng([seed, *name.encode()])
    kind, args, kwargs, arrays, call = DRAWS[name](rng)
    dtype = one_of(rng, "float64", "float64", "float32")
    theirs = getattr(torch.nn, kind)(*args, **kwargs).to(getattr(torch, dtype))
    mine = getattr(nnlib.nn, kind)(*args, **kwargs).to(dtype)
    mine.load_state_dict(theirs.state_dict())
    results = []
    for lib, layer, make in (
        (nnlib, mine, nnlib.tensor),
        (torch, theirs, torch.tensor),
    ):
        x = [make(array.astype(dtype), requires_grad=True) for array in arrays]

        def put(array: Any, like: Any = None, make: Any = make) -> Any:
            if array is None or array.dtype.kind != "f":
                return None if array is None else make(array)
            return make(array).to(like.dtype)

        outputs = flat(call(layer, lib, put, *x))
        weights = np.random.default_rng(seed)
        total = sum(
            (out * make(weights.standard_normal(tuple(out.shape)).astype(dtype))).sum()
            for out in outputs
            if out.requires_grad
        )
        total.backward()
        leaves = [*x, *layer.parameters()]
        results.append([*outputs, *(leaf.grad for leaf in leaves)])
    for a, b in zip(*results, strict=True):
        close(dtype, a, b)


@pytest.mark.parametrize("name", DRAWS)
def test_equals_pytorch(name: str) -> None:
    for seed in range(ROUNDS):
        torch.manual_seed(seed)
        counting.count()
        try:
            compare(name, seed)
        except Exception as error:
            rng = np.random.default_rng([seed, *name.encode()])
            told = DRAWS[name](rng)
            shapes = [x.shape for x in told[3]]
            raise AssertionError(
                f"{name}, seed {seed}: {told[1:3]} on {shapes}"
            ) from error
