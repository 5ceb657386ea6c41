"""`fit`: the training loop that most models need, and `evaluate`."""

from __future__ import annotations

import math
import operator
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from nnlib.autograd.mode import no_grad
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import Device, resolve_device
from nnlib.backend.errors import DTypeError, ShapeError
from nnlib.data.dataset import Dataset, IterableDataset
from nnlib.nn import Module
from nnlib.nn.functional import cross_entropy
from nnlib.nn.utils import clip_grad_norm_
from nnlib.optim import LBFGS, Optimizer
from nnlib.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from nnlib.train.callbacks import Callback, Run
from nnlib.train.history import DivergenceError, History
from nnlib.train.metrics import Metric, RunningMeans, accuracy

__all__ = ["evaluate", "fit", "predict"]

Loss = Callable[[Tensor, Tensor], Tensor]

# How often, in seconds, the bar's figures are read from a GPU: each reading waits
# for it.
_READ_EVERY = 0.5


def fit(
    model: Module,
    train_loader: Iterable[Any],
    *,
    optimizer: Optimizer,
    loss: Loss = cross_entropy,
    epochs: int = 10,
    validation: Iterable[Any] | None = None,
    metrics: Mapping[str, Metric] | None = None,
    callbacks: Sequence[Callback] = (),
    scheduler: LRScheduler | ReduceLROnPlateau | None = None,
    scheduler_step: str = "epoch",
    clip_norm: float | None = None,
    device: str | Device | None = None,
    progress: bool = True,
) -> History:
    """Train a model.

    Each batch is ``(input, ..., target)``; a batch of a single tensor is its own
    target, as autoencoders need it.

    Parameters
    ----------
    model : Module
        What to train. Its train/eval modes are put back at the end.
    train_loader : iterable of batches
        Iterated once per epoch; a `DataLoader`, usually.
    optimizer : Optimizer
        Over the model's parameters.
    loss : callable, default cross_entropy
        ``loss(output, target)``, a mean over the batch.
    epochs : int, default 10
        Passes over the training data.
    validation : iterable of batches, optional
        Evaluated after each epoch, in eval mode.
    metrics : mapping of str to callable, optional
        Further figures ``metric(output, target)``, each a mean over the batch. By
        default the accuracy, where targets are classes; pass ``{}`` for none.
    callbacks : sequence of Callback
        For instance `EarlyStopping`.
    scheduler : LRScheduler, optional
        Of the learning rate.
    scheduler_step : {"epoch", "batch"}
        When the scheduler steps.
    clip_norm : float, optional
        The largest norm of all gradients together.
    device : str or Device, optional
        Where to train: the model is moved there first. By default where its parameters
        are. Batches are moved there.
    progress : bool, default True
        Show a bar on the standard error stream.

    Returns
    -------
    History
        ``loss``, the metrics and ``lr`` per epoch, and with validation data
        ``val_loss`` and ``val_``... of the metrics. Training figures are means over
        the epoch while the weights change, and with dropout on.

    Raises
    ------
    DivergenceError
        If the loss becomes infinite or NaN. On the CPU it is raised at that batch, and
        the weights are those before it; on CUDA at the next reading of the loss (twice
        a second and at each epoch's end).
    DTypeError
        If a loader is a data set, whose samples are no batches, or the optimizer none,
        or the loss no Tensor.
    ShapeError
        If a loader gives no batch, a batch is empty, or the loss is not one number.

    Examples
    --------
    >>> import nnlib
    >>> from nnlib import nn
    >>> x = nnlib.arange(8.0).reshape(8, 1) / 8
    >>> loader = nnlib.data.DataLoader(nnlib.data.TensorDataset(x, 3 * x), 4)
    >>> model = nn.Linear(1, 1)
    >>> optimizer = nnlib.optim.SGD(model.parameters(), lr=0.5)
    >>> history = fit(model, loader, optimizer=optimizer, epochs=50, progress=False,
    ...               loss=nn.functional.mse_loss)
    >>> history["loss"][-1] < 1e-3
    True
    """
    if scheduler_step not in ("epoch", "batch"):
        raise ShapeError(
            f"fit: scheduler_step: expected 'epoch' or 'batch', got {scheduler_step!r}"
        )
    if scheduler_step == "batch" and isinstance(scheduler, ReduceLROnPlateau):
        raise ShapeError(
            "fit: scheduler_step: ReduceLROnPlateau goes by the figures of an epoch; "
            "expected 'epoch', got 'batch'"
        )
    _check_loader("fit: train_loader", train_loader)
    _check_loader("fit: validation", validation)
    if not isinstance(optimizer, Optimizer):
        raise DTypeError(f"fit: optimizer: expected an Optimizer, got {optimizer!r}")
    if device is not None:
        model.to(resolve_device(device))
    run = Run(model, optimizer, epochs)
    trainer = _Trainer(run, loss, metrics, clip_norm, callbacks)
    if scheduler_step == "batch":
        trainer.scheduler = scheduler
    modes = _modes(model)
    model.train()
    begun: list[Callback] = []
    try:
        for callback in callbacks:
            callback.on_train_begin(run)
            begun.append(callback)
        with _bar(train_loader, epochs, progress) as bar:
            while run.epoch < epochs and not run.stop:
                run.epoch += 1
                figures = trainer.epoch(train_loader, bar)
                figures["lr"] = float(optimizer.param_groups[0]["lr"])
                if validation is not None:
                    held_out = evaluate(model, validation, loss=loss, metrics=metrics)
                    figures |= {f"val_{key}": held_out[key] for key in held_out}
                run.history.append(**figures)
                bar.show(run, figures)
                if scheduler is not None and scheduler_step == "epoch":
                    _step(scheduler, figures)
                for callback in callbacks:
                    callback.on_epoch_end(run)
    finally:
        try:
            for callback in begun:
                callback.on_train_end(run)
        finally:
            _restore_modes(modes)
    return run.history


