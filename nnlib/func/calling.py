"""Modules as functions of their parameters."""

from __future__ import annotations

from typing import Any

from nnlib.backend.errors import Error

__all__ = ["functional_call"]


def functional_call(
    module: Any,
    parameter_and_buffer_dicts: Any,
    args: Any = None,
    kwargs: dict[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """Call a module with other tensors in the place of its parameters and buffers.

    Parameters
    ----------
    module : Module
        Left as it was.
    parameter_and_buffer_dicts : dict of str to Tensor, or sequence of such
        By dotted name; what is missing is the module's own.
    args : any or tuple, optional
        One argument, or a tuple of them.
    kwargs : dict, optional
    tie_weights : bool, default True
        A parameter that the module has under several names is replaced under all.
    strict : bool, default False
        Refuse missing names; unknown ones are always refused.

    Examples
    --------
    >>> import nnlib
    >>> layer = nnlib.nn.Linear(2, 1, bias=False)
    >>> functional_call(layer, {"weight": nnlib.ones(1, 2)}, nnlib.ones(2))
    tensor([2.])
    """
    given: dict[str, Any] = {}
    several = parameter_and_buffer_dicts
    for part in [several] if isinstance(several, dict) else several:
        given |= part
    places = _places(module)
    unknown = sorted(set(given) - set(places))
    missing = sorted(set(places) - set(given)) if strict else []
    if unknown or missing:
        raise Error(
            f"functional_call: {type(module).__name__}: unknown names {unknown}, "
            f"missing names {missing}"
        )
    before = {name: store[key] for name, (store, key) in places.items()}
    changed = dict(given)
    if tie_weights:
        for name in given:
            for other, value in before.items():
                if value is before[name] and other not in given:
                    changed[other] = given[name]
    try:
        for name, value in changed.items():
            store, key = places[name]
            store[key] = value
        inputs = () if args is None else args if isinstance(args, tuple) else (args,)
        return module(*inputs, **(kwargs or {}))
    finally:
        for name in changed:
            store, key = places[name]
            store[key] = before[name]


def _places(module: Any) -> dict[str, tuple[dict[str, Any], str]]:
    """Return, by dotted name, the dictionary and key of each parameter and buffer."""
    return {
        f"{prefix}.{key}" if prefix else key: (store, key)
        for prefix, part in module.named_modules(remove_duplicate=False)
        for store in (part._parameters, part._buffers)
        for key, value in store.items()
        if value is not None
    }
