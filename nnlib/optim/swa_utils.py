"""Averages of weights over training: equal ones (SWA) and exponential ones (EMA).

P. Izmailov, D. Podoprikhin, T. Garipov, D. Vetrov, A. G. Wilson: Averaging weights
leads to wider optima and better generalization, UAI 2018. B. Polyak, A. Juditsky:
Acceleration of stochastic approximation by averaging, SIAM J. Control and
Optimization 30 (1992).
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any

from nnlib.autograd.construct import tensor
from nnlib.autograd.mode import no_grad
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import Device
from nnlib.backend.errors import ArgumentError, ShapeError
from nnlib.nn.module import Module
from nnlib.nn.normalization import _BatchNorm
from nnlib.optim.lr_scheduler.base import LRScheduler, per_group
from nnlib.optim.optimizer import Optimizer

__all__ = [
    "SWALR",
    "AveragedModel",
    "get_ema_avg_fn",
    "get_ema_multi_avg_fn",
    "get_swa_avg_fn",
    "get_swa_multi_avg_fn",
    "update_bn",
]

Average = Callable[[Tensor, Tensor, int], Tensor]
MultiAverage = Callable[[list[Tensor], list[Tensor], int], None]


def _check_decay(name: str, decay: float) -> None:
    if not 0 <= decay <= 1:
        raise ArgumentError(f"{name}: decay: expected 0 to 1, got {decay!r}")


def _move(averages: list[Tensor], current: list[Tensor], weight: float) -> None:
    """Move each average towards its current value by a part of the distance."""
    with no_grad():
        for average, value in zip(averages, current, strict=True):
            if average.is_floating_point():
                average.lerp_(value, weight)
            else:
                average.copy_(average * (1 - weight) + value * weight)


def get_ema_multi_avg_fn(decay: float = 0.999) -> MultiAverage:
    """Return the rule ``average = decay * average + (1 - decay) * current``.

    It updates lists of tensors in place, for ``AveragedModel(multi_avg_fn=...)``.

    Parameters
    ----------
    decay : float, from 0 to 1, default 0.999
        The average looks back about ``1 / (1 - decay)`` updates.
    """
    _check_decay("get_ema_multi_avg_fn", decay)

    def ema_update(
        averages: list[Tensor], current: list[Tensor], num_averaged: int
    ) -> None:
        _move(averages, current, 1 - decay)

    return ema_update


def get_swa_multi_avg_fn() -> MultiAverage:
    """Return the rule of the equally weighted average, on lists of tensors."""

    def swa_update(
        averages: list[Tensor], current: list[Tensor], num_averaged: int
    ) -> None:
        _move(averages, current, 1 / (num_averaged + 1))

    return swa_update


def get_ema_avg_fn(decay: float = 0.999) -> Average:
    """Return the rule of `get_ema_multi_avg_fn` for one tensor: the new average."""
    _check_decay("get_ema_avg_fn", decay)

    def ema_update(average: Tensor, current: Tensor, num_averaged: int) -> Tensor:
        return decay * average + (1 - decay) * current

    return ema_update


def get_swa_avg_fn() -> Average:
    """Return the rule of the equally weighted average for one tensor."""

    def swa_update(average: Tensor, current: Tensor, num_averaged: int) -> Tensor:
        return average + (current - average) / (num_averaged + 1)

    return swa_update


class AveragedModel(Module):
    """A copy of a model whose weights are the average of the model's weights.

    Call `update_parameters` after an optimiser's step (EMA) or an epoch (SWA); evaluate
    this model. The first update copies, later ones average.

    Parameters
    ----------
    model : Module
        It is copied.
    device : device, optional
        Where the copy is kept.
    avg_fn : callable, optional
        ``avg_fn(average, current, num_averaged)`` returns the new average of a
        parameter. The equally weighted average by default.
    multi_avg_fn : callable, optional
        ``multi_avg_fn(averages, currents, num_averaged)`` updates a list of parameters
        of one dtype and device in place.
    use_buffers : bool, default False
        Average the buffers, too (batch normalisation's running statistics). Otherwise
        they are copies of the model's; see `update_bn`. Integer buffers (counts) are
        rounded towards zero.

    Attributes
    ----------
    module : Module
        The average.
    n_averaged : Tensor, shape (), int64
        The number of updates. The averaging rule is no part of the state dict.

    Raises
    ------
    ArgumentError
        If both `avg_fn` and `multi_avg_fn` are given.

    Examples
    --------
    >>> import nnlib
    >>> model = nnlib.nn.Linear(1, 1, bias=False)
    >>> average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.75))
    >>> for value in (0.0, 4.0):
    ...     _ = model.weight.data.fill_(value)
    ...     average.update_parameters(model)
    >>> average.module.weight.item()
    1.0
    """

    n_averaged: Tensor

    def __init__(
        self,
        model: Module,
        device: str | Device | None = None,
        avg_fn: Average | None = None,
        multi_avg_fn: MultiAverage | None = None,
        use_buffers: bool = False,
    ) -> None:
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise ArgumentError(
                "AveragedModel: avg_fn, multi_avg_fn: expected one of them at most, "
                "got both"
            )
        self.module = copy.deepcopy(model)
        if device is not None:
            self.module.to(device)
        self.register_buffer("n_averaged", tensor(0, dtype="int64", device=device))
        self.avg_fn = avg_fn
        self.multi_avg_fn = multi_avg_fn
        self.use_buffers = use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the averaged module returns."""
        return self.module(*args, **kwargs)

    def _pairs(self, model: Module) -> tuple[list[Tensor], list[Tensor], int]:
        """Return tensors here and there, parameters first, and how many are averaged.

        Raises ShapeError, before anything has changed, unless they fit.
        """
        mine: dict[str, Tensor] = dict(self.module.named_parameters())
        theirs: dict[str, Tensor] = dict(model.named_parameters())
        count = len(mine)
        mine.update(self.module.named_buffers())
        theirs.update(model.named_buffers())
        shapes = {name: tuple(value.shape) for name, value in mine.items()}
        given = {name: tuple(value.shape) for name, value in theirs.items()}
        if shapes != given:
            wrong = sorted(
                name
                for name in shapes.keys() | given.keys()
                if shapes.get(name) != given.get(name)
            )
            raise ShapeError(
                "AveragedModel.update_parameters: model: expected the parameters and "
                f"buffers of the averaged model, got others at {wrong}"
            )
        averages = [value.detach() for value in mine.values()]
        current = [
            theirs[name].detach().to(value.device) for name, value in mine.items()
        ]
        return averages, current, len(mine) if self.use_buffers else count

    def update_parameters(self, model: Module) -> None:
        """Take the present parameters of `model` into the average.

        Raises
        ------
        ShapeError
            If names or shapes differ from those of the model that was copied.
        """
        averages, current, count = self._pairs(model)
        done = int(self.n_averaged.item())
        with no_grad():
            copied = 0 if done == 0 else count
            for average, value in itertools.islice(
                zip(averages, current, strict=True), copied, None
            ):
                average.copy_(value)
            if done:
                self._average(averages[:count], current[:count], done)
            self.n_averaged.add_(1)

    def _average(self, averages: list[Tensor], current: list[Tensor], n: int) -> None:
        if self.avg_fn is not None:
            for average, value in zip(averages, current, strict=True):
                average.copy_(self.avg_fn(average, value, n))
            return
        rule = self.multi_avg_fn or get_swa_multi_avg_fn()
        groups: dict[Any, tuple[list[Tensor], list[Tensor]]] = {}
        for average, value in zip(averages, current, strict=True):
            key = str(average.device), average.dtype
            mine, theirs = groups.setdefault(key, ([], []))
            mine.append(average)
            theirs.append(value)
        for mine, theirs in groups.values():
            rule(mine, theirs, n)


