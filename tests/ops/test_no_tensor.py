"""What is said about arguments that are no tensors, and that it names them."""

from __future__ import annotations

import pytest

import nnlib
from nnlib.backend.errors import DTypeError
from nnlib.nn import functional as F


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: nnlib.exp([1.0]), "exp: input: expected a Tensor, got list"),
        (lambda: nnlib.exp(None), "exp: input: expected a Tensor, got NoneType"),
        (lambda: nnlib.exp(2.0), "exp: input: expected a Tensor, got float"),
        (lambda: nnlib.exp2(input=None), "exp2: input: expected a Tensor, got None"),
        (lambda: nnlib.sqrt("four"), "sqrt: input: expected a Tensor, got str"),
        (lambda: nnlib.reshape([1.0], (1,)), "reshape: input: expected a Tensor"),
        (lambda: F.gelu([1.0]), "gelu: input: expected a Tensor, got list"),
        (lambda: nnlib.nonzero([1.0]), "nonzero: input: expected a Tensor, got list"),
        (lambda: nnlib.quantile(None, 0.5), "quantile: input: expected a Tensor"),
        (lambda: nnlib.sum([1.0]), "sum: input: expected a Tensor, got list"),
    ],
)
def test_the_operation_and_the_argument_are_named(function, message: str) -> None:
    with pytest.raises(DTypeError, match=f"^{message}") as told:
        function()
    # The user reads this alone, not what it was found by.
    assert told.value.__suppress_context__


def test_a_fault_inside_an_operation_stays_what_it_is() -> None:
    class Broken(nnlib.autograd.Function):
        def forward(self, x):
            return x.no_such_attribute

    with pytest.raises(AttributeError, match="no_such_attribute"):
        Broken.apply(nnlib.ones(1).numpy())
