"""What a model computes, written down operation by operation.

For the time of one call a `Trace` stands in for the door of `Function.apply`, through
which every operation passes. Operations on inputs and on the model's own tensors are
recorded; all others are constants.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from nnlib.autograd.function import Function
from nnlib.autograd.mode import no_grad, state
from nnlib.autograd.promotion import promote_arguments
from nnlib.autograd.tensor import Tensor
from nnlib.onnx.bags import composed_bags
from nnlib.onnx.errors import OnnxError

__all__ = ["Record", "Trace", "Traced"]


# What stands for public functions that find things out on the host.
_COMPOSED: dict[str, Callable[..., Any]] = {"embedding_bag": composed_bags}


class Traced(Tensor):
    """A tensor whose value belongs to the example, and is not for reading."""

    _number: int

    @staticmethod
    def wrap(array: Any, number: int) -> Traced:
        """Return the value of that number."""
        result = object.__new__(Traced)
        result._array = array
        result._number = number
        return result

    def _refuse(self, what: str) -> NoReturn:
        raise OnnxError(
            f"export: {what} of a tensor would be written into the file as a constant; "
            "use where() or other operations on tensors"
        )

    def item(self) -> Any:
        """Refuse to read the number."""
        self._refuse("item()")

    def tolist(self) -> Any:
        """Refuse to read the numbers."""
        self._refuse("tolist()")

    def numpy(self, *, force: bool = False) -> Any:
        """Refuse to read the array."""
        self._refuse("numpy()")

    def __bool__(self) -> bool:
        self._refuse("the truth")

    def detach(self) -> Tensor:
        """Return itself: nothing is differentiated."""
        return self


def _copy(x: Any) -> Any:
    return Traced.wrap(x._array, x._number) if type(x) is Traced else x


class Record:
    """One operation of a trace.

    Attributes
    ----------
    cls : type
    args : tuple
        Tensors (traced, the model's own, or constants), numbers, None.
    params : dict
    out : list of Traced or None
    """

    __slots__ = ("args", "cls", "out", "params")

    def __init__(self, cls: type[Function], args: Any, params: Any, out: Any) -> None:
        self.cls, self.args, self.params, self.out = cls, args, params, out

    def shape(self, position: int) -> tuple[int, ...]:
        """Return the shape of an argument; () of a number."""
        x = self.args[position]
        return tuple(x._array.shape) if isinstance(x, Tensor) else ()


class Trace:
    """Records while it stands in for the door; see `modes.interpreter`.

    Parameters
    ----------
    own : set of int
        Identities of the tensors (parameters, buffers) whose use is recorded.
    """

    def __init__(self, own: set[int]) -> None:
        self.own = own
        self.records: list[Record] = []
        self.count = 0

    def fresh(self, array: Any) -> Traced:
        """Return a new value with this array as its example."""
        self.count += 1
        return Traced.wrap(array, self.count - 1)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Record the operations of this thread."""
        modes = state.modes
        if modes.interpreter is not None:
            raise OnnxError("export: not possible inside vmap or another export")
        modes.interpreter = self
        try:
            with no_grad():
                yield
        finally:
            modes.interpreter = None

    def _outside(self, call: Callable[[], Any]) -> Any:
        modes = state.modes
        modes.interpreter = None
        try:
            return call()
        finally:
            modes.interpreter = self

    def _counts(self, x: Any) -> bool:
        return type(x) is Traced or id(x) in self.own

    def __call__(
        self, cls: type[Function], args: tuple[Any, ...], params: dict[str, Any]
    ) -> Any:
        """Run an operation and record it."""
        if not any(map(self._counts, args)):
            return self._outside(lambda: cls.apply(*args, **params))
        if cls.promotes is not None:
            # Casts that the door would make show up as operations of their own.
            promoted = promote_arguments(cls.promotes, args)
            if promoted is not None:
                args = tuple(promoted)
        plain = [Tensor._from_array(x._array) if self._counts(x) else x for x in args]
        out = self._outside(lambda: cls.apply(*plain, **params))
        several = isinstance(out, tuple)
        made = [
            self.fresh(x._array) if isinstance(x, Tensor) else x
            for x in (out if several else (out,))
        ]
        # Copies: an in-place method later gives a tensor another number.
        kept = [_copy(x) for x in args], params, [_copy(x) for x in made]
        self.records.append(Record(cls, *kept))
        return tuple(made) if several else made[0]

    def by_sample(self, run: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run a public function that reads the numbers of tensors itself."""
        function = inspect.unwrap(run)
        return _COMPOSED.get(function.__name__, function)(*args, **kwargs)

    def run_inplace(
        self, name: str, function: Callable[..., Any], target: Any, args: Any, kw: Any
    ) -> Any:
        """Run an in-place method: the tensor stands for the result afterwards."""
        result = function(target, *args, **kw)
        if type(target) is not Traced:
            if type(result) is Traced:
                raise OnnxError(
                    f"export: {name} changes a tensor of the model, which ONNX cannot "
                    "say; write the result to a new tensor"
                )
            return self._outside(lambda: getattr(target, name)(*args, **kw))
        target._array, target._number = result._array, result._number
        return target