def update_bn(
    loader: Iterable[Any], model: Module, device: str | Device | None = None
) -> None:
    """Set the running statistics of batch normalisation from one pass over data.

    The weights of an average have seen no batch of their own. All batches weigh the
    same; momenta and the training mode are as before at the end.

    Parameters
    ----------
    loader : iterable
        Gives batches: the model's input, or a tuple or list that begins with it.
    model : Module
        Without a batch normalisation that keeps statistics nothing is done.
    device : device, optional
        Where batches are moved to.

    Raises
    ------
    Error
        If the loader gives no batch.
    """
    layers = [
        module
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats
    ]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    modes = [(module, module.training) for module in model.modules()]
    empty = True
    try:
        model.train()
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None
        with no_grad():
            for batch in loader:
                empty = False
                given = batch[0] if isinstance(batch, list | tuple) else batch
                model(given if device is None else given.to(device))
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for module, mode in modes:
            module.training = mode
    if empty:
        raise ArgumentError("update_bn: loader: expected at least one batch, got none")


class SWALR(LRScheduler):
    """Go to a fixed rate, in `anneal_epochs` steps, and stay there.

    ``lr_t = (1 - a) lr_0 + a swa_lr`` with ``a = (1 - cos(pi t / anneal_epochs)) / 2``
    or ``a = t / anneal_epochs``, written as a recursion so that a rate changed by hand
    is kept.

    Parameters
    ----------
    optimizer : Optimizer
    swa_lr : float, or list with one for each group
    anneal_epochs : int, default 10
        0 is there at once.
    anneal_strategy : {"cos", "linear"}
    last_epoch : int, default -1

    Raises
    ------
    ArgumentError
        If `anneal_strategy` or `anneal_epochs` is none of these.

    Examples
    --------
    >>> import nnlib
    >>> optimizer = nnlib.optim.SGD([nnlib.zeros(1, requires_grad=True)], lr=0.5)
    >>> schedule = SWALR(optimizer, 0.1, anneal_epochs=2, anneal_strategy="linear")
    >>> for _ in range(3):
    ...     schedule.step()
    ...     print(round(schedule.get_last_lr()[0], 4))
    0.3
    0.1
    0.1
    """

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: float | list[float],
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:
        if anneal_strategy not in ("cos", "linear"):
            raise ArgumentError(
                "SWALR: anneal_strategy: expected 'cos' or 'linear', got "
                f"{anneal_strategy!r}"
            )
        whole = isinstance(anneal_epochs, int) and not isinstance(anneal_epochs, bool)
        if not whole or anneal_epochs < 0:
            raise ArgumentError(
                "SWALR: anneal_epochs: expected an integer of at least 0, got "
                f"{anneal_epochs!r}"
            )
        rates = per_group("SWALR", "swa_lr", optimizer, swa_lr)
        for rate, group in zip(rates, optimizer.param_groups, strict=True):
            group["swa_lr"] = rate
        self.anneal_epochs = anneal_epochs
        self.anneal_strategy = anneal_strategy
        super().__init__(optimizer, last_epoch)

    def _part(self, step: int) -> float:
        """Return how far the rate has gone at a step, from 0 to 1."""
        part = max(0.0, min(1.0, step / max(1, self.anneal_epochs)))
        if self.anneal_strategy == "linear":
            return part
        return (1 - math.cos(math.pi * part)) / 2

    def _start(self, index: int, lr: float) -> float:
        goal: float = self.optimizer.param_groups[index]["swa_lr"]
        return goal if self.anneal_epochs == 0 else lr

    def _next(self, index: int, lr: float) -> float:
        goal: float = self.optimizer.param_groups[index]["swa_lr"]
        before, now = self._part(self.last_epoch - 1), self._part(self.last_epoch)
        start = goal if before == 1 else (lr - before * goal) / (1 - before)
        return goal * now + start * (1 - now)
