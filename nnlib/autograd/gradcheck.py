"""Check derivatives against central differences.

The numerical side perturbs the raw arrays and evaluates under `no_grad`; the
analytic side is a handful of backward passes. Both are compared through random
weightings of each output: a wrong entry of the Jacobian survives such a weighting
with probability one, and the cost does not grow with the number of outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from nnlib.autograd.engine import grad
from nnlib.autograd.mode import enable_grad, is_grad_enabled, no_grad
from nnlib.autograd.tensor import Tensor
from nnlib.backend.device import array_module, to_device
from nnlib.backend.device import resolve_device as _device
from nnlib.backend.dtypes import float64
from nnlib.backend.errors import DTypeError, Error

__all__ = ["GradcheckError", "gradcheck", "gradgradcheck"]

# Up to so many elements every entry of an input is perturbed by itself; above,
# all entries move together along random directions.
_FULL = 128
_DIRECTIONS = 3
_WEIGHTINGS = 2


class GradcheckError(Error):
    """A derivative differs from what finite differences say."""


def gradcheck(
    func: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-6,
    rtol: float = 1e-5,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
) -> bool:
    """Compare the gradients of `func` with central differences.

    For output ``y``, input ``x`` and random weights ``u`` it checks
    ``u . (y(x + eps e) - y(x - eps e)) / (2 eps)`` against the backward pass from
    ``u``, for every entry ``e`` of a small input and along random directions of a
    large one.

    Parameters
    ----------
    func : callable
        Returns a Tensor or a (nested) sequence of Tensors; evaluated many times.
    inputs : Tensor or (nested) sequence
        The arguments of `func`. Checked by each Tensor that requires a gradient,
        which must be float64.
    eps : float, default 1e-6
        The size of the perturbation.
    atol, rtol : float
        ``|analytic - numeric| <= atol + rtol * |numeric|`` passes.
    raise_exception : bool, default True
        Raise on a difference, instead of returning False.
    nondet_tol : float, default 0
        How far two evaluations, or two backward passes, may be apart.

    Returns
    -------
    bool
        Whether all derivatives agree.

    Raises
    ------
    GradcheckError
        If a derivative differs: names the op, the input, the worst entry and both
        values.
    DTypeError
        If an input that requires a gradient is not float64.

    Examples
    --------
    >>> import nnlib
    >>> x = nnlib.tensor([1.0, 2.0], dtype=nnlib.float64, requires_grad=True)
    >>> gradcheck(lambda x: x * x, x)
    True
    """
    try:
        _Check("gradcheck", func, inputs, eps, atol, rtol, nondet_tol).run()
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Any,
    grad_outputs: Any = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-6,
    rtol: float = 1e-5,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
) -> bool:
    """Compare the second derivatives of `func` with central differences.

    It is `gradcheck` of the backward pass, as a function of the inputs and of the
    gradients of the outputs. The numerical side runs the first-order pass on raw
    arrays, the analytic side the recorded one: the two must agree as well.

    Parameters
    ----------
    func, inputs, eps, atol, rtol, raise_exception, nondet_tol
        As for `gradcheck`.
    grad_outputs : Tensor or sequence of Tensor, optional
        The gradient of each differentiable output; random by default.

    Returns
    -------
    bool
        Whether all second derivatives agree.

    Examples
    --------
    >>> import nnlib
    >>> x = nnlib.tensor([1.0, 2.0], dtype=nnlib.float64, requires_grad=True)
    >>> gradgradcheck(lambda x: x * x * x, x)
    True
    """
    args = _arguments(inputs)
    outs = [out for out in _tensors(func(*args)) if out.requires_grad]
    if not outs:
        return True
    weights = (
        [_random_like(out, np.random.default_rng(1)) for out in outs]
        if grad_outputs is None
        else [x.detach() for x in _tensors(grad_outputs)]
    )
    for weight in weights:
        weight.requires_grad_()
    count = len(args)

    def first_order(*everything: Any) -> tuple[Tensor, ...]:
        recorded = is_grad_enabled()
        chosen = [x for x in _tensors(everything[:count]) if x.requires_grad]
        with enable_grad():
            made = _tensors(func(*everything[:count]))
        made = [out for out in made if out.requires_grad]
        return grad(
            made,
            chosen,
            everything[count:],
            create_graph=recorded,
            materialize_grads=True,
        )

    try:
        check = _Check(
            "gradgradcheck",
            first_order,
            [*args, *weights],
            eps,
            atol,
            rtol,
            nondet_tol,
            label=_op_name(func, outs[0]),
            two_ways=True,
        )
        check.run()
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


class _Check:
    """One comparison: the function, where to perturb it, and how close is close."""

    def __init__(
        self,
        name: str,
        func: Callable[..., Any],
        inputs: Any,
        eps: float,
        atol: float,
        rtol: float,
        nondet_tol: float,
        label: str | None = None,
        two_ways: bool = False,
    ) -> None:
        self.name, self.func, self.args = name, func, _arguments(inputs)
        self.eps, self.atol, self.rtol = eps, atol, rtol
        self.nondet_tol = nondet_tol
        self.label = label
        # Whether recorded and plain evaluations may be done by different kernels.
        self.two_ways = two_ways
        self.rng = np.random.default_rng(0)
        self.inputs = [
            (position, x)
            for position, x in enumerate(_tensors(self.args))
            if x.requires_grad
        ]
        self.compared: list[int] = []

    def run(self) -> None:
        """Compare; raise `GradcheckError` on the first difference."""
        self._check_inputs()
        outs = _tensors(self.func(*self.args))
        # With no recorded output at all, the derivative must be zero everywhere.
        self.compared = [i for i, out in enumerate(outs) if out.requires_grad] or [
            i for i, out in enumerate(outs) if out.is_floating_point()
        ]
        if not self.compared:
            raise Error(f"{self.name}: the function returns no floating Tensor")
        outs = [outs[index] for index in self.compared]
        self.label = self.label or _op_name(self.func, outs[0])
        self._check_determinism(outs)
        weights = [
            [_random_like(out, self.rng) for out in outs] for _ in range(_WEIGHTINGS)
        ]
        analytic = [self._analytic(outs, row) for row in weights]
        flat = [[_host(u).ravel() for u in row] for row in weights]
        for place, (position, x) in enumerate(self.inputs):
            gradients = [row[place] for row in analytic]
            if x.numel() <= _FULL:
                self._by_entry(position, x, flat, gradients)
            else:
                self._by_direction(position, x, flat, gradients)

    def _check_inputs(self) -> None:
        if not self.inputs:
            raise Error(f"{self.name}: no input requires a gradient")
        for position, x in self.inputs:
            if x.dtype != float64:
                raise DTypeError(
                    f"{self.name}: input {position}: finite differences need float64, "
                    f"got {x.dtype}"
                )
            overlaps = x.array.size and any(
                step == 0 and length > 1
                for step, length in zip(x.array.strides, x.shape, strict=True)
            )
            if overlaps:
                raise Error(
                    f"{self.name}: input {position}: its elements share memory (an "
                    "expanded tensor); pass a clone()"
                )

    def _check_determinism(self, outs: list[Tensor]) -> None:
        recorded = [_host(out).ravel() for out in outs]
        plain = self._evaluate() if self.two_ways else recorded
        for number, (first, again) in enumerate(
            zip(plain, self._evaluate(), strict=True)
        ):
            if not np.allclose(first, again, 0, self.nondet_tol, equal_nan=True):
                apart = np.abs(first - again)
                raise GradcheckError(
                    f"{self.name}: {self.label}: output {number} differs between two "
                    f"evaluations by {np.nanmax(apart):.3g} (nondet_tol="
                    f"{self.nondet_tol:g})"
                )
            if not np.allclose(recorded[number], again, self.rtol, self.atol, True):
                raise GradcheckError(
                    f"{self.name}: {self.label}: output {number} is another when it is "
                    f"recorded: {recorded[number]}, not {again}"
                )

    def _evaluate(self) -> list[np.ndarray[Any, Any]]:
        """Return flat copies of the compared outputs at the present inputs."""
        with no_grad():
            outs = _tensors(self.func(*self.args))
        return [np.array(_host(outs[index])).ravel() for index in self.compared]

    def _analytic(
        self, outs: list[Tensor], weights: list[Tensor]
    ) -> list[list[np.ndarray[Any, Any]]]:
        """Return, per input, the flat gradient from each weighted output."""
        xs = [x for _, x in self.inputs]
        per_output = []
        for number, (out, u) in enumerate(zip(outs, weights, strict=True)):
            if not out.requires_grad:
                per_output.append([np.zeros(x.numel()) for x in xs])
                continue
            passes = [
                grad(out, xs, u, retain_graph=True, materialize_grads=True)
                for _ in range(2)
            ]
            for position, (one, two) in enumerate(zip(*passes, strict=True)):
                if not np.allclose(
                    _host(one), _host(two), 0, self.nondet_tol, equal_nan=True
                ):
                    raise GradcheckError(
                        f"{self.name}: {self.label}: output {number} by input "
                        f"{self.inputs[position][0]}: two backward passes differ"
                    )
            per_output.append([_host(g).ravel() for g in passes[0]])
        return [list(column) for column in zip(*per_output, strict=True)]

    def _slope(self, x: Tensor, place: Any, step: Any) -> list[np.ndarray[Any, Any]]:
        """Return the central difference of each output for a step at a place."""
        array = x.array
        before = array[place].copy()
        try:
            array[place] = before + step * self.eps
            above = self._evaluate()
            array[place] = before - step * self.eps
            below = self._evaluate()
        finally:
            array[place] = before
        return [(a - b) / (2 * self.eps) for a, b in zip(above, below, strict=True)]

    def _by_entry(self, position: int, x: Tensor, flat: Any, gradients: Any) -> None:
        """Compare every entry of one input."""
        slopes = [self._slope(x, index, 1.0) for index in np.ndindex(*x.shape)]
        for row, gradient in zip(flat, gradients, strict=True):
            for number, u in enumerate(row):
                numeric = np.array([slope[number] @ u for slope in slopes])
                self._compare(position, x.shape, number, gradient[number], numeric)

    def _by_direction(
        self, position: int, x: Tensor, flat: Any, gradients: Any
    ) -> None:
        """Compare one input along random directions."""
        module = array_module(x.array)
        for _ in range(_DIRECTIONS):
            direction = self.rng.standard_normal(x.shape)
            slope = self._slope(x, ..., module.asarray(direction))
            for row, gradient in zip(flat, gradients, strict=True):
                for number, u in enumerate(row):
                    numeric = slope[number] @ u
                    analytic = gradient[number] @ direction.ravel()
                    # The differences' own noise adds up over all entries.
                    if self._far(analytic, numeric, np.sqrt(x.numel())):
                        # Slow, but only on failure: it names the entry.
                        self._by_entry(position, x, flat, gradients)
                        self._fail(position, "a direction", number, analytic, numeric)

    def _far(self, analytic: Any, numeric: Any, slack: float = 1.0) -> Any:
        limit = slack * (self.atol + self.rtol * np.abs(numeric))
        return ~(np.abs(analytic - numeric) <= limit)

    def _compare(
        self, position: int, shape: Any, number: int, analytic: Any, numeric: Any
    ) -> None:
        far = self._far(analytic, numeric)
        if not far.any():
            return
        error = np.where(far, np.abs(analytic - numeric), -1.0)
        error[np.isnan(error)] = np.inf
        worst = int(error.argmax())
        entry = tuple(int(i) for i in np.unravel_index(worst, shape))
        self._fail(
            position,
            f"entry {entry} ({int(far.sum())} of {far.size} entries differ)",
            number,
            analytic[worst],
            numeric[worst],
        )

    def _fail(
        self, position: int, where: str, number: int, analytic: Any, numeric: Any
    ) -> None:
        raise GradcheckError(
            f"{self.name}: {self.label}: output {number} by input {position}, {where}: "
            f"analytic {analytic:.9g}, numeric {numeric:.9g}"
        )


def _arguments(inputs: Any) -> list[Any]:
    return [inputs] if isinstance(inputs, Tensor) else list(inputs)


def _tensors(value: Any) -> list[Tensor]:
    return list(_walk(value))


def _walk(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            yield from _walk(item)


def _host(x: Tensor) -> Any:
    return to_device(x.array, _device("cpu"))


def _random_like(x: Tensor, rng: np.random.Generator) -> Tensor:
    values = rng.standard_normal(x.shape)
    module = array_module(x.array)
    return Tensor._from_array(module.asarray(values).astype(x.dtype))


def _op_name(func: Callable[..., Any], out: Any) -> str:
    node = getattr(out, "grad_fn", None)
    if node is not None:
        return str(node.name())
    return getattr(func, "__name__", type(func).__name__)
