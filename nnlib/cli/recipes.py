"""What ``nnlib kernels --warm`` calls to have compiled what training usually needs.

What is usual is not guessed from the kernels' text: a recipe per family calls its
public functions on small float32 arrays (one size for the loop of a single thread, one
for the pool), the element-wise families through the objects that they register; so
exactly those signatures are compiled that such calls ask for, on the CPU, and on CUDA
where there is a device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nnlib
from nnlib import kernels

__all__ = ["RECIPES"]

# The first size is done by one thread, the second by the pool.
_SIZES = (64, 65536)


def _arrays(device: str, count: int, *shape: int) -> list[Any]:
    generator = nnlib.Generator().manual_seed(0)
    return [
        nnlib.rand(*shape, generator=generator, device=device).array
        for _ in range(count)
    ]


def _elementwise(name: str) -> Callable[[str], None]:
    def run(device: str) -> None:
        from nnlib.kernels.elementwise import BiasMap, Gradient, Map

        for kernel in vars(getattr(kernels, name)).values():
            for size in _SIZES:
                x, y = _arrays(device, 2, size // 16, 16)
                if isinstance(kernel, Map):
                    kernel(x)
                elif isinstance(kernel, Gradient):
                    kernel(x, y)
                elif isinstance(kernel, BiasMap):
                    kernel(x, y[0])

    return run


def _linear(device: str) -> None:
    """Linear layers, forward and backward: matrix products, sums of columns."""
    for batch, width in ((4, 8), (128, 512)):
        x, w = (nnlib.as_tensor(a) for a in _arrays(device, 2, batch, width))
        layer = nnlib.nn.Linear(width, width).to(device)
        hidden = nnlib.nn.functional.relu(layer(x.requires_grad_()))
        (layer(hidden) * w).sum().backward()


def _reductions(device: str) -> None:
    for rows_ in (4, 4096):
        (x,) = (nnlib.as_tensor(a) for a in _arrays(device, 1, rows_, 32))
        for value in (x, x.reshape(-1)):
            value.sum(), value.mean(), value.amax(), value.amin()
        x.sum(0), x.sum(1), x.mean(1), x.amax(1), x.amin(1)


def _softmax(device: str) -> None:
    for rows_ in (4, 4096):
        (x,) = (
            nnlib.as_tensor(a).requires_grad_() for a in _arrays(device, 1, rows_, 32)
        )
        for function in (nnlib.softmax, nnlib.log_softmax):
            (function(x, 1) * x.detach()).sum().backward()


def _cross_entropy(device: str) -> None:
    for rows_ in (4, 4096):
        (x,) = (
            nnlib.as_tensor(a).requires_grad_() for a in _arrays(device, 1, rows_, 32)
        )
        target = nnlib.zeros(rows_, dtype="int64", device=device)
        nnlib.nn.functional.cross_entropy(x, target).backward()


def _random(device: str) -> None:
    for size in _SIZES:
        nnlib.rand(size, device=device)
        nnlib.randint(0, 9, (size,), device=device)
        nnlib.bernoulli(nnlib.full((size,), 0.5, device=device))


def _normal(device: str) -> None:
    for size in _SIZES:
        nnlib.randn(size, device=device)


def _dropout(device: str) -> None:
    for size in _SIZES:
        x = nnlib.ones(size, device=device, requires_grad=True)
        nnlib.nn.functional.dropout(x, 0.5, training=True).sum().backward()


def _optimizers(device: str) -> None:
    optim = nnlib.optim
    for size in _SIZES:
        for name, options in (
            ("SGD", {"lr": 0.1}),
            ("SGD", {"lr": 0.1, "momentum": 0.9}),
            ("Adam", {}),
            ("AdamW", {}),
            ("RMSprop", {}),
            ("Adagrad", {}),
            ("Adadelta", {}),
            ("Adamax", {}),
            ("NAdam", {}),
            ("RAdam", {}),
            ("Rprop", {}),
            ("ASGD", {}),
        ):
            parameter = nnlib.nn.Parameter(nnlib.ones(size, device=device))
            parameter.grad = nnlib.ones(size, device=device)
            getattr(optim, name)([parameter], **options).step()


def _embedding(device: str) -> None:
    for count in (4, 4096):
        table = nnlib.ones(64, 16, device=device, requires_grad=True)
        chosen = nnlib.zeros(count, dtype="int64", device=device)
        nnlib.index_select(table, 0, chosen).sum().backward()


def _arithmetic(device: str) -> None:
    for size in _SIZES:
        x, y = (nnlib.as_tensor(a) for a in _arrays(device, 2, size))
        x + y, x - y, x * y, x / y


def _convolution(device: str) -> None:
    nn = nnlib.nn
    for batch, channels, groups in ((2, 3, 1), (32, 32, 1), (8, 32, 32)):
        (images,) = _arrays(device, 1, batch, channels, 16, 16)
        x = nnlib.as_tensor(images).requires_grad_()
        for size in (3, 5, 1):
            layer = nn.Conv2d(
                channels, channels, size, padding=size // 2, groups=groups
            )
            layer.to(device)(x).sum().backward()


def _windows(device: str) -> None:
    nn = nnlib.nn
    for batch in (2, 64):
        (images,) = _arrays(device, 1, batch, 16, 16, 16)
        x = nnlib.as_tensor(images).requires_grad_()
        for name, arguments in (("MaxPool2d", (2,)), ("AvgPool2d", (2,))):
            layer = getattr(nn, name, None)
            if layer is not None:
                layer(*arguments)(x).sum().backward()


def _normalization(device: str) -> None:
    nn = nnlib.nn
    for batch in (2, 64):
        (images,) = _arrays(device, 1, batch, 16, 16, 16)
        x = nnlib.as_tensor(images).requires_grad_()
        for name, arguments in (("BatchNorm2d", (16,)), ("LayerNorm", (16,))):
            layer = getattr(nn, name, None)
            if layer is not None:
                layer(*arguments).to(device)(x).sum().backward()


def _recurrent(device: str) -> None:
    """Recurrent layers over padded batches, forward and backward."""
    for batch, width in ((2, 8), (64, 32)):
        (steps,) = _arrays(device, 1, 4, batch, width)
        x = nnlib.as_tensor(steps).requires_grad_()
        for name in ("RNN", "LSTM", "GRU"):
            layer = getattr(nnlib.nn, name)(width, width).to(device)
            layer(x)[0].sum().backward()


def _attention(device: str) -> None:
    """Attention without a mask, causal, and with a mask of what may be read."""
    for length in (4, 256):
        q, k, v = (
            nnlib.as_tensor(x).requires_grad_()
            for x in _arrays(device, 3, 2, 2, length, 16)
        )
        seen = nnlib.ones(length, length, dtype="bool", device=device)
        for options in ({}, {"is_causal": True}, {"attn_mask": seen}):
            attend = nnlib.nn.functional.scaled_dot_product_attention
            attend(q, k, v, **options).sum().backward()


def _tables(device: str) -> None:
    """Rows of a table, and bags of them."""
    nn = nnlib.nn
    for count in (4, 4096):
        ids = nnlib.zeros(count, 2, dtype="int64", device=device)
        for layer in (nn.Embedding(64, 16), nn.EmbeddingBag(64, 16)):
            layer.to(device)(ids).sum().backward()


def _resizing(device: str) -> None:
    for batch in (2, 64):
        (images,) = _arrays(device, 1, batch, 16, 8, 8)
        x = nnlib.as_tensor(images).requires_grad_()
        for mode in ("nearest", "bilinear"):
            nnlib.nn.Upsample(scale_factor=2, mode=mode)(x).sum().backward()


RECIPES: dict[str, Callable[[str], None]] = {
    "gemm": _linear,
    "activation": _elementwise("activation"),
    "loss": _elementwise("loss"),
    "arithmetic": _arithmetic,
    "reduction": _reductions,
    "softmax": _softmax,
    "softmax_cross_entropy": _cross_entropy,
    "optimizer": _optimizers,
    "philox": _random,
    "normal": _normal,
    "dropout": _dropout,
    "add_rows": _embedding,
    "convolution": _convolution,
    "pooling": _windows,
    "normalization": _normalization,
    "recurrent": _recurrent,
    "attention": _attention,
    "embedding": _tables,
    "resize": _resizing,
}
