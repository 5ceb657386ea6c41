"""`Optimizer`: parameter groups, state, and which parameters are updated together."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nnlib.autograd.mode import enable_grad
from nnlib.autograd.sparse import RowSparse
from nnlib.autograd.tensor import RemovableHandle, Tensor
from nnlib.backend.device import array_module, context_of
from nnlib.backend.dtypes import FLOATING, HALF
from nnlib.backend.errors import ArgumentError, DTypeError, Error
from nnlib.backend.recording import current, refuse
from nnlib.optim import checkpoint, recorded
from nnlib.optim.batch import Batch, gather

__all__ = ["Optimizer"]


class Optimizer:
    """Base of every optimiser.

    The parameters of a group that have a gradient are updated by one kernel call. The
    entries of ``param_groups`` may be changed at any time.

    An optimiser of one's own overrides `step`; those of nnlib define `slots` and
    `update`.

    Parameters
    ----------
    params : iterable of Tensor, of (name, Tensor), or of dict
        A dict is a group: ``{"params": [...], "lr": ...}``.
    defaults : dict
        The options of groups that do not set them.

    Attributes
    ----------
    param_groups : list of dict
        ``params`` and the options of each group.
    state : dict of Tensor to dict
        What is kept for each parameter, by PyTorch's names.
    """

    # Whether the state of a parameter counts its steps.
    counts: bool = True
    # Whether `update` is the launch of a kernel, whose numbers a CUDA graph can renew.
    recordable: bool = True
    _pre_hooks: dict[int, Callable[..., Any]] | None = None
    _post_hooks: dict[int, Callable[..., Any]] | None = None

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[Tensor, dict[str, Any]] = {}
        self._batches: dict[int, list[Batch]] = {}
        if isinstance(params, Tensor):
            raise DTypeError(
                f"{self._name()}: params: expected an iterable of tensors or groups, "
                "got a single Tensor; put it into a list"
            )
        if isinstance(params, set | frozenset):
            raise DTypeError(f"{self._name()}: params: a set has no order; pass a list")
        if not isinstance(params, Iterable):
            raise DTypeError(
                f"{self._name()}: params: expected an iterable of tensors or groups, "
                f"got {type(params).__name__}"
            )
        groups = list(params)
        if not groups:
            raise ArgumentError(
                f"{self._name()}: params: expected at least one parameter"
            )
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def _name(self) -> str:
        return type(self).__name__

    # -- groups ------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; options that it does not set are the defaults.

        Raises
        ------
        DTypeError
            If the group or a parameter is of the wrong kind.
        Error
            If a parameter is no leaf or in a group already, or an option is bad.
        """
        if not isinstance(param_group, dict) or "params" not in param_group:
            raise DTypeError(
                f"{self._name()}: param_group: expected a dict with 'params', got "
                f"{param_group!r}"
            )
        params, names = self._read_params(param_group["params"])
        group = {"params": params, **self._options(param_group)}
        if names:
            group["param_names"] = names
        self.check(group)
        known = {id(p) for other in self.param_groups for p in other["params"]}
        for index, p in enumerate(params):
            if id(p) in known:
                raise Error(
                    f"{self._name()}: params: parameter {index} (shape "
                    f"{tuple(p.shape)}) is in the optimizer already"
                )
            known.add(id(p))
        self.param_groups.append(group)

    def _options(self, group: Mapping[str, Any]) -> dict[str, Any]:
        given = {key: value for key, value in group.items() if key != "params"}
        return {**self.defaults, **given}

    def _read_params(self, given: Any) -> tuple[list[Tensor], list[str]]:
        where = f"{self._name()}: params"
        if isinstance(given, set | frozenset):
            raise DTypeError(f"{where}: a set has no order; pass a list")
        items = [given] if isinstance(given, Tensor) else list(given)
        names = [x[0] for x in items if isinstance(x, tuple)]
        params = [x[1] if isinstance(x, tuple) else x for x in items]
        if names and len(names) != len(items):
            raise DTypeError(f"{where}: either all parameters have names or none")
        for index, p in enumerate(params):
            if not isinstance(p, Tensor):
                raise DTypeError(
                    f"{where}: parameter {index}: expected a Tensor, got "
                    f"{type(p).__name__}"
                )
            if p.dtype not in FLOATING:
                raise DTypeError(
                    f"{where}: parameter {index}: expected a floating dtype, got "
                    f"{p.dtype}"
                )
            if not p.is_leaf:
                raise Error(
                    f"{where}: parameter {index} was computed by {p.grad_fn!r}: only "
                    "leaves can be optimised"
                )
        return params, names

    def check(self, group: dict[str, Any]) -> None:
        """Check the options of a group; raise an Error that names the bad one."""

    def _check_least(self, group: Mapping[str, Any], *names: str) -> None:
        for name in names:
            value = group[name]
            try:
                fits = value >= 0
            except TypeError:
                raise DTypeError(
                    f"{self._name()}: {name}: expected a number, got {value!r}"
                ) from None
            if not fits:
                raise ArgumentError(
                    f"{self._name()}: {name}: expected at least 0, got {value!r}"
                )

    def _check_betas(self, group: Mapping[str, Any]) -> None:
        betas = group["betas"]
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ArgumentError(
                f"{self._name()}: betas: expected two numbers from 0 to below 1, got "
                f"{betas!r}"
            )

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or fill them with zeros."""
        if set_to_none:
            for group in self.param_groups:
                for p in group["params"]:
                    p._grad = None
            return
        for p in all_params(self.param_groups):
            if isinstance(p._grad, RowSparse):
                p._grad = p._grad.clone().zero_()
            elif p._grad is not None:
                p._grad = p._grad.detach()
                with context_of(p._grad._array):
                    p._grad._array.fill(0)
                p._grad._bump()

    # -- the step ----------------------------------------------------------------

    def slots(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names of the arrays that are kept for each parameter."""
        raise Error(f"{self._name()}: slots is not defined")

    def first(self, slot: str, group: Mapping[str, Any]) -> float:
        """Return the initial value of a slot's elements."""
        return 0.0

    def shared(self, state: Mapping[str, Any]) -> Any:
        """Return the numbers in a parameter's state that all of a batch must share.

        Beside the number of steps, which they do.
        """
        return None

    def update(self, batch: Batch, group: dict[str, Any]) -> None:
        """Update the parameters of a batch: one kernel call."""
        raise Error(f"{self._name()}: update is not defined")

    def update_rows(
        self, p: Tensor, rows: Any, values: Any, group: dict[str, Any]
    ) -> None:
        """Update the rows of a parameter whose gradient is row-sparse.

        Parameters
        ----------
        p : Tensor
        rows : int64 array, shape (U,)
            Each once.
        values : array, shape (U, ...)
            Their gradients, negated where the group asks for a maximum.
        group : dict
        """
        raise Error(
            f"{self._name()}.step: a gradient is row-sparse (its layer has sparse=True)"
            "; use SGD, Adagrad or SparseAdam, or a layer with sparse=False"
        )

    def densifies(self, group: Mapping[str, Any]) -> bool:
        """Tell whether row-sparse gradients are to be made dense: all rows move."""
        return False

    def kept_arrays(self, p: Tensor, group: dict[str, Any]) -> list[Any]:
        """Return the kept arrays of a parameter, made where there are none."""
        state = self.state.setdefault(p, {})
        for name in self.slots(group):
            if name not in state:
                with context_of(p._array):
                    made = array_module(p._array).full_like(
                        p._array, self.first(name, group)
                    )
                state[name] = Tensor._from_array(made)
        return [state[name]._array for name in self.slots(group)]

    def _step_rows(self, index: int, group: dict[str, Any]) -> list[Any]:
        """Update parameters with row-sparse gradients; return and hide these."""
        hidden: list[Any] = []
        for position, p in enumerate(group["params"]):
            grad = p._grad
            if not isinstance(grad, RowSparse) or self.densifies(group):
                continue
            if p.dtype in HALF or not p._array.flags.c_contiguous:
                raise Error(
                    f"{self._name()}.step: group {index}, parameter {position}: a "
                    "row-sparse gradient needs a contiguous parameter of float32 or "
                    f"float64, got {p.dtype}; use a layer with sparse=False"
                )
            refuse(f"{self._name()}.step with a row-sparse gradient")
            rows, values = grad.parts()
            self.state.setdefault(p, {})
            with context_of(p._array):
                values = -values if group.get("maximize") else values
                self.update_rows(p, rows, values, group)
            p._bump()
            p._grad = None
            hidden.append((p, grad))
        return hidden

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters that have a gradient.

        Parameters
        ----------
        closure : callable, optional
            Computes the loss and its gradients anew; its value is returned.
        """
        if self._pre_hooks:
            for hook in list(self._pre_hooks.values()):
                hook(self, (closure,), {})
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        for index, group in enumerate(self.param_groups):
            rows = self._step_rows(index, group) if RowSparse.made else None
            batches = self._batches.get(index)
            if not batches or not all(x.collect(self, group) for x in batches):
                batches = gather(self, index, group)
                self._batches[index] = batches
            recording = current()
            for batch in batches:
                if recording is not None and batch.table.cuda:
                    recorded.record(recording, self, batch, group)
                    continue
                batch.advance()
                self.update(batch, group)
                batch.finish()
            for p, grad in rows or ():
                p._grad = grad
        if self._post_hooks:
            for hook in list(self._post_hooks.values()):
                hook(self, (closure,), {})
        return loss

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(optimizer, args, kwargs)`` before each step."""
        if self._pre_hooks is None:
            self._pre_hooks = {}
        return RemovableHandle(self._pre_hooks, hook)

    def register_step_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(optimizer, args, kwargs)`` after each step."""
        if self._post_hooks is None:
            self._post_hooks = {}
        return RemovableHandle(self._post_hooks, hook)

    # -- state -------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return state and options, in PyTorch's layout.

        ``{"state": {number: {name: value}}, "param_groups": [...]}``, with numbers in
        place of the parameters. Tensors share memory with the optimiser.
        """
        return checkpoint.state_dict(self)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take state and options from `state_dict`; tensors are copied.

        Raises
        ------
        Error
            If groups or shapes do not fit; nothing has been loaded then.
        """
        checkpoint.load_state_dict(self, state_dict)
        self._batches.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_batches": {}}

    def __repr__(self) -> str:
        lines = [f"{self._name()} ("]
        for index, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {index}")
            lines += [
                f"    {key}: {group[key]}" for key in sorted(group) if key != "params"
            ]
        return "\n".join([*lines, ")"])


def all_params(groups: Iterable[Mapping[str, Any]]) -> list[Tensor]:
    """Return the parameters of all groups, in order."""
    return list(itertools.chain.from_iterable(group["params"] for group in groups))


def refuse_penalties(optimizer: Optimizer, group: Mapping[str, Any]) -> None:
    """Refuse what would change rows that have no gradient."""
    for name in ("weight_decay", "l1"):
        if group[name]:
            raise ArgumentError(
                f"{type(optimizer).__name__}: {name}: not with row-sparse gradients, "
                "because it would change every row; use a layer with sparse=False"
            )
