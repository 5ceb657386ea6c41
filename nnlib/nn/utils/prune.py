"""Pruning: parameters of which some elements are held at zero by a mask.

A pruned parameter ``weight`` becomes ``weight_orig``, the parameter, and
``weight_mask``, a buffer; before each forward pass ``weight`` is their product. Pruned
again, a mask only loses ones: a method sees what is left. `remove` makes it an ordinary
parameter again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from nnlib.autograd.mode import no_grad
from nnlib.autograd.tensor import Parameter
from nnlib.backend.errors import ArgumentError, DTypeError, Error, ShapeError
from nnlib.nn.module import Module

__all__ = [
    "BasePruningMethod",
    "CustomFromMask",
    "Identity",
    "L1Unstructured",
    "LnStructured",
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


class _Mask:
    """The forward pre-hook that multiplies a parameter by its mask."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, module: Module, args: Any) -> None:
        """Renew the pruned tensor before `forward`."""
        original = getattr(module, self.name + "_orig")
        setattr(module, self.name, original * getattr(module, self.name + "_mask"))


def _find(module: Module, name: str | None = None) -> Any:
    """Return the key of the hook that prunes a parameter (any, without a name)."""
    for key, (hook, _) in (module._forward_pre_hooks or {}).items():
        if isinstance(hook, _Mask) and name in (None, hook.name):
            return key
    return None


class BasePruningMethod:
    """What chooses the elements; a subclass defines `compute_mask`.

    Attributes
    ----------
    PRUNING_TYPE : {"unstructured", "structured", "global"}
        Whether the method is given the elements that are left as a vector, or the
        entries of dimension ``dim`` that are left, or everything.
    """

    PRUNING_TYPE: ClassVar[str] = "unstructured"
    dim = 0

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """Return the new mask of `t`, which has no ones where `default_mask` has none.

        Parameters
        ----------
        t : Tensor
            How important each element is.
        default_mask : Tensor, shape of `t`
        """
        raise Error(f"{type(self).__name__}: compute_mask is not defined")

    def _combine(self, scores: Any, mask: Any) -> Any:
        """Return the mask after this method chose among what `mask` leaves."""
        if self.PRUNING_TYPE == "unstructured":
            key: Any = mask == 1
        elif self.PRUNING_TYPE == "structured":
            dim = _dimension(scores, self.dim)
            others = tuple(place for place in range(scores.ndim) if place != dim)
            key = (*(slice(None),) * dim, mask.sum(others) != 0)
        elif self.PRUNING_TYPE == "global":
            key = ...
        else:
            raise ArgumentError(
                f"{type(self).__name__}: PRUNING_TYPE: expected 'unstructured', "
                f"'structured' or 'global', got {self.PRUNING_TYPE!r}"
            )
        combined = mask.clone()
        found = self.compute_mask(scores[key], mask[key])
        combined[key] = found.to(combined.dtype)
        return combined

    @classmethod
    def apply(
        cls,
        module: Any,
        name: str,
        *args: Any,
        importance_scores: Any = None,
        **kwargs: Any,
    ) -> BasePruningMethod:
        """Prune a parameter of a module by this method; return the method.

        Parameters
        ----------
        module : Module
        name : str
        *args, **kwargs
            Of the method.
        importance_scores : Tensor, shape of the parameter, optional
            Default: the parameter itself.
        """
        method = cls(*args, **kwargs)
        again = _find(module, name) is not None
        tensor = getattr(module, name) if again else module._parameters.get(name)
        if tensor is None:
            raise Error(f"prune: {type(module).__name__} has no parameter {name!r}")
        scores = tensor if importance_scores is None else importance_scores
        if tuple(scores.shape) != tuple(tensor.shape):
            raise ShapeError(
                f"prune: importance_scores: expected shape {tuple(tensor.shape)}, got "
                f"{tuple(scores.shape)}"
            )
        with no_grad():
            old = (
                getattr(module, name + "_mask")
                if again
                else tensor.new_ones(tensor.shape)
            )
            mask = method._combine(scores.detach(), old.detach())
        if again:
            getattr(module, name + "_mask").copy_(mask)
        else:
            del module._parameters[name]
            module.register_parameter(name + "_orig", tensor)
            module.register_buffer(name + "_mask", mask)
            module.register_forward_pre_hook(_Mask(name))
        _Mask(name)(module, ())
        return method


