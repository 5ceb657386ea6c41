"""Functions that return derivatives of functions."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from nnlib.autograd.checkpointing import outer_edges
from nnlib.autograd.function import next_sequence
from nnlib.autograd.mode import enable_grad, state
from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import DTypeError, Error, ShapeError
from nnlib.func.batched import Batched, differentiate, fresh
from nnlib.ops import eye, stack, zeros_like

__all__ = [
    "grad",
    "grad_and_value",
    "hessian",
    "jacfwd",
    "jacrev",
    "jvp",
    "linearize",
    "vjp",
]


def grad(
    func: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """Return the function that computes the gradient of `func`.

    Parameters
    ----------
    func : callable
        Returns a Tensor without dimensions (with `has_aux`, a pair of that and
        anything).
    argnums : int or tuple of int, default 0
        By which arguments: Tensors, or tuples, lists and dicts of Tensors.
    has_aux : bool, default False
        Return a pair of the gradient and the second thing that `func` returned.

    Returns
    -------
    callable
        Gives the gradient in the form of the argument (a tuple for several).

    Raises
    ------
    ShapeError
        If `func` returns more than one number.

    Examples
    --------
    >>> import nnlib
    >>> grad(lambda x: (x * x).sum())(nnlib.tensor([1.0, 2.0]))
    tensor([2., 4.])
    >>> grad(grad(lambda x: x * x * x))(nnlib.tensor(2.0))
    tensor(12.)
    """
    both = grad_and_value(func, argnums, has_aux)

    @functools.wraps(func)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        found, value = both(*args, **kwargs)
        return (found, value[1]) if has_aux else found

    return gradient


def grad_and_value(
    func: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """Return the function that computes ``(gradient, value)`` of `func`.

    Parameters are those of `grad`; with `has_aux` the value is the pair that `func`
    returned.

    Examples
    --------
    >>> import nnlib
    >>> grad_and_value(lambda x: (x * x).sum())(nnlib.tensor([1.0, 2.0]))
    (tensor([2., 4.]), tensor(5.))
    """
    places = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    @functools.wraps(func)
    def run(*args: Any, **kwargs: Any) -> Any:
        for place in places:
            if not -len(args) <= place < len(args):
                raise Error(f"grad: argnums {place}: there are {len(args)} arguments")
        start = next_sequence()
        variables: list[Tensor] = []
        chosen = {place % len(args) for place in places}
        inner = [
            _freshen(arg, variables) if place in chosen else arg
            for place, arg in enumerate(args)
        ]
        with enable_grad():
            made = func(*inner, **kwargs)
        value = made[0] if has_aux else made
        if not isinstance(value, Tensor) or value.ndim:
            found = getattr(value, "shape", type(value).__name__)
            raise ShapeError(
                f"grad: the function must return a tensor without dimensions, got "
                f"{found}"
            )
        connected = _reaches_outside([value], variables, start)
        found = iter(differentiate([value], variables, None, connected))
        ordered = {place: _rebuild(args[place], found) for place in sorted(chosen)}
        results = tuple(ordered[place % len(args)] for place in places)
        done = value if connected else value.detach()
        return (
            results[0] if isinstance(argnums, int) else results,
            (done, made[1]) if has_aux else done,
        )

    return run


def vjp(func: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """Return ``func(*primals)`` and the function from ``v`` to ``v^T J``.

    Parameters
    ----------
    func : callable
        From Tensors to a Tensor or a tuple of them.
    *primals : Tensor

    Returns
    -------
    value : Tensor or tuple of Tensor
    pull : callable
        ``pull(*v)`` returns a tuple with a product per primal.

    Examples
    --------
    >>> import nnlib
    >>> value, pull = vjp(lambda x: x * x, nnlib.tensor([1.0, 2.0]))
    >>> pull(nnlib.tensor([1.0, 1.0]))
    (tensor([2., 4.]),)
    """
    start = next_sequence()
    variables: list[Tensor] = []
    inner = [_freshen(x, variables) for x in primals]
    with enable_grad():
        value = func(*inner)
    outputs = [value] if isinstance(value, Tensor) else list(value)
    connected = _reaches_outside(outputs, variables, start)

    def pull(*v: Any) -> Any:
        given = (
            list(v[0]) if len(v) == 1 and isinstance(v[0], tuple | list) else list(v)
        )
        if len(given) != len(outputs):
            raise ShapeError(
                f"vjp: {len(outputs)} outputs, but {len(given)} tensors for them"
            )
        recorded = connected or any(x.requires_grad for x in given)
        found = iter(differentiate(outputs, variables, given, recorded))
        return tuple(_rebuild(x, found) for x in primals)

    done = tuple(x if connected else x.detach() for x in outputs)
    return (done[0] if isinstance(value, Tensor) else done), pull


def jvp(func: Callable[..., Any], primals: Any, tangents: Any) -> tuple[Any, Any]:
    """Return ``func(*primals)`` and ``J v`` for the tangents ``v``.

    Parameters
    ----------
    primals, tangents : tuple of Tensor

    Examples
    --------
    >>> import nnlib
    >>> x = nnlib.tensor([1.0, 2.0])
    >>> jvp(lambda x: x * x, (x,), (nnlib.ones(2),))
    (tensor([1., 4.]), tensor([2., 4.]))
    """
    value, push = linearize(func, *primals)
    return value, push(*tangents)


def linearize(func: Callable[..., Any], *primals: Any) -> tuple[Any, Any]:
    """Return ``func(*primals)`` and the function from ``v`` to ``J v``.

    Parameters
    ----------
    func : callable
        From Tensors to a Tensor or a tuple of them; it is called once.
    *primals : Tensor

    Returns
    -------
    value : Tensor or tuple of Tensor
    push : callable
        ``push(*v)``, with a tangent per primal, returns the product in the form of
        `value`; any number of times.

    Examples
    --------
    >>> import nnlib
    >>> value, push = linearize(lambda x: x * x, nnlib.tensor([1.0, 2.0]))
    >>> push(nnlib.ones(2))
    tensor([2., 4.])
    """
    start = next_sequence()
    variables: list[Tensor] = []
    inner = [_freshen(x, variables) for x in primals]
    with enable_grad():
        value = func(*inner)
        outputs = [value] if isinstance(value, Tensor) else list(value)
        connected = _reaches_outside(outputs, variables, start)
        # u^T J is linear in u: its derivative by u, applied to v, is J v.
        weights = [fresh(zeros_like(out.detach())) for out in outputs]
        pulled = differentiate(outputs, variables, weights, True)

    def push(*tangents: Any) -> Any:
        given = [x for part in tangents for x in _leaves(part)]
        recorded = connected or any(x.requires_grad for x in given)
        products = differentiate(pulled, weights, given, recorded)
        return products[0] if isinstance(value, Tensor) else tuple(products)

    done = tuple(x if connected else x.detach() for x in outputs)
    return (done[0] if isinstance(value, Tensor) else done), push


def jacfwd(func: Callable[..., Any], argnums: int = 0) -> Callable[..., Any]:
    """Return the function that computes the Jacobian by one argument, by columns.

    It takes a pass per element of the argument: for few inputs and many outputs.

    Examples
    --------
    >>> import nnlib
    >>> jacfwd(lambda x: x * x)(nnlib.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """

    @functools.wraps(func)
    def jacobian(*args: Any, **kwargs: Any) -> Any:
        x, of_one = _by_one(func, argnums, args, kwargs)
        value, push = linearize(of_one, x)
        _require_tensor("jacfwd", value)
        units = eye(x.numel(), dtype=x.dtype, device=x.device)
        columns = [push(unit.reshape(x.shape)) for unit in units]
        return stack(columns, -1).reshape((*value.shape, *x.shape))

    return jacobian


def jacrev(func: Callable[..., Any], argnums: int = 0) -> Callable[..., Any]:
    """Return the function that computes the Jacobian by one argument.

    It takes one backward pass per element of the output.

    Examples
    --------
    >>> import nnlib
    >>> jacrev(lambda x: x * x)(nnlib.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """

    @functools.wraps(func)
    def jacobian(*args: Any, **kwargs: Any) -> Any:
        x, of_one = _by_one(func, argnums, args, kwargs)
        value, pull = vjp(of_one, x)
        _require_tensor("jacrev", value)
        shape = tuple(value.shape)
        units = eye(value.numel(), dtype=value.dtype, device=value.device)
        rows = [pull(unit.reshape(shape))[0] for unit in units]
        return stack(rows).reshape((*shape, *x.shape))

    return jacobian


def hessian(func: Callable[..., Any], argnums: int = 0) -> Callable[..., Any]:
    """Return the function that computes the Hessian by one argument.

    Examples
    --------
    >>> import nnlib
    >>> hessian(lambda x: (x * x * x).sum())(nnlib.tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    return jacrev(grad(func, argnums), argnums)


def _by_one(
    func: Callable[..., Any], argnums: int, args: Any, kwargs: Any
) -> tuple[Any, Callable[[Any], Any]]:
    """Return one argument, and `func` as a function of it alone."""
    place = argnums % len(args)

    def of_one(x: Any) -> Any:
        return func(*args[:place], x, *args[place + 1 :], **kwargs)

    return args[place], of_one


def _require_tensor(name: str, value: Any) -> None:
    if not isinstance(value, Tensor):
        raise DTypeError(
            f"{name}: the function must return a Tensor, got {type(value).__name__}"
        )


def _freshen(value: Any, variables: list[Tensor]) -> Any:
    """Replace the Tensors of a tree by variables, and list these."""
    if isinstance(value, Tensor):
        variables.append(fresh(value))
        return variables[-1]
    if isinstance(value, dict):
        return {key: _freshen(item, variables) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return type(value)([_freshen(item, variables) for item in value])
    raise DTypeError(f"grad: expected Tensors, got {type(value).__name__}")


def _leaves(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    items = value.values() if isinstance(value, dict) else value
    return [x for item in items for x in _leaves(item)]


def _rebuild(value: Any, found: Any) -> Any:
    """Return the gradients in the form of what they belong to."""
    if isinstance(value, Tensor):
        return next(found)
    if isinstance(value, dict):
        return {key: _rebuild(item, found) for key, item in value.items()}
    return type(value)([_rebuild(item, found) for item in value])


def _reaches_outside(
    outputs: list[Tensor], variables: list[Tensor], start: int
) -> bool:
    """Tell whether outputs depend on more than the variables: then derivatives do too.

    A derivative that is taken of the result later must be able to flow through.
    """
    if not state.modes.grad:
        return False
    plain = [_innermost(x) for x in outputs]
    leaves = {id(_innermost(x)) for x in variables}
    edges = outer_edges([x for x in plain if x.requires_grad], start)
    return any(id(edge) not in leaves for edge in edges)


def _innermost(x: Tensor) -> Tensor:
    while isinstance(x, Batched):
        x = x._value
    return x
