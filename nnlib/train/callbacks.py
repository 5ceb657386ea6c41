"""What can be hooked into `fit`: early stopping, and callbacks of your own."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ShapeError
from nnlib.nn import Module
from nnlib.optim import Optimizer
from nnlib.train.history import History, is_better

__all__ = ["Callback", "EarlyStopping", "Run"]


@dataclass
class Run:
    """A training run as callbacks see it.

    Attributes
    ----------
    model, optimizer
        What is trained, and by what.
    epochs : int
        How many epochs were asked for.
    epoch : int
        The current one, from 1 (0 before the first).
    step : int
        Optimiser steps done, over all epochs.
    history : History
        The figures of the finished epochs.
    stop : bool
        Set it to True to end the training after the current batch.
    """

    model: Module
    optimizer: Optimizer
    epochs: int
    epoch: int = 0
    step: int = 0
    history: History = field(default_factory=History)
    stop: bool = False


class Callback:
    """Called by `fit` at certain moments; override the methods you need.

    Examples
    --------
    >>> class StopAt(Callback):
    ...     def on_epoch_end(self, run):
    ...         run.stop = run.history.last("accuracy") > 0.99
    """

    def on_train_begin(self, run: Run) -> None:
        """Act once, before the first epoch."""

    def on_epoch_begin(self, run: Run) -> None:
        """Act before each epoch."""

    def on_batch_end(self, run: Run) -> None:
        """Act after each optimiser step."""

    def on_epoch_end(self, run: Run) -> None:
        """Act after each epoch, its figures being the last of `run.history`."""

    def on_train_end(self, run: Run) -> None:
        """Act once at the end, also when an error or Ctrl-C ends the training."""


class EarlyStopping(Callback):
    """Stop when a figure no longer improves, and bring back the best weights.

    Parameters
    ----------
    monitor : str, default "val_loss"
        The name in `History`; names that end in ``loss`` or ``error`` should fall, all
        others rise.
    patience : int, default 5
        After how many epochs without improvement to stop.
    min_delta : float, default 0.0
        By how much the figure must improve to count.
    restore_best : bool, default True
        At the end of training load the weights and buffers of the best epoch, also
        when training ran to its last epoch.

    Attributes
    ----------
    best_epoch : int
        The epoch (from 1) of the best figure; 0 before the first.
    best : float
        The best figure.

    Raises
    ------
    ShapeError
        At the first epoch's end, if there is no such figure.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 5,
        min_delta: float = 0.0,
        restore_best: bool = True,
    ) -> None:
        if patience < 1:
            raise ShapeError(
                f"EarlyStopping: patience: expected at least 1, got {patience}"
            )
        self.monitor = monitor
        self.patience = patience
        self.min_delta = min_delta
        self.restore_best = restore_best
        self.best_epoch = 0
        self.best = math.nan
        self._weights: dict[str, Tensor] = {}

    def on_train_begin(self, run: Run) -> None:
        """Forget an earlier run."""
        self.best_epoch, self.best, self._weights = 0, math.nan, {}

    def on_epoch_end(self, run: Run) -> None:
        """Note the figure; keep the weights if it is the best, stop if it is stale."""
        if self.monitor not in run.history:
            raise ShapeError(
                f"EarlyStopping: monitor: no figure {self.monitor!r} among "
                f"{', '.join(run.history)}; figures val_... need validation data"
            )
        value = run.history.last(self.monitor)
        if is_better(self.monitor, value, self.best, self.min_delta):
            self.best, self.best_epoch = value, run.epoch
            if self.restore_best:
                self._weights = {
                    name: tensor.detach().clone()
                    for name, tensor in run.model.state_dict().items()
                }
        elif run.epoch - self.best_epoch >= self.patience:
            run.stop = True

    def on_train_end(self, run: Run) -> None:
        """Load the best weights."""
        if self._weights:
            run.model.load_state_dict(self._weights)
            self._weights = {}
