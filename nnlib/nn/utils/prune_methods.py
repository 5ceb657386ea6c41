"""The methods of pruning: what chooses the elements that are held at zero."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral, Real
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
    "PruningContainer",
    "RandomStructured",
    "RandomUnstructured",
    "find_hook",
    "remove",
]


def find_hook(module: Module, name: str | None = None) -> Any:
    """Return the key of the hook that prunes a parameter (any, without a name)."""
    for key, (hook, _) in (module._forward_pre_hooks or {}).items():
        if isinstance(hook, BasePruningMethod) and name in (None, hook._tensor_name):
            return key
    return None


class BasePruningMethod:
    """What chooses the elements; a subclass defines `compute_mask`.

    It is the forward pre-hook of what it prunes, and renews it there.

    Attributes
    ----------
    PRUNING_TYPE : {"unstructured", "structured", "global"}
        Whether the method is given the elements that are left as a vector, or the
        entries of dimension ``dim`` that are left, or everything.
    """

    PRUNING_TYPE: ClassVar[str] = "unstructured"
    dim = 0
    _tensor_name = ""

    def __call__(self, module: Module, inputs: Any) -> None:
        """Renew the pruned tensor before `forward`."""
        setattr(module, self._tensor_name, self.apply_mask(module))

    def apply_mask(self, module: Any) -> Any:
        """Return the module's parameter with its zeros.

        Raises
        ------
        Error
            If this method has pruned nothing yet.
        """
        name = self._tensor_name
        if not name:
            raise Error(f"{type(self).__name__}: apply_mask: it has pruned nothing yet")
        return getattr(module, name + "_orig") * getattr(module, name + "_mask")

    def prune(
        self, t: Any, default_mask: Any = None, importance_scores: Any = None
    ) -> Any:
        """Return `t` with zeros where this method chooses; nothing is kept.

        Parameters
        ----------
        t : Tensor
        default_mask : Tensor, shape of `t`, optional
            What earlier methods have left.
        importance_scores : Tensor, shape of `t`, optional
            Default: `t`.
        """
        scores = t if importance_scores is None else importance_scores
        _check_scores(scores, t)
        with no_grad():
            mask = t.new_ones(t.shape) if default_mask is None else default_mask
            mask = self._combine(scores.detach(), mask.detach())
        return t * mask

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
        method._tensor_name = name
        key = find_hook(module, name)
        again = key is not None
        tensor = getattr(module, name) if again else module._parameters.get(name)
        if tensor is None:
            raise Error(f"prune: {type(module).__name__} has no parameter {name!r}")
        scores = tensor if importance_scores is None else importance_scores
        _check_scores(scores, tensor)
        with no_grad():
            old = (
                getattr(module, name + "_mask")
                if again
                else tensor.new_ones(tensor.shape)
            )
            mask = method._combine(scores.detach(), old.detach())
        hook: BasePruningMethod = method
        if again:
            getattr(module, name + "_mask").copy_(mask)
            earlier, options = module._forward_pre_hooks[key]
            if isinstance(earlier, PruningContainer):
                hook = earlier
                hook.add_pruning_method(method)
            else:
                hook = PruningContainer(earlier, method)
            module._forward_pre_hooks[key] = hook, options
        else:
            del module._parameters[name]
            module.register_parameter(name + "_orig", tensor)
            module.register_buffer(name + "_mask", mask)
            module.register_forward_pre_hook(hook)
        hook(module, ())
        return hook

    def remove(self, module: Any) -> None:
        """Make what this method has pruned an ordinary parameter, with its zeros."""
        remove(module, self._tensor_name)


class PruningContainer(BasePruningMethod):
    """The methods that have pruned one parameter, one after the other.

    What is pruned again has it as its hook; it can be iterated over and indexed.

    Parameters
    ----------
    *args : BasePruningMethod
        Of one parameter.

    Raises
    ------
    DTypeError
        If one is no pruning method.
    ArgumentError
        If they prune different parameters.

    Examples
    --------
    >>> from nnlib import nn
    >>> layer = nn.Linear(4, 3)
    >>> for share in (0.25, 0.5):
    ...     layer = nn.utils.prune.l1_unstructured(layer, "weight", share)
    >>> (container,) = (hook for hook, _ in layer._forward_pre_hooks.values())
    >>> [method.amount for method in container]
    [0.25, 0.5]
    """

    def __init__(self, *args: BasePruningMethod) -> None:
        self._pruning_methods: tuple[BasePruningMethod, ...] = ()
        for method in args:
            self.add_pruning_method(method)

    def add_pruning_method(self, method: BasePruningMethod | None) -> None:
        """Add a method that prunes the same parameter; None adds nothing."""
        if method is None:
            return
        if not isinstance(method, BasePruningMethod):
            raise DTypeError(
                "PruningContainer: method: expected a BasePruningMethod, got "
                f"{type(method).__name__}"
            )
        if self._pruning_methods and method._tensor_name != self._tensor_name:
            raise ArgumentError(
                f"PruningContainer: method: expected one that prunes "
                f"{self._tensor_name!r}, got one for {method._tensor_name!r}"
            )
        self._tensor_name = method._tensor_name
        self._pruning_methods += (method,)

    def __len__(self) -> int:
        """Return the number of methods."""
        return len(self._pruning_methods)

    def __iter__(self) -> Iterator[BasePruningMethod]:
        """Iterate over the methods, the first one first."""
        return iter(self._pruning_methods)

    def __getitem__(self, place: Any) -> Any:
        """Return a method by its place."""
        return self._pruning_methods[place]

    def _combine(self, scores: Any, mask: Any) -> Any:
        return self.compute_mask(scores, mask)

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """Return the mask after the last method chose among what is left."""
        if not self._pruning_methods:
            raise Error("PruningContainer: compute_mask: there is no method in it")
        return self._pruning_methods[-1]._combine(t, default_mask)


def _check_scores(scores: Any, t: Any) -> None:
    if tuple(scores.shape) != tuple(t.shape):
        raise ShapeError(
            f"prune: importance_scores: expected shape {tuple(t.shape)}, got "
            f"{tuple(scores.shape)}"
        )


def _dimension(t: Any, dim: int) -> int:
    if t.ndim < 2 or not -t.ndim <= dim < t.ndim:
        raise ShapeError(
            f"prune: dim {dim} is no dimension of a tensor of shape {tuple(t.shape)} "
            "with at least two"
        )
    return int(dim % t.ndim)


def _check_amount(amount: Any) -> None:
    if isinstance(amount, bool) or not isinstance(amount, Real):
        raise DTypeError(f"prune: amount: expected a number, got {amount!r}")
    share = float(amount)
    if share < 0 or (not isinstance(amount, Integral) and share > 1):
        raise ArgumentError(
            f"prune: amount: expected a number of elements or a share from 0 to 1, got "
            f"{amount!r}"
        )


def _number(amount: float, size: int) -> int:
    """Return how many of `size` are to go."""
    count = int(amount if isinstance(amount, Integral) else round(amount * size))
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


def remove(module: Any, name: str) -> Module:
    """Make a pruned parameter an ordinary one, with its zeros; return the module.

    Raises
    ------
    Error
        If the parameter is not pruned.
    """
    key = find_hook(module, name)
    if key is None:
        raise Error(f"prune.remove: {type(module).__name__}.{name} is not pruned")
    del module._forward_pre_hooks[key]
    original: Parameter = module._parameters.pop(name + "_orig")
    with no_grad():
        original.copy_(original * module._buffers.pop(name + "_mask"))
    delattr(module, name)
    module.register_parameter(name, original)
    return module  # type: ignore[no-any-return]
