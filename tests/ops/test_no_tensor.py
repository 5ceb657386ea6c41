"""What is said about arguments that are no tensors, and that it names them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from harness import Case, as_tensors
from test_ops import CASES

import nnlib
from nnlib import nn
from nnlib.backend.errors import DTypeError
from nnlib.nn import functional as F
from nnlib.nn import utils


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


def test_what_is_left_out_is_not_blamed_for_another_fault() -> None:
    class Product(nnlib.autograd.Function):
        def forward(self, x, bias):
            raise TypeError("Unsupported type <class 'numpy.ndarray'>")

    # As of nnlib's own, whose errors are retold.
    Product.__module__ = "nnlib.ops.played"
    with pytest.raises(TypeError, match="Unsupported type") as told:
        Product.apply(nnlib.ones(1), None)
    assert not isinstance(told.value, DTypeError)


WRONG: list[Any] = [
    [1.0, 2.0],
    None,
    "two",
    np.array([1.0, None], dtype=object),
    {"a": 1},
]


def wrong_calls(case: Case) -> Iterator[tuple[list[Any], dict[str, Any]]]:
    """Yield the arguments of a case's samples, one of the tensors replaced."""
    seen = set()
    for sample in case.samples:
        args, kwargs = list(sample.args), sample.kwargs
        for place, value in [*enumerate(args), *kwargs.items()]:
            if place in seen or not isinstance(value, np.ndarray):
                continue
            seen.add(place)
            for wrong in WRONG:
                made, named = as_tensors(args), as_tensors(kwargs)
                (made if isinstance(place, int) else named)[place] = wrong
                yield made, named


def leaves_nnlib(error: BaseException) -> bool:
    """Tell whether an error came up in the case's own expression."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and "cases_" in trace.tb_frame.f_code.co_filename


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_no_tensor_is_an_error_of_nnlib(case: Case) -> None:
    # Some take lists, and None where a tensor may be left out.
    for args, kwargs in wrong_calls(case):
        try:
            case.run(*args, **kwargs)
        except nnlib.Error as error:
            assert ": " in str(error)
        except Exception as error:
            if not leaves_nnlib(error):
                raise


def test_operations_name_themselves_and_not_what_they_call() -> None:
    for function, name in (
        (F.relu6, "relu6"),
        (nnlib.dist, "dist"),
        (nnlib.linalg.cond, "linalg.cond"),
        (nnlib.special.entr, "special.entr"),
    ):
        args = (None, nnlib.ones(2)) if function is nnlib.dist else ("two",)
        with pytest.raises(DTypeError, match=f"^{name}: "):
            function(*args)


def test_tensors_in_lists_are_named_by_their_place() -> None:
    x = nnlib.ones(2)
    with pytest.raises(
        DTypeError, match=r"^block_diag: tensors\[1\]: expected a Tensor"
    ):
        nnlib.block_diag(x, "two")


def test_a_custom_function_may_take_what_it_likes() -> None:
    class Scaled(nnlib.autograd.Function):
        @staticmethod
        def forward(ctx, x, how):
            return x * len(how)

        @staticmethod
        def backward(ctx, grad):
            return grad * 2, None

    x = nnlib.ones(2, requires_grad=True)
    Scaled.apply(x, ["a", "b"]).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [2.0, 2.0]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: utils.clip_grad_norm_(None, 1.0), "parameters: expected Tensors"),
        (lambda: utils.clip_grad_value_([2.0], 1.0), r"parameters\[0\]: expected a T"),
        (lambda: utils.parameters_to_vector("two"), "parameters: expected Tensors"),
        (lambda: utils.vector_to_parameters([1.0], []), "vec: expected a Tensor"),
        (lambda: utils.rnn.pad_sequence(None), "sequences: expected Tensors"),
        (lambda: utils.rnn.pack_sequence([2]), r"sequences\[0\]: expected a Tensor"),
        (lambda: utils.rnn.pack_padded_sequence([2], [1]), "input: expected a Tensor"),
        (lambda: nnlib.nn.init.eye_([2]), "tensor: expected a Tensor, got list"),
        (lambda: nnlib.autograd.grad(None, []), "outputs: expected Tensors"),
        (lambda: nnlib.ones(()).backward(2.0), "gradient: expected Tensors, got float"),
        (lambda: nnlib.optim.SGD(None, lr=0.1), "params: expected an iterable of"),
    ],
)
def test_functions_of_other_rooms_name_it_too(function, message: str) -> None:
    with pytest.raises(DTypeError, match=f"^[A-Za-z_.]+: {message}"):
        function()


def test_good_steps_read_no_errors(monkeypatch):
    """What is read of errors takes long, and is asked for by errors alone."""

    def read(*args):
        raise AssertionError(f"asked about {[type(x).__name__ for x in args[1]]}")

    monkeypatch.setattr("nnlib.autograd.function.refuse_misfit", read)
    layers = nn.Sequential(
        nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)
    )
    x, labels = nnlib.rand(5, 2, 4), nnlib.tensor([0, 1, 2, 0, 1])
    loss = F.cross_entropy(layers(x), labels)
    (loss * np.float32(2) + np.float64(1)).backward()
    hidden, _ = nn.LSTM(4, 3)(x)
    F.mse_loss(hidden, nnlib.zeros(5, 2, 3)).backward()


def test_a_fault_of_a_callback_is_no_argument_s() -> None:
    lost: Any = None

    def hook(grad: Any) -> Any:
        return lost.data

    def distance(x: Any, y: Any) -> Any:
        return nnlib.exp(2)

    x = nnlib.ones(2, requires_grad=True)
    y = x * 2
    y.register_hook(hook)
    with pytest.raises(AttributeError, match="NoneType"):
        nnlib.autograd.grad(y.sum(), (p for p in [x]), None)
    loss = F.triplet_margin_with_distance_loss
    with pytest.raises(DTypeError, match="^exp: input: expected a Tensor, got int"):
        loss(x, x, x, distance_function=distance, margin=2)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (
            lambda x: nnlib.searchsorted(sorter=None, sorted_sequence=None, input=x),
            "searchsorted: sorted_sequence",
        ),
        (lambda x: nnlib.cov(fweights=None, input=None), "cov: input"),
        (
            lambda x: F.batch_norm(running_mean=None, running_var=None, input=None),
            "batch_norm: input",
        ),
        (
            lambda x: F.bilinear(bias=None, input1=None, input2=x, weight=x),
            "bilinear: input1",
        ),
    ],
)
def test_what_may_be_none_is_not_blamed(function, name: str) -> None:
    with pytest.raises(DTypeError, match=f"^{name}: expected a Tensor, got NoneType"):
        function(nnlib.ones(1, 2, 2))
