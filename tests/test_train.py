"""fit, evaluate, metrics, callbacks, history, pictures."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

import nnlib
from nnlib import nn
from nnlib.backend.errors import DTypeError, ShapeError
from nnlib.data import DataLoader, Digits, TensorDataset, train_val_test_split
from nnlib.models import MLP
from nnlib.optim import SGD, Adam
from nnlib.optim.lr_scheduler import ExponentialLR, ReduceLROnPlateau
from nnlib.train import (
    Callback,
    DivergenceError,
    EarlyStopping,
    History,
    accuracy,
    binary_accuracy,
    evaluate,
    fit,
    predict,
)
from nnlib.train.history import is_better
from nnlib.train.metrics import RunningMeans


def digits():
    data = Digits()
    whole = data.to_tensors(flatten=True)
    return train_val_test_split(whole, 0.1, 0.2, stratify=data.labels, generator=0)


def line(count=32, batch_size=8):
    x = np.linspace(-1, 1, count, dtype=np.float32)[:, None]
    data = TensorDataset(x, 3 * x + 1)
    return DataLoader(data, batch_size, shuffle=True, generator=0)


def linear(lr=0.1):
    nnlib.manual_seed(0)
    model = nn.Linear(1, 1)
    return model, SGD(model.parameters(), lr=lr)


def fit_line(model, optimizer, **arguments):
    settings = {"epochs": 3, "progress": False, "loss": nn.functional.mse_loss}
    return fit(model, line(), optimizer=optimizer, **(settings | arguments))


def test_a_network_learns_real_digits():
    nnlib.manual_seed(0)
    train, validation, test = digits()
    model = MLP([64, 128, 10])
    stopping = EarlyStopping("val_accuracy", patience=6)
    history = fit(
        model,
        DataLoader(train, 32, shuffle=True),
        optimizer=Adam(model.parameters(), lr=2e-3),
        epochs=25,
        validation=DataLoader(validation, 128),
        callbacks=[stopping],
        progress=False,
    )
    assert history["accuracy"][-1] > 0.98
    assert history["loss"][0] > 5 * history["loss"][-1]
    assert evaluate(model, DataLoader(test, 128))["accuracy"] > 0.95
    # the best weights are back
    figures = evaluate(model, DataLoader(validation, 128))
    assert figures["accuracy"] == pytest.approx(stopping.best)
    assert history.best("val_accuracy") == (stopping.best_epoch, stopping.best)


def test_the_same_seed_gives_the_same_run():
    runs = []
    for _ in range(2):
        nnlib.manual_seed(3)
        train, _, _ = digits()
        model = MLP([64, 16, 10], dropout=0.3)
        optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
        loader = DataLoader(train, 64, shuffle=True)
        runs.append(fit(model, loader, optimizer=optimizer, epochs=2, progress=False))
    assert runs[0] == runs[1]


def test_fit_is_the_loop_one_would_write():
    model, optimizer = linear()
    fit_line(model, optimizer)
    other, optimizer = linear()
    loader = line()
    for _ in range(3):
        for x, y in loader:
            optimizer.zero_grad()
            nn.functional.mse_loss(other(x), y).backward()
            optimizer.step()
    assert model.weight.tolist() == other.weight.tolist()
    assert model.bias.tolist() == other.bias.tolist()


def test_figures_are_means_over_samples():
    model, optimizer = linear(lr=0.0)
    x = np.array([[0.0], [1.0], [5.0]], np.float32)
    loader = DataLoader(TensorDataset(x, np.zeros_like(x)), 2)
    wanted = float(np.mean((x * model.weight.item() + model.bias.item()) ** 2))
    history = fit(
        model,
        loader,
        optimizer=optimizer,
        loss=nn.functional.mse_loss,
        metrics={"size": lambda output, target: float(len(output))},
        epochs=1,
        validation=loader,
        progress=False,
    )
    assert history["loss"][0] == pytest.approx(wanted, rel=1e-6)
    assert history["val_loss"][0] == pytest.approx(wanted, rel=1e-6)
    assert history["size"][0] == pytest.approx(5 / 3)
    assert list(history) == ["loss", "size", "lr", "val_loss", "val_size"]


def test_a_batch_of_one_tensor_is_its_own_target():
    nnlib.manual_seed(0)
    model = nn.Linear(4, 4)
    x = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    history = fit(
        model,
        DataLoader(TensorDataset(x), 16),
        optimizer=Adam(model.parameters(), lr=0.05),
        loss=nn.functional.mse_loss,
        epochs=30,
        progress=False,
    )
    assert history["loss"][-1] < 0.01 * history["loss"][0]


def test_several_inputs():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Linear(1, 1)

        def forward(self, a, b):
            return self.scale(a + b)

    nnlib.manual_seed(0)
    model = Sum()
    a = nnlib.ones(8, 1)
    loader = DataLoader(TensorDataset(a, 2 * a, 3 * a), 4)
    optimizer = SGD(model.parameters(), lr=0.05)
    history = fit(
        model,
        loader,
        optimizer=optimizer,
        loss=nn.functional.mse_loss,
        epochs=20,
        progress=False,
    )
    assert history["loss"][-1] < 1e-3


def test_modes_are_put_back():
    model = nn.Sequential(nn.Linear(1, 4), nn.Dropout(0.5), nn.Linear(4, 1))
    model.train()
    model[1].eval()
    seen = []

    class Look(Callback):
        def on_batch_end(self, run):
            seen.append([module.training for module in model.modules()])

    optimizer = SGD(model.parameters(), lr=0.1)
    fit_line(model, optimizer, epochs=1, validation=line(), callbacks=[Look()])
    assert all(all(flags) for flags in seen)
    assert model.training and not model[1].training
    model.eval()
    evaluate(model, line(), loss=nn.functional.mse_loss)
    assert not any(module.training for module in model.modules())


def test_evaluate_records_nothing_and_is_repeatable():
    model = nn.Sequential(nn.Linear(1, 4), nn.Dropout(0.5), nn.Linear(4, 1))
    one, two = (evaluate(model, line(), loss=nn.functional.mse_loss) for _ in range(2))
    assert one["loss"] == pytest.approx(two["loss"], rel=1e-5)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert evaluate(model, line(), loss=None, metrics={"one": lambda *_: 1.0}) == {
        "one": 1.0
    }


def test_predict():
    model, _ = linear()
    x = nnlib.tensor(np.arange(10, dtype=np.float32)[:, None])
    got = predict(model, x, batch_size=4)
    assert tuple(got.shape) == (10, 1) and not got.requires_grad
    np.testing.assert_allclose(got.numpy(), model(x).detach().numpy(), rtol=1e-6)
    with pytest.raises(ShapeError, match=r"predict: inputs: .* got shape \(0, 1\)"):
        predict(model, x[:0])


@pytest.mark.parametrize("scheduler_step", ["epoch", "batch"])
def test_scheduler(scheduler_step):
    model, optimizer = linear(lr=1.0)
    history = fit_line(
        model,
        optimizer,
        scheduler=ExponentialLR(optimizer, 0.5),
        scheduler_step=scheduler_step,
        loss=lambda output, target: (output * 0.0).sum(),
    )
    steps = 3 if scheduler_step == "epoch" else 12
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5**steps)
    wanted = [1, 0.5, 0.25] if scheduler_step == "epoch" else [2**-4, 2**-8, 2**-12]
    assert history["lr"] == pytest.approx(wanted)


def test_plateau_scheduler_sees_the_validation_loss():
    model, optimizer = linear(lr=0.0)
    optimizer.param_groups[0]["lr"] = 1e-9
    scheduler = ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=0.5)
    history = fit_line(model, optimizer, scheduler=scheduler, validation=line())
    assert history["lr"][-1] < history["lr"][0]


def test_clip_norm():
    model, optimizer = linear(lr=1.0)
    before = [parameter.item() for parameter in model.parameters()]
    x = nnlib.tensor([[100.0]])
    loader = DataLoader(TensorDataset(x, -100 * x), 1)
    fit(
        model,
        loader,
        optimizer=optimizer,
        loss=nn.functional.mse_loss,
        epochs=1,
        clip_norm=0.5,
        progress=False,
    )
    after = [parameter.item() for parameter in model.parameters()]
    moved = math.dist(before, after)
    assert moved == pytest.approx(0.5, rel=1e-3)


def test_divergence_is_named():
    model, optimizer = linear(lr=1e20)
    with pytest.raises(
        DivergenceError, match=r"the loss became (inf|nan) in epoch \d, at batch \d"
    ):
        fit_line(model, optimizer, epochs=5)
    with pytest.raises(FloatingPointError, match="detect_anomaly"):
        fit_line(*linear(), loss=lambda output, target: (output * math.nan).sum())


def test_early_stopping_restores_after_an_error():
    class Fail(Callback):
        def on_epoch_end(self, run):
            if run.epoch == 3:
                raise KeyboardInterrupt

    model, optimizer = linear(lr=0.05)
    stopping = EarlyStopping("loss", patience=9)
    weights = []

    class Note(Callback):
        def on_epoch_end(self, run):
            weights.append(model.weight.item())

    with pytest.raises(KeyboardInterrupt):
        fit_line(model, optimizer, callbacks=[stopping, Note(), Fail()])
    assert model.weight.item() == weights[stopping.best_epoch - 1]


def test_early_stopping_stops_and_restores():
    model, optimizer = linear(lr=0.05)
    figures = iter([5.0, 3.0, 4.0, 3.5, 3.2, 1.0])
    weights = []

    class Note(Callback):
        def on_epoch_end(self, run):
            weights.append(model.weight.item())
            run.history["val_loss"] = [*run.history.get("val_loss", []), next(figures)]

    stopping = EarlyStopping(patience=3)
    history = fit_line(model, optimizer, epochs=6, callbacks=[Note(), stopping])
    assert history.epochs == 5 and stopping.best_epoch == 2 and stopping.best == 3.0
    assert model.weight.item() == weights[1] != weights[-1]


def test_early_stopping_needs_its_figure():
    model, optimizer = linear()
    with pytest.raises(ShapeError, match="no figure 'val_loss' among loss, lr; .*need"):
        fit_line(model, optimizer, callbacks=[EarlyStopping()])
    with pytest.raises(ShapeError, match="patience: expected at least 1, got 0"):
        EarlyStopping(patience=0)


def test_callbacks_see_every_moment():
    seen = []

    class Log(Callback):
        def on_train_begin(self, run):
            seen.append("begin")

        def on_epoch_begin(self, run):
            seen.append(f"epoch {run.epoch}")

        def on_batch_end(self, run):
            seen.append(run.step)
            run.stop = run.step == 6

        def on_epoch_end(self, run):
            seen.append(f"end {run.history.epochs}")

        def on_train_end(self, run):
            seen.append("done")

    fit_line(*linear(), callbacks=[Log()])
    wanted = ["begin", "epoch 1", 1, 2, 3, 4, "end 1", "epoch 2", 5, 6, "end 2", "done"]
    assert seen == wanted


def test_progress_bar(capsys):
    fit_line(*linear(), progress=True)
    shown = capsys.readouterr().err
    assert "epoch 3/3" in shown and "loss=" in shown and "12/12" in shown
    fit_line(*linear(), progress=False)
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("loader", "error", "message"),
    [
        ([], ShapeError, "the train loader gave no batch"),
        ([(nnlib.tensor([]), nnlib.tensor([]))], ShapeError, "the batch is empty"),
        ([3], DTypeError, r"expected batches of \(input, ..., target\) .* got int"),
        ([{"x": 1}], DTypeError, "got dict"),
        ([()], DTypeError, "got tuple"),
    ],
)
def test_bad_batches(loader, error, message):
    model, optimizer = linear()
    with pytest.raises(error, match=message):
        fit(model, loader, optimizer=optimizer, progress=False)
    with pytest.raises(error, match=message.replace("train ", "")):
        evaluate(model, loader)


def test_bad_scheduler_step():
    with pytest.raises(ShapeError, match="expected 'epoch' or 'batch', got 'day'"):
        fit_line(*linear(), scheduler_step="day")


def test_accuracy():
    scores = nnlib.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [5.0, 4.0, 9.0]])
    assert accuracy(scores, nnlib.tensor([0, 1, 0])).item() == pytest.approx(2 / 3)
    soft = nnlib.tensor([[0.9, 0.1, 0.0], [0.2, 0.3, 0.5], [0.0, 0.0, 1.0]])
    assert accuracy(scores, soft).item() == pytest.approx(2 / 3)
    spatial = nnlib.tensor(np.random.default_rng(0).normal(size=(2, 3, 4, 5)))
    target = nnlib.tensor(spatial.numpy().argmax(1))
    assert accuracy(spatial, target).item() == 1.0
    with pytest.raises(ShapeError, match=r"target: expected shape \(3,\), got \(2,\)"):
        accuracy(scores, nnlib.tensor([0, 1]))
    with pytest.raises(ShapeError, match=r"at least one sample, got shape \(0, 3\)"):
        accuracy(scores[:0], nnlib.tensor([0])[:0])


def test_binary_accuracy():
    logits = nnlib.tensor([-1.0, 2.0, 0.5, -3.0])
    assert binary_accuracy(logits, nnlib.tensor([0, 1, 0, 0])).item() == 0.75
    assert binary_accuracy(logits, nnlib.tensor([-1, 1, 1, 1])).item() == 0.75
    with pytest.raises(ShapeError, match="one shape"):
        binary_accuracy(logits, nnlib.tensor([1]))


def test_running_means():
    means = RunningMeans()
    with pytest.raises(ShapeError, match="at least one sample"):
        means.read()
    means.add({"a": nnlib.tensor(1.0), "b": 10}, 3)
    means.add({"a": nnlib.tensor(5.0), "b": 20.0}, 1)
    assert means.read() == {"a": 2.0, "b": 12.5} and means.samples == 4


def test_history(tmp_path):
    history = History()
    assert history.epochs == 0
    for loss, hits in [(3.0, 0.1), (1.0, 0.5), (2.0, 0.4)]:
        history.append(loss=loss, accuracy=hits)
    assert history.epochs == 3 and history.last("loss") == 2.0
    assert history.best("loss") == (2, 1.0) and history.best("accuracy") == (2, 0.5)
    history.save(tmp_path / "history.json")
    assert History.load(tmp_path / "history.json") == history
    with pytest.raises(ShapeError, match="no figure 'f1'; it holds accuracy, loss"):
        history.best("f1")
    assert is_better("loss", 1.0, math.nan) and not is_better("loss", math.nan, 1.0)
    assert not is_better("loss", 0.95, 1.0, min_delta=0.1)


def test_mlp():
    model = MLP([6, 5, 4, 3], activation=nn.Tanh, dropout=0.5)
    kinds = [type(layer).__name__ for layer in model]
    assert kinds == [
        "Flatten", "Linear", "Tanh", "Dropout", "Linear", "Tanh", "Dropout", "Linear",
    ]  # fmt: skip
    assert tuple(model(nnlib.zeros(7, 2, 3)).shape) == (7, 3)
    for sizes in ([4], [3, 0]):
        with pytest.raises(ShapeError, match="MLP: sizes: expected positive sizes"):
            MLP(sizes)


@pytest.mark.cuda
def test_training_on_cuda_follows_the_cpu():
    runs = []
    for device in ("cpu", "cuda"):
        nnlib.manual_seed(3)
        train, validation, _ = digits()  # on the CPU: batches follow the model
        model = MLP([64, 32, 10])
        runs.append(
            fit(
                model,
                DataLoader(train, 64, shuffle=True),
                optimizer=SGD(model.parameters(), lr=0.1, momentum=0.9),
                epochs=3,
                validation=DataLoader(validation, 64),
                device=device,
                progress=False,
            )
        )
        assert all(p.device.type == device for p in model.parameters())
    assert runs[0]["loss"] == pytest.approx(runs[1]["loss"], rel=1e-3)
    assert runs[0]["val_accuracy"] == pytest.approx(runs[1]["val_accuracy"], abs=0.02)


@pytest.mark.cuda
def test_divergence_on_cuda():
    model, optimizer = linear(lr=1e20)
    with pytest.raises(DivergenceError, match="at or before batch"):
        fit_line(model, optimizer, epochs=5, device="cuda")


@pytest.fixture
def pictures():
    pytest.importorskip("matplotlib", reason="pictures need matplotlib")
    from nnlib import viz

    return viz


def test_plot_history(pictures, tmp_path):
    history = History(loss=[2.0, 1.0], val_loss=[2.5, 1.5], accuracy=[0.1, 0.2], lr=[1])
    path = tmp_path / "new" / "curves.png"
    figure = pictures.plot_history(history, path, title="run")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "accuracy"]
    assert [len(axes.lines) for axes in figure.axes] == [2, 1]
    np.testing.assert_array_equal(figure.axes[0].lines[1].get_ydata(), [2.5, 1.5])
    with pytest.raises(ShapeError, match="holds no epoch"):
        pictures.plot_history({})
    assert "matplotlib.pyplot" not in sys.modules


def test_decision_regions(pictures, tmp_path):
    points = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    path = tmp_path / "regions.svg"
    for labels, columns in [([-1, -1, 1, 1], 1), ([0, 1, 2, 1], 3)]:
        nnlib.manual_seed(0)
        model = nn.Linear(2, columns)
        figure = pictures.plot_decision_regions(
            model, points, labels, path, resolution=11, title="x"
        )
        assert b"<svg" in path.read_bytes()
        assert len(figure.axes) == 1
    with pytest.raises(ShapeError, match=r"got \(4, 2\) and \(3,\)"):
        pictures.plot_decision_regions(model, points, [0, 1, 0])


def test_show_images(pictures, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (5, 3, 4, 4))
    path = tmp_path / "images.png"
    figure = pictures.show_images(pixels, list("abcde"), path, columns=3, title="t")
    assert path.exists() and len(figure.axes) == 5
    pictures.show_images(nnlib.zeros(2, 1, 4, 4))
    with pytest.raises(ShapeError, match=r"got \(5, 4\)"):
        pictures.show_images(np.zeros((5, 4)))
    with pytest.raises(ShapeError, match="labels: expected 5, got 1"):
        pictures.show_images(pixels, ["a"])


def test_pictures_without_matplotlib(monkeypatch):
    from nnlib import viz

    for name in ("matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(viz.VizError, match=r'pip install "nnlib-dl\[viz\]"'):
        viz.plot_history(History(loss=[1.0]))
    assert issubclass(viz.VizError, ImportError)