def evaluate(
    model: Module,
    loader: Iterable[Any],
    *,
    loss: Loss | None = cross_entropy,
    metrics: Mapping[str, Metric] | None = None,
) -> dict[str, float]:
    """Return the mean loss and metrics of a model over a loader, in eval mode.

    The means are over samples (a last, smaller batch counts for less). Nothing is
    recorded for backward; the model's train/eval modes are put back. See `fit` for
    the arguments.

    Returns
    -------
    dict
        ``loss`` (unless `loss` is None) and each metric.

    Raises
    ------
    ShapeError
        If the loader gives no batch, or a batch is empty.
    """
    _check_loader("evaluate: loader", loader)
    means = RunningMeans()
    modes = _modes(model)
    model.eval()
    try:
        with no_grad():
            place = _device_of(model)
            for batch in loader:
                inputs, target = _split_batch(batch, place, "evaluate")
                output = model(*inputs)
                figures = _figures(metrics, output, target)
                if loss is not None:
                    figures = {"loss": loss(output, target), **figures}
                means.add(figures, len(inputs[0]))
    finally:
        _restore_modes(modes)
    if not means.samples:
        raise ShapeError("evaluate: the loader gave no batch")
    return means.read()


def predict(model: Module, inputs: Tensor, batch_size: int = 256) -> Tensor:
    """Return a model's outputs for many inputs, computed batch by batch in eval mode.

    Parameters
    ----------
    model : Module
        Takes and returns one tensor whose first dimension is the samples.
    inputs : Tensor
        Shape ``(N, ...)``.
    batch_size : int, default 256
        Samples at a time.

    Raises
    ------
    ShapeError
        If there is no input.
    """
    if inputs.ndim == 0 or len(inputs) == 0:
        raise ShapeError(
            f"predict: inputs: expected at least one sample, got shape "
            f"{tuple(inputs.shape)}"
        )
    from nnlib.ops import cat

    modes = _modes(model)
    model.eval()
    try:
        with no_grad():
            source = inputs.to(_device_of(model) or inputs.device)
            parts = [
                model(source[start : start + batch_size])
                for start in range(0, len(source), batch_size)
            ]
    finally:
        _restore_modes(modes)
    return cat(parts, 0)


def _check_loss(value: Any) -> None:
    if not isinstance(value, Tensor):
        raise DTypeError(f"fit: loss: expected a Tensor, got {type(value).__name__}")
    if value.ndim:
        shape = tuple(value.shape)
        raise ShapeError(f"fit: loss: expected one number, got shape {shape}")


def _check_loader(where: str, loader: Any) -> None:
    if isinstance(loader, Dataset) and not isinstance(loader, IterableDataset):
        raise DTypeError(
            f"{where}: expected batches, got a {type(loader).__name__}; put it into a "
            "DataLoader"
        )


