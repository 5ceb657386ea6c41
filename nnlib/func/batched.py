"""Tensors with a hidden batch dimension, and what stands in for the door meanwhile.

Inside `vmap` a function sees a `Batched` tensor: its shape is that of one sample, its
value a tensor with the batch in front. Every operation on one comes to `Batching`,
which applies the operation's rule to the values. Values may be batched again by an
outer `vmap`: they then go through the outer `Batching` in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeGuard

from nnlib.autograd.engine import grad
from nnlib.autograd.function import Function
from nnlib.autograd.hidden import hide_first
from nnlib.autograd.mode import enable_grad, state
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import Error, ShapeError
from nnlib.backend.random import Generator, default_generator
from nnlib.func.rules import find_rule
from nnlib.ops.creation import ones_like
from nnlib.ops.expanding import expand
from nnlib.ops.joining import stack

__all__ = ["Batched", "Batching", "differentiate", "fresh"]


class Batched(Tensor):
    """A sample that stands for all samples of a batch."""

    _value: Tensor
    _level: Batching

    @staticmethod
    def wrap(value: Tensor, level: Batching) -> Batched:
        """Hide the first dimension of `value`."""
        result = object.__new__(Batched)
        result._value, result._level = value, level
        # The first sample's array answers for shape and dtype.
        result._array = hide_first(value._array)
        result._requires_grad = value._requires_grad
        return result

    def _refuse(self, what: str) -> NoReturn:
        raise Error(
            f"vmap: {what} of a tensor inside vmap would depend on one sample's "
            "numbers; use where() or other operations on tensors"
        )

    @property
    def array(self) -> Any:
        """There is no single array."""
        self._refuse("the array")

    def item(self) -> Any:
        """There is no single number."""
        self._refuse("item()")

    def tolist(self) -> Any:
        """There is no single list."""
        self._refuse("tolist()")

    def numpy(self, *, force: bool = False) -> Any:
        """There is no single array."""
        self._refuse("numpy()")

    def __bool__(self) -> bool:
        self._refuse("the truth")

    def __repr__(self) -> str:
        return f"Batched({self._value!r})"

    def detach(self) -> Tensor:
        """Return the same numbers without history."""
        with self._level.outside():
            return Batched.wrap(self._value.detach(), self._level)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Refuse: derivatives inside `vmap` are those of `nnlib.func`."""
        raise Error("vmap: requires_grad_ inside vmap; use nnlib.func.grad or vjp")


