"""Import: names, modes, inner outputs, and what is refused, all at once and by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnlib
from nnlib import nn
from nnlib.onnx import OnnxError, load

onnx = pytest.importorskip("onnx")
helper = onnx.helper
FLOAT, INT64 = 1, 7


def build(
    nodes: list[Any],
    inputs: dict[str, Any],
    outputs: list[str],
    initial: dict[str, Any] | None = None,
    opset: int = 17,
) -> Any:
    """Return a model; inputs are shapes, of float32."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, FLOAT, None) for n in outputs],
        [onnx.numpy_helper.from_array(a, n) for n, a in (initial or {}).items()],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8
    )


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    )


def exported() -> tuple[nn.Module, Any]:
    model = network()
    x = nnlib.randn(2, 1, 6, 6)
    model(x)  # statistics of some data
    return model, nnlib.onnx.export(model, x, dynamic_axes={"input": [0]})


def test_parameters_and_buffers_have_their_names() -> None:
    model, made = exported()
    back = load(made)
    assert {n for n, _ in back.named_parameters()} == {
        n for n, _ in model.named_parameters()
    }
    assert {n for n, _ in back.named_buffers()} == {"1.running_mean", "1.running_var"}
    assert back.parameter_names["0.weight"] == "0.weight"
    assert not back.training and "5 nodes" in repr(back)
    model.load_state_dict(back.state_dict(), strict=False)


def test_awkward_names_of_initialisers() -> None:
    names = ["a", "a.b", "forward", "x.training", "kernel:0", "d/e", "..", "0"]
    nodes = [
        helper.make_node("Add", [f"y{n}", name], [f"y{n + 1}"])
        for n, name in enumerate(names)
    ]
    initial = {name: np.full(2, 2.0**n, np.float32) for n, name in enumerate(names)}
    model = load(build(nodes, {"y0": [2]}, [f"y{len(names)}"], initial))
    assert len(list(model.parameters())) == len(names)
    assert model(nnlib.zeros(2)).tolist() == [255, 255]
    model.load_state_dict(model.state_dict())


def test_training_and_evaluation() -> None:
    model, made = exported()
    back = load(made)
    x = nnlib.randn(8, 1, 6, 6)
    np.testing.assert_allclose(
        back(x).detach().numpy(), model.eval()(x).detach().numpy(), atol=1e-5
    )
    back.train()
    model.train()
    np.testing.assert_allclose(
        back(x).detach().numpy(), model(x).detach().numpy(), atol=1e-4
    )
    mean = model.state_dict()["1.running_mean"].numpy()
    found = back.state_dict()["1.running_mean"].numpy()
    np.testing.assert_allclose(found, mean, atol=1e-5)
    # A frozen normalisation keeps its statistics.
    for name, parameter in back.named_parameters():
        parameter.requires_grad_(not name.startswith("1."))
    back(x + 5)
    np.testing.assert_array_equal(back.state_dict()["1.running_mean"].numpy(), found)


def test_dropout_drops_in_training_alone() -> None:
    for opset in (7, 10, 12, 17):
        attributes = {"ratio": 0.5} if opset < 12 else {}
        node = helper.make_node("Dropout", ["x"], ["y"], **attributes)
        model = load(build([node], {"x": [100]}, ["y"], opset=opset))
        x = nnlib.ones(100)
        assert model(x).tolist() == [1] * 100
        assert set(model.train()(x).tolist()) == {0.0, 2.0}


def test_inner_values_and_a_new_head(tmp_path: Path) -> None:
    _, made = exported()
    path = tmp_path / "m.onnx"
    path.write_bytes(made.SerializeToString())
    whole = load(path)
    features = whole.value_names[-2]
    body = load(path, outputs=features)
    x = nnlib.randn(3, 1, 6, 6)
    assert tuple(body(x).shape) == (3, 64)
    assert "4.weight" not in dict(body.named_parameters())
    cut = whole.truncate([features, whole.value_names[0]])
    assert [tuple(y.shape) for y in cut(x)] == [(3, 64), (3, 4, 4, 4)]
    cut.get_parameter("0.weight").data.zero_()
    assert not whole.get_parameter("0.weight").detach().numpy().any()
    tuned = nn.Sequential(body, nn.Linear(64, 2))
    tuned(x).sum().backward()
    assert body.get_parameter("0.weight").grad is not None
    with pytest.raises(OnnxError, match="no value 'nothing'"):
        load(path, outputs="nothing")
    with pytest.raises(nnlib.ArgumentError, match="no value 'nothing'"):
        whole.truncate("nothing")


