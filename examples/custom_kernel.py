"""A kernel and an operation of your own: the activation ISRU.

    python examples/custom_kernel.py

Carlile et al. (2017, "Improving deep learning by inverse square root linear units"):
y = x / sqrt(1 + a x^2). One scalar body makes the loops for the CPU and for CUDA; the
operation around them has a gradient that is checked against differences. Without a GPU
the CUDA loop runs in Numba's simulator (needs numba-cuda):

    NUMBA_ENABLE_CUDASIM=1 python examples/custom_kernel.py
"""

import argparse
import math
import os

import numpy as np

import nnlib
from nnlib import nn
from nnlib.autograd import Function, gradcheck, gradgradcheck
from nnlib.data import DataLoader, Digits, train_val_test_split
from nnlib.kernels.machinery import (
    array_module,
    body,
    cpu_kernel,
    cuda,
    cuda_kernel,
    on_cuda,
    prange,
)
from nnlib.train import evaluate, fit
from nnlib.viz import new_figure, save


@body  # what happens to one element, on either target
def isru_at(x, y, i, a):
    """Write ``y[i] = x[i] / sqrt(1 + a x[i]^2)``."""
    kind = type(x[i])  # a plain 1 or 0.5 would make float64 of a float32
    y[i] = x[i] / kind(math.sqrt(kind(1) + a * x[i] * x[i]))


@cpu_kernel  # the loop for the CPU: prange shares it among the threads
def isru_cpu(x, y, a):
    """Do every element."""
    for i in prange(x.size):
        isru_at(x, y, i, a)


@cuda_kernel  # the loop for CUDA: each thread strides over the grid
def isru_cuda(x, y, a):
    """Do every element."""
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        isru_at(x, y, i, a)


def isru_kernel(x, a):
    """Apply ISRU to a NumPy or CuPy array."""
    x = array_module(x).ascontiguousarray(x)
    y = array_module(x).empty_like(x)
    if on_cuda(x):
        isru_cuda(x.ravel(), y.ravel(), x.dtype.type(a), items=x.size)
    else:
        isru_cpu(x.ravel(), y.ravel(), x.dtype.type(a))
    return y


class ISRU(Function):
    """The operation: forward on arrays, backward in terms of operators."""

    def forward(self, x, a):
        """Return ``x / sqrt(1 + a x^2)``."""
        self.save_for_backward(x)
        self.a = a
        return isru_kernel(x, a)

    def backward(self, grad):
        """Multiply by the slope, ``(1 + a x^2)^(-3/2)``; a number has no gradient."""
        (x,) = self.saved
        return grad * (1 + self.a * x * x) ** -1.5, None


class Layer(nn.Module):
    """ISRU as a layer."""

    def forward(self, x):
        """Apply it with a = 1."""
        return ISRU.apply(x, 1.0)


def in_simulator():
    """Run the CUDA loop in Numba's simulator; return the largest error."""
    from nnlib.kernels.machinery.compile import use_cuda_module

    x = np.linspace(-3, 3, 50, dtype=np.float32)
    y = np.zeros_like(x)
    simulator = use_cuda_module(isru_cuda.function)
    simulator.jit(isru_cuda.function)[2, 8](x, y, np.float32(1))
    return abs(y - isru_kernel(x, 1.0)).max()


def main():
    """Check kernel and gradient, train with the layer, draw it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--output", default="outputs", help="folder of the picture")
    options = parser.parse_args()
    nnlib.manual_seed(0)
    if os.environ.get("NUMBA_ENABLE_CUDASIM") == "1":
        print(f"CUDA loop in the simulator: largest difference {in_simulator():.1e}")
        return

    x = nnlib.linspace(-3, 3, 101, dtype="float64", device=options.device)
    expected = x / (1 + x * x).sqrt()
    error = (ISRU.apply(x, 1.0) - expected).abs().max().item()
    print(f"kernel on {x.device}: largest difference {error:.1e}")
    x.requires_grad_()
    first = gradcheck(lambda v: ISRU.apply(v, 1.0), (x,))
    second = gradgradcheck(lambda v: ISRU.apply(v, 1.0), (x,))
    print(f"gradcheck: {first}, gradgradcheck: {second}")

    digits = Digits().to_tensors(flatten=True)
    train, _, test = train_val_test_split(digits, 0.0, 0.2, generator=0)
    model = nn.Sequential(nn.Linear(64, 64), Layer(), nn.Linear(64, 10))
    fit(
        model,
        DataLoader(train, batch_size=32, shuffle=True),
        optimizer=nnlib.optim.Adam(model.parameters(), lr=3e-3),
        epochs=options.epochs,
        device=options.device,
        progress=False,
    )
    accuracy = evaluate(model, DataLoader(test, batch_size=256))["accuracy"]
    print(f"digits with it: test accuracy {accuracy:.1%}")

    figure = new_figure(5.0, 3.5)
    axes = figure.add_subplot()
    y = ISRU.apply(x, 1.0)
    y.sum().backward()
    axes.plot(x.detach().cpu(), y.detach().cpu(), label="ISRU")
    axes.plot(x.detach().cpu(), x.grad.cpu(), label="its gradient")
    axes.legend()
    axes.grid(alpha=0.3)
    save(figure, f"{options.output}/custom_kernel.png")


if __name__ == "__main__":
    main()