class Batching:
    """One `vmap` at work: stands in for the door.

    Parameters
    ----------
    size : int
        How many samples there are.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.outer: Callable[..., Any] | None = state.modes.interpreter

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Send operations to this level."""
        modes = state.modes
        before, modes.interpreter = modes.interpreter, self
        try:
            yield
        finally:
            modes.interpreter = before

    @contextmanager
    def outside(self) -> Iterator[None]:
        """Send operations past this level."""
        modes = state.modes
        before, modes.interpreter = modes.interpreter, self.outer
        try:
            yield
        finally:
            modes.interpreter = before

    def has(self, x: Any) -> TypeGuard[Batched]:
        """Tell whether `x` carries this level's batch."""
        return type(x) is Batched and x._level is self

    def __call__(
        self, cls: type[Function], args: tuple[Any, ...], params: dict[str, Any]
    ) -> Any:
        """Run an operation over the batch."""
        if not any(map(self.has, args)):
            if any(map(self.has, params.values())):
                raise Error(
                    f"vmap: {cls.__name__}: a parameter differs between samples; pass "
                    "it outside vmap"
                )
            with self.outside():
                return cls.apply(*args, **params)
        rule = find_rule(cls)
        if rule is not None:
            with self.outside():
                out = rule(self, cls, args, params)
            if out is not NotImplemented:
                return self.wrap(out)
        return self.loop(cls, args, params)

    def loop(self, cls: type[Function], args: Any, params: Any) -> Any:
        """Run an operation sample by sample: right for every operation."""
        with self.outside():
            parts = [x._value.unbind(0) if self.has(x) else None for x in args]
            results = [
                cls.apply(
                    *(
                        x if part is None else part[index]
                        for x, part in zip(args, parts, strict=True)
                    ),
                    **params,
                )
                for index in range(self.size)
            ]
            out = stack_results(results)
        return self.wrap(out)

    def by_sample(
        self, function: Callable[..., Any], args: Any, kwargs: dict[str, Any]
    ) -> Any:
        """Call a function that reads numbers once for each sample.

        Random numbers are the same for all of them.
        """
        given = (args, kwargs)
        with self.outside():
            if not self._below(given):
                return function(*args, **kwargs)
            sources = [default_generator, *filter(_is_generator, kwargs.values())]
            states = [source.get_state() for source in sources]
            results = []
            for index in range(self.size):
                for source, before in zip(sources, states, strict=True):
                    source.set_state(before)
                own, named = self._chosen(given, index)
                results.append(function(*own, **named))
            try:
                out = stack_results(results)
            except ShapeError as error:
                raise Error(
                    f"vmap: {function.__name__}: the results of the samples differ in "
                    f"shape ({error})"
                ) from None
        return self.wrap(out)

    def _below(self, x: Any) -> bool:
        """Tell whether `x` is batched, or holds something that is."""
        if isinstance(x, tuple | list):
            return any(map(self._below, x))
        if isinstance(x, dict):
            return any(map(self._below, x.values()))
        return self.has(x)

    def _chosen(self, x: Any, index: int) -> Any:
        """Return `x` with one sample in the place of each batched tensor."""
        if isinstance(x, tuple | list):
            parts = [self._chosen(part, index) for part in x]
            return parts if isinstance(x, list) else tuple(parts)
        if isinstance(x, dict):
            return {name: self._chosen(part, index) for name, part in x.items()}
        return x._value[index] if self.has(x) else x

    def run_inplace(
        self, name: str, function: Callable[..., Any], target: Any, args: Any, kw: Any
    ) -> Any:
        """Run an in-place method: the tensor stands for new values afterwards."""
        result = function(target, *args, **kw)
        if not self.has(target):
            if self.has(result):
                raise Error(
                    f"vmap: {name}: a tensor that all samples share cannot take "
                    "different values; clone() it into the batch first"
                )
            with self.outside():
                return getattr(target, name)(*args, **kw)
        if result.shape != target.shape:
            raise Error(f"vmap: {name}: the result has another shape")
        target._value = self.value(result)
        target._array = result._array
        target._requires_grad = result._requires_grad
        return target

    def value(self, x: Tensor) -> Any:
        """Return `x` with the batch in front; shared tensors are expanded."""
        if self.has(x):
            return x._value
        with self.outside():
            return expand(x, (self.size, *x.shape))

    def wrap(self, out: Any) -> Any:
        """Hide the batch of a result."""
        if isinstance(out, Tensor):
            return Batched.wrap(out, self)
        if isinstance(out, tuple):
            return _tuple_as(out, map(self.wrap, out))
        return out


def _tuple_as(like: tuple[Any, ...], items: Iterable[Any]) -> tuple[Any, ...]:
    """Return a tuple, with the names that `like` has for its items."""
    make = getattr(type(like), "_make", tuple)
    return make(items)


def _is_generator(x: Any) -> bool:
    return isinstance(x, Generator)


def stack_results(results: list[Any]) -> Any:
    """Stack the results of all samples, one by one where there are several."""
    first = results[0]
    if isinstance(first, tuple):
        parts = zip(*results, strict=True)
        return _tuple_as(first, (stack_results(list(part)) for part in parts))
    return first if first is None else stack(results)


def fresh(x: Tensor) -> Tensor:
    """Return `x` as the variable of a derivative, at every level of `vmap`.

    It stays connected to what it was computed from.
    """
    level = state.modes.interpreter
    if isinstance(level, Batching):
        value = level.value(x)
        with level.outside():
            return Batched.wrap(fresh(value), level)
    with enable_grad():
        if x.requires_grad:
            return x.clone()
        return x.detach().requires_grad_()


def differentiate(
    outputs: list[Tensor],
    inputs: list[Tensor],
    weights: list[Tensor] | None,
    create_graph: bool,
) -> list[Any]:
    """Return the gradients of outputs by fresh inputs, at every level of `vmap`.

    Samples do not depend on each other: the gradient of the batch by the batch is the
    batch of gradients.
    """
    level = state.modes.interpreter
    if isinstance(level, Batching):
        outs = [level.value(x) for x in outputs]
        given = None if weights is None else [level.value(u) for u in weights]
        xs = [level.value(x) for x in inputs]
        with level.outside():
            found = differentiate(outs, xs, given, create_graph)
        return [Batched.wrap(g, level) for g in found]
    ones = [ones_like(out.detach()) for out in outputs]
    pairs = [
        (out, u)
        for out, u in zip(outputs, ones if weights is None else weights, strict=True)
        if out.requires_grad
    ]
    if not pairs:
        return [x.detach() * 0 for x in inputs]
    return list(
        grad(
            [out for out, _ in pairs],
            inputs,
            [u for _, u in pairs],
            retain_graph=True,
            create_graph=create_graph,
            materialize_grads=True,
        )
    )
