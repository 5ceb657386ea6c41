"""Pruning: parameters of which some elements are held at zero by a mask.

A pruned parameter ``weight`` becomes ``weight_orig``, the parameter, and
``weight_mask``, a buffer; before each forward pass ``weight`` is their product. Pruned
again, a mask only loses ones: a method sees what is left. `remove` makes it an ordinary
parameter again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nnlib.autograd.mode import no_grad
from nnlib.backend.errors import ArgumentError
from nnlib.nn.module import Module
from nnlib.nn.utils.prune_methods import (
    BasePruningMethod,
    CustomFromMask,
    Identity,
    L1Unstructured,
    LnStructured,
    PruningContainer,
    RandomStructured,
    RandomUnstructured,
    find_hook,
    remove,
)

__all__ = [
    "BasePruningMethod",
    "CustomFromMask",
    "Identity",
    "L1Unstructured",
    "LnStructured",
    "PruningContainer",
    "RandomStructured",
    "RandomUnstructured",
    "custom_from_mask",
    "global_unstructured",
    "identity",
    "is_pruned",
    "l1_unstructured",
    "ln_structured",
    "random_structured",
    "random_unstructured",
    "remove",
]


def identity(module: Any, name: str) -> Module:
    """Give a parameter a mask of ones; return the module."""
    Identity.apply(module, name)
    return module  # type: ignore[no-any-return]


def random_unstructured(module: Any, name: str, amount: float) -> Module:
    """Prune elements of a parameter at random; return the module.

    Parameters
    ----------
    module : Module
    name : str
    amount : int or float
        So many, or this share, of the elements that are left.
    """
    RandomUnstructured.apply(module, name, amount)
    return module  # type: ignore[no-any-return]


def l1_unstructured(
    module: Any, name: str, amount: float, importance_scores: Any = None
) -> Module:
    """Prune the elements of smallest absolute value; return the module.

    Parameters
    ----------
    module : Module
    name : str
    amount : int or float
        So many, or this share, of the elements that are left.
    importance_scores : Tensor, shape of the parameter, optional
        Go by these in place of the parameter.

    Examples
    --------
    >>> import nnlib
    >>> layer = nnlib.nn.Linear(4, 2, bias=False)
    >>> _ = l1_unstructured(layer, "weight", 0.5)
    >>> int(layer.weight_mask.sum()), int((layer.weight == 0).sum())
    (4, 4)
    """
    L1Unstructured.apply(module, name, amount, importance_scores=importance_scores)
    return module  # type: ignore[no-any-return]


def random_structured(module: Any, name: str, amount: float, dim: int) -> Module:
    """Prune entries of a dimension of a parameter at random; return the module."""
    RandomStructured.apply(module, name, amount, dim)
    return module  # type: ignore[no-any-return]


def ln_structured(
    module: Any,
    name: str,
    amount: float,
    n: Any,
    dim: int,
    importance_scores: Any = None,
) -> Module:
    """Prune the entries of a dimension of smallest n-norm; return the module.

    Parameters
    ----------
    module : Module
    name : str
    amount : int or float
        So many, or this share, of the entries that are left.
    n : number
        As `p` of `norm`.
    dim : int
    importance_scores : Tensor, shape of the parameter, optional
        Go by these in place of the parameter.
    """
    scores = importance_scores
    LnStructured.apply(module, name, amount, n, dim, importance_scores=scores)
    return module  # type: ignore[no-any-return]


def custom_from_mask(module: Any, name: str, mask: Any) -> Module:
    """Prune a parameter by a mask of zeros and ones; return the module."""
    CustomFromMask.apply(module, name, mask)
    return module  # type: ignore[no-any-return]


def global_unstructured(
    parameters: Iterable[tuple[Any, str]],
    pruning_method: type[BasePruningMethod],
    importance_scores: Any = None,
    **kwargs: Any,
) -> None:
    """Prune several parameters by one choice among all their elements.

    Parameters
    ----------
    parameters : iterable of (module, name)
    pruning_method : type
        Such as `L1Unstructured`; its ``PRUNING_TYPE`` must be "unstructured".
    importance_scores : dict of (module, name) to Tensor, optional
        Go by these in place of the parameters.
    **kwargs
        Of the method: ``amount``.

    Raises
    ------
    ArgumentError
        If the method is not unstructured.
    """
    from nnlib.ops import cat

    method = pruning_method(**kwargs)
    if method.PRUNING_TYPE != "unstructured":
        raise ArgumentError(
            "global_unstructured: pruning_method: expected an unstructured one, got "
            f"{pruning_method.__name__}"
        )
    chosen, given = list(parameters), importance_scores or {}
    tensors = [getattr(module, name) for module, name in chosen]
    scores = [given.get(pair, t) for pair, t in zip(chosen, tensors, strict=True)]
    masks = [getattr(module, name + "_mask", None) for module, name in chosen]
    ones = [
        t.new_ones(t.shape) if mask is None else mask
        for t, mask in zip(tensors, masks, strict=True)
    ]
    with no_grad():
        all_scores = cat([s.detach().reshape(-1) for s in scores])
        combined = method._combine(all_scores, cat([m.reshape(-1) for m in ones]))
    parts = combined.split([t.numel() for t in tensors])
    for (module, name), tensor, part in zip(chosen, tensors, parts, strict=True):
        custom_from_mask(module, name, part.reshape(tuple(tensor.shape)))


def is_pruned(module: Any) -> bool:
    """Tell whether a parameter of the module, or of one below, is pruned."""
    return any(find_hook(below) is not None for below in module.modules())
