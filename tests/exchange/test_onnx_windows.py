"""Export of bags of embeddings, of images as columns and back, of samples on grids."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nnlib
import nnlib.nn.functional as F
from nnlib import nn
from nnlib.onnx import OnnxError

pytest.importorskip("onnx")


def agree(model: Any, *batches: Any, free: bool = True, **options: Any) -> None:
    """Export with the first batch; compare nnlib, onnxruntime and the import on all."""
    runtime = pytest.importorskip("onnxruntime")
    names = [f"x{n}" for n in range(len(batches[0]))]
    axes = {name: {0: f"size of {name}"} for name in names} if free else None
    made = nnlib.onnx.export(
        model, batches[0], input_names=names, dynamic_axes=axes, **options
    )
    session = runtime.InferenceSession(
        made.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    back = nnlib.onnx.load(made)
    model.eval()
    for batch in batches:
        with nnlib.no_grad():
            wanted, again = model(*batch).numpy(), back(*batch).numpy()
        given = {name: x.numpy() for name, x in zip(names, batch, strict=True)}
        (found,) = session.run(None, given)
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(again, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "arguments", [(2,), (3, 1, 1, 2), ((2, 3), (1, 2), (1, 0), (2, 1))], ids=str
)
def test_columns(arguments: Any) -> None:
    images, more = nnlib.randn(2, 3, 7, 8), nnlib.randn(5, 3, 7, 8)
    agree(nn.Unfold(*arguments), (images,), (more,))
    columns, others = F.unfold(images, *arguments), F.unfold(more, *arguments)
    agree(nn.Fold((7, 8), *arguments), (columns,), (others,))
    agree(nn.Unfold(*arguments), (images[0],), free=False)


def test_columns_keep_what_is_not_finite_in_its_place() -> None:
    images = nnlib.randn(1, 2, 5, 5)
    images[0, 0, 2, 2], images[0, 1, 0, 0] = nnlib.inf, nnlib.nan
    agree(nn.Unfold(2), (images,))
    agree(nn.Fold((5, 5), 2), (F.unfold(images, 2),))


def test_columns_of_images_of_any_size_are_refused() -> None:
    with pytest.raises(OnnxError, match="depends on the size of a dynamic axis"):
        nnlib.onnx.export(
            nn.Unfold(2), nnlib.zeros(1, 1, 4, 4), dynamic_axes={"input": [2]}
        )


class Bags(nn.Module):
    """Hands on both arguments, which a Module of the table's would take as well."""

    def __init__(self, bags: Any) -> None:
        super().__init__()
        self.bags = bags

    def forward(self, ids: Any, offsets: Any) -> Any:
        return self.bags(ids, offsets)


def whole(*numbers: int) -> Any:
    return nnlib.tensor(list(numbers))


@pytest.mark.parametrize("padding", [None, 2])
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags(mode: str, padding: Any) -> None:
    table = nn.EmbeddingBag(10, 4, mode=mode, padding_idx=padding)
    rows = nnlib.tensor([[1, 2, 3], [4, 5, 5]])
    agree(table, (rows,), (nnlib.tensor([[2, 2, 2], [0, 2, 9], [1, 1, 1]]),))
    ids, starts = whole(1, 2, 3, 4, 5, 6, 7), whole(0, 2, 2, 5)
    others = whole(2, 2, 9, 1, 2)
    opset = 13 if mode == "max" else 16
    agree(Bags(table), (ids, starts), (others, whole(0, 1, 3)), opset_version=opset)
    table.include_last_offset = True
    agree(Bags(table), (ids, starts), (others, whole(0, 1, 3, 3)))


def test_bags_with_factors() -> None:
    class Weighted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bags = nn.EmbeddingBag(6, 3, mode="sum")

        def forward(self, ids: Any, factors: Any) -> Any:
            return self.bags(ids, per_sample_weights=factors)

    ids = nnlib.tensor([[1, 2], [4, 5]])
    agree(Weighted(), (ids, nnlib.randn(2, 2)), free=False)


def test_what_cannot_be_said_of_bags() -> None:
    ids, starts = whole(1, 2, 3), whole(0, 1)
    with pytest.raises(OnnxError, match="IndexAdd: before opset 16"):
        nnlib.onnx.export(Bags(nn.EmbeddingBag(5, 2)), (ids, starts), opset_version=15)
    with pytest.raises(OnnxError, match="embedding_bag: max_norm changes the table"):
        nnlib.onnx.export(nn.EmbeddingBag(5, 2, max_norm=1.0), ids.reshape(1, 3))


class Sampler(nn.Module):
    """An image sampled on a grid."""

    def __init__(self, *setting: Any) -> None:
        super().__init__()
        self.setting = setting

    def forward(self, x: Any, grid: Any) -> Any:
        return F.grid_sample(x, grid, *self.setting)


@pytest.mark.parametrize("opset", [17, 20])
@pytest.mark.parametrize(
    "setting",
    [
        ("bilinear", "zeros", False),
        ("nearest", "border", True),
        ("bicubic", "reflection", True),
    ],
    ids=str,
)
def test_samples_on_grids(setting: Any, opset: int) -> None:
    images, more = nnlib.randn(2, 3, 4, 5), nnlib.randn(3, 3, 4, 5)
    # Places without a rounding, none in the middle between two pixels.
    grid, other = (
        nnlib.round(nnlib.rand(n, 3, 4, 2) * 32 - 16) / 16 + 1 / 64 for n in (2, 3)
    )
    model = Sampler(*setting)
    agree(model, (images, grid), (more, other), opset_version=opset)


def test_samples_on_grids_need_an_opset() -> None:
    volume, places = nnlib.randn(1, 1, 3, 3, 3), nnlib.rand(1, 2, 2, 2, 3)
    with pytest.raises(OnnxError, match="grid_sample before opset 20"):
        nnlib.onnx.export(Sampler(), (volume, places))
