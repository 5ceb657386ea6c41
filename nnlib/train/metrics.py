"""Figures of merit, and means of them that leave the GPU undisturbed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

from nnlib.autograd.construct import as_tensor
from nnlib.autograd.places import on_its_device
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import context_of
from nnlib.backend.errors import ShapeError

__all__ = ["Metric", "RunningMeans", "accuracy", "binary_accuracy"]

Metric = Callable[[Tensor, Tensor], Any]


@on_its_device
def accuracy(output: Tensor, target: Tensor) -> Tensor:
    """Return the fraction of samples whose highest score is that of their class.

    Parameters
    ----------
    output : Tensor
        Scores (logits or probabilities), ``(N, C)`` or ``(N, C, d1, ...)``.
    target : Tensor
        Classes from 0 to C - 1, ``(N,)`` or ``(N, d1, ...)``; or probabilities of the
        shape of `output`, of which the highest counts.

    Returns
    -------
    Tensor
        A number from 0 to 1, on the device of `output` (``.item()`` reads it).

    Raises
    ------
    ShapeError
        If the shapes do not fit, or the batch is empty.

    Examples
    --------
    >>> import nnlib
    >>> scores = nnlib.tensor([[2.0, 1.0], [0.0, 3.0], [5.0, 4.0]])
    >>> round(accuracy(scores, nnlib.tensor([0, 1, 1])).item(), 4)
    0.6667
    """
    scores, classes = output.array, target.array
    if scores.ndim < 2 or 0 in scores.shape:
        raise ShapeError(
            f"accuracy: output: expected scores (N, C, ...) of at least one sample, "
            f"got shape {scores.shape}"
        )
    if classes.shape == scores.shape:
        classes = classes.argmax(1)
    if classes.shape != scores.shape[:1] + scores.shape[2:]:
        raise ShapeError(
            f"accuracy: target: expected shape {scores.shape[:1] + scores.shape[2:]}, "
            f"got {classes.shape}"
        )
    return as_tensor((scores.argmax(1) == classes).mean(keepdims=True).reshape(()))


@on_its_device
def binary_accuracy(output: Tensor, target: Tensor) -> Tensor:
    """Return the fraction of logits whose sign tells their class, 0 or 1.

    Parameters
    ----------
    output : Tensor
        Logits of any shape; positive speaks for class 1.
    target : Tensor
        0 or 1 (or -1 or 1), of the same shape.

    Raises
    ------
    ShapeError
        If the shapes differ, or the batch is empty.

    Examples
    --------
    >>> import nnlib
    >>> binary_accuracy(nnlib.tensor([-0.5, 2.0]), nnlib.tensor([0, 1])).item()
    1.0
    """
    logits, classes = output.array, target.array
    if logits.shape != classes.shape or logits.size == 0:
        raise ShapeError(
            f"binary_accuracy: expected output and target of one shape and at least "
            f"one sample, got {logits.shape} and {classes.shape}"
        )
    hits = (logits > 0) == (classes > 0)
    return as_tensor(hits.mean(keepdims=True).reshape(()))


class RunningMeans:
    """Means over samples of figures that come batch by batch.

    The sums stay on the device of the figures; only `read` waits for a GPU, with one
    transfer per figure.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Any] = {}
        self._count = 0

    def add(self, figures: Mapping[str, Any], samples: int) -> None:
        """Add batch means (Tensors or floats) over `samples` samples."""
        for name, value in figures.items():
            if isinstance(value, Tensor):
                with context_of(value.array):
                    # float64, for a sum over thousands of batches; () on the device
                    self._add(name, value.array.astype("float64") * samples)
            else:
                self._add(name, float(value) * samples)
        self._count += samples

    def _add(self, name: str, term: Any) -> None:
        self._sums[name] = self._sums[name] + term if name in self._sums else term

    @property
    def samples(self) -> int:
        """The number of samples seen."""
        return self._count

    def read(self) -> dict[str, float]:
        """Return the means so far.

        Raises
        ------
        ShapeError
            If nothing was added.
        """
        if not self._count:
            raise ShapeError("RunningMeans: expected at least one sample, got none")
        found = {}
        for name, total in self._sums.items():
            with nullcontext() if isinstance(total, float) else context_of(total):
                found[name] = float(total) / self._count
        return found