def test_a_fixed_batch_can_be_freed() -> None:
    shape = np.array([1, 6], np.int64)
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    model = build(nodes, {"x": [1, 2, 3]}, ["y"], {"shape": shape})
    with pytest.raises(nnlib.ShapeError, match=r"expected shape \(1, 2, 3\), got \(4"):
        load(model)(nnlib.zeros(4, 2, 3))
    assert tuple(load(model, free_batch=True)(nnlib.zeros(4, 2, 3)).shape) == (4, 6)


def test_all_faults_are_told_together() -> None:
    nodes = [
        helper.make_node("Strange", ["x"], ["a"], "first"),
        helper.make_node("Relu", ["nothing"], ["b"], "second"),
        helper.make_node("LeakyRelu", ["x"], ["c"], "third", odd=1),
        helper.make_node("Elu", ["x"], ["d"], "fourth", alpha="text"),
        helper.make_node("Conv", ["x", "x"], ["e"], "fifth", auto_pad="ODD"),
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("MatMul", ["x"], ["f"], "sixth"),
        helper.make_node("Tanh", ["x", "x"], ["g"], "seventh"),
        helper.make_node("Add", ["x", ""], ["h"], "eighth"),
        helper.make_node("Sum", [], ["i"], "ninth"),
        helper.make_node("Exp", ["x"], ["j", "k"], "tenth"),
    ]
    with pytest.raises(OnnxError) as caught:
        load(build(nodes, {"x": [2]}, list("abcdefghijy")))
    for part in (
        "nothing was loaded",
        r"Strange node 'first': operator Strange (opset 17) is not supported",
        "Relu node 'second': nothing makes its input 'nothing'",
        "LeakyRelu node 'third': attribute odd",
        "Elu node 'fourth': attribute alpha: expected float, got string",
        "Conv node 'fifth': attribute auto_pad: expected one of",
        "MatMul node 'sixth': expected 2 inputs, got 1",
        "Tanh node 'seventh': expected 1 inputs, got 2",
        "Add node 'eighth': its input 'B' is left out",
        "Sum node 'ninth': expected at least 1 inputs, got 0",
        "Exp node 'tenth': expected at most 1 outputs, got 2",
    ):
        assert part in str(caught.value)
    # What no output needs is left out.
    assert load(build(nodes, {"x": [2]}, ["y"]), outputs=["y"])(
        nnlib.tensor([-1.0, 1.0])
    ).tolist() == [0, 1]


def test_opsets() -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    for opset in (6, 99):
        with pytest.raises(OnnxError, match=f"uses opset {opset}; nnlib reads 7 to"):
            load(build([node], {"x": [2]}, ["y"], opset=opset))


def test_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    for data in (b"", b"text that is no model", b"\x08\x08"):
        path.write_bytes(data)
        with pytest.raises(OnnxError, match="is no ONNX file"):
            load(path)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "absent.onnx")


def test_external_data(tmp_path: Path) -> None:
    node = helper.make_node("Add", ["x", "w"], ["y"])
    weights = np.arange(40, dtype=np.float32)
    model = build([node], {"x": [40]}, ["y"], {"w": weights})
    path = tmp_path / "m.onnx"
    onnx.save(
        model, path, save_as_external_data=True, location="w.bin", size_threshold=0
    )
    assert load(path)(nnlib.zeros(40)).tolist() == list(range(40))
    whole = (tmp_path / "w.bin").read_bytes()
    (tmp_path / "w.bin").write_bytes(whole[:-4])
    with pytest.raises(OnnxError, match="'w' needs 160 bytes"):
        load(path)
    (tmp_path / "w.bin").unlink()
    with pytest.raises(OnnxError, match="'w': external data is missing"):
        load(path)
    for location in ("../w.bin", str(tmp_path / "w.bin"), ""):
        made = onnx.load(path, load_external_data=False)
        made.graph.initializer[0].external_data[0].value = location
        path.write_bytes(made.SerializeToString())
        with pytest.raises(OnnxError, match="refused|missing"):
            load(path)