class _Trainer:
    """One epoch of `fit` at a time."""

    def __init__(
        self,
        run: Run,
        loss: Loss,
        metrics: Mapping[str, Metric] | None,
        clip_norm: float | None,
        callbacks: Sequence[Callback],
    ) -> None:
        self.run = run
        self.loss = loss
        self.metrics = metrics
        self.clip_norm = clip_norm
        self.callbacks = callbacks
        self.first_step = 0
        self.scheduler: LRScheduler | ReduceLROnPlateau | None = None
        self.place = _device_of(run.model)
        self.waits = self.place is not None and self.place.type != "cpu"

    def epoch(self, loader: Iterable[Any], bar: _Bar) -> dict[str, float]:
        run, means = self.run, RunningMeans()
        for callback in self.callbacks:
            callback.on_epoch_begin(run)
        self.first_step, last_read = run.step, time.perf_counter()
        for batch in loader:
            self.batch(batch, means)
            run.step += 1
            now = time.perf_counter()
            if not self.waits or now - last_read > _READ_EVERY:
                figures = means.read()
                self.check(figures, run.step)
                if now - last_read > _READ_EVERY:
                    bar.show(run, figures)
                    last_read = now
            bar.advance()
            for callback in self.callbacks:
                callback.on_batch_end(run)
            if run.stop:
                break
        if not means.samples:
            raise ShapeError("fit: the train loader gave no batch")
        figures = means.read()
        self.check(figures, run.step)
        return figures

    def batch(self, batch: Any, means: RunningMeans) -> None:
        inputs, target = _split_batch(batch, self.place, "fit")
        optimizer = self.run.optimizer
        seen: list[Any] = []

        def closure() -> Tensor:
            optimizer.zero_grad()
            output = self.run.model(*inputs)
            value = self.loss(output, target)
            _check_loss(value)
            if not self.waits and not seen:
                # Before a step, so that the weights stay as they are.
                self.check({"loss": value.item()}, self.run.step + 1)
            value.backward()
            if self.clip_norm is not None:
                clip_grad_norm_(self.run.model.parameters(), self.clip_norm)
            seen.append((output, value))
            return value

        if isinstance(optimizer, LBFGS):
            # It measures the loss several times a step; the first counts.
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()
        output, value = seen[0]
        if self.scheduler is not None:
            _step(self.scheduler, {})
        with no_grad():
            figures = _figures(self.metrics, output, target)
        means.add({"loss": value.detach(), **figures}, len(inputs[0]))

    def check(self, figures: Mapping[str, float], step: int) -> None:
        if math.isfinite(figures["loss"]):
            return
        run = self.run
        batch = step - self.first_step
        where = f"at or before batch {batch}" if self.waits else f"at batch {batch}"
        raise DivergenceError(
            f"fit: the loss became {figures['loss']} in epoch {run.epoch}, {where} "
            f"(learning rate {run.optimizer.param_groups[0]['lr']:g}). Try a lower "
            f"learning rate or clip_norm; nnlib.autograd.detect_anomaly names the "
            f"operation that made the first NaN or infinity"
        )


class _Bar:
    """The progress bar over all epochs, or nothing."""

    def __init__(self, bar: Any) -> None:
        self.bar = bar

    def advance(self) -> None:
        if self.bar is not None:
            self.bar.update()

    def show(self, run: Run, figures: Mapping[str, float]) -> None:
        if self.bar is None:
            return
        self.bar.set_description_str(f"epoch {run.epoch}/{run.epochs}", refresh=False)
        shown = {key: f"{figures[key]:.4g}" for key in figures if key != "lr"}
        self.bar.set_postfix(shown)


@contextmanager
def _bar(loader: Iterable[Any], epochs: int, progress: bool) -> Iterator[_Bar]:
    if not progress:
        yield _Bar(None)
        return
    from tqdm import tqdm  # here: it takes a tenth of nnlib's own import time

    # A stream has no length.
    total = epochs * operator.length_hint(loader) or None
    with tqdm(total=total, unit="batch", dynamic_ncols=True) as bar:
        yield _Bar(bar)
        if bar.n != total:  # stopped early: the bar ends where the training did
            bar.total = bar.n


def _figures(
    metrics: Mapping[str, Metric] | None, output: Any, target: Tensor
) -> dict[str, Any]:
    if metrics is None:
        classes = (
            isinstance(output, Tensor)
            and target.dtype.kind in "iu"
            and target.ndim == output.ndim - 1
        )
        metrics = {"accuracy": accuracy} if classes else {}
    return {name: metric(output, target) for name, metric in metrics.items()}


def _split_batch(
    batch: Any, place: Device | None, op: str
) -> tuple[tuple[Tensor, ...], Tensor]:
    parts = (batch,) if isinstance(batch, Tensor) else batch
    if (
        not isinstance(parts, tuple | list)
        or not parts
        or not all(isinstance(part, Tensor) for part in parts)
    ):
        raise DTypeError(
            f"{op}: expected batches of (input, ..., target) tensors, got "
            f"{type(batch).__name__}"
        )
    if parts[0].ndim == 0 or len(parts[0]) == 0:
        raise ShapeError(
            f"{op}: the batch is empty: its input has shape {tuple(parts[0].shape)}"
        )
    if place is not None:
        parts = [part.to(place, non_blocking=True) for part in parts]
    return tuple(parts[:-1]) or (parts[0],), parts[-1]


def _step(
    scheduler: LRScheduler | ReduceLROnPlateau, figures: Mapping[str, float]
) -> None:
    if isinstance(scheduler, ReduceLROnPlateau):
        scheduler.step(figures.get("val_loss", figures.get("loss", math.nan)))
    else:
        scheduler.step()


def _device_of(model: Module) -> Device | None:
    for parameter in model.parameters():
        return parameter.device
    return None


def _modes(model: Module) -> list[tuple[Module, bool]]:
    return [(module, module.training) for module in model.modules()]


def _restore_modes(modes: list[tuple[Module, bool]]) -> None:
    for module, training in modes:
        # One that was frozen meanwhile stays in evaluation.
        module.training = training and not module.held_in_eval
