"""`Tensor`: an array with a place in the graph. It holds no mathematics.

Operators and methods are attached by `nnlib.ops` (see `nnlib.autograd.registry`);
what stands here is what a tensor *is*: its array, its history, its conversions.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from nnlib.autograd.attributes import Size
from nnlib.autograd.conversions import Conversions
from nnlib.autograd.methods import TensorMethods
from nnlib.backend.dtypes import FLOATING
from nnlib.backend.errors import DTypeError, Error, ShapeError

if TYPE_CHECKING:
    from nnlib.autograd.function import Function

__all__ = ["TENSOR_TYPES", "Parameter", "RemovableHandle", "Size", "Tensor"]

_new = object.__new__


def shape_instances(cls: type, *names: str) -> None:
    """Have the instances of `cls` keep these attributes without a dict of their own.

    CPython lays out the attributes of a class's instances by those that its first few
    instances were given; an instance with others pays 40 to 150 ns for a dict. So
    the first one is given them all, here.
    """
    first: Any = _new(cls)
    for name in names:
        setattr(first, name, None)


# Tensor and its subclasses: asking this set is faster than isinstance.
TENSOR_TYPES: set[type] = set()


class Tensor(Conversions, TensorMethods):
    """An n-dimensional array that remembers how it was computed.

    Made by `tensor`, `zeros`, `from_numpy`, ... and by every operation. Calling the
    class means what it does in PyTorch: ``Tensor(2, 3)`` has that shape,
    ``Tensor([1, 2])`` these values in the default dtype.

    Attributes
    ----------
    array : numpy.ndarray or cupy.ndarray
        The memory itself.
    grad : Tensor or None
        The gradient that `backward` accumulated (leaves only).
    grad_fn : Function or None
        The operation that made it, if recorded.

    Examples
    --------
    >>> import nnlib
    >>> x = nnlib.tensor([1.0, 2.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    tensor([2., 4.])
    """

    # Class attributes are the defaults: the door then sets only what differs.
    _array: Any
    _requires_grad: bool = False
    _grad_fn: Function | None = None
    _index: int = 0
    _grad: Tensor | None = None
    _hooks: dict[int, Callable[..., Any]] | None = None
    _post_hooks: dict[int, Callable[..., Any]] | None = None
    _retains: bool = False
    # Views: the tensor that owns the memory, how to take the view from it again,
    # and how often the owner's history had been rewritten when it was taken.
    _base: Tensor | None = None
    # Once detached, a tensor and its detached twins count changes in common, in an
    # owner without history: a twin must not keep the graph alive.
    _owner: ChangeCounter | None = None
    _replay: tuple[Any, ...] = ()
    _birth: int = 0
    _version: int = 0
    # Whether it is a view, has detached twins or was changed in place: the door
    # looks closer then.
    _entangled: bool = False
    _rebased: int = 0

    # NumPy hands operators with a Tensor to the Tensor.
    __array_priority__ = 1000

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        TENSOR_TYPES.add(cls)
        shape_instances(cls, *_SET_BY_THE_DOOR)

    def __init__(self, *data: Any, **kwargs: Any) -> None:
        from nnlib.autograd.construct import from_class

        made = from_class(data, **kwargs)
        self._array = made._array
        self._requires_grad = made._requires_grad

    @staticmethod
    def _from_array(array: Any) -> Tensor:
        """Wrap an array without a copy or a check."""
        result = _new(Tensor)
        result._array = array
        return result

    # -- the array -------------------------------------------------------------

    @property
    def array(self) -> Any:
        """The array itself, sharing memory; changes to it are not tracked."""
        return self._array

    @property
    def data(self) -> Tensor:
        """A tensor on the same memory without history."""
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        if not isinstance(value, Tensor):
            raise DTypeError(
                f"Tensor.data: expected a Tensor, got {type(value).__name__}"
            )
        self._array = value._array[...]
        self._bump()

    # -- history ---------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """Whether operations on this tensor are recorded."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Ask for (or give up) gradients of this leaf; return it."""
        if requires_grad and self._array.dtype not in FLOATING:
            raise DTypeError(
                "requires_grad: only floating tensors have gradients, this one is "
                f"{self._array.dtype}"
            )
        if not requires_grad and self._grad_fn is not None:
            raise Error(
                "requires_grad: only leaf tensors can be changed; use detach() for "
                "a tensor without history"
            )
        self._requires_grad = bool(requires_grad)
        return self

    @property
    def grad_fn(self) -> Function | None:
        """The node that computed this tensor, or None for a leaf."""
        return self._grad_fn

    @property
    def is_leaf(self) -> bool:
        """Whether this tensor was made by the user, not by a recorded operation."""
        return self._grad_fn is None

    @property
    def grad(self) -> Tensor | None:
        """The accumulated gradient, or None."""
        return self._grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            if not isinstance(value, Tensor):
                raise DTypeError(
                    f"Tensor.grad: expected a Tensor or None, got "
                    f"{type(value).__name__}"
                )
            if value.shape != self._array.shape:
                raise ShapeError(
                    f"Tensor.grad: expected shape {self._array.shape}, got "
                    f"{tuple(value.shape)}"
                )
            if value.dtype != self._array.dtype:
                raise DTypeError(
                    f"Tensor.grad: expected dtype {self._array.dtype}, got "
                    f"{value.dtype}"
                )
        self._grad = value

    def retain_grad(self) -> None:
        """Keep the gradient of this non-leaf tensor in ``grad``."""
        if self._grad_fn is None or self._retains:
            return
        self._retains = True
        # The node must not keep its own output alive.
        reference = weakref.ref(self)
        number = self._grad_fn.sequence

        def keep(grad: Tensor) -> None:
            tensor = reference()
            source = None if tensor is None else tensor._grad_fn
            # After a change in place the tensor is the result of another node.
            if tensor is not None and source is not None and source.sequence == number:
                # A copy: the engine may hand its buffer on.
                kept = grad
                if not grad._requires_grad:
                    kept = Tensor._from_array(grad._array.copy())
                tensor._grad = kept if tensor._grad is None else tensor._grad + kept

        _node_hook(self._grad_fn, self._index, keep, last=True)

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
        """Call ``hook(grad)`` when this tensor's gradient is known.

        A Tensor that it returns replaces the gradient.
        """
        if not self._requires_grad:
            raise Error("register_hook: this tensor does not require a gradient")
        if self._grad_fn is None:
            if self._hooks is None:
                self._hooks = {}
            return RemovableHandle(self._hooks, hook)
        return _node_hook(self._grad_fn, self._index, hook)

    def register_post_accumulate_grad_hook(
        self, hook: Callable[[Tensor], None]
    ) -> RemovableHandle:
        """Call ``hook(self)`` after `backward` wrote this leaf's ``grad``."""
        if self._grad_fn is not None:
            raise Error("register_post_accumulate_grad_hook: only leaves accumulate")
        if self._post_hooks is None:
            self._post_hooks = {}
        return RemovableHandle(self._post_hooks, hook)

    def backward(
        self,
        gradient: Tensor | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Sequence[Tensor] | None = None,
    ) -> None:
        """Accumulate the gradient of this tensor in the leaves it came from.

        Parameters
        ----------
        gradient : Tensor, optional
            The gradient of some scalar by this tensor; needed unless it has one
            element.
        retain_graph : bool, optional
            Keep what was saved, for another pass; default `create_graph`.
        create_graph : bool, default False
            Record the pass itself, for higher derivatives.
        inputs : sequence of Tensor, optional
            Accumulate in these leaves only.

        Raises
        ------
        Error
            Without history, or through a graph that was freed.
        ShapeError
            If `gradient` is missing for a non-scalar or has another shape.
        """
        from nnlib.autograd.engine import backward

        backward(
            self, gradient, retain_graph, create_graph, inputs, name="Tensor.backward"
        )

    def detach(self) -> Tensor:
        """Return a tensor on the same memory without history."""
        result = _new(Tensor)
        result._array = self._array[...]
        result._owner = self._shared_counter()
        result._entangled = True
        return result

    def _shared_counter(self) -> ChangeCounter:
        root = self if self._base is None else self._base
        counter = root._owner
        if counter is None:
            root._owner = counter = ChangeCounter(root._version)
            root._entangled = True
            # What the root's node saved of its output is in this memory.
            node, memory = root._grad_fn, root._array
            if node is not None and node._saved:
                _share_counter(node, memory, counter)
        return counter

    def detach_(self) -> Tensor:
        """Forget the history of this tensor."""
        self._grad_fn, self._requires_grad, self._index = None, False, 0
        return self

    @property
    def version(self) -> int:
        """How often this memory was changed in place."""
        return self._holder()._version

    def _is_stale(self) -> bool:
        return bool(
            self._replay
            and self._base is not None
            and self._birth != self._base._rebased
            # Without a history, a base was only turned: the memory is the same.
            and (self._requires_grad or self._base._requires_grad)
        )

    def _holder(self) -> Tensor | ChangeCounter:
        """Return what counts the changes of this memory."""
        root = self if self._base is None else self._base
        return root if root._owner is None else root._owner

    def _bump(self) -> None:
        holder = self._holder()
        holder._version += 1
        holder._entangled = True


TENSOR_TYPES.add(Tensor)
# What operations and the engine set of a Tensor.
_SET_BY_THE_DOOR = (
    *("_array", "_requires_grad", "_grad_fn", "_index", "_base", "_replay", "_birth"),
    *("_entangled", "_grad", "_version", "_owner"),
)
shape_instances(Tensor, *_SET_BY_THE_DOOR)


class ChangeCounter:
    """Counts the changes of memory that several histories share."""

    __slots__ = ("_entangled", "_version")

    def __init__(self, version: int) -> None:
        self._version = version
        self._entangled = True


class Parameter(Tensor):
    """A tensor that a Module registers: a leaf that requires a gradient."""

    _requires_grad = True

    def __init__(self, data: Any = (), requires_grad: bool = True) -> None:
        from nnlib.autograd.construct import tensor

        source = data if isinstance(data, Tensor) else tensor(data)
        self._array = source._array[...]
        self._requires_grad = bool(requires_grad)

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()


class RemovableHandle:
    """What a hook's registration returns: ``remove()`` takes the hook away."""

    _count = 0

    def __init__(self, hooks: dict[int, Any], hook: Any) -> None:
        # A copy of a module brings its hooks with their numbers from another process.
        self.id = max(RemovableHandle._count, *hooks, 0) + 1
        RemovableHandle._count = self.id
        self._hooks = hooks
        hooks[self.id] = hook

    def remove(self) -> None:
        """Take the hook away; a second call does nothing."""
        self._hooks.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


def _node_hook(
    node: Function, index: int, hook: Callable[[Tensor], Any], last: bool = False
) -> RemovableHandle:
    """Have `hook` called with the gradient of a node's output `index`.

    What keeps gradients comes last, so that it sees what the other hooks made of them.
    """
    if node.hooks is None:
        node.hooks = {}
    hooks = node.hooks

    def pick(grads: list[Any]) -> None:
        if grads[index] is not None:
            changed = hook(grads[index])
            if changed is not None:
                grads[index] = changed

    handle = RemovableHandle(hooks, pick)
    if last:
        hooks[-handle.id] = hooks.pop(handle.id)
    for key in [key for key in hooks if key < 0]:
        hooks[key] = hooks.pop(key)
    return handle


def _share_counter(node: Function, memory: Any, counter: ChangeCounter) -> None:
    """Let `counter` guard what `node` saved of its output in `memory`."""
    owners = list(node._owners)
    for position, (value, owner) in enumerate(zip(node._saved, owners, strict=True)):
        if value is memory and type(owner) is tuple and owner[1] is None:
            owners[position] = (owner[0], counter)
            node._changes += counter._version
    node._owners = owners
