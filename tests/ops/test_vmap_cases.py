"""Every public operation inside `vmap`: as a loop over the samples, or an error.

Never one sample's result in the place of all.
"""

from __future__ import annotations

import importlib
import pathlib
from typing import Any

import numpy as np
import pytest
from harness import Case, as_tensors, outputs

import nnlib
from nnlib import vmap
from nnlib.backend.errors import Error

HERE = pathlib.Path(__file__).parent
CASES: list[Case] = []
for path in sorted(HERE.glob("cases_*.py")):
    CASES += importlib.import_module(path.stem).CASES


def another(name: str, array: np.ndarray) -> np.ndarray:
    """Return a second sample: other numbers, as allowed as those of the first."""
    square = array.ndim > 1 and array.shape[-1] == array.shape[-2]
    if square and ("linalg" in name or name == "logdet"):
        return array * 2
    return np.roll(array.ravel(), 1).reshape(array.shape)


def compare(case: Case, sample: Any, position: int) -> None:
    args = as_tensors(sample.args)
    kwargs = as_tensors(sample.kwargs)

    def function(x: Any) -> Any:
        nnlib.manual_seed(3)
        return case.run(*args[:position], x, *args[position + 1 :], **kwargs)

    array = sample.args[position]
    both = [array, another(case.name, array)]
    try:
        wanted = [outputs(function(nnlib.tensor(each))) for each in both]
    except Error:
        return
    try:
        found = outputs(vmap(function)(nnlib.tensor(np.stack(both))))
    except Error:
        return
    for first, second, got in zip(*wanted, found, strict=True):
        want = np.stack([first.detach().numpy(), second.detach().numpy()])
        assert got.dtype == want.dtype
        np.testing.assert_allclose(
            got.detach().numpy().astype(float), want.astype(float), 1e-6, 1e-7
        )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_operations_inside_vmap_equal_a_loop_or_refuse(case: Case) -> None:
    for sample in case.samples[:2]:
        for position, value in enumerate(sample.args):
            if isinstance(value, np.ndarray) and value.size:
                compare(case, sample, position)


# -- what once gave the first sample's result for all ----------------------------------

X = nnlib.tensor([[0.5, -1.0, 2.0], [float("nan"), 3.0, -0.5]])
NUMBERS = nnlib.tensor([0, 2])

WRONG_ONCE = {
    "bucketize": (lambda x: nnlib.bucketize(x, nnlib.tensor([0.0, 1.0])), X),
    "isin": (lambda i: nnlib.isin(i, nnlib.tensor([2])), NUMBERS),
    "matrix_rank": (
        nnlib.linalg.matrix_rank,
        nnlib.stack([nnlib.eye(2), nnlib.ones(2, 2)]),
    ),
    "bernoulli": (lambda p: nnlib.bernoulli(p), nnlib.tensor([[1.0, 0.0], [0.0, 1.0]])),
    "nanmean": (lambda x: x.nanmean(), X),
    "histc": (lambda x: nnlib.histc(x.nan_to_num(9.0), 4), X),
    "nll_loss": (
        lambda y: nnlib.nn.functional.nll_loss(X[:1].log_softmax(-1), y[None]),
        NUMBERS,
    ),
    "multinomial": (
        lambda p: nnlib.multinomial(p, 1),
        nnlib.tensor([[1.0, 0.0], [0.0, 1.0]]),
    ),
    "view": (lambda x: x.view(nnlib.int32), X),
    "masked_fill": (lambda v: X.masked_fill(X > 0, v), nnlib.tensor([1.0, 2.0])),
    "attention": (
        lambda mask: nnlib.nn.functional.scaled_dot_product_attention(
            nnlib.ones(1, 2), nnlib.ones(2, 2), nnlib.eye(2), attn_mask=mask
        ),
        nnlib.tensor([[[True, False]], [[False, True]]]),
    ),
}


PADDING = nnlib.tensor([[[False, True]], [[True, False]], [[True, True]]])


def test_layers_of_attention_take_a_mask_for_each_sample() -> None:
    x = nnlib.randn(1, 2, 4)
    layer = nnlib.nn.TransformerEncoderLayer(4, 2, 8, batch_first=True).eval()
    attention = layer.self_attn
    encoder = nnlib.nn.TransformerEncoder(layer, 1)
    causal = nnlib.tensor([[[False, True], [False, False]], [[False, False]] * 2])
    for function, masks in (
        (lambda m: attention(x, x, x, key_padding_mask=m)[0], PADDING),
        (lambda m: attention(x, x, x, key_padding_mask=m)[1], PADDING),
        (lambda m: encoder(x, mask=m), causal),
    ):
        wanted = nnlib.stack([function(mask) for mask in masks])
        got = vmap(function)(masks)
        np.testing.assert_allclose(got.detach(), wanted.detach(), 1e-5, 1e-6)


@pytest.mark.parametrize("name", WRONG_ONCE)
def test_functions_that_read_numbers_are_called_for_each_sample(name: str) -> None:
    function, batch = WRONG_ONCE[name]

    def seeded(x: Any) -> Any:
        nnlib.manual_seed(1)
        return function(x)

    wanted = np.stack([seeded(x).numpy() for x in batch])
    np.testing.assert_array_equal(vmap(seeded)(batch).numpy(), wanted)


REFUSED = {
    "an index": lambda i: X[i],
    "a list": lambda i: nnlib.tensor([i, i]),
    "a class weight": lambda i: nnlib.nn.functional.cross_entropy(
        X[:1], nnlib.tensor([1]), weight=i * nnlib.ones(3)
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_numbers_that_cannot_be_read_raise(name: str) -> None:
    with pytest.raises(Error, match="vmap: this would depend on one sample's numbers"):
        vmap(REFUSED[name])(NUMBERS)


def test_random_numbers_of_functions_called_for_each_sample_are_the_same() -> None:
    drawn = vmap(nnlib.bernoulli)(nnlib.full((3, 20), 0.5)).numpy()
    assert (drawn == drawn[0]).all()


def test_results_of_different_shapes_name_the_function() -> None:
    with pytest.raises(Error, match="vmap: nonzero: the results of the samples differ"):
        vmap(nnlib.nonzero)(nnlib.tensor([[1, 0], [1, 1]]))


def test_named_results_keep_their_names() -> None:
    found = vmap(lambda a: nnlib.linalg.lstsq(a, nnlib.ones(3, 1)))(
        nnlib.stack([nnlib.eye(3), nnlib.eye(3) * 2])
    )
    assert found.rank.tolist() == [3, 3]
    np.testing.assert_allclose(found.solution[1].numpy(), 0.5, 1e-6)
