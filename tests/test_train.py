"""fit, evaluate, predict, callbacks."""

from __future__ import annotations

import math

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
    evaluate,
    fit,
    predict,
)


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
    model, optimizer = linear(lr=1e-4)
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


def test_weights_are_kept_when_a_loss_is_no_number():
    model, optimizer = linear()
    before = [parameter.tolist() for parameter in model.parameters()]
    with pytest.raises(DivergenceError, match="became nan in epoch 1, at batch 1 "):
        fit_line(
            model, optimizer, loss=lambda output, target: (output * math.nan).sum()
        )
    assert [parameter.tolist() for parameter in model.parameters()] == before


def test_what_is_no_loader_and_no_optimizer():
    model, optimizer = linear()
    data = TensorDataset(nnlib.ones(4, 1), nnlib.ones(4, 1))
    for run in (
        lambda: fit(model, data, optimizer=optimizer),
        lambda: evaluate(model, data),
        lambda: fit(model, DataLoader(data), optimizer=optimizer, validation=data),
    ):
        with pytest.raises(DTypeError, match=r"expected batches, got a TensorDataset"):
            run()
    with pytest.raises(DTypeError, match="fit: optimizer: expected an Optimizer, got"):
        fit(model, DataLoader(data), optimizer=nnlib.optim.SGD)
    with pytest.raises(DTypeError, match="fit: loss: expected a Tensor, got float"):
        fit_line(model, optimizer, loss=lambda output, target: 3.0)
    with pytest.raises(
        ShapeError, match=r"fit: loss: expected one number, .* \(\d+, 1"
    ):
        fit_line(model, optimizer, loss=lambda output, target: output - target)


@pytest.mark.parametrize("moment", ["on_train_begin", "on_train_end"])
def test_modes_are_put_back_after_a_failing_callback(moment):
    def fail(run):
        raise KeyError(moment)

    model, optimizer = linear()
    model.eval()
    callback = Callback()
    setattr(callback, moment, fail)
    with pytest.raises(KeyError, match=moment):
        fit_line(model, optimizer, callbacks=[callback])
    assert not model.training


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
    model, optimizer = linear()
    plateau = ReduceLROnPlateau(optimizer)
    with pytest.raises(ShapeError, match="ReduceLROnPlateau goes by"):
        fit_line(model, optimizer, scheduler=plateau, scheduler_step="batch")


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