def test_inputs_are_checked() -> None:
    nodes = [helper.make_node("Add", ["a", "b.c"], ["y"])]
    model = load(build(nodes, {"a": ["n", 2], "b.c": [2]}, ["y"]))
    a, b = nnlib.ones(3, 2), nnlib.ones(2)
    for found in (model(a, b), model({"b.c": b, "a": a}), model(a, **{"b.c": b})):
        assert found.tolist() == [[2, 2]] * 3
    bad: list[tuple[Any, Any, type, str]] = [
        ((a,), {}, nnlib.ArgumentError, "missing input b.c; expected a, b.c"),
        ((a, b, b), {}, nnlib.ArgumentError, "expected 2 inputs"),
        ((a,), {"z": b}, nnlib.ArgumentError, "unknown input 'z'"),
        ((a,), {"a": b}, nnlib.ArgumentError, "'a' is given twice"),
        ((a.double(), b), {}, nnlib.DTypeError, "'a': expected dtype float32, got"),
        ((a, [1.0, 1.0]), {}, nnlib.DTypeError, "'b.c': expected a tensor or array"),
        ((a, nnlib.ones(3)), {}, nnlib.ShapeError, r"'b.c': expected shape \(2\)"),
        ((b, b), {}, nnlib.ShapeError, r"'a': expected shape \(n, 2\), got \(2,\)"),
    ]
    for args, kwargs, kind, message in bad:
        with pytest.raises(kind, match=message):
            model(*args, **kwargs)
    half = load(
        build([helper.make_node("Mul", ["x", "w"], ["y"])], {"x": [2]}, ["y"],
              {"w": np.ones(2, np.float32)})
    ).half()  # fmt: skip
    assert half(nnlib.ones(2).half()).dtype == nnlib.float16


def test_errors_at_run_time_name_the_node() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "the_product")]
    w = np.ones((3, 2), np.float32)
    model = load(build(nodes, {"x": ["n", "k"]}, ["y"], {"w": w}))
    with pytest.raises(nnlib.ShapeError) as caught:
        model(nnlib.ones(2, 4))
    assert "MatMul node 'the_product'" in "".join(caught.value.__notes__)


def test_gradients_through_loop_scan_and_if() -> None:
    body = helper.make_graph(
        [
            helper.make_node("Mul", ["s", "w"], ["t"]),
            helper.make_node("Identity", ["c"], ["d"]),
        ],
        "body",
        [helper.make_tensor_value_info(n, k, s)
         for n, k, s in (("i", INT64, []), ("c", 9, []), ("s", FLOAT, [2]))],
        [helper.make_tensor_value_info(n, k, s)
         for n, k, s in (("d", 9, []), ("t", FLOAT, [2]), ("t", FLOAT, [2]))],
    )  # fmt: skip
    nodes = [helper.make_node("Loop", ["count", "", "x"], ["last", "all"], body=body)]
    initial = {"w": np.array([2.0, 3.0], np.float32), "count": np.array(3)}
    model = load(build(nodes, {"x": [2]}, ["last", "all"], initial))
    last, everything = model(nnlib.ones(2))
    assert last.tolist() == [8, 27] and tuple(everything.shape) == (3, 2)
    last.sum().backward()
    assert model.get_parameter("w").grad.tolist() == [12, 27]


@pytest.mark.parametrize(
    ("reduction", "want", "by_x", "by_values"),
    [
        ("mul", [5, 4, 21], [5, 2, 7], [1, 8, 1, 3]),
        ("max", [5, 4, 7], [0, 0, 0], [1, 0, 1, 1]),
        ("min", [1, 0.5, 3], [1, 0, 1], [0, 1, 0, 0]),
    ],
)
def test_gradients_of_reduced_scattering(
    reduction: str, want: Any, by_x: Any, by_values: Any
) -> None:
    node = helper.make_node(
        "ScatterElements", ["x", "i", "v"], ["y"], reduction=reduction
    )
    index = {"i": np.array([0, 1, 1, -1])}
    model = load(build([node], {"x": [3], "v": [4]}, ["y"], index, opset=18))
    x = nnlib.tensor([1.0, 2.0, 3.0], requires_grad=True)
    v = nnlib.tensor([5.0, 0.5, 4.0, 7.0], requires_grad=True)
    y = model(x, v)
    y.sum().backward()
    assert (y.tolist(), x.grad.tolist(), v.grad.tolist()) == (want, by_x, by_values)


def test_shapes_are_folded() -> None:
    nodes = [
        helper.make_node("Shape", ["w"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"], axis=0),
        helper.make_node("Mul", ["n", "n"], ["m"]),
        helper.make_node("Reshape", ["x", "m"], ["y"]),
    ]
    initial = {"w": np.ones((2, 5), np.float32), "zero": np.array([0])}
    model = load(build(nodes, {"x": ["a", "b"]}, ["y"], initial))
    assert tuple(model(nnlib.ones(2, 2)).shape) == (4,)
    assert model.value_names == ("y",)
    assert not list(model.parameters())
