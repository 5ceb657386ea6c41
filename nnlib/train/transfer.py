"""Transfer: start from what another task has taught, and teach the rest.

Freezing, learning rates by depth, gradual unfreezing (J. Howard and S. Ruder:
Universal language model fine-tuning for text classification, 2018), and features
computed once.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from typing import Any

from nnlib.autograd.mode import no_grad
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ArgumentError, ShapeError
from nnlib.data import TensorDataset
from nnlib.nn import Module
from nnlib.ops import cat
from nnlib.train.callbacks import Callback, Run
from nnlib.train.fit import _modes, _restore_modes

__all__ = [
    "GradualUnfreezing",
    "extract_features",
    "freeze",
    "layer_groups",
    "unfreeze",
]


def freeze(model: Module, *what: str | Module) -> list[str]:
    """Stop the training of some parameters, and of the statistics that go with them.

    Modules with running statistics (batch normalisation) whose parameters are all
    frozen, or which have none and are named, stay in evaluation mode, whatever
    ``model.train()`` says: otherwise their statistics would go on drifting to the new
    data. Gradients that are left from before are dropped.

    Parameters
    ----------
    model : Module
    *what : str or Module
        Patterns of parameter names (``"features.*"``), names of modules
        (``"features"``), or modules. Everything, if there is none.

    Returns
    -------
    list of str
        The names of all parameters that are frozen now.

    Raises
    ------
    ArgumentError
        If a pattern fits no parameter.

    Examples
    --------
    >>> import nnlib
    >>> model = nnlib.models.MLP([4, 3, 2])
    >>> freeze(model, "1.*")
    ['1.weight', '1.bias']
    """
    _set(model, "freeze", what, False)
    return [n for n, p in model.named_parameters() if not p.requires_grad]


def unfreeze(model: Module, *what: str | Module) -> list[str]:
    """Undo `freeze`, for some parameters or all; return the names of those trained.

    Examples
    --------
    >>> import nnlib
    >>> model = nnlib.models.MLP([4, 3, 2])
    >>> _ = freeze(model)
    >>> unfreeze(model, model[-1])
    ['3.weight', '3.bias']
    """
    _set(model, "unfreeze", what, True)
    return [n for n, p in model.named_parameters() if p.requires_grad]


def _set(model: Module, op: str, what: Sequence[str | Module], value: bool) -> None:
    parameters, modules = _chosen(model, op, what)
    for parameter in parameters:
        parameter.requires_grad_(value)
        if not value:
            parameter.grad = None  # an old one would still move it
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        if not _has_statistics(module):
            continue
        if own:
            module.hold_eval(not any(p.requires_grad for p in own))
        elif module in modules:
            module.hold_eval(not value)


def _has_statistics(module: Module) -> bool:
    return any(
        name == "running_mean" for name, _ in module.named_buffers(recurse=False)
    )


def _chosen(
    model: Module, op: str, what: Sequence[str | Module]
) -> tuple[list[Any], set[Module]]:
    """Return the parameters and modules that are meant, each with all below."""
    named = dict(model.named_parameters())
    inside = dict(model.named_modules())
    if not what:
        return list(named.values()), set(inside.values())
    found: dict[int, Any] = {}
    modules: set[Module] = set()
    for one in what:
        if isinstance(one, Module):
            fits = list(one.parameters())
            below = set(one.modules())
        else:
            below = {m for name, m in inside.items() if name and _fits(name, one)}
            fits = [p for name, p in named.items() if _fits(name, one)]
        modules |= below
        if not fits and not any(map(_has_statistics, below)):
            label = type(one).__name__ if isinstance(one, Module) else repr(one)
            raise ArgumentError(
                f"{op}: {label} fits no parameter; names are {', '.join(named) or '-'}"
            )
        found.update((id(parameter), parameter) for parameter in fits)
    return list(found.values()), modules


def _fits(name: str, wanted: str) -> bool:
    return fnmatch.fnmatchcase(name, wanted) or name.startswith(f"{wanted}.")


def layer_groups(
    model: Module, lr: float, *, decay: float = 2.6, modules: Sequence[Module] = ()
) -> list[dict[str, Any]]:
    """Return an optimiser's parameter groups with lower learning rates lower down.

    The last module learns with `lr`, each before it with the rate behind it divided by
    `decay` ("discriminative fine-tuning").

    Parameters
    ----------
    model : Module
    lr : float
    decay : float, default 2.6
        At least 1.
    modules : sequence of Module, optional
        From the input up; the model's children by default. Parameters outside of them
        learn with the lowest rate.

    Examples
    --------
    >>> import nnlib
    >>> groups = layer_groups(nnlib.models.MLP([4, 3, 2]), 0.26)
    >>> [round(group["lr"], 3) for group in groups]
    [0.1, 0.26]
    """
    if not lr > 0 or not decay >= 1:
        raise ArgumentError(
            f"layer_groups: expected a positive lr and decay of at least 1, got {lr} "
            f"and {decay}"
        )
    seen: set[int] = set()
    parts: list[list[Any]] = []
    for module in modules or list(model.children()):
        own = [p for p in module.parameters() if id(p) not in seen]
        seen.update(map(id, own))
        if own:
            parts.append(own)
    rest = [p for p in model.parameters() if id(p) not in seen]
    if rest:
        parts.insert(0, rest)
    last = len(parts) - 1
    return [
        {"params": part, "lr": lr / decay ** (last - number)}
        for number, part in enumerate(parts)
    ]


class GradualUnfreezing(Callback):
    """Unfreeze one more module at the start of every few epochs, from the last down.

    Parameters
    ----------
    modules : sequence of Module
        From the input up. In the first epochs only the last one learns.
    every : int, default 1
        Epochs from one to the next.
    """

    def __init__(self, modules: Sequence[Module], every: int = 1) -> None:
        if every < 1 or not modules:
            raise ArgumentError(
                "GradualUnfreezing: expected at least one module and every of at least "
                f"1, got {len(modules)} and {every}"
            )
        self.modules = list(modules)
        self.every = every

    def on_epoch_begin(self, run: Run) -> None:
        """Freeze and unfreeze for this epoch."""
        awake = 1 + (run.epoch - 1) // self.every
        for number, module in enumerate(reversed(self.modules)):
            if any(True for _ in module.parameters()):
                (unfreeze if number < awake else freeze)(module)
        run.model.train()


def extract_features(
    model: Module, loader: Iterable[Any], layer: Module | str | None = None
) -> TensorDataset:
    """Compute once what frozen layers give, to train on top of it as often as needed.

    Parameters
    ----------
    model : Module
        Called in evaluation mode, without gradients.
    loader : iterable of batches ``(input, target, ...)``
        In a fixed order.
    layer : Module or str, optional
        The layer (or its name) whose output to keep; the model's own by default.

    Returns
    -------
    TensorDataset
        Of the features and whatever followed the input in each batch, on the model's
        device.

    Raises
    ------
    ShapeError
        If the loader gives no batch.

    Examples
    --------
    >>> import nnlib
    >>> model = nnlib.models.MLP([4, 3, 2])
    >>> batches = [(nnlib.zeros(n, 4), nnlib.zeros(n)) for n in (5, 2)]
    >>> features = extract_features(model, batches, "2")
    >>> [tuple(part.shape) for part in features.tensors]
    [(7, 3), (7,)]
    """
    target = model.get_submodule(layer) if isinstance(layer, str) else layer
    caught: list[Tensor] = []
    handle = None
    if target is not None:
        handle = target.register_forward_hook(lambda *parts: caught.append(parts[2]))
    modes = _modes(model)
    like = next(model.parameters(), None)
    columns: list[list[Tensor]] = []
    model.eval()
    try:
        with no_grad():
            for batch in loader:
                first, *rest = batch if isinstance(batch, (tuple, list)) else (batch,)
                output = model(first if like is None else first.to(like.device))
                found = caught.pop() if target is not None else output
                parts = [found, *(part.to(found.device) for part in rest)]
                caught.clear()
                columns = columns or [[] for _ in parts]
                for column, part in zip(columns, parts, strict=True):
                    column.append(part)
    finally:
        _restore_modes(modes)
        if handle is not None:
            handle.remove()
    if not columns:
        raise ShapeError("extract_features: the loader gave no batch")
    return TensorDataset(*(cat(column, 0) for column in columns))
