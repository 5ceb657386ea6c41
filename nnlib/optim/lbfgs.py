"""L-BFGS: a quasi-Newton method for the loss of a full batch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from nnlib.autograd.mode import enable_grad
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module, context_of, keeping_device
from nnlib.backend.dtypes import HALF, float32
from nnlib.backend.errors import ArgumentError, Error
from nnlib.optim.line_search import Point, strong_wolfe
from nnlib.optim.optimizer import Optimizer

__all__ = ["LBFGS"]


class LBFGS(Optimizer):
    """L-BFGS, with a line search if asked for.

    D. C. Liu, J. Nocedal: On the limited memory BFGS method for large scale
    optimization, Mathematical Programming 45 (1989); the direction by algorithm 7.4 of
    J. Nocedal, S. J. Wright: Numerical optimization. One parameter group only.

    Parameters
    ----------
    params : iterable of Tensor
    lr : float, default 1
        The step length (that is tried first, with a line search).
    max_iter : int, default 20
        Iterations per `step`.
    max_eval : int, optional
        Calls of the closure per `step`; default ``max_iter * 5 // 4``.
    tolerance_grad : float, default 1e-7
        Stop when no component of the gradient is larger.
    tolerance_change : float, default 1e-9
        Stop when parameters or loss change less.
    history_size : int, default 100
        Pairs of steps and gradient changes that are kept.
    line_search_fn : {None, "strong_wolfe"}
    weight_decay, l1 : float, default 0
        L2 and L1 penalties; they are part of the loss that is minimised.

    Examples
    --------
    >>> import nnlib
    >>> x = nnlib.tensor([3.0, -2.0], requires_grad=True)
    >>> optimizer = LBFGS([x], line_search_fn="strong_wolfe")
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = ((x - 1) ** 4).sum()
    ...     loss.backward()
    ...     return loss
    >>> _ = optimizer.step(closure)
    >>> bool(((x - 1).abs() < 0.1).all())
    True
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
        *,
        weight_decay: float = 0,
        l1: float = 0,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "max_iter": max_iter,
                "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
                "tolerance_grad": tolerance_grad,
                "tolerance_change": tolerance_change,
                "history_size": history_size,
                "line_search_fn": line_search_fn,
                "weight_decay": weight_decay,
                "l1": l1,
            },
        )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Set the one group there is."""
        if self.param_groups:
            raise Error("LBFGS: param_group: it has one parameter group only")
        super().add_param_group(param_group)

    def check(self, group: dict[str, Any]) -> None:
        """Check the options of the group."""
        self._check_least(group, "lr", "weight_decay", "l1")
        if group["line_search_fn"] not in (None, "strong_wolfe"):
            raise ArgumentError(
                "LBFGS: line_search_fn: expected None or 'strong_wolfe', got "
                f"{group['line_search_fn']!r}"
            )

    # -- all parameters as one vector ----------------------------------------------

    def _flat(self, arrays: list[Any]) -> Any:
        module = array_module(arrays[0])
        flat = module.concatenate([array.reshape(-1) for array in arrays])
        return flat.astype(float32) if flat.dtype in HALF else flat

    def _position(self) -> Any:
        return self._flat([p._array for p in self.param_groups[0]["params"]])

    def _move_to(self, position: Any) -> None:
        start = 0
        for p in self.param_groups[0]["params"]:
            array = p._array
            part = position[start : start + array.size].reshape(array.shape)
            array[...] = part.astype(array.dtype)
            p._bump()
            start += array.size

    def _loss(
        self, closure: Callable[[], Any], position: Any
    ) -> tuple[Any, float, Any]:
        """Return what the closure gives, the loss with penalties, and its gradient."""
        group = self.param_groups[0]
        with enable_grad():
            value = closure()
        module = array_module(position)
        grad = self._flat(
            [
                module.zeros_like(p._array) if p._grad is None else p._grad._array
                for p in group["params"]
            ]
        )
        loss = float(value)
        if group["weight_decay"]:
            loss += group["weight_decay"] / 2 * float((position * position).sum())
            grad += group["weight_decay"] * position
        if group["l1"]:
            loss += group["l1"] * float(module.abs(position).sum())
            grad += group["l1"] * module.sign(position)
        return value, loss, grad

    # -- the step ------------------------------------------------------------------

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make up to `max_iter` iterations.

        Parameters
        ----------
        closure : callable
            Clears the gradients, computes the loss, calls ``backward()`` and returns
            the loss.

        Returns
        -------
        Tensor
            The first value of the closure.
        """
        if closure is None:
            raise Error("LBFGS.step: closure: it is called several times, so needed")
        given, current = closure, keeping_device()

        def evaluate() -> Any:
            # On the device that was the current one.
            with current or nullcontext():
                return given()

        with context_of(self.param_groups[0]["params"][0]._array):
            return self._iterate(evaluate)

    def _iterate(self, closure: Callable[[], Any]) -> Any:
        group = self.param_groups[0]
        state = self.state.setdefault(
            group["params"][0], {"func_evals": 0, "n_iter": 0}
        )
        position = self._position()
        first, loss, grad = self._loss(closure, position)
        state["func_evals"] += 1
        evaluations = 1
        largest = abs(grad).max()
        for iteration in range(1, group["max_iter"] + 1):
            if largest <= group["tolerance_grad"]:
                break
            state["n_iter"] += 1
            direction = self._direction(state, grad)
            state["prev_flat_grad"] = _keep(grad)
            before = loss
            t = float(group["lr"])
            if state["n_iter"] == 1:
                t *= min(1.0, 1.0 / float(abs(grad).sum()))
            state.update(d=_keep(direction), t=t, prev_loss=before)
            slope = float(grad @ direction)
            if slope > -group["tolerance_change"]:
                break
            last = iteration == group["max_iter"]
            start = Point(0.0, loss, grad, slope)
            found, calls = self._search(
                closure, position, direction, start, t, evaluations, last
            )
            loss, grad, t = found.loss, found.grad, found.t
            state["t"] = t
            position = position + t * direction
            largest = abs(grad).max()
            evaluations += calls
            state["func_evals"] += calls
            if (
                evaluations >= group["max_eval"]
                or float(abs(direction).max()) * abs(t) <= group["tolerance_change"]
                or abs(loss - before) < group["tolerance_change"]
            ):
                break
        return first

    def _search(
        self,
        closure: Callable[[], Any],
        position: Any,
        direction: Any,
        start: Point,
        t: float,
        evaluations: int,
        last: bool,
    ) -> tuple[Point, int]:
        """Move along the direction; return where to, and the number of evaluations."""
        group = self.param_groups[0]

        def evaluate(length: float) -> Point:
            there = position + length * direction
            self._move_to(there)
            _, loss, grad = self._loss(closure, there)
            return Point(length, loss, grad, float(grad @ direction))

        if group["line_search_fn"] is None:
            if not last:
                return evaluate(t), 1
            # Nobody will ask for loss and gradient there.
            self._move_to(position + t * direction)
            return start._replace(t=t), 0
        found, calls = strong_wolfe(
            evaluate,
            start,
            t,
            float(abs(direction).max()),
            group["tolerance_change"],
            group["max_eval"] - evaluations,
        )
        self._move_to(position + found.t * direction)
        return found, calls

    def _direction(self, state: dict[str, Any], grad: Any) -> Any:
        """Return minus the inverse Hessian times the gradient, from the history."""
        if state["n_iter"] == 1:
            state.update(old_dirs=[], old_stps=[], ro=[], H_diag=1.0)
            return -grad
        changes, steps, ro = state["old_dirs"], state["old_stps"], state["ro"]
        y = grad - state["prev_flat_grad"]._array
        s = state["d"]._array * state["t"]
        ys = float(y @ s)
        if ys > 1e-10:
            if len(changes) == self.param_groups[0]["history_size"]:
                for history in (changes, steps, ro):
                    del history[0]
            changes.append(_keep(y))
            steps.append(_keep(s))
            ro.append(1.0 / ys)
            state["H_diag"] = ys / float(y @ y)
        history = [
            (change._array, step._array, inverse)
            for change, step, inverse in zip(changes, steps, ro, strict=True)
        ]
        q = -grad
        factors = []
        for change, step, inverse in reversed(history):
            factor = float(step @ q) * inverse
            factors.append(factor)
            q -= factor * change
        q *= state["H_diag"]
        for (change, step, inverse), factor in zip(
            history, reversed(factors), strict=True
        ):
            q += (factor - float(change @ q) * inverse) * step
        return q


def _keep(array: Any) -> Tensor:
    """Return an array as a Tensor: what is saved with the state."""
    return Tensor._from_array(array)
