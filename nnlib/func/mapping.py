"""`vmap`: a function of one sample becomes a function of a batch."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from nnlib.autograd.tensor import Tensor
from nnlib.backend.errors import ArgumentError, DTypeError, ShapeError
from nnlib.func.batched import Batched, Batching
from nnlib.ops.dimensions import movedim
from nnlib.ops.joining import cat

__all__ = ["vmap"]


def vmap(
    func: Callable[..., Any],
    in_dims: Any = 0,
    out_dims: Any = 0,
    randomness: str = "error",
    *,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """Return `func` over a batch: one call instead of a loop over samples.

    Operations run once over the whole batch where there is a rule for them, else
    sample by sample. Results are differentiable, and derivatives may be taken inside
    (`nnlib.func.grad`): ``vmap(grad(loss))`` gives the gradient of every sample.

    Parameters
    ----------
    func : callable
        Takes and returns Tensors of one sample, in tuples, lists and dicts if need be.
    in_dims : int, None or nested like the arguments, default 0
        Where the batch is in each argument; None for one that all samples share.
    out_dims : int or nested like the result, default 0
        Where the batch goes in each result.
    randomness : {"error", "same"}
        Random numbers are the same for all samples. PyTorch's "different" is refused:
        draw a whole batch outside, and pass it in.
    chunk_size : int, optional
        Run so many samples at a time, to bound the memory.

    Returns
    -------
    callable

    Raises
    ------
    ShapeError
        If no argument has a batch, or sizes of batches differ.
    Error
        If `func` looks at the numbers of a tensor (``item()``, ``if x > 0``).

    Examples
    --------
    >>> import nnlib
    >>> x = nnlib.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> vmap(lambda row: (row * row).sum())(x)
    tensor([ 5., 25.])
    """
    if randomness not in ("error", "same"):
        raise ArgumentError(
            f"vmap: randomness: expected 'same' or 'error', got {randomness!r}: draw a "
            "whole batch outside and pass it in"
        )

    @functools.wraps(func)
    def batched(*args: Any, **kwargs: Any) -> Any:
        dims = in_dims if isinstance(in_dims, tuple | list) else (in_dims,) * len(args)
        if len(dims) != len(args):
            raise ShapeError(
                f"vmap: in_dims has {len(dims)} entries for {len(args)} arguments"
            )
        found: list[int] = []
        for place, (arg, dim) in enumerate(zip(args, dims, strict=True)):
            _sizes(arg, dim, f"argument {place}", found)
        for name, arg in kwargs.items():
            _sizes(arg, 0, f"argument {name}", found)
        if not found:
            raise ShapeError("vmap: no argument has a batch dimension")
        if len(set(found)) > 1:
            raise ShapeError(f"vmap: batches of different sizes: {sorted(set(found))}")
        size = found[0]
        if not size:
            raise ShapeError("vmap: the batch is empty")
        step = chunk_size or size
        pieces = [
            _run(func, args, dims, kwargs, slice(start, min(start + step, size)), size)
            for start in range(0, size, step)
        ]
        joined = pieces[0] if len(pieces) == 1 else _join(pieces)
        return _move_out(joined, out_dims)

    return batched


def _run(
    func: Callable[..., Any], args: Any, dims: Any, kwargs: Any, part: slice, size: int
) -> Any:
    """Run the function once over a stretch of the batch; results batch first."""
    whole = part.stop - part.start == size
    level = Batching(part.stop - part.start)
    inner = [
        _wrap(arg, dim, level, None if whole else part)
        for arg, dim in zip(args, dims, strict=True)
    ]
    named = {
        name: _wrap(arg, 0, level, None if whole else part)
        for name, arg in kwargs.items()
    }
    with level.inside():
        out = func(*inner, **named)
    return _map(lambda x: level.value(x), out, "the result")


def _sizes(value: Any, dim: Any, where: str, found: list[int]) -> None:
    def look(x: Any, dim: Any) -> None:
        if dim is not None and isinstance(x, Tensor):
            if not -x.ndim <= dim < x.ndim:
                raise ShapeError(
                    f"vmap: {where}: shape {tuple(x.shape)} has no dimension {dim}"
                )
            found.append(x.shape[dim])

    _map2(look, value, dim)


def _wrap(value: Any, dim: Any, level: Batching, part: slice | None) -> Any:
    def hide(x: Any, dim: Any) -> Any:
        if dim is None or not isinstance(x, Tensor):
            return x
        moved = movedim(x, dim, 0) if dim % x.ndim else x
        return Batched.wrap(moved if part is None else moved[part], level)

    return _map2(hide, value, dim)


def _map2(call: Callable[[Any, Any], Any], value: Any, dim: Any) -> Any:
    """Call with each leaf and its dimension, which may stand for a whole tree."""
    if isinstance(value, dict):
        return {
            key: _map2(call, item, dim[key] if isinstance(dim, dict) else dim)
            for key, item in value.items()
        }
    if isinstance(value, tuple | list):
        several = dim if isinstance(dim, tuple | list) else (dim,) * len(value)
        items = [_map2(call, x, d) for x, d in zip(value, several, strict=True)]
        return _like(value, items)
    return call(value, dim)


def _like(value: Any, items: list[Any]) -> Any:
    """Return a list, tuple or named tuple like `value`."""
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)


def _map(call: Callable[[Any], Any], value: Any, where: str) -> Any:
    if isinstance(value, Tensor):
        return call(value)
    if isinstance(value, dict):
        return {key: _map(call, item, where) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return _like(value, [_map(call, item, where) for item in value])
    raise DTypeError(f"vmap: {where}: expected Tensors, got {type(value).__name__}")


def _join(pieces: list[Any]) -> Any:
    """Join what stretches of the batch gave."""
    first = pieces[0]
    if isinstance(first, Tensor):
        return cat(pieces)
    if isinstance(first, dict):
        return {key: _join([piece[key] for piece in pieces]) for key in first}
    return _like(first, [_join(list(part)) for part in zip(*pieces, strict=True)])


def _move_out(value: Any, dims: Any) -> Any:
    def move(x: Any, dim: Any) -> Any:
        if dim is None:
            return x[0]
        return movedim(x, 0, dim) if dim else x

    return _map2(move, value, dims)