def _dimension(t: Any, dim: int) -> int:
    if t.ndim < 2 or not -t.ndim <= dim < t.ndim:
        raise ShapeError(
            f"prune: dim {dim} is no dimension of a tensor of shape {tuple(t.shape)} "
            "with at least two"
        )
    return int(dim % t.ndim)


def _check_amount(amount: Any) -> None:
    if isinstance(amount, bool) or not isinstance(amount, int | float):
        raise DTypeError(f"prune: amount: expected a number, got {amount!r}")
    if amount < 0 or (isinstance(amount, float) and amount > 1):
        raise ArgumentError(
            f"prune: amount: expected a number of elements or a share from 0 to 1, got "
            f"{amount!r}"
        )


def _number(amount: float, size: int) -> int:
    """Return how many of `size` are to go."""
    count = amount if isinstance(amount, int) else round(amount * size)
    if count > size:
        raise ArgumentError(f"prune: amount: {count} of {size} cannot be pruned")
    return count


class Identity(BasePruningMethod):
    """Prune nothing, but make the mask."""

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """Return the mask as it is."""
        return default_mask


class CustomFromMask(BasePruningMethod):
    """Prune by a given mask."""

    PRUNING_TYPE = "global"

    def __init__(self, mask: Any) -> None:
        self.mask = mask

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """Return the product of both masks."""
        if tuple(self.mask.shape) != tuple(default_mask.shape):
            raise ShapeError(
                f"prune: mask: expected shape {tuple(default_mask.shape)}, got "
                f"{tuple(self.mask.shape)}"
            )
        return default_mask * self.mask.to(default_mask.dtype)


class _Amount(BasePruningMethod):
    """What methods that prune a number of elements, or a share, have in common."""

    def __init__(self, amount: float) -> None:
        _check_amount(amount)
        self.amount = amount


class RandomUnstructured(_Amount):
    """Prune elements at random."""

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """Return the mask without the elements drawn."""
        from nnlib.ops import rand

        scores = rand(tuple(t.shape), device=t.device)
        return _without_smallest(default_mask, scores, self.amount)


class L1Unstructured(_Amount):
    """Prune the elements of smallest absolute value."""

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """Return the mask without these elements."""
        return _without_smallest(default_mask, t.abs(), self.amount)


class _Structured(_Amount):
    PRUNING_TYPE = "structured"

    def _without(self, t: Any, mask: Any, scores: Any) -> Any:
        """Return the mask without the entries of `dim` whose score is smallest."""
        dim = _dimension(t, self.dim)
        lowest = scores.argsort(stable=True)[: _number(self.amount, len(scores))]
        return mask.index_fill(dim, lowest, 0.0)


class RandomStructured(_Structured):
    """Prune entries of a dimension (channels) at random."""

    def __init__(self, amount: float, dim: int = -1) -> None:
        super().__init__(amount)
        self.dim = dim

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """Return the mask without the entries drawn."""
        from nnlib.ops import rand

        scores = rand(t.shape[_dimension(t, self.dim)], device=t.device)
        return self._without(t, default_mask, scores)


class LnStructured(_Structured):
    """Prune the entries of a dimension (channels) of smallest n-norm."""

    def __init__(self, amount: float, n: Any, dim: int = -1) -> None:
        super().__init__(amount)
        self.n = n
        self.dim = dim

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """Return the mask without these entries."""
        dim = _dimension(t, self.dim)
        others = tuple(place for place in range(t.ndim) if place != dim)
        return self._without(t, default_mask, t.norm(self.n, others))


def _without_smallest(mask: Any, scores: Any, amount: float) -> Any:
    flat = scores.reshape(-1)
    lowest = flat.argsort(stable=True)[: _number(amount, len(flat))]
    return mask.reshape(-1).index_fill(0, lowest, 0.0).reshape(tuple(mask.shape))


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


def remove(module: Any, name: str) -> Module:
    """Make a pruned parameter an ordinary one, with its zeros; return the module.

    Raises
    ------
    Error
        If the parameter is not pruned.
    """
    key = _find(module, name)
    if key is None:
        raise Error(f"prune.remove: {type(module).__name__}.{name} is not pruned")
    del module._forward_pre_hooks[key]
    original: Parameter = module._parameters.pop(name + "_orig")
    with no_grad():
        original.copy_(original * module._buffers.pop(name + "_mask"))
    delattr(module, name)
    module.register_parameter(name, original)
    return module  # type: ignore[no-any-return]


def is_pruned(module: Any) -> bool:
    """Tell whether a parameter of the module, or of one below, is pruned."""
    return any(_find(below) is not None for below in module.modules())
