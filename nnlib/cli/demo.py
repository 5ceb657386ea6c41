"""``nnlib demo``: a network learns to read handwritten digits."""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import NamedTuple

from nnlib.backend.device import Device, resolve_device
from nnlib.backend.random import manual_seed
from nnlib.cli.info import describe_device
from nnlib.data import MNIST, DataLoader, Digits, train_val_test_split
from nnlib.models import MLP
from nnlib.nn import Dropout, Module, Sequential
from nnlib.nn.functional import cross_entropy
from nnlib.optim import Adam
from nnlib.optim.lr_scheduler import CosineAnnealingLR
from nnlib.train import History, evaluate, fit
from nnlib.viz.figures import is_available as can_draw

__all__ = ["demo"]

# The split is the same whatever the seed, so that runs can be compared.
_SPLIT_SEED = 1998


class _Recipe(NamedTuple):
    sizes: list[int]
    batch_size: int
    epochs: int
    input_dropout: float
    dropout: float
    lr: float = 2e-3
    smoothing: float = 0.1


# The digits are few: without dropping pixels and activations, and smoothing the labels,
# the network learns them by heart and reads 1 % fewer of the held-out ones.
_RECIPES = {
    "digits": _Recipe([64, 512, 256, 10], 32, 30, 0.2, 0.4),
    "mnist": _Recipe([784, 512, 256, 10], 128, 5, 0.0, 0.2),
}


def demo(
    dataset: str = "digits",
    device: str = "auto",
    epochs: int | None = None,
    seed: int = 0,
    output: str | None = None,
) -> float:
    """Train an MLP, print what happens, draw the learning curves.

    Parameters
    ----------
    dataset : {"digits", "mnist"}
        What to learn.
    device : str, default "auto"
        Where to train.
    epochs : int, optional
        Passes over the training data; by default what the data set needs.
    seed : int, default 0
        Of the initial weights, the dropout and the order of the samples.
    output : str, optional
        The path of the picture; by default ``nnlib-demo-<dataset>.png`` here.

    Returns
    -------
    float
        The accuracy on the held-out data.
    """
    recipe = _RECIPES[dataset]
    place = resolve_device(device)
    print(f"device: {describe_device(place, asked=device)}")
    manual_seed(seed)
    train_loader, test_loader = _loaders(dataset, recipe, place)
    start = time.perf_counter()
    model, history = _train(recipe, train_loader, test_loader, place, epochs)
    seconds = time.perf_counter() - start
    accuracy = evaluate(model, test_loader)["accuracy"]
    print(
        f"accuracy on {len(test_loader.dataset)} held-out images: {accuracy:.2%} "
        f"after {history.epochs} epochs in {seconds:.1f} s"
    )
    _draw(history, Path(output or f"nnlib-demo-{dataset}.png"))
    return accuracy


def _train(
    recipe: _Recipe,
    train_loader: DataLoader[object],
    test_loader: DataLoader[object],
    place: Device,
    epochs: int | None,
) -> tuple[Module, History]:
    print(f"model: {' -> '.join(map(str, recipe.sizes))}, ReLU, dropout; Adam")
    network = MLP(recipe.sizes, dropout=recipe.dropout)
    model = Sequential(Dropout(recipe.input_dropout), network).to(place)
    optimizer = Adam(model.parameters(), lr=recipe.lr)
    epochs = epochs or recipe.epochs
    history = fit(
        model,
        train_loader,
        optimizer=optimizer,
        loss=functools.partial(cross_entropy, label_smoothing=recipe.smoothing),
        epochs=epochs,
        validation=test_loader,
        scheduler=CosineAnnealingLR(optimizer, T_max=epochs * len(train_loader)),
        scheduler_step="batch",
    )
    return model, history


def _loaders(
    dataset: str, recipe: _Recipe, place: Device
) -> tuple[DataLoader[object], DataLoader[object]]:
    if dataset == "mnist":
        train, test = (
            MNIST(train=part).to_tensors(flatten=True, device=place)
            for part in (True, False)
        )
        print(f"data: MNIST, {len(train)} images to learn from, {len(test)} held out")
        return (
            DataLoader(train, recipe.batch_size, shuffle=True),
            DataLoader(test, 1024),
        )
    digits = Digits()
    whole = digits.to_tensors(flatten=True, device=place)
    learn, _, held_out = train_val_test_split(
        whole, 0.0, 0.2, stratify=digits.labels, generator=_SPLIT_SEED
    )
    print(
        f"data: UCI handwritten digits (E. Alpaydin, C. Kaynak; CC BY 4.0), "
        f"{len(learn)} images to learn from, {len(held_out)} held out"
    )
    return (
        DataLoader(learn, recipe.batch_size, shuffle=True),
        DataLoader(held_out, len(held_out)),
    )


def _draw(history: History, path: Path) -> None:
    if not can_draw():
        print(
            "learning curves: not drawn, matplotlib is not installed "
            '(python -m pip install "nnlib-dl[viz]")'
        )
        return
    from nnlib.viz import plot_history

    try:
        plot_history(history, path, title="nnlib demo")
    except OSError as error:
        print(f"learning curves: not written: {error}")
    else:
        print(f"learning curves: {path}")
